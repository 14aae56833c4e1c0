"""The test kit: a machine's operations in a plain test, with stubbed actions and a clock that stands still until it is told to go on.

    def test_a_full_disk_is_rolled_back():
        kit = Kit(LiveMigration)
        kit.stub("copying", raises=OSError("disk full"))
        op = kit.start(instance="vm-1", source="a", destination="b")
        op.expect(status="failed", undone=["copying", "preparing"])

What runs is the real engine over a store in memory. Nothing here waits for real time, and nothing is to be awaited.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from interlock.definition.declare import Final, State
from interlock.definition.document import to_document
from interlock.definition.duration import Duration, duration_text, seconds
from interlock.definition.machine import Definition, Machine, data_type_of, definition_of
from interlock.errors import Refused, did_you_mean
from interlock.interpreter.facts import Entered, Fact, Issued, Performed, Undone
from interlock.interpreter.snapshot import Ended, Running, Snapshot, Status, Stuck, fold
from interlock.runtime.actions import Actions, Event
from interlock.runtime.engine import Interlock
from interlock.stores.contract import Entry, Lease, Record
from interlock.testing.journals import cut_at, read_journal, renamed
from interlock.testing.stage import Died, NeverQuiet, Stage, lines
from interlock.testing.stubs import HANGS, Kind, Stubs

__all__ = ["Kit", "KitOperation"]

_UNSAID: Any = object()


class Kit:
    """Runs a machine's operations in a test: without a server, threads, or waiting.

    A state that nobody stubbed is performed by the user's own action where the kit was given `Actions`; otherwise its action succeeds at
    once. So do undos; conditions say yes. Every call returns when everything is quiet: nothing is left to do before time passes or
    somebody acts.

    Args:
        machine: the machine's class, a `Definition`, or the user's `Actions`, parts of which may be stubbed. Plain functions are called on
            the spot, in no thread.
        children: other machines, or their actions, that parent states start; what is no `Actions` just succeeds.
        action_seconds: of real time that an action may run without an ``await`` or an end before `NeverQuiet` is raised.
        steps: of the event loop that one call may take; a machine that turns in a circle raises `NeverQuiet` then.

    >>> from interlock import Final, Machine, State
    >>> class Deploy(Machine[dict[str, str]], version=1):
    ...     building = State(initial=True, undo=True, timeout="1m", then="live")
    ...     live = Final("succeeded")
    ...     failed = Final("failed")
    ...     cancelled = Final("cancelled")
    >>> kit = Kit(Deploy)
    >>> kit.stub("building", hangs=True)
    >>> op = kit.start(image="web")
    >>> op
    <op-1: running in building>
    >>> kit.advance("1m")
    >>> op.expect(status="failed", undone=["building"])
    """

    def __init__(
        self,
        machine: type[Machine[Any]] | Definition | Actions[Any],
        *,
        children: Sequence[type[Machine[Any]] | Definition | Actions[Any]] = (),
        action_seconds: float = 10.0,
        steps: int = 100_000,
    ) -> None:
        self._machine = machine.definition if isinstance(machine, Actions) else machine
        self.machine = definition_of(self._machine)
        stubs: list[Stubs] = []
        self._stage = stage = Stage(lambda: [one.actions() for one in stubs], action_seconds, steps)
        stubs += [_stubs(one, stage) for one in (machine, *children)]
        self._stubs = stubs
        weakref.finalize(self, stage.close)
        stage.launch()

    def __repr__(self) -> str:
        return f"<Kit of {self.machine.name} version {self.machine.version}>"

    # Stubs

    def stub(
        self,
        state: State | str,
        *answers: Any,
        returns: Any = _UNSAID,
        raises: Any = _UNSAID,
        event: str | Event = "",
        runs: Callable[..., Any] | None = None,
        hangs: bool = False,
        takes: Duration = 0,
    ) -> None:
        """Say what the action of a state answers, from its next attempt on; a `recover` too, if it has no stub of its own.

        Args:
            state: an acting state, or its name; of a child's machine with that before it, ``"live-migration.copying"``.
            answers: one for each attempt of an operation, the last one for all that follow: None, a mapping or an `Event` is returned, an
                exception is raised, a function is called with the operation; `HANGS` never returns, and at `CRASHES` the worker dies.
            returns, raises, event, runs, hangs: the same in words, where there is one answer.
            takes: so much virtual time passes before it answers.

        Raises:
            Refused: no such state, nothing is performed in it, or no such answer.
        """
        self._put("perform", state, answers, returns, raises, event, runs, hangs, takes)

    def stub_undo(
        self,
        state: State | str,
        *answers: Any,
        raises: Any = _UNSAID,
        runs: Callable[..., Any] | None = None,
        hangs: bool = False,
        takes: Duration = 0,
    ) -> None:
        """Say what the undo of a state answers; see `stub`. An undo returns nothing: None is success."""
        self._put("undo", state, answers, _UNSAID, raises, "", runs, hangs, takes)

    def stub_recover(
        self,
        state: State | str,
        *answers: Any,
        returns: Any = _UNSAID,
        raises: Any = _UNSAID,
        event: str | Event = "",
        runs: Callable[..., Any] | None = None,
        hangs: bool = False,
        takes: Duration = 0,
    ) -> None:
        """Say what is answered in place of a state's action where an attempt was cut off; see `stub`."""
        self._put("recover", state, answers, returns, raises, event, runs, hangs, takes)

    def stub_condition(self, name: str, *answers: Any) -> None:
        """Say what a condition answers: True, False, or an exception; one after the other, the last one for all that follow."""
        stubs, name = self._stubs_of(name)
        stubs.put("condition", name, answers, 0.0)

    def _put(
        self,
        kind: Kind,
        state: State | str,
        answers: Sequence[Any],
        returns: Any,
        raises: Any,
        event: str | Event,
        runs: Callable[..., Any] | None,
        hangs: bool,
        takes: Duration,
    ) -> None:
        stubs, name = self._stubs_of(state)
        worded = [returns] if returns is not _UNSAID else []
        worded += [raises] if raises is not _UNSAID else []
        worded += [event if isinstance(event, Event) else Event(event)] if event else []
        worded += [runs] if runs is not None else []
        worded += [HANGS] if hangs else []
        if len(worded) + bool(answers) > 1:
            raise Refused(f"stub of `{name}`: say one of answers, returns=, raises=, event=, runs=, hangs=")
        if not worded and not answers and kind == "undo":
            worded = [None]
        stubs.put(kind, name, [*answers, *worded], seconds(takes))

    def _stubs_of(self, name: State | str) -> tuple[Stubs, str]:
        """Return whose stubs are meant, and the name there."""
        if isinstance(name, State):
            return next((one for one in self._stubs if one.has(name)), self._stubs[0]), name.name
        machine, dot, rest = name.rpartition(".")
        for one in self._stubs if dot else self._stubs[:1]:
            if not dot or one.machine.name == machine:
                return one, rest
        known = [one.machine.name for one in self._stubs]
        raise Refused(f"the kit has no machine `{machine}`{did_you_mean(machine, known)}; it has {', '.join(known)}")

    # Operations

    def start(self, data: Any = None, /, **options: Any) -> KitOperation:
        """Start an operation, with the data's fields or any option of `Interlock.start`; return when everything is quiet."""
        before = len(self._stage.snapshots())
        try:
            id = self._stage.ask(lambda interlock: interlock.start(self._machine, data, **options)).id
        except Died:
            after = self._stage.snapshots()
            if len(after) == before:
                raise
            id = after[0].id  # it was in the store before the worker died
        return KitOperation(self, id)

    def resume(self, journal: str | Path | KitOperation, after: int | None = None) -> KitOperation:
        """Take an operation up where its journal ends, and see what this machine and these actions do with it.

        What the journal says is kept as it is; the clock goes on from its last time, if that is later. An attempt that ran then was cut
        off: the state's ``recover`` comes next, or its action again. An operation of another version goes on by this machine.

        Args:
            journal: what `interlock history ID --json` printed: its text, or a path; or an operation of another kit.
            after: take it up after this fact (its number in the history) in place of the last.

        Raises:
            Refused: it is no such journal, of another machine, over, cut within a decision, or in a state that the machine does not have.
        """
        text = journal.history if isinstance(journal, KitOperation) else journal
        records = renamed(read_journal(text), self.machine)
        if after is not None:
            records = cut_at(records, after)
        snapshot: Snapshot | None = None
        entries = []
        for record in records:
            expected = 0 if snapshot is None else snapshot.seq
            for fact in record.facts:
                snapshot = fold(snapshot, fact, record.at)
            assert snapshot is not None
            entries.append(Entry(snapshot, expected, record.facts, record.at))
        assert snapshot is not None
        self.machine.row(snapshot.state)
        if isinstance(snapshot.phase, Ended):
            raise Refused(
                f"{snapshot.id} is over: {snapshot.status} in {snapshot.state}; "
                f"take it up earlier with after=, a fact's number below {snapshot.seq}"
            )
        stage = self._stage
        if stage.store.load([snapshot.id]):
            raise Refused(f"{snapshot.id} is in this kit already: make another Kit for it")
        self._stage.crash()
        stage.now = max(stage.now, records[-1].at)
        stage.store.define(self.machine.name, self.machine.version, to_document(self.machine))
        for entry in entries:
            assert stage.store.commit([entry]) == [True]
        stage.pass_over()
        if isinstance(snapshot.phase, Running):
            stage.store.renew(Lease(snapshot.phase.worker, stage.now - 1))
        stage.launch()
        return KitOperation(self, snapshot.id)

    def operation(self, id: str) -> KitOperation:
        """Return an operation by its id. Raises `Refused` if there is none."""
        if not self._stage.store.load([id]):
            raise Refused(f"no operation `{id}` in this kit")
        return KitOperation(self, id)

    # Time and mishaps

    @property
    def now(self) -> float:
        """The virtual time, in seconds since the epoch; a new kit begins with the year 2030."""
        return self._stage.now

    def quiet(self) -> None:
        """Run until nothing is left to do before time passes or somebody acts. Every other call has done so already."""
        self._stage.quiet()

    def advance(self, duration: Duration) -> None:
        """Let time pass; whatever comes due on the way happens at its time, in order."""
        wanted = seconds(duration)
        if wanted < 0:
            raise Refused(f"advance({duration!r}): time does not go back")
        self._stage.until(self._stage.now + wanted)

    def finish(self, operation: KitOperation, within: Duration = "30d") -> None:
        """Let time pass until an operation has ended or is stuck.

        Raises:
            NeverQuiet: it is neither after ``within``; the message has its journal.
        """

        def over() -> bool:
            return isinstance(operation.snapshot.phase, Ended | Stuck)

        wanted = seconds(within)
        if not self._stage.until(self._stage.now + wanted, over):
            raise NeverQuiet(
                f"{operation!r} is neither over nor stuck after {duration_text(wanted)}\n\n{operation.journal}"
            )

    def crash(self) -> None:
        """Kill the worker where it stands, as with kill -9. Until `restart` nobody performs anything."""
        self._stage.crash()

    def restart(self) -> None:
        """Start a worker anew (killing the one that is there). The lease of what was cut off has lapsed: it is taken up at once."""
        self._stage.crash()
        self._stage.launch()

    def close(self) -> None:
        """Drop everything that still runs. A kit that nobody holds any more does so by itself."""
        self._stage.close()

    def _ask(self, work: Callable[[Interlock], Awaitable[Any]]) -> None:
        self._stage.ask(work)


