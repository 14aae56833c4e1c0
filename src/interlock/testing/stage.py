"""Where a kit's operations run: the real runtime in a simulated process, on a clock that stands still until it is told to go on."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from interlock.definition.duration import duration_text
from interlock.errors import InterlockError, Refused
from interlock.exploring.watch import Hung, Watch
from interlock.interpreter.snapshot import Ended, Snapshot
from interlock.runtime.actions import Actions
from interlock.runtime.engine import Interlock
from interlock.runtime.telling import told, when
from interlock.stores.contract import Record
from interlock.stores.memory import MemoryStore
from interlock.testing.coverage import Follower
from interlock.testing.process import Process, View

__all__ = ["Died", "NeverQuiet", "Stage", "lines"]

T = TypeVar("T")
START = 1_893_456_000.0  # 2030-01-01 00:00:00 UTC
# So long that nothing but what the user waits for fills the time that passes.
LEASE_SECONDS = 86_400.0
POLL_SECONDS = 21_600.0
LAST_FACTS = 8


class NeverQuiet(InterlockError):
    """What runs in a kit does not come to rest within its bounds."""

    code = "never-quiet"


class Died(InterlockError):
    """The worker died before it could answer."""

    code = "died"


class _Calm:
    kill = 0.0
    fail = 0.0


class _EveryQueue(frozenset[str]):
    """A worker of a kit serves whatever queue there is."""

    def __contains__(self, queue: object) -> bool:
        return True


def lines(records: list[Record]) -> Iterator[str]:
    """Yield a journal as `interlock history` tells it."""
    for record in records:
        first = record.seq - len(record.facts) + 1
        for number, fact in enumerate(record.facts):
            yield f"{when(record.at)}  {first + number:>5}  {told(fact)}"


class Stage:
    """The store, the clock and the process of a kit.

    Args:
        actions: what a new process performs.
        action_seconds: of real time that an action may run without an ``await`` or an end.
        steps: of the event loop that one call may take.

    Attributes:
        now: virtual time in seconds since the epoch.
    """

    def __init__(self, actions: Callable[[], list[Actions[Any]]], action_seconds: float, steps: int) -> None:
        self.now = START
        self.store = MemoryStore()
        self._actions = actions
        self._action_seconds = action_seconds
        self._steps = steps
        self._left = steps
        self._ids = 0
        self._made: list[Process] = []
        self._process: Process | None = None
        self._follower = Follower(self.store)
        self._watch = Watch(action_seconds)

    # The process

    @property
    def crashed(self) -> bool:
        """Whether no process runs, because the last one was killed."""
        return bool(self._made) and self._process is None

    def launch(self) -> None:
        """Start a process. Whatever an earlier one held has lapsed by then."""
        for lease in self.store.leases():
            self.store.renew(replace(lease, until=self.now - 1))
        name = f"w{len(self._made) + 1}"
        view = View(self.store, Random(0), _Calm(), lambda what: None)
        process = Process(
            name, view, lambda: self.now, lambda boundary: self._actions(), _EveryQueue(("",)), self._new_id,
            lease_seconds=LEASE_SECONDS, poll_seconds=POLL_SECONDS, max_running=1_000_000,
        )  # fmt: skip
        self._made.append(process)
        self._process = process
        self.quiet()
        if self._process is process and process.interlock is None:
            raise Refused(f"the kit's worker cannot start: {process.loop.faults or 'it gave no reason'}")

    def crash(self) -> None:
        """Kill the process; no ``finally`` runs. Safe to call where nothing runs."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def close(self) -> None:
        """Drop everything that still runs."""
        self.crash()
        for process in self._made:
            process.view.dead = True
            process.loop.dispose()
        self._made.clear()

    def _new_id(self) -> str:
        self._ids += 1
        return f"op-{self._ids}"

    # Time

    def quiet(self) -> None:
        """Run until nothing can be done before time passes or somebody acts."""
        with self._watching():
            self._run()

    def until(self, end: float, enough: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until ``end``, or until it is enough; return whether it was."""
        with self._watching():
            while True:
                self._run()
                if enough():
                    return True
                at = None if self._process is None else self._process.loop.next_timer()
                if at is None or at > end:
                    break
                self.now = max(self.now, at)
            self.now = max(self.now, end)
            self._run()
            return enough()

    def ask(self, work: Callable[[Interlock], Awaitable[T]]) -> T:
        """Have a caller in the process do something; run until it has its answer and everything is quiet."""
        if self._process is None:
            raise Refused("the kit's worker has crashed: `restart()` first")
        answers: list[T] = []
        errors: list[Exception] = []

        async def run(interlock: Interlock) -> None:
            try:
                answers.append(await work(interlock))
            except Exception as error:  # it is raised below, where the caller stands
                errors.append(error)

        self._process.give(run)
        self.quiet()
        if errors:
            raise errors[0]
        if not answers:
            raise Died("the worker died before the answer was there: `restart()`, and look at the journal")
        return answers[0]

    def _watching(self) -> AbstractContextManager[Any]:
        self._left = self._steps
        if threading.current_thread() is threading.main_thread():
            return self._watch
        return nullcontext()  # nobody can be interrupted elsewhere

    def _run(self) -> None:
        while (process := self._process) is not None:
            if process.dead:
                self._process = None
            if process.dead or not process.loop.ready():
                break
            if not self._left:
                raise NeverQuiet(
                    f"{self._steps:,} steps, and there is still something to do at once: {self._story()}\n"
                    "Does something turn in a circle? If it is only much, make the kit with more `steps`."
                )
            self._left -= 1
            self._watch.beat()
            with suppress(Hung):  # the watch knows where
                process.step()
            if self._watch.where:
                where = self._watch.where
                self.crash()
                raise NeverQuiet(
                    f"an action neither returns nor awaits for {duration_text(self._action_seconds)}: it was in {where}. "
                    "If it is only slow, make the kit with more `action_seconds`"
                )
        self._follower.read()

    def _story(self) -> str:
        ids = [one.id for one in self.snapshots() if not isinstance(one.phase, Ended)]
        text = ""
        for id in ids[:3]:
            told_lines = list(lines(self.journal(id)[-LAST_FACTS:]))
            text += f"\nthe last facts of {id}:\n" + "\n".join(told_lines[-LAST_FACTS:])
        return text or "nothing that an operation did"

    # What is stored

    def pass_over(self) -> None:
        """Count no ways of what is in the store so far: nothing of it happened here."""
        self._follower.read(counting=False)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return all operations, newest first."""
        found = self.store.search(machine=None, status=(), state=None, cursor=None, limit=1_000_000)
        return found.snapshots

    def journal(self, id: str) -> list[Record]:
        """Return an operation's journal."""
        return self.store.journal(id, 0, 1_000_000)
