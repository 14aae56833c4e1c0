"""Rebuild: give a guest a new disk, from an image or empty, and keep its name, size and host.

| state | performs | undo |
|---|---|---|
| checking | it runs on its host, and the image is ready | nothing |
| stopping | it is switched off | start it |
| saving | a snapshot of its old disk | bring the disk back to it, and delete it |
| writing | the image is written over the disk | nothing: the snapshot below brings it back |
| starting | it starts from its new disk | switch it off |
| settling | the old disk's snapshot is deleted: the point of no return | - |
"""

from __future__ import annotations

from dataclasses import dataclass

from interlock import Actions, Claim, Event, Final, Machine, Operation, Retry, State
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Unsuitable
from interlock.compute.steps import AT_ONCE, permit, running, snapshots_fit, with_image

__all__ = ["NewDisk", "Rebuild", "rebuild"]


@dataclass
class NewDisk:
    """The data of a rebuild.

    Attributes:
        instance, host: names of the guest and of the host it runs on.
        image: what its disk is made from; empty: its boot code alone.
        reason: why it cannot be, if it cannot.
    """

    instance: str
    host: str
    image: str = ""
    reason: str = ""


class Rebuild(Machine[NewDisk], version=1):
    """Give a guest a new disk."""

    claims = [Claim("instance:{instance}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="stopping",
        description="it runs on its host, and the image is ready",
    )
    stopping = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="saving",
        description="it is switched off",
    )
    saving = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="10m",
        then="writing",
        description="a snapshot of its old disk is taken",
    )
    writing = State(
        queue="host:{host}",
        undo="nothing",
        retry=Retry(3, errors=AT_ONCE),
        timeout="1h",
        then="starting",
        description="the image is written over its disk",
    )
    starting = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="settling",
        description="it starts from its new disk",
    )
    settling = State(
        queue="host:{host}",
        pivot=True,
        retry=Retry.forever(),
        timeout="10m",
        then="completed",
        description="the old disk is deleted",
    )

    completed = Final("succeeded", description="it runs from its new disk")
    refused = Final("failed", description="it cannot be; nothing was begun")
    failed = Final("failed", description="it runs from its old disk")
    cancelled = Final("cancelled", description="it runs from its old disk")

    views = {"v1": {"ACTIVE": ["completed", "refused", "failed", "cancelled"], "REBUILD": ...}}


def rebuild(fleet: Fleet) -> Actions[NewDisk]:
    """Return the actions of `Rebuild` over a fleet."""
    actions = Actions(Rebuild)

    @actions.perform(Rebuild.checking)
    async def check(op: Operation[NewDisk]) -> Event | None:
        try:
            snapshots_fit(await fleet.made_as(op.data.instance), op.data.host)
            await running(fleet, op.data.instance, op.data.host)
            await with_image(fleet, op.data.instance, op.data.host, op.data.image)
        except Unsuitable as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return None

    @actions.perform(Rebuild.stopping)
    async def switch_off(op: Operation[NewDisk]) -> None:
        await fleet.stop(op.data.instance, op.data.host, permit(op))

    @actions.perform(Rebuild.saving)
    async def save(op: Operation[NewDisk]) -> None:
        await fleet.save(op.data.instance, op.data.host, op.id, permit(op))

    @actions.undo(Rebuild.saving)
    async def restore(op: Operation[NewDisk]) -> None:
        await fleet.restore(op.data.instance, op.data.host, op.id, permit(op))

    @actions.perform(Rebuild.writing)
    async def write(op: Operation[NewDisk]) -> None:
        await fleet.write(op.data.instance, op.data.host, op.data.image, permit(op))

    @actions.perform(Rebuild.starting)
    async def start(op: Operation[NewDisk]) -> None:
        await fleet.start(await fleet.made_as(op.data.instance), op.data.host, permit(op))

    actions.undo(Rebuild.stopping)(start)
    actions.undo(Rebuild.starting)(switch_off)

    @actions.perform(Rebuild.settling)
    async def forget(op: Operation[NewDisk]) -> None:
        await fleet.forget(op.data.instance, op.data.host, op.id, permit(op))

    return actions
