"""Boot: make a guest where there is none, or switch one on that is off.

| state | performs | undo |
|---|---|---|
| checking | its size is one that a guest can have, its host takes guests, and it runs nowhere | nothing |
| creating | its disk is made, empty or from an image; one that is there already is kept | delete the disk, if this operation made it |
| starting | it starts | switch it off |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from interlock import Actions, Claim, Event, Final, Machine, Operation, Retry, State
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Guest, Unsuitable
from interlock.compute.steps import AT_ONCE, nowhere, permit, with_image

__all__ = ["Birth", "Boot", "boot"]


@dataclass
class Birth:
    """The data of a boot.

    Attributes:
        instance, host: names of the guest and of its host.
        memory_mib, cpus, filled_mib, dirtied_pages, disk, storage: what it is made of; see `Guest`.
        image: the image that its disk is made from; empty: its boot code alone.
        reason: why it cannot be, if it cannot.
    """

    instance: str
    host: str
    memory_mib: int = 128
    cpus: int = 1
    filled_mib: int = 64
    dirtied_pages: int = 16
    disk: Literal["qcow2", "raw"] = "qcow2"
    storage: Literal["shared", "local"] = "shared"
    image: str = ""
    reason: str = ""

    def guest(self) -> Guest:
        """Return what it is made of; raises ValueError where no guest can be."""
        sizes = (self.memory_mib, self.cpus, self.filled_mib, self.dirtied_pages)
        return Guest(self.instance, *sizes, self.disk, self.storage)


class Boot(Machine[Birth], version=1):
    """Make a guest and start it."""

    claims = [Claim("instance:{instance}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="creating",
        description="it can be as it was asked for, and it runs nowhere",
    )
    creating = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="10m",
        then="starting",
        description="its disk is made",
    )
    starting = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="completed",
        description="it starts",
    )

    completed = Final("succeeded", description="it runs")
    refused = Final("failed", description="it cannot be; nothing was begun")
    failed = Final("failed", description="nothing of it is there that was not there before")
    cancelled = Final("cancelled", description="nothing of it is there that was not there before")

    views = {"v1": {"ACTIVE": ["completed"], "SHUTOFF": ["refused", "failed", "cancelled"], "BUILD": ...}}


def boot(fleet: Fleet) -> Actions[Birth]:
    """Return the actions of `Boot` over a fleet."""
    actions = Actions(Boot)

    @actions.perform(Boot.checking)
    async def check(op: Operation[Birth]) -> Event | None:
        birth = op.data
        try:
            birth.guest()
            await fleet.welcome(birth.instance, birth.host)
            await nowhere(fleet, birth.instance, birth.host)
            await with_image(fleet, birth.instance, birth.host, birth.image)
        except (Unsuitable, ValueError) as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return None

    @actions.perform(Boot.creating)
    async def create(op: Operation[Birth]) -> None:
        await fleet.make(op.data.guest(), op.data.host, permit(op), op.data.image)

    @actions.undo(Boot.creating)
    async def delete_if_mine(op: Operation[Birth]) -> None:
        await fleet.unmake(op.data.instance, op.data.host, permit(op), mine=True)

    @actions.perform(Boot.starting)
    async def start(op: Operation[Birth]) -> None:
        await fleet.start(op.data.guest(), op.data.host, permit(op))

    @actions.undo(Boot.starting)
    async def switch_off(op: Operation[Birth]) -> None:
        await fleet.stop(op.data.instance, op.data.host, permit(op))

    return actions
