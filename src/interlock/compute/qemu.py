"""A host agent: the worker of one host, which begins and owns its QEMU processes.

    interlock worker --actions interlock.compute.qemu --state-dir DIRECTORY --queue host:host-a

Every move of `interlock.compute` is performed by it, as far as its steps belong into the queues that it serves: ``host:NAME`` for what
happens on its host, and the default queue for what any agent can do (looking, deciding, fencing). All agents of a cluster share
``--state-dir``: disks and images, what hosts know of their guests, and the fences. QEMU processes are no children of an agent: when it has
died they go on, and the next agent of that host finds them by what is recorded.

The names of the hosts stand in ``cluster.json`` in that directory; an agent adds its own, so a new host is one more agent. Two agents of
one host at the same time are refused: the second would act on what the first believes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interlock import Actions
from interlock.compute.every_move import every_move
from interlock.compute.hypervisor import checked_name
from interlock.compute.local import qemu_missing
from interlock.compute.qemu_fleet import QemuFleet
from interlock.compute.records import write_record
from interlock.errors import Refused

__all__ = ["actions_in", "cluster", "owned_hosts"]

_QUEUE = "host:"


def cluster(state_dir: Path) -> tuple[str, ...]:
    """Return the names of a cluster's hosts, in the order in which they came."""
    try:
        return tuple(json.loads((state_dir / "cluster.json").read_text())["hosts"])
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError):
        raise Refused(
            f"`{state_dir / 'cluster.json'}` does not name hosts: restore it, or delete it with an empty cluster"
        ) from None


@contextmanager
def owned_hosts(state_dir: Path, queues: Iterable[str]) -> Iterator[Sequence[str]]:
    """Be the agent of the hosts that ``queues`` name, for as long as the process lives; yield their names.

    Raises `Refused` if one of them has an agent already, or a name is none.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    hosts = [checked_name("host", queue.removeprefix(_QUEUE)) for queue in queues if queue.startswith(_QUEUE)]
    locks = [_locked(state_dir / f"agent-{host}.lock", host) for host in hosts]
    try:
        with (state_dir / "cluster.lock").open("a") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            known = cluster(state_dir)
            if not set(hosts) <= set(known):
                write_record(state_dir / "cluster.json", {"hosts": list(dict.fromkeys([*known, *hosts]))})
        yield hosts
    finally:
        for lock in locks:
            os.close(lock)


def _locked(path: Path, host: str) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Refused(
            f"host `{host}` has an agent already, which holds `{path}`: stop that one first, or serve another host",
            host=host,
        ) from None
    return lock


def actions_in(state_dir: Path) -> list[Actions[Any]]:
    """Return the actions of every move over the cluster in a directory.

    Raises `Refused` where QEMU is missing, or the cluster has no host.
    """
    if missing := qemu_missing():
        raise Refused(
            f"{' and '.join(missing)} cannot be found: install QEMU; on Debian: apt-get install qemu-system-x86 qemu-utils"
        )
    if not cluster(state_dir):
        raise Refused(f"`{state_dir}` holds no cluster: begin an agent with --queue host:NAME")
    return every_move(QemuFleet(state_dir, lambda: cluster(state_dir)))
