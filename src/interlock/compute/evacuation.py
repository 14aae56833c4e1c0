"""Evacuation: a guest's host is dead; the guest is started on another one, from its disk. And the dead host's return.

| state | performs | undo |
|---|---|---|
| checking | the source, which had the guest, does not answer, and the destination takes guests | nothing |
| fencing | it is recorded that this guest leaves the source, and the source is powered off | withdraw that record |
| inspecting | its disk is whole | nothing |
| starting | it starts at the destination | switch it off there |
| settling | it is recorded that this is done: the point of no return | - |

The source is fenced before anything else: a host that does not answer may be alive, and its guests with it. Nothing can be begun on it
until it is taken back (`HostReturn`). What is then deleted there follows from what evacuations have recorded, and from nothing else: a
guest whose evacuation failed still belongs to it, and while one is under way it does not come back at all.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from interlock import Actions, Claim, Event, Final, Machine, Operation, Retry, State
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import HostUnreachable, Unsuitable
from interlock.compute.steps import AT_ONCE, on_shared_storage, permit

__all__ = ["Evacuation", "Flight", "HostReturn", "Return", "evacuation", "host_return"]


@dataclass
class Flight:
    """The data of an evacuation.

    Attributes:
        instance, source, destination: names of the guest, of its dead host, and of the host where it is to run.
        reason: why it cannot be, if it cannot.
    """

    instance: str
    source: str
    destination: str
    reason: str = ""


class Evacuation(Machine[Flight], version=1):
    """Start a guest of a dead host on another one, from its disk."""

    claims = [Claim("instance:{instance}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="fencing",
        description="its host does not answer, and the destination takes guests",
    )
    fencing = State(
        undo=True,
        retry=Retry(5, errors=AT_ONCE),
        timeout="2m",
        then="inspecting",
        description="its host is powered off, and nothing can be begun there",
    )
    inspecting = State(
        queue="host:{destination}",
        undo="nothing",
        retry=Retry(3, errors=AT_ONCE),
        timeout="10m",
        then="starting",
        description="its disk is whole",
    )
    starting = State(
        queue="host:{destination}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="settling",
        description="it starts at the destination",
    )
    settling = State(
        pivot=True,
        retry=Retry.forever(),
        timeout="1m",
        then="completed",
        description="it is recorded that what its old host has of it is to be deleted",
    )

    completed = Final(
        "succeeded", description="it runs at the destination; its old host stays fenced until it is taken back"
    )
    refused = Final("failed", description="it cannot be evacuated there; nothing was begun")
    failed = Final("failed", description="it runs nowhere, and still belongs to its host")
    cancelled = Final("cancelled", description="it runs nowhere, and still belongs to its host")

    views = {"v1": {"ACTIVE": ["completed"], "UNKNOWN": ["refused", "failed", "cancelled"], "REBUILD": ...}}


def evacuation(fleet: Fleet) -> Actions[Flight]:
    """Return the actions of `Evacuation` over a fleet."""
    actions = Actions(Evacuation)

    @actions.perform(Evacuation.checking)
    async def check(op: Operation[Flight]) -> Event | None:
        flight = op.data
        try:
            on_shared_storage(await fleet.made_as(flight.instance), flight.source)
            await fleet.welcome(flight.instance, flight.destination)
            await dead(fleet, flight)
            await its_host(fleet, flight)
        except Unsuitable as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return None

    @actions.perform(Evacuation.fencing)
    async def fence(op: Operation[Flight]) -> None:
        await fleet.fence(op.data.instance, op.data.source, permit(op))

    @actions.undo(Evacuation.fencing)
    async def withdraw(op: Operation[Flight]) -> None:
        await fleet.withdraw(op.data.instance, op.data.source, permit(op))

    @actions.perform(Evacuation.inspecting)
    async def inspect(op: Operation[Flight]) -> None:
        await fleet.sound(op.data.instance, op.data.destination)

    @actions.perform(Evacuation.starting)
    async def start(op: Operation[Flight]) -> None:
        await fleet.start(await fleet.made_as(op.data.instance), op.data.destination, permit(op))

    @actions.undo(Evacuation.starting)
    async def stop(op: Operation[Flight]) -> None:
        await fleet.stop(op.data.instance, op.data.destination, permit(op))

    @actions.perform(Evacuation.settling)
    async def settle(op: Operation[Flight]) -> None:
        await fleet.evacuated(op.data.instance, op.data.source, permit(op))

    return actions


async def dead(fleet: Fleet, flight: Flight) -> None:
    """Raise `Unsuitable` if the source is the destination, or answers and has guests."""
    here = flight.source
    if here == flight.destination:
        what, mend = "source and destination are the same host", "choose another destination"
        raise Unsuitable(what, host=here, instance=flight.instance, mend=mend)
    try:
        guests = await fleet.guests_on(here)
    except HostUnreachable:
        return
    if guests:
        what, mend = f"the host is alive, and runs {', '.join(guests)}", "drain it, or migrate the guest"
        raise Unsuitable(what, host=here, instance=flight.instance, mend=mend)


async def its_host(fleet: Fleet, flight: Flight) -> None:
    """Raise `Unsuitable` unless the source is the host that the guest was on: no other host is powered off for its sake."""
    elsewhere: list[str] = []
    with suppress(HostUnreachable):
        elsewhere = [f"{state} on {host}" for host, state in (await fleet.where(flight.instance)).items()]
    if elsewhere or not await fleet.had(flight.instance, flight.source):
        what = f"it was not there; it is {', '.join(elsewhere) or 'off'}"
        mend = "name the host it was on, or boot it where it is wanted"
        raise Unsuitable(what, host=flight.source, instance=flight.instance, mend=mend)


@dataclass
class Return:
    """The data of a host's return.

    Attributes:
        host: its name.
        deleted: the guests of which something was deleted there, when it is over.
        reason: why it cannot come back, if it cannot.
    """

    host: str
    deleted: list[str] = field(default_factory=list)
    reason: str = ""


class HostReturn(Machine[Return], version=1):
    """Take a host back that was fenced or disabled: delete what evacuations have recorded, and let it take guests."""

    claims = [Claim("whole-host:{host}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="taking_back",
        description="it answers, and no evacuation from it is under way",
    )
    taking_back = State(
        queue="host:{host}",
        pivot=True,
        retry=Retry.forever(),
        timeout="5m",
        then="completed",
        description="what was evacuated is deleted there, and it takes guests again",
    )

    completed = Final("succeeded", description="it takes guests")
    refused = Final("failed", description="it cannot come back yet; nothing was changed")
    failed = Final("failed", description="it does not answer; nothing was changed")
    cancelled = Final("cancelled", description="nothing was changed")

    views = {"v1": {"UP": ["completed"], "DOWN": ...}}


def host_return(fleet: Fleet) -> Actions[Return]:
    """Return the actions of `HostReturn` over a fleet."""
    actions = Actions(HostReturn)

    @actions.perform(HostReturn.checking)
    async def check(op: Operation[Return]) -> Event | None:
        try:
            await fleet.guests_on(op.data.host)
            under_way = [guest for guest, done in (await fleet.evacuations(op.data.host)).items() if not done]
        except Unsuitable as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        if under_way:
            return Event("unsuitable", reason=f"{', '.join(under_way)} is being evacuated: let that end first")
        return None

    @actions.perform(HostReturn.taking_back)
    async def take_back(op: Operation[Return]) -> dict[str, list[str]]:
        return {"deleted": [*op.data.deleted, *await fleet.take_back(op.data.host, permit(op))]}

    return actions
