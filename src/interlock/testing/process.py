"""A simulated process: the real runtime on a loop of its own, over a store that others share, and ways to die."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from random import Random
from typing import Any, Protocol, cast

from interlock.errors import InterlockError, StoreFailed
from interlock.runtime.actions import Actions
from interlock.runtime.engine import Interlock
from interlock.stores.contract import Entry, Schedule, Store
from interlock.stores.memory import MemoryStore
from interlock.testing.loop import VirtualLoop

__all__ = ["Killed", "Process", "View"]


class Killed(SystemExit):
    """The process dies here. asyncio lets it through."""


class Faults(Protocol):
    """How likely what is, from 0 to 1; all 0 when the world is calm."""

    kill: float
    fail: float


class View:
    """One process's view of the shared store: it dies before or after a commit, or the store fails."""

    def __init__(
        self,
        store: MemoryStore,
        random: Random,
        faults: Faults,
        count: Callable[[str], None],
        noted: Callable[[Schedule | None, Schedule | None], None] = lambda before, after: None,
    ) -> None:
        self._store, self._random, self._faults, self._count, self._noted = store, random, faults, count, noted
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if self.dead:
                raise Killed
            return verb(*arguments, **named)

        return call

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        """Commit, unless this is where the process dies or the store fails."""
        self._open("before a commit")
        won = self._store.commit(entries)
        self._fired(entry for entry, wins in zip(entries, won, strict=True) if wins)
        self.boundary("after a commit")
        return won

    def _fired(self, won: Iterable[Entry]) -> None:
        for entry in won:
            if entry.fires is not None:
                self._noted(*entry.fires)

    def set_schedule(self, schedule: Schedule, before: Schedule | None) -> bool:
        """Write a schedule, unless this is where the process dies or the store fails."""
        self._open("before it noted a schedule")
        won = self._store.set_schedule(schedule, before)
        if won:
            self._noted(before, schedule)
        self.boundary("after it noted a schedule")
        return won

    def drop_schedule(self, name: str) -> bool:
        """Forget a schedule, unless this is where the process dies or the store fails."""
        self._open("before it dropped a schedule")
        before = next((one for one in self._store.schedules() if one.name == name), None)
        dropped = self._store.drop_schedule(name)
        if dropped:
            self._noted(before, None)
        self.boundary("after it dropped a schedule")
        return dropped

    def _open(self, where: str) -> None:
        if self.dead:
            raise Killed
        if self._random.random() < self._faults.fail:
            self._count("store failed")
            raise StoreFailed("the disk is full")
        self.boundary(where)

    def boundary(self, where: str = "at an effect") -> None:
        """A place where the process may die."""
        if self.dead:
            raise Killed
        if self._random.random() < self._faults.kill:
            self._count(f"killed {where}")
            self.dead = True
            raise Killed

    def close(self) -> None:
        """The shared store stays open."""


class Process:
    """The runtime in a process that can be stepped, frozen, stopped and killed.

    Attributes:
        name: for the story.
        frozen_until: it is not stepped before that time.
    """

    def __init__(
        self,
        name: str,
        view: View,
        clock: Callable[[], float],
        actions: Callable[[Callable[[], None]], Sequence[Actions[Any]]],
        queues: Collection[str],
        new_id: Callable[[], str],
        *,
        lease_seconds: float = 5.0,
        poll_seconds: float = 0.5,
        max_running: int = 8,
    ) -> None:
        self.name = name
        self.view = view
        self.frozen_until = 0.0
        self.loop = VirtualLoop(clock)
        self.interlock: Interlock | None = None
        self.stopped = False
        self._stop = asyncio.Event()
        self._sessions = 0

        class Time:
            def now(self) -> float:
                return clock()

        def session() -> str:
            self._sessions += 1
            return f"{name}.{self._sessions}"

        self._made: Callable[[], Interlock] = lambda: Interlock(
            cast(Store, view),
            actions(view.boundary),
            queues=queues,
            committer="inline",
            clock=Time(),
            new_id=new_id,
            new_name=session,
            process="",
            lease_seconds=lease_seconds,
            poll_seconds=poll_seconds,
            grace_seconds=6.0,
            max_running=max_running,
        )
        self._main = self.loop.create_task(self._run())

    @property
    def dead(self) -> bool:
        """Whether it was killed."""
        return self.view.dead

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                async with self._made() as self.interlock:
                    await self._stop.wait()
            except InterlockError:
                await asyncio.sleep(1)  # as whoever supervises a process does: it is started again
            finally:
                self.interlock = None
        self.stopped = True

    def stop(self) -> None:
        """Ask it to stop gracefully."""
        self.loop.call_soon(self._stop.set)

    def kill(self) -> None:
        """It never runs again."""
        self.view.dead = True

    def give(self, work: Callable[[Interlock], Awaitable[None]]) -> None:
        """Have a caller in this process do something, when its runtime is there."""

        async def run() -> None:
            if self.interlock is not None:
                await work(self.interlock)

        self.loop.create_task(run())

    def step(self) -> None:
        """Run one handle; it may be its last."""
        try:
            self.loop.step()
        except Killed:
            self.view.dead = True