def _stubs(machine: type[Machine[Any]] | Definition | Actions[Any], stage: Stage) -> Stubs:
    if isinstance(machine, Actions):
        return Stubs(machine.definition, machine, machine.data_type, stage.crash)
    return Stubs(
        definition_of(machine), None, data_type_of(machine) if isinstance(machine, type) else None, stage.crash
    )


class KitOperation:
    """An operation in a `Kit`. What it says is always of the present; its verbs return when everything is quiet."""

    def __init__(self, kit: Kit, id: str) -> None:
        self.id = id
        self._kit = kit

    def __repr__(self) -> str:
        snapshot = self.snapshot
        return f"<{self.id}: {snapshot.status} in {snapshot.state}>"

    # What it is

    @property
    def snapshot(self) -> Snapshot:
        """Everything there is to know about it."""
        return self._kit._stage.store.load([self.id])[0]

    @property
    def status(self) -> Status:
        """Its status: ``running``, ``stuck``, ``succeeded``, ..."""
        return self.snapshot.status

    @property
    def state(self) -> str:
        """The machine's state it is in."""
        return self.snapshot.state

    @property
    def data(self) -> Mapping[str, Any]:
        """Its data as plain values."""
        return self.snapshot.data

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Its journal, as facts."""
        return tuple(fact for record in self._records for fact in record.facts)

    @property
    def journal(self) -> str:
        """Its journal as `interlock history` tells it."""
        return "\n".join(lines(self._records))

    @property
    def history(self) -> str:
        """Its journal as `interlock history --json` prints it; `Kit.resume` and `replay` take it."""
        return "".join(f"{msgspec.json.encode(record).decode()}\n" for record in self._records)

    @property
    def _records(self) -> list[Record]:
        return self._kit._stage.journal(self.id)

    @property
    def visited(self) -> list[str]:
        """The states it entered, in order."""
        return [fact.state for fact in self.facts if isinstance(fact, Entered)]

    @property
    def undone(self) -> list[str]:
        """The states that were undone, in order."""
        return [fact.state for fact in self.facts if isinstance(fact, Undone)]

    def performed(self, state: State | str) -> int:
        """Return how often the action of a state came back with an outcome."""
        return self._count(state, Performed)

    def attempts(self, state: State | str) -> int:
        """Return how often the action of a state was begun; its undo does not count."""
        return self._count(state, Issued)

    def _count(self, state: State | str, kind: type[Performed] | type[Issued]) -> int:
        name = state if isinstance(state, str) else state.name
        self._known(name)
        count, snapshot = 0, None
        for record in self._records:
            for fact in record.facts:
                if isinstance(fact, kind) and snapshot is not None and snapshot.state == name:
                    count += getattr(snapshot.phase, "kind", "perform") == "perform"
                snapshot = fold(snapshot, fact, record.at)
        return count

    def _known(self, state: str) -> None:
        """Refuse a state that its machine does not have, lest a slip of the pen pass; of a child's machine the kit does not know."""
        if self.snapshot.machine == self._kit.machine.name:
            self._kit.machine.row(state)

    def expect(
        self,
        *,
        status: Status | None = None,
        state: State | Final | str | None = None,
        data: Mapping[str, Any] | None = None,
        visited: Sequence[str] | None = None,
        undone: Sequence[str] | None = None,
    ) -> None:
        """Assert what is given; the failure tells the journal.

        Args:
            status, state: where it is.
            data: fields that its data must have, with these values; it may have more.
            visited: the states it entered, in order.
            undone: the states that were undone, in order.
        """
        snapshot = self.snapshot
        wanted_state = state if isinstance(state, str) or state is None else state.name
        if wanted_state is not None:
            self._known(wanted_state)
        wrong = [
            f"{what} is {found!r}, not {wanted!r}"
            for what, wanted, found in (
                ("status", status, snapshot.status),
                ("state", wanted_state, snapshot.state),
                ("visited", None if visited is None else list(visited), self.visited),
                ("undone", None if undone is None else list(undone), self.undone),
            )
            if wanted is not None and wanted != found
        ]
        for name, value in (data or {}).items():
            if name not in snapshot.data:
                wrong.append(f"data has no `{name}`")
            elif snapshot.data[name] != value:
                wrong.append(f"data[{name!r}] is {snapshot.data[name]!r}, not {value!r}")
        if wrong:
            raise AssertionError(f"{self!r}: {'; '.join(wrong)}\n\n{self.journal}")

    # Verbs

    def signal(self, event: str, data: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Send an event to it; see `Interlock.signal`."""
        self._kit._ask(lambda interlock: interlock.signal(self.id, event, data, **options))

    def report(self, event: str = "", data: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Say what came of a state that other code performs; see `Interlock.report`."""
        self._kit._ask(lambda interlock: interlock.report(self.id, event, data, **options))

    def cancel(self, reason: str = "") -> None:
        """Cancel it. Raises `NotPossible` past the pivot."""
        self._kit._ask(lambda interlock: interlock.cancel(self.id, reason))

    def pause(self, reason: str = "", before: Sequence[str] | None = None) -> None:
        """Start nothing more; or, with ``before``, pause before each of these states."""
        self._kit._ask(lambda interlock: interlock.pause(self.id, reason, before))

    def resume(self) -> None:
        """End a pause."""
        self._kit._ask(lambda interlock: interlock.resume(self.id))

    def retry(self, reason: str = "in a test") -> None:
        """Have what is stuck tried again, or what waits for its next attempt tried now."""
        self._kit._ask(lambda interlock: interlock.retry(self.id, reason))

    def skip(self, reason: str = "in a test") -> None:
        """Declare what is stuck done."""
        self._kit._ask(lambda interlock: interlock.skip(self.id, reason))

    def override(self, to: State | Final | str, reason: str = "in a test") -> None:
        """Move it to a state, whatever the machine says."""
        name = to if isinstance(to, str) else to.name
        self._kit._ask(lambda interlock: interlock.override(self.id, name, reason))
