"""Hosts on this machine, by environment: what a worker on the command line binds.

    INTERLOCK_HOSTS=DIRECTORY interlock worker interlock.compute.local:actions --queue host:host-a --queue host:host-b

``actions`` are those of live migration; every other move has its own by its name, such as ``interlock.compute.local:resize``.
``INTERLOCK_HOSTS`` is the directory in which the hosts live; with ``INTERLOCK_SIMULATED=1`` they are only in memory and on file, and
nothing of them is real.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from interlock.compute.fleet import Fleet
from interlock.errors import Refused, did_you_mean

__all__ = ["HOSTS", "SIMULATED", "hypervisor_at", "qemu_missing"]

HOSTS = "INTERLOCK_HOSTS"
SIMULATED = "INTERLOCK_SIMULATED"
_PROGRAMS = ("qemu-system-x86_64", "qemu-img")


def qemu_missing() -> tuple[str, ...]:
    """Return the programs of QEMU that cannot be found."""
    return tuple(program for program in _PROGRAMS if shutil.which(program) is None)


def hypervisor_at(directory: Path, *, simulated: bool) -> Fleet:
    """Return the hosts ``host-a`` and ``host-b`` in ``directory``: real QEMU processes, or simulated ones."""
    if simulated:
        from interlock.compute.fake_fleet import FakeFleet

        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return FakeFleet(directory / "simulated.json")
    from interlock.compute.qemu_fleet import QemuFleet

    return QemuFleet(directory)


def __getattr__(name: str) -> Any:
    """Bind the actions of a move when they are first asked for: only then must the directory be known."""
    from interlock.compute.every_move import MOVES

    make = MOVES.get("live_migration" if name == "actions" else name)
    if make is None:
        there = f"it has actions, {', '.join(MOVES)}"
        raise AttributeError(f"module `interlock.compute.local` has no `{name}`{did_you_mean(name, MOVES)}; {there}")
    directory = os.environ.get(HOSTS)
    if not directory:
        raise Refused(f"set {HOSTS} to the directory in which the hosts live")
    return make(hypervisor_at(Path(directory), simulated=os.environ.get(SIMULATED) == "1"))
