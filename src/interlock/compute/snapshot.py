"""Snapshot: copy a guest's disk to an image; a guest that runs goes on.

| state | performs | undo |
|---|---|---|
| checking | the guest is on its host or off, and no image has that name | nothing |
| copying | its disk, as it is at one moment, is copied | delete the copy, if this operation made it |
| publishing | the image is ready: the point of no return | - |
"""

from __future__ import annotations

from dataclasses import dataclass

from interlock import Actions, Claim, Event, Final, Machine, Operation, Retry, State
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Unsuitable, checked_name
from interlock.compute.steps import AT_ONCE, permit, running

__all__ = ["Picture", "Snapshot", "snapshot"]


@dataclass
class Picture:
    """The data of a snapshot.

    Attributes:
        instance, host: names of the guest and of the host it runs on, or of any if it is off.
        image: name of the image that is made.
        reason: why it cannot be made, if it cannot.
    """

    instance: str
    host: str
    image: str
    reason: str = ""


class Snapshot(Machine[Picture], version=1):
    """Copy a guest's disk to an image."""

    claims = [Claim("instance:{instance}"), Claim("image:{image}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="copying",
        description="it is on its host or off, and no image has that name",
    )
    copying = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="1h",
        then="publishing",
        description="its disk is copied",
    )
    publishing = State(
        queue="host:{host}",
        pivot=True,
        retry=Retry.forever(),
        timeout="1m",
        then="completed",
        description="the image is ready",
    )

    completed = Final("succeeded", description="the image is ready, and the guest as it was")
    refused = Final("failed", description="it cannot be made; nothing was begun")
    failed = Final("failed", description="there is no image, nor half of one")
    cancelled = Final("cancelled", description="there is no image, nor half of one")

    views = {"v1": {"ACTIVE": ["completed"], "DELETED": ["refused", "failed", "cancelled"], "SAVING": ...}}


def snapshot(fleet: Fleet) -> Actions[Picture]:
    """Return the actions of `Snapshot` over a fleet."""
    actions = Actions(Snapshot)

    @actions.perform(Snapshot.checking)
    async def check(op: Operation[Picture]) -> Event | None:
        picture = op.data
        try:
            checked_name("image", picture.image)
            await fleet.made_as(picture.instance)
            if await fleet.where(picture.instance):
                await running(fleet, picture.instance, picture.host)
            if picture.image in await fleet.images():
                what = f"there is an image {picture.image}"
                raise Unsuitable(what, host=picture.host, instance=picture.instance, mend="choose another name")
        except (Unsuitable, ValueError) as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return None

    @actions.perform(Snapshot.copying)
    async def copy(op: Operation[Picture]) -> None:
        await fleet.capture(op.data.instance, op.data.host, op.data.image, permit(op))

    @actions.undo(Snapshot.copying)
    async def discard(op: Operation[Picture]) -> None:
        await fleet.discard(op.data.instance, op.data.host, op.data.image, permit(op), mine=True)

    @actions.perform(Snapshot.publishing)
    async def publish(op: Operation[Picture]) -> None:
        await fleet.publish(op.data.instance, op.data.host, op.data.image, permit(op))

    return actions
