"""Owned resources as a scenario for the explorer: ports on a switch, and ways to leave them with nobody.

interlock explore tests.explored_ports:ports
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from interlock import Actions, Final, Machine, Operation, Rollback, State
from interlock.exploring.scenario import Exploration, Start
from interlock.interpreter.snapshot import Snapshot, Stuck

Data = dict[str, str]
Thing = tuple[str, str]
Act = Callable[["Switch", Operation[Data]], Awaitable[None]]


class Plug(Machine[Data], version=1):
    """Bind a port, which outlives the operation, under a lock, which must not."""

    binding = State(initial=True, undo=True, timeout="1m", then="plugging")
    plugging = State(undo=True, timeout="1m", on={"abort": Rollback("cancelled")}, then="plugged")
    plugged = Final("succeeded", hands_over=["port"])
    failed = Final("failed")
    cancelled = Final("cancelled")


class Switch:
    """What is there: (kind, id). It refuses whoever comes with an older token than it has seen."""

    def __init__(self) -> None:
        self.things: set[Thing] = set()
        self._seen = 0

    async def make(self, thing: Thing, token: int) -> None:
        await self._admit(token)
        self.things.add(thing)
        await asyncio.sleep(1)

    async def remove(self, thing: Thing, token: int) -> None:
        await self._admit(token)
        self.things.discard(thing)
        await asyncio.sleep(1)

    async def _admit(self, token: int) -> None:
        await asyncio.sleep(1)
        if token < self._seen:
            raise PermissionError(f"token {token} is older than {self._seen}")
        self._seen = token


async def bind(switch: Switch, op: Operation[Data]) -> None:
    await op.owns("port", op.id)
    await switch.make(("port", op.id), op.token)


async def plug(switch: Switch, op: Operation[Data]) -> None:
    await op.owns("lock", op.id)
    await switch.make(("lock", op.id), op.token)
    await give_back(switch, op, "lock")


async def unbind(switch: Switch, op: Operation[Data]) -> None:
    await give_back(switch, op, "port")


async def unplug(switch: Switch, op: Operation[Data]) -> None:
    await give_back(switch, op, "lock")


async def give_back(switch: Switch, op: Operation[Data], kind: str) -> None:
    for own in op.owned:
        if own.kind == kind:
            await switch.remove((own.kind, own.id), op.token)
            await op.disowns(own.kind, own.id)


# Ways to be wrong


async def owns_too_late(switch: Switch, op: Operation[Data]) -> None:
    await switch.make(("port", op.id), op.token)
    await op.owns("port", op.id)


async def forgets_to_disown(switch: Switch, op: Operation[Data]) -> None:
    await switch.remove(("port", op.id), op.token)


async def disowns_only(switch: Switch, op: Operation[Data]) -> None:
    for own in op.owned:
        await op.disowns(own.kind, own.id)


async def looks_for_nothing(switch: Switch, op: Operation[Data]) -> None:
    """Thinks that `plug` gave its lock back."""


def nothing_is_left_with_nobody(switch: Switch, operations: Sequence[Snapshot]) -> str | None:
    owned = {(own.kind, own.id) for one in operations for own in one.owned}
    left = sorted(switch.things - owned)
    return f"nobody owns {left}" if left else None


def ended_means_given_back(switch: Switch, operations: Sequence[Snapshot]) -> str | None:
    """Who succeeded hands a port over, and nothing else; who failed or was cancelled leaves nothing."""
    for one in operations:
        there = {kind for kind, id in switch.things if id == one.id}
        if one.ended and there != ({"port"} if one.status == "succeeded" else set()):
            return f"{one.id} is {one.status}, and there is {sorted(there) or 'nothing'}"
    return None


def stuck_over_something(switch: Switch, operations: Sequence[Snapshot]) -> str | None:
    """Nobody has to look after what is not there."""
    for one in operations:
        if isinstance(one.phase, Stuck) and one.phase.code == "still-owned":
            return f"{one.id} is stuck, and owns {sorted((own.kind, own.id) for own in one.owned)}"
    return None


def exploring(**replaced: Act) -> Exploration[Switch]:
    """The scenario; ``replaced`` are other functions: ``bind``, ``plug``, ``unbind``, ``unplug``."""
    functions: dict[str, Act] = {"bind": bind, "plug": plug, "unbind": unbind, "unplug": unplug, **replaced}

    def actions(switch: Switch) -> Actions[Data]:
        made = Actions(Plug)
        made.perform(Plug.binding)(_over(switch, functions["bind"]))
        made.undo(Plug.binding)(_over(switch, functions["unbind"]))
        made.perform(Plug.plugging)(_over(switch, functions["plug"]))
        made.undo(Plug.plugging)(_over(switch, functions["unplug"]))
        return made

    return Exploration(
        world=Switch,
        actions=actions,
        operations=[Start(Plug, port="p1")],
        invariants=[nothing_is_left_with_nobody, ended_means_given_back],
        at_the_end=[stuck_over_something],
    )


def _over(switch: Switch, act: Act) -> Callable[[Operation[Data]], Awaitable[None]]:
    async def call(op: Operation[Data]) -> None:
        await act(switch, op)

    return call


ports = exploring()
