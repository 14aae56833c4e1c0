"""A toy for the explorer: servers and disks on a rack, and ways to be wrong about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from interlock import Actions, Final, Machine, Operation, Retry, Rollback, State
from interlock.exploring.effects import effects
from interlock.exploring.scenario import Exploration, Start
from interlock.interpreter.snapshot import Snapshot

Data = dict[str, str]


class Deploy(Machine[Data], version=1):
    """Boot a server, attach a disk."""

    booting = State(initial=True, undo=True, timeout="1m", then="attaching")
    attaching = State(undo=True, timeout="1m", on={"abort": Rollback("cancelled")}, then="live")
    live = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Approval(Machine[Data], version=1):
    """Waits for somebody."""

    asking = State(initial=True, undo="nothing", retry=Retry(2), then="waiting")
    waiting = State(on={"no": "refused", "yes": "granted"})
    granted = Final("succeeded")
    refused = Final("failed")
    failed = Final("failed")
    cancelled = Final("cancelled")


class TooOld(Exception):
    """A late worker."""


class Rack:
    """Refuses whoever comes with an older token than it has seen."""

    def __init__(self) -> None:
        self.things: set[str] = set()
        self._seen = 0

    def _check(self, token: int) -> None:
        if token < self._seen:
            raise TooOld(f"token {token} is older than {self._seen}")
        self._seen = token

    def start(self, token: int) -> None:
        self._check(token)
        self.things.add("server")

    def stop(self, token: int) -> None:
        self._check(token)
        self.things.discard("server")

    async def attach(self, token: int) -> None:
        await asyncio.sleep(1)
        self._check(token)
        self.things.add("disk")

    async def detach(self, token: int) -> None:
        self._check(token)
        self.things.discard("disk")


class TrustingRack(Rack):
    """Looks at no token."""

    def _check(self, token: int) -> None: ...


def deploy(rack: Rack) -> Actions[Data]:
    actions = Actions(Deploy)

    @actions.perform(Deploy.booting)
    def boot(op: Operation[Data]) -> None:
        rack.start(op.token)

    @actions.undo(Deploy.booting)
    def stop(op: Operation[Data]) -> None:
        rack.stop(op.token)

    @actions.perform(Deploy.attaching)
    async def attach(op: Operation[Data]) -> None:
        await rack.attach(op.token)

    @actions.undo(Deploy.attaching)
    async def detach(op: Operation[Data]) -> None:
        await rack.detach(op.token)

    return actions


def nothing_left(rack: Rack, operations: Sequence[Snapshot]) -> str | None:
    if rack.things and any(one.status in ("failed", "cancelled") for one in operations):
        return f"{', '.join(sorted(rack.things))} left behind"
    return None


def all_there(rack: Rack, operations: Sequence[Snapshot]) -> bool:
    return rack.things == {"server", "disk"} or not any(one.status == "succeeded" for one in operations)


def scenario(actions: Callable[[Rack], Any] = deploy, world: Any = Rack, **more: Any) -> Exploration[Rack]:
    return Exploration(
        **{
            "world": world,
            "actions": lambda rack: actions(effects(rack)),
            "operations": [Start(Deploy, name="web")],
            "invariants": [nothing_left],
            "at_the_end": [all_there],
            **more,
        }
    )


def replaced(
    table: str, state: str, function: Callable[[Rack, Operation[Data]], Any]
) -> Callable[[Rack], Actions[Data]]:
    """The actions with one function replaced: ``table`` is ``perform`` or ``undo``."""

    def make(rack: Rack) -> Actions[Data]:
        actions = deploy(rack)
        ({"perform": actions.performs, "undo": actions.undos}[table]).pop(state)
        binder = getattr(actions, table)(state)
        if asyncio.iscoroutinefunction(function):

            async def call(op: Operation[Data]) -> Any:
                return await function(rack, op)

            binder(call)
        else:
            binder(lambda op: function(rack, op))
        return actions

    return make


async def does_nothing(rack: Rack, op: Operation[Data]) -> None: ...


async def only_once(rack: Rack, op: Operation[Data]) -> None:
    """Thinks that a second attempt has nothing left to do."""
    if op.number == 1:
        await rack.detach(op.token)


good = scenario()
forgetful = scenario(replaced("undo", "attaching", does_nothing))
half = scenario(replaced("undo", "attaching", only_once))
trusting = scenario(world=TrustingRack)
