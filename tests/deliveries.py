"""What the runtime's tests share: a machine, actions whose behaviour a test sets by name, stores, and waiting for a condition."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock import Actions, Event, Final, Machine, Operation, Retry, Rollback, State, When
from interlock.stores.contract import Store
from interlock.stores.memory import MemoryStore
from interlock.stores.sqlite import SqliteStore

FAST = Retry(3, delay=0.01, jitter=0)


@dataclass
class Parcel:
    name: str
    port: int | None = None
    tags: list[str] = field(default_factory=list)


class Delivery(Machine[Parcel], version=1):
    """Three acting states, the last past the pivot."""

    packing = State(initial=True, undo=True, retry=FAST, undo_retry=Retry(2, delay=0.01, jitter=0), then="driving")
    driving = State(
        undo=True, retry=FAST, then="arriving", on={"turn": Rollback("cancelled"), "astray": Rollback("failed")}
    )
    arriving = State(pivot=True, then="delivered")
    delivered = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Letter(Machine[Parcel], version=1):
    """Waits for a signal between two acts, and leaves by a condition."""

    writing = State(initial=True, undo="nothing", then="waiting")
    waiting = State(on={"sent": "posting", "lost": "failed"}, after={"1h": "failed"})
    posting = State(undo="nothing", then=[When("abroad", "flying"), When("heavy", "failed"), "done"])
    flying = State(undo="nothing", heartbeat=0.05, on_stop="handover", then="done")
    done = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Depot:
    """Actions that note their calls and do what a test put into ``do`` under ``"perform driving"``, ``"when heavy"``, ..."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.seen: list[Operation[Parcel]] = []
        self.do: dict[str, Callable[[Operation[Parcel]], Any]] = {}
        self.running: dict[str, int] = {}
        self.overlaps = 0

    async def _act(self, word: str, op: Operation[Parcel]) -> Any:
        name = f"{word} {op.state}"
        self.calls.append(name)
        self.seen.append(op)
        self.overlaps += self.running.get(op.id, 0)
        self.running[op.id] = self.running.get(op.id, 0) + 1
        try:
            behaviour = self.do.get(name)
            result = None if behaviour is None else behaviour(op)
            return await result if inspect.isawaitable(result) else result
        finally:
            self.running[op.id] -= 1

    def actions(self, machine: type[Machine[Parcel]] = Delivery, *, recover: tuple[str, ...] = ()) -> Actions[Parcel]:
        actions = Actions(machine)
        for row in machine.definition.table.values():
            if row.kind != "acting":
                continue
            actions.perform(row.name)(self._bound("perform"))
            if row.undo:
                actions.undo(row.name)(self._bound("undo"))
            if row.name in recover:
                actions.recover(row.name)(self._bound("recover"))
        for name in {name for row in machine.definition.table.values() for name in row.conditions}:
            actions.when(name, inline=True)(self._condition(name))
        return actions

    def _bound(self, word: str) -> Callable[[Operation[Parcel]], Any]:
        async def act(op: Operation[Parcel]) -> Any:
            return await self._act(word, op)

        return act

    def _condition(self, name: str) -> Callable[[Operation[Parcel]], bool]:
        def ask(op: Operation[Parcel]) -> bool:
            self.calls.append(f"when {name}")
            behaviour = self.do.get(f"when {name}")
            return False if behaviour is None else bool(behaviour(op))

        return ask


class Gate:
    """An action that says it has come, waits until it is let through, and notes how it left."""

    def __init__(self, result: Any = None) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.result = result
        self.cancelled = 0

    async def __call__(self, op: Operation[Parcel]) -> Any:
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.result


def failing(*errors: BaseException | None) -> Callable[[Operation[Parcel]], Any]:
    """Return an action that raises these errors one after the other, then succeeds."""
    left = list(errors)

    def act(op: Operation[Parcel]) -> None:
        error = left.pop(0) if left else None
        if error is not None:
            raise error

    return act


async def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def a_store(kind: str, folder: Path) -> Store:
    return MemoryStore() if kind == "memory" else SqliteStore(folder / "ops.db", synchronous="NORMAL")


__all__ = ["FAST", "Delivery", "Depot", "Event", "Gate", "Letter", "Parcel", "a_store", "eventually", "failing"]
