"""Drain: let a host take no new guests, and move every guest that it has to another host, a few at a time.

| state | performs | undo |
|---|---|---|
| checking | the host answers | nothing |
| disabling | it takes no new guests | let it take guests again, if this operation disabled it |
| looking | which guests are on it, and where each can go | nothing |
| awaiting | nothing: a guest is on its way to the host, or some of its memory is still there | - |
| emptying | one live migration for each, so many at a time; failures are collected | - |

It looks again after each round, until nothing is left on the host; after five rounds it gives up. A host that is drained stays disabled
until it is taken back (`HostReturn`). Guests that were moved stay where they are when the drain fails or is cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle

from interlock import Actions, Children, Claim, Event, Final, Machine, Operation, Retry, Rollback, State, When
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import HostUnreachable, RunState, Unsuitable
from interlock.compute.steps import AT_ONCE, permit

__all__ = ["Emptying", "HostDrain", "host_drain"]

ROUNDS = 5
WAITS = 360


@dataclass
class Emptying:
    """The data of a drain.

    Attributes:
        host: its name.
        at_a_time: how many guests leave it at the same time. A live migration itself lets no more than two leave a host at once.
        bytes_per_second: limit of each copy's rate; None: as fast as it goes.
        postcopy: whether a move that takes too long may be sent the signal `postcopy`; see `Move`.
        moves: the guests that are on it, each with its source and destination, as of the last look.
        rounds: how often guests were found that can be moved.
        waits: how often there was only to wait for guests on their way to it or from it, for ten seconds each.
        reason: why it cannot be drained, if it cannot.
    """

    host: str
    at_a_time: int = 2
    bytes_per_second: int | None = None
    postcopy: bool = False
    moves: list[dict[str, str]] = field(default_factory=list)
    rounds: int = 0
    waits: int = 0
    reason: str = ""


class HostDrain(Machine[Emptying], version=1):
    """Move everything off a host."""

    claims = [Claim("whole-host:{host}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="disabling",
        description="it answers",
    )
    disabling = State(
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="1m",
        then="looking",
        description="it takes no new guests",
    )
    looking = State(
        undo="nothing",
        retry=Retry(3, errors=AT_ONCE),
        timeout="1m",
        on={"unsuitable": Rollback("failed"), "unsettled": "awaiting"},
        then=[When("guests_left", "emptying"), "completed"],
        description="which guests are on it, and where each can go",
    )
    awaiting = State(
        after={"10s": "looking"},
        description="a guest is on its way to it, or some of its memory is still there",
    )
    emptying = State(
        children=Children("live-migration", each="moves", limit="at_a_time", on_failure="collect"),
        on={"failed": "looking"},
        then="looking",
        description="its guests are moved, so many at a time",
    )

    completed = Final("succeeded", description="nothing is on it, and it takes no guests")
    refused = Final("failed", description="it cannot be drained; nothing was begun")
    failed = Final("failed", description="it takes guests; some are still there, and some may have been moved")
    cancelled = Final("cancelled", description="it takes guests; some are still there, and some may have been moved")

    views = {"v1": {"DISABLED": ["completed"], "ENABLED": ["refused", "failed", "cancelled"], "DRAINING": ...}}


def host_drain(fleet: Fleet) -> Actions[Emptying]:
    """Return the actions of `HostDrain` over a fleet; its children need those of `LiveMigration` beside them."""
    actions = Actions(HostDrain)

    @actions.perform(HostDrain.checking)
    async def check(op: Operation[Emptying]) -> Event | None:
        if op.data.at_a_time < 1:
            return Event(
                "unsuitable", reason=f"at_a_time is {op.data.at_a_time}: at least one guest must leave at a time"
            )
        try:
            await fleet.guests_on(op.data.host)
        except Unsuitable as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return None

    @actions.perform(HostDrain.disabling)
    async def disable(op: Operation[Emptying]) -> None:
        await fleet.disable(op.data.host, permit(op))

    @actions.undo(HostDrain.disabling)
    async def enable(op: Operation[Emptying]) -> None:
        await fleet.enable(op.data.host, permit(op))

    @actions.perform(HostDrain.looking)
    async def look(op: Operation[Emptying]) -> Event | dict[str, object]:
        host = op.data.host
        found = {guest: (await fleet.where(guest)).get(host) for guest in await fleet.guests_on(host)}
        # What was left by a guest that went goes by itself, and the host may go before it.
        here = [guest for guest, state in found.items() if state in (RunState.RUNNING, RunState.PAUSED)]
        on_its_way = [guest for guest, state in found.items() if state in (RunState.INCOMING, RunState.FEEDING)]
        room = [other for other in fleet.hosts if other != host and await takes_guests(fleet, other)]
        if here and not room:
            return Event("unsuitable", reason=f"no other host takes guests: {', '.join(here)} cannot leave {host}")
        if here and op.data.rounds == ROUNDS:
            return Event("unsuitable", reason=f"after {ROUNDS} rounds, {', '.join(here)} is still on {host}")
        if not here and on_its_way:
            if op.data.waits == WAITS:
                what = f"after an hour, {', '.join(on_its_way)} is still on its way to {host} or from it"
                return Event("unsuitable", reason=what)
            return Event("unsettled", waits=op.data.waits + 1)
        moves = [
            {"instance": guest, "source": host, "destination": to} for guest, to in zip(here, cycle(room), strict=False)
        ]
        return {"moves": moves, "rounds": op.data.rounds + 1}

    @actions.when("guests_left")
    def guests_left(op: Operation[Emptying]) -> bool:
        return bool(op.data.moves)

    return actions


async def takes_guests(fleet: Fleet, host: str) -> bool:
    """Say whether a host answers and takes guests."""
    try:
        await fleet.welcome("any-guest", host)
    except (Unsuitable, HostUnreachable):
        return False
    return True
