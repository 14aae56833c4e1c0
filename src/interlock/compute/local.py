"""Hosts on this machine, by environment: what a worker on the command line binds.

    INTERLOCK_HOSTS=DIRECTORY interlock worker interlock.compute.local:actions --queue host:host-a --queue host:host-b

``INTERLOCK_HOSTS`` is the directory in which the hosts live; with ``INTERLOCK_SIMULATED=1`` they are only in memory and on file, and
nothing of them is real.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from interlock.compute.hypervisor import Hypervisor
from interlock.errors import Refused

__all__ = ["HOSTS", "SIMULATED", "hypervisor_at", "qemu_missing"]

HOSTS = "INTERLOCK_HOSTS"
SIMULATED = "INTERLOCK_SIMULATED"
_PROGRAMS = ("qemu-system-x86_64", "qemu-img")


def qemu_missing() -> tuple[str, ...]:
    """Return the programs of QEMU that cannot be found."""
    return tuple(program for program in _PROGRAMS if shutil.which(program) is None)


def hypervisor_at(directory: Path, *, simulated: bool) -> Hypervisor:
    """Return the hosts ``host-a`` and ``host-b`` in ``directory``: real QEMU processes, or simulated ones."""
    if simulated:
        from interlock.compute.fake_hypervisor import FakeHypervisor

        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return FakeHypervisor(directory / "simulated.json")
    from interlock.compute.qemu_host import QemuHosts

    return QemuHosts(directory)


def __getattr__(name: str) -> Any:
    """Bind ``actions`` when they are first asked for: only then must the directory be known."""
    if name != "actions":
        raise AttributeError(f"module `interlock.compute.local` has no attribute `{name}`")
    from interlock.compute.live_migration import live_migration

    directory = os.environ.get(HOSTS)
    if not directory:
        raise Refused(f"set {HOSTS} to the directory in which the hosts live")
    return live_migration(hypervisor_at(Path(directory), simulated=os.environ.get(SIMULATED) == "1"))
