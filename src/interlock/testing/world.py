"""The world that simulated actions change: things that are made and unmade, with every attempt's token checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from interlock.definition.machine import Definition
from interlock.errors import Fail, RetryAfter
from interlock.runtime.actions import Actions, Event
from interlock.runtime.operation import Operation
from interlock.testing.machines import CONDITION

__all__ = ["Refusal", "World", "made_in"]


def made_in(state: str) -> str:
    """Return what the things are called that a state makes, whatever a version calls the state: `s1`, then `t1`, ..."""
    return state[1:]


class Refusal(Exception):
    """The world refuses a token that is older than one it has seen: a late worker."""


class World:
    """What is there, per operation; and whether anything ran that should not have.

    Attributes:
        things: (operation, state) of everything that was made and not unmade.
        calm: nothing goes wrong any more.
        faults: what must never happen and did.
        refused: how many late workers were refused.
        came_back: (operation, token) of every action that came back with an outcome.
    """

    def __init__(self, random: Random, say: Callable[[str, str], None]) -> None:
        self.random = random
        self.say = say
        self.things: set[tuple[str, str]] = set()
        self.calm = False
        self.faults: list[str] = []
        self.refused = 0
        self.came_back: set[tuple[str, int]] = set()
        self._tokens: dict[str, int] = {}
        self._acting: dict[tuple[str, str], int] = {}

    def touch(self, process: str, op: Operation[Any]) -> None:
        """Check the token of an attempt that is about to change something."""
        newest = self._tokens.get(op.id, 0)
        if op.token < newest:
            self.refused += 1
            self.say(process, f"{op.id}: the world refuses token {op.token}, it has seen {newest}")
            raise Refusal(f"token {op.token} is older than {newest}")
        self._tokens[op.id] = op.token

    def begin(self, process: str, op: Operation[Any]) -> None:
        """Note that an attempt's action runs."""
        other = self._acting.get((process, op.id))
        if other is not None:
            self.faults.append(f"{op.id}: attempt {op.token} began in {process} while attempt {other} still ran there")
        self._acting[process, op.id] = op.token

    def end(self, process: str, op: Operation[Any]) -> None:
        """Note that it has ended."""
        if self._acting.get((process, op.id)) == op.token:
            del self._acting[process, op.id]

    def actions(
        self, machine: Definition, process: str, boundary: Callable[[], None], reported: frozenset[str]
    ) -> Actions[dict[str, Any]]:
        """Return the actions of one process: ``boundary`` is called wherever the process may die; other code performs ``reported``."""
        bound = Actions(machine, reported=reported)
        for row in machine.table.values():
            if row.kind == "parent" and row.undo:
                bound.undo(row.name)(self._undo(process, boundary))
            if row.kind != "acting":
                continue
            if row.name in reported:
                if row.undo:
                    bound.undo(row.name)(self._undo(process, boundary))
                continue
            bound.perform(row.name)(self._action(process, row.undo, boundary))
            if row.undo:
                bound.undo(row.name)(self._undo(process, boundary))
            if self.random.random() < 0.5:
                bound.recover(row.name)(self._action(process, row.undo, boundary))
        if any(row.conditions for row in machine.table.values()):
            bound.when(CONDITION)(self._condition)
        return bound

    async def _condition(self, op: Operation[Any]) -> bool:
        if not self.calm and self.random.random() < 0.2:
            raise OSError("nobody knows")
        return self.random.random() < 0.5

    def _action(self, process: str, leaves: bool, boundary: Callable[[], None]) -> Callable[[Operation[Any]], Any]:
        async def act(op: Operation[Any]) -> Any:
            self.begin(process, op)
            try:
                boundary()
                self.touch(process, op)
                owned = leaves and self.random.random() < 0.15
                if owned:
                    await self._owns(op)
                    self.touch(process, op)
                if leaves:
                    self.things.add((op.id, made_in(op.state)))
                boundary()
                outcome = await self._behave(op)
                if owned and self.random.random() < 0.95:
                    op.disowns("lock", made_in(op.state))
                self.came_back.add((op.id, op.token))
                return outcome
            finally:
                self.end(process, op)

        return act

    async def _owns(self, op: Operation[Any]) -> None:
        receipt = op.owns("lock", made_in(op.state))
        if self.random.random() < 0.5:
            await receipt

    async def _behave(self, op: Operation[Any]) -> Any:
        chance = self.random.random()
        if self.calm or chance < 0.55:
            await asyncio.sleep(self.random.choice([0, 0, 0.1, 1, 3]))
            return {"note": self.random.randint(0, 9)} if chance < 0.2 else None
        if chance < 0.67:
            raise OSError("it did not work")
        if chance < 0.71:
            raise Fail("it never will")
        if chance < 0.75:
            raise RetryAfter(self.random.randint(1, 9))
        if chance < 0.80:
            await asyncio.Event().wait()
        if chance < 0.85:
            await self._stubborn()
        if chance < 0.88:
            return Event("nonsense")
        if chance < 0.90:
            return 42
        for _ in range(self.random.randint(1, 8)):
            await asyncio.sleep(3)
            op.progress(1, 10)
        return None

    async def _stubborn(self) -> None:
        """Run on for a while after it was told to end."""
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(self.random.randint(1, 6))
            raise

    def _undo(self, process: str, boundary: Callable[[], None]) -> Callable[[Operation[Any]], Any]:
        async def undo(op: Operation[Any]) -> None:
            self.begin(process, op)
            try:
                boundary()
                self.touch(process, op)
                await asyncio.sleep(self.random.choice([0, 0, 1]))
                if not self.calm and self.random.random() < 0.25:
                    raise OSError("it cannot be undone now")
                self.touch(process, op)
                self.things.discard((op.id, made_in(op.state)))
                if any(own.id == made_in(op.state) for own in op.owned):
                    op.disowns("lock", made_in(op.state))
                boundary()
            finally:
                self.end(process, op)

        return undo
