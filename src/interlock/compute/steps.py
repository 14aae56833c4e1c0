"""What the steps of all moves have in common: their permit, which errors are not worth a second attempt, and a look at a guest."""

from __future__ import annotations

from typing import Any

from interlock import Operation, Retry
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Permit, RunState, Unsuitable

__all__ = ["AT_ONCE", "permit", "running"]

AT_ONCE = {"Unsuitable": Retry(1), "Unsafe": Retry(1), "DiskFull": Retry(1)}
"""Policies for what no second attempt mends: the step fails at once."""


async def running(fleet: Fleet, instance: str, host: str) -> None:
    """Raise `Unsuitable` unless a guest runs on that host and nowhere else."""
    states = await fleet.where(instance)
    if states != {host: RunState.RUNNING}:
        found = ", ".join(f"{state} on {name}" for name, state in states.items()) or "nowhere"
        what, mend = f"it does not run there; it is {found}", "name the host it runs on"
        raise Unsuitable(what, host=host, instance=instance, mend=mend)


def permit(op: Operation[Any]) -> Permit:
    """Return the right that an attempt shows to a host."""
    return Permit(op.id, op.token)
