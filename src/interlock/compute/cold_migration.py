"""Cold migration: a guest is switched off, and started on another host.

| state | performs | undo |
|---|---|---|
| checking | it runs at its source, and the destination takes guests | nothing |
| stopping | it is switched off at its source | start it there |
| carrying | its disk goes to the destination; only where storage is local to hosts | it comes back |
| starting | it starts at the destination, from the disk that both share | switch it off there |

It has no point of no return: as long as it is not over it can go back, and when it is over nothing is left at the source.
"""

from __future__ import annotations

from dataclasses import dataclass

from interlock import Actions, Claim, Event, Final, Machine, Operation, Retry, State, When
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Unsuitable
from interlock.compute.steps import AT_ONCE, permit, running

__all__ = ["ColdMigration", "ColdMove", "cold_migration"]


@dataclass
class ColdMove:
    """The data of a cold migration.

    Attributes:
        instance, source, destination: names of the guest and of the two hosts.
        shared: whether its disk is on storage that both hosts share.
        reason: why the guest cannot go there, if it cannot.
    """

    instance: str
    source: str
    destination: str
    shared: bool = True
    reason: str = ""


class ColdMigration(Machine[ColdMove], version=1):
    """Switch a guest off, and start it on another host."""

    claims = [Claim("instance:{instance}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="stopping",
        description="it runs at its source, and the destination takes guests",
    )
    stopping = State(
        queue="host:{source}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then=[When("disk_is_shared", "starting"), "carrying"],
        description="it is switched off at its source",
    )
    carrying = State(
        queue="host:{destination}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="6h",
        then="starting",
        description="its disk goes to the destination",
    )
    starting = State(
        queue="host:{destination}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="completed",
        description="it starts at the destination",
    )

    completed = Final("succeeded", description="it runs at the destination")
    refused = Final("failed", description="it cannot go there; nothing was begun")
    failed = Final("failed", description="it runs at its source")
    cancelled = Final("cancelled", description="it runs at its source")

    views = {"v1": {"ACTIVE": ["completed", "refused", "failed", "cancelled"], "RESIZE": ...}}


def cold_migration(fleet: Fleet) -> Actions[ColdMove]:
    """Return the actions of `ColdMigration` over a fleet."""
    actions = Actions(ColdMigration)

    @actions.perform(ColdMigration.checking)
    async def check(op: Operation[ColdMove]) -> Event | dict[str, bool]:
        move = op.data
        try:
            await running(fleet, move.instance, move.source)
            await fleet.check(move.instance, move.source, move.destination)
            shared = (await fleet.made_as(move.instance)).storage == "shared"
        except Unsuitable as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return {"shared": shared}

    @actions.when("disk_is_shared")
    def disk_is_shared(op: Operation[ColdMove]) -> bool:
        return op.data.shared

    @actions.perform(ColdMigration.stopping)
    async def switch_off(op: Operation[ColdMove]) -> None:
        await fleet.stop(op.data.instance, op.data.source, permit(op))

    @actions.undo(ColdMigration.stopping)
    async def start_at_its_source(op: Operation[ColdMove]) -> None:
        await fleet.start(await fleet.made_as(op.data.instance), op.data.source, permit(op))

    @actions.perform(ColdMigration.carrying)
    async def carry(op: Operation[ColdMove]) -> None:
        await fleet.carry(op.data.instance, op.data.source, op.data.destination, permit(op))

    @actions.undo(ColdMigration.carrying)
    async def carry_back(op: Operation[ColdMove]) -> None:
        await fleet.carry(op.data.instance, op.data.destination, op.data.source, permit(op))

    @actions.perform(ColdMigration.starting)
    async def start(op: Operation[ColdMove]) -> None:
        await fleet.start(await fleet.made_as(op.data.instance), op.data.destination, permit(op))

    @actions.undo(ColdMigration.starting)
    async def switch_off_there(op: Operation[ColdMove]) -> None:
        await fleet.stop(op.data.instance, op.data.destination, permit(op))

    return actions
