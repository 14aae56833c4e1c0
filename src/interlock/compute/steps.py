"""What the steps of all moves have in common: their permit, which errors are not worth a second attempt, and a look at a guest."""

from __future__ import annotations

from typing import Any

from interlock import Operation, Retry
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Guest, Permit, RunState, Unsuitable

__all__ = ["AT_ONCE", "nowhere", "on_shared_storage", "permit", "running", "snapshots_fit", "with_image"]

AT_ONCE = {"Unsuitable": Retry(1), "Unsafe": Retry(1), "DiskFull": Retry(1)}
"""Policies for what no second attempt mends: the step fails at once."""


async def running(fleet: Fleet, instance: str, host: str) -> None:
    """Raise `Unsuitable` unless a guest runs on that host and nowhere else."""
    states = await fleet.where(instance)
    if states != {host: RunState.RUNNING}:
        found = ", ".join(f"{state} on {name}" for name, state in states.items()) or "nowhere"
        what, mend = f"it does not run there; it is {found}", "name the host it runs on"
        raise Unsuitable(what, host=host, instance=instance, mend=mend)


async def nowhere(fleet: Fleet, instance: str, host: str) -> None:
    """Raise `Unsuitable` if a guest has a process anywhere."""
    if states := await fleet.where(instance):
        found = ", ".join(f"{state} on {name}" for name, state in states.items())
        raise Unsuitable(f"it is already {found}", host=host, instance=instance, mend="use that one, or delete it")


async def with_image(fleet: Fleet, instance: str, host: str, image: str) -> None:
    """Raise `Unsuitable` if an image is named, and there is none of that name that is ready."""
    known = await fleet.images() if image else {}
    if image and image not in known:
        mend = f"choose one of {', '.join(known)}" if known else "make one: there is none"
        raise Unsuitable(f"there is no image {image}", host=host, instance=instance, mend=mend)


def snapshots_fit(guest: Guest, host: str) -> None:
    """Raise `Unsuitable` unless there can be snapshots of a guest's disk."""
    if guest.disk == "raw":
        what, mend = "a raw disk has no snapshots", "make its disk in the format qcow2"
        raise Unsuitable(what, host=host, instance=guest.instance, mend=mend)


def on_shared_storage(guest: Guest, host: str) -> None:
    """Raise `Unsuitable` unless a guest's disk can be reached from another host while this one does nothing for it."""
    if guest.storage == "local":
        what, mend = "its disk is on the host's own storage", "mend the host: nobody else can read it"
        raise Unsuitable(what, host=host, instance=guest.instance, mend=mend)


def permit(op: Operation[Any]) -> Permit:
    """Return the right that an attempt shows to a host."""
    return Permit(op.id, op.token)
