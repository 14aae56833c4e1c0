"""Shelve: keep of a guest only an image, and give its host and its disk back. Unshelve: make it again from that image.

| state of Shelve | performs | undo |
|---|---|---|
| checking | it runs on its host, and its image's name is free | nothing |
| stopping | it is switched off | start it |
| storing | its disk is copied to an image | delete the copy, if this operation made it |
| releasing | the image is ready, the disk is deleted: the point of no return | - |

| state of Unshelve | performs | undo |
|---|---|---|
| checking | its image is ready, and the host takes guests | nothing |
| restoring | its disk is made from the image | delete the disk, if this operation made it |
| starting | it starts | switch it off |
| settling | the image is deleted: the point of no return | - |
"""

from __future__ import annotations

from dataclasses import dataclass

from interlock import Actions, Claim, Event, Final, Machine, Operation, Retry, State
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Unsuitable, checked_name
from interlock.compute.steps import AT_ONCE, nowhere, permit, running, with_image

__all__ = ["Shelf", "Shelve", "Unshelve", "shelve", "unshelve"]


@dataclass
class Shelf:
    """The data of shelving, and of unshelving.

    Attributes:
        instance, host: names of the guest, and of the host it leaves or comes to.
        reason: why it cannot be, if it cannot.
    """

    instance: str
    host: str
    reason: str = ""

    @property
    def image(self) -> str:
        """The name of its image; raises ValueError where that is none."""
        return checked_name("image", f"shelved-{self.instance}")


class Shelve(Machine[Shelf], version=1):
    """Keep of a guest only an image."""

    claims = [Claim("instance:{instance}"), Claim("image:shelved-{instance}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="stopping",
        description="it runs on its host, and its image's name is free",
    )
    stopping = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="storing",
        description="it is switched off",
    )
    storing = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="1h",
        then="releasing",
        description="its disk is copied to an image",
    )
    releasing = State(
        queue="host:{host}",
        pivot=True,
        retry=Retry.forever(),
        timeout="10m",
        then="completed",
        description="the image is ready, and its disk is deleted",
    )

    completed = Final("succeeded", description="only its image is there")
    refused = Final("failed", description="it cannot be; nothing was begun")
    failed = Final("failed", description="it runs as it did, and there is no image")
    cancelled = Final("cancelled", description="it runs as it did, and there is no image")

    views = {"v1": {"SHELVED": ["completed"], "ACTIVE": ["refused", "failed", "cancelled"], "SHELVING": ...}}


def shelve(fleet: Fleet) -> Actions[Shelf]:
    """Return the actions of `Shelve` over a fleet."""
    actions = Actions(Shelve)

    @actions.perform(Shelve.checking)
    async def check(op: Operation[Shelf]) -> Event | None:
        shelf = op.data
        try:
            await running(fleet, shelf.instance, shelf.host)
            if shelf.image in await fleet.images():
                what = f"there is an image {shelf.image}"
                raise Unsuitable(what, host=shelf.host, instance=shelf.instance, mend="find out whose it is")
        except (Unsuitable, ValueError) as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return None

    @actions.perform(Shelve.stopping)
    async def switch_off(op: Operation[Shelf]) -> None:
        await fleet.stop(op.data.instance, op.data.host, permit(op))

    @actions.undo(Shelve.stopping)
    async def start(op: Operation[Shelf]) -> None:
        await fleet.start(await fleet.made_as(op.data.instance), op.data.host, permit(op))

    @actions.perform(Shelve.storing)
    async def store(op: Operation[Shelf]) -> None:
        await fleet.capture(op.data.instance, op.data.host, op.data.image, permit(op))

    @actions.undo(Shelve.storing)
    async def discard(op: Operation[Shelf]) -> None:
        await fleet.discard(op.data.instance, op.data.host, op.data.image, permit(op), mine=True)

    @actions.perform(Shelve.releasing)
    async def release(op: Operation[Shelf]) -> None:
        await fleet.publish(op.data.instance, op.data.host, op.data.image, permit(op))
        await fleet.unmake(op.data.instance, op.data.host, permit(op))

    return actions


class Unshelve(Machine[Shelf], version=1):
    """Make a guest again from its image."""

    claims = [Claim("instance:{instance}"), Claim("image:shelved-{instance}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="restoring",
        description="its image is ready, and the host takes guests",
    )
    restoring = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="1h",
        then="starting",
        description="its disk is made from the image",
    )
    starting = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="settling",
        description="it starts",
    )
    settling = State(
        queue="host:{host}",
        pivot=True,
        retry=Retry.forever(),
        timeout="10m",
        then="completed",
        description="the image is deleted",
    )

    completed = Final("succeeded", description="it runs, and its image is gone")
    refused = Final("failed", description="it cannot be; nothing was begun")
    failed = Final("failed", description="only its image is there")
    cancelled = Final("cancelled", description="only its image is there")

    views = {"v1": {"ACTIVE": ["completed"], "SHELVED": ["refused", "failed", "cancelled"], "UNSHELVING": ...}}


def unshelve(fleet: Fleet) -> Actions[Shelf]:
    """Return the actions of `Unshelve` over a fleet."""
    actions = Actions(Unshelve)

    @actions.perform(Unshelve.checking)
    async def check(op: Operation[Shelf]) -> Event | None:
        shelf = op.data
        try:
            await with_image(fleet, shelf.instance, shelf.host, shelf.image)
            await nowhere(fleet, shelf.instance, shelf.host)
            await fleet.welcome(shelf.instance, shelf.host)
        except (Unsuitable, ValueError) as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return None

    @actions.perform(Unshelve.restoring)
    async def restore(op: Operation[Shelf]) -> None:
        shelf = op.data
        await with_image(fleet, shelf.instance, shelf.host, shelf.image)
        await fleet.make((await fleet.images())[shelf.image], shelf.host, permit(op), shelf.image)

    @actions.undo(Unshelve.restoring)
    async def delete_if_mine(op: Operation[Shelf]) -> None:
        await fleet.unmake(op.data.instance, op.data.host, permit(op), mine=True)

    @actions.perform(Unshelve.starting)
    async def start(op: Operation[Shelf]) -> None:
        await fleet.start(await fleet.made_as(op.data.instance), op.data.host, permit(op))

    @actions.undo(Unshelve.starting)
    async def switch_off(op: Operation[Shelf]) -> None:
        await fleet.stop(op.data.instance, op.data.host, permit(op))

    @actions.perform(Unshelve.settling)
    async def discard(op: Operation[Shelf]) -> None:
        await fleet.discard(op.data.instance, op.data.host, op.data.image, permit(op))

    return actions
