"""The ledger: every input to an operation goes through here: read, decide, commit, carry out, answer.

Theory of operation:

1.  Each operation that something is asked of has a cell. Inputs to one operation are decided one after the other; operations do not wait
    for each other, so their decisions share a transaction (`committer`).
2.  The snapshot of an operation that the local worker performs is kept in its cell: nothing is read between steps. All others are read
    when something is asked of them, and forgotten afterwards.
3.  A kept snapshot may be behind the store. If it was, the compare-and-set fails: it is read again and decided anew. Nor is anybody
    refused on a kept snapshot: it is read again first.
4.  Effects are handed to the worker once their facts are committed, and before whoever brought the input is answered. Whenever an
    operation that the local worker performs is read again, the worker is handed all that is outstanding, because what somebody else
    committed may concern it.
5.  An answer that nobody waits for any more changes nothing: a decision that was committed is carried out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import structs

from interlock.definition.compare import mistaken
from interlock.definition.machine import Definition
from interlock.errors import Conflict, InterlockError, Refused, Unknown
from interlock.interpreter.decide import Decision, decide, outstanding
from interlock.interpreter.inputs import Effect, Input, Standing, Start, Tick
from interlock.interpreter.snapshot import Running, Snapshot, Stuck
from interlock.runtime.clock import Clock
from interlock.runtime.committer import Committer
from interlock.stores.contract import Entry, Schedule, Store
from interlock.stores.stored import standing_of

__all__ = ["Ledger", "at_rest"]

TRIES = 50


Fires = tuple[Schedule, Schedule]
Answer = Callable[[Any], None]
"""Called on the loop with the snapshot that an input led to, or with the error that says why it was refused."""


class _Asked:
    """An input and who waits for its answer. ``fresh``: it is decided from what was just read; ``fires``: see `Entry`."""

    __slots__ = ("answer", "fires", "fresh", "input", "lost", "machine")

    def __init__(self, input: Input, answer: Answer, machine: Definition | None, fires: Fires | None) -> None:
        self.input = input
        self.fires = fires
        self.answer = answer
        self.machine = machine
        self.fresh = False
        self.lost = 0


class _Cell:
    """One operation while something is asked of it, or the local worker performs it."""

    __slots__ = ("asked", "busy", "id", "snapshot")

    def __init__(self, id: str, snapshot: Snapshot | None) -> None:
        self.id = id
        self.snapshot = snapshot
        self.asked: deque[_Asked] = deque()
        self.busy = False


class Ledger:
    """Decides and commits inputs.

    Attributes:
        holder: name of the local worker's present session; ``""`` without one.
        carry_out: what is done with effects; the worker sets it. It must not give the ledger an input before it returns.
        machines: every definition that was needed so far, by name and version.
        awaited: who waits for an operation to come to rest, by its id.
    """

    def __init__(self, committer: Committer, clock: Clock) -> None:
        self.committer = committer
        self.clock = clock
        self.holder = ""
        self.carry_out: Callable[[Snapshot, tuple[Effect, ...]], None] | None = None
        self.machines: dict[tuple[str, int], Definition] = {}
        self.awaited: dict[str, list[asyncio.Future[Snapshot]]] = {}
        self._cells: dict[str, _Cell] = {}
        self._bells: list[asyncio.Future[None]] = []

    # Definitions

    async def define(self, machine: Definition) -> None:
        """Keep a definition in the store.

        Raises:
            Refused: its version is known there with another content; or it takes a state of an earlier version for another one.
        """
        from interlock.definition.document import to_document

        key = (machine.name, machine.version)
        if self.machines.get(key) == machine:
            return
        known = await self.committer.call(lambda store: store.definitions())
        if key not in known:
            earlier = [number for name, number in known if name == machine.name and number < machine.version]
            fault = mistaken([await self.definition(machine.name, number) for number in earlier], machine)
            if fault:
                raise Refused(f"machine `{machine.name}` version {machine.version}: {fault}", machine=machine.name)
        await self.committer.call(lambda store: store.define(*key, to_document(machine)))
        self.machines[key] = machine

    async def definition(self, machine: str, version: int | None = None) -> Definition:
        """Return a definition that the store knows; without ``version`` the newest. Raises `Unknown`."""
        if version is not None and (machine, version) in self.machines:
            return self.machines[machine, version]
        found = await self.committer.call(_read_definition, machine, version)
        if isinstance(found, list):
            names = sorted({name for name, _ in found})
            what = f"machine `{machine}`" + (f" in version {version}" if version is not None else "")
            raise Unknown(f"this store knows no {what}; it knows {', '.join(names) or 'none'}", machine=machine)
        number, document = found
        return self._learn(machine, number, document)

    def _learn(self, machine: str, version: int, document: Mapping[str, Any]) -> Definition:
        from interlock.definition.document import from_document

        known = self.machines.get((machine, version))
        if known is None:
            known = self.machines[machine, version] = from_document(document)
        return known

    # Inputs

    def post(
        self,
        operation: str,
        input: Input,
        known: Snapshot | None = None,
        machine: Definition | None = None,
        fires: Fires | None = None,
    ) -> asyncio.Future[Snapshot]:
        """Give an input to an operation; the future has the snapshot that it led to, or why it was refused.

        Args:
            known: the operation as it was just read, to spare reading it.
            machine: of a `Start`.
            fires: the schedule whose start this is, as it is and as it will be.
        """
        future: asyncio.Future[Snapshot] = self.committer.loop.create_future()
        self.ask(operation, input, partial(_give, future), known, machine, fires)
        return future

    def ask(
        self,
        operation: str,
        input: Input,
        answer: Answer,
        known: Snapshot | None = None,
        machine: Definition | None = None,
        fires: Fires | None = None,
    ) -> None:
        """Give an input to an operation, as `post` does; ``answer`` is called when it was answered."""
        cell = self._cells.get(operation)
        if cell is None:
            cell = self._cells[operation] = _Cell(operation, known)
        cell.asked.append(_Asked(input, answer, machine, fires))
        if not cell.busy:
            self._advance(cell)

    async def submit(
        self, operation: str, input: Input, machine: Definition | None = None, fires: Fires | None = None
    ) -> Snapshot:
        """Give an input to an operation; return the snapshot that it led to.

        Raises:
            Refused: the input cannot be granted; nothing was changed.
            StaleToken: the outcome is not that of the running attempt.
            Conflict: others moved the operation again and again.
            Unavailable: the store failed; nothing was changed.
        """
        return await self.post(operation, input, machine=machine, fires=fires)

    def _advance(self, cell: _Cell) -> None:
        """Rule 1: decide what was asked of a cell until something has to be waited for."""
        while cell.asked and not cell.busy:
            asked, snapshot = cell.asked[0], cell.snapshot
            starts = type(asked.input) is Start
            machine = asked.machine if starts else self._machine_of(snapshot)
            if machine is None:
                assert not starts, f"{cell.id}: a start without a machine"
                return self._read(cell, asked)
            now = self.clock.now()
            try:
                decision = decide(machine, None if starts else snapshot, asked.input, now)
            except InterlockError as error:
                if not starts and not asked.fresh:
                    return self._read(cell, asked)
                self._refuse(cell, error)
            except Exception as error:  # a fault of ours: whoever asked has to hear of it, and the cell has to go on
                self._refuse(cell, error)
            else:
                if decision.facts:
                    cell.busy = True
                    before = None if starts else snapshot
                    expected = before.seq if before else 0
                    claims = decision.snapshot.claims != (before.claims if before else ())
                    entry = Entry(decision.snapshot, expected, decision.facts, now, claims, asked.fires)
                    return self.committer.post(entry, partial(self._committed, cell, asked, decision))
                cell.asked.popleft()
                asked.answer(decision.snapshot)
        if not cell.busy and not self._holds(cell.snapshot):
            self._cells.pop(cell.id, None)

    def _machine_of(self, snapshot: Snapshot | None) -> Definition | None:
        return None if snapshot is None else self.machines.get((snapshot.machine, snapshot.version))

    def _holds(self, snapshot: Snapshot | None) -> bool:
        if snapshot is None:
            return False
        phase = snapshot.phase
        return isinstance(phase, Running) and phase.worker == self.holder

    def _refuse(self, cell: _Cell, error: BaseException) -> None:
        cell.asked.popleft().answer(error)

    def _committed(
        self, cell: _Cell, asked: _Asked, decision: Decision, won: bool, error: BaseException | None
    ) -> None:
        cell.busy = False
        if error is not None:
            cell.snapshot = None
            self._refuse(cell, error)
        elif won:
            cell.snapshot = decision.snapshot
            cell.asked.popleft()
            try:
                self.settled(decision.snapshot, decision.effects)
            finally:
                asked.answer(decision.snapshot)
        else:
            self._lost(cell, asked, decision)
            if cell.busy:
                return
        self._advance(cell)

    def _lost(self, cell: _Cell, asked: _Asked, decision: Decision) -> None:
        """Rule 3: somebody else was faster, or holds what is claimed."""
        cell.snapshot, asked.fresh, asked.lost = None, False, asked.lost + 1
        if asked.lost >= TRIES:
            what = f"operation `{cell.id}` was moved by others {TRIES} times meanwhile: try again"
            self._refuse(cell, Conflict(what, operation=cell.id))
        elif type(asked.input) is Start and not decision.snapshot.claims:
            self._refuse(cell, _exists(cell.id) if asked.fires is None else _fired(cell.id))
        elif decision.snapshot.claims and type(asked.input) in (Start, Tick):
            cell.busy = True
            self.committer.post((_look_at, (decision.snapshot, asked.fires)), partial(self._was_seen, cell, asked))

    def _was_seen(
        self, cell: _Cell, asked: _Asked, seen: tuple[bool, Standing] | None, error: BaseException | None
    ) -> None:
        """Decide anew with what stands at the claims."""
        cell.busy = False
        if seen is None:
            self._refuse(cell, error or AssertionError("neither an answer nor an error"))
        elif type(asked.input) is Start and seen[0]:
            self._refuse(cell, _exists(cell.id) if asked.fires is None else _fired(cell.id))
        elif isinstance(asked.input, Start | Tick):
            asked.input = structs.replace(asked.input, standing=seen[1])
        self._advance(cell)

    def _read(self, cell: _Cell, asked: _Asked) -> None:
        cell.busy = True
        self.committer.post((_fetch, (cell.id, self.machines)), partial(self._was_read, cell, asked))

    def _was_read(
        self,
        cell: _Cell,
        asked: _Asked,
        found: tuple[Snapshot, Mapping[str, Any] | None] | None,
        error: BaseException | None,
    ) -> None:
        cell.busy = False
        asked.fresh = True
        if error is None and found is not None:
            snapshot, document = found
            try:
                if document is not None:
                    self._learn(snapshot.machine, snapshot.version, document)
                cell.snapshot = snapshot
                self.settled(snapshot, outstanding(snapshot) if self._holds(snapshot) else ())
            except Exception as fault:  # a definition of another release that cannot be read: say so to whoever asked
                error = fault
        elif error is None:
            error = unknown_operation(cell.id)
        if error is not None:
            cell.snapshot = None
            self._refuse(cell, error)
        self._advance(cell)

    # What was committed, here or elsewhere

    def settled(self, snapshot: Snapshot, effects: tuple[Effect, ...]) -> None:
        """Rule 4: carry out effects, and wake whoever waits."""
        if self.carry_out is not None:
            self.carry_out(snapshot, effects)
        if self.awaited and at_rest(snapshot):
            for future in self.awaited.pop(snapshot.id, ()):
                _give(future, snapshot)
        if self._bells:
            self.ring()

    def refresh(self, snapshots: Sequence[Snapshot]) -> None:
        """Take note of operations that others moved."""
        for snapshot in snapshots:
            cell = self._cells.get(snapshot.id)
            if cell is not None and (cell.busy or (cell.snapshot is not None and cell.snapshot.seq >= snapshot.seq)):
                continue
            if cell is not None:
                cell.snapshot = snapshot
            self.settled(snapshot, outstanding(snapshot) if self._holds(snapshot) else ())

    def forget(self) -> None:
        """Forget what is kept: the worker's session is over."""
        for cell in [*self._cells.values()]:
            if not cell.busy:
                cell.snapshot = None
                if not cell.asked:
                    del self._cells[cell.id]

    async def rest(self, operation: str) -> Snapshot:
        """Return an operation's snapshot once it has ended or needs a person. Raises `Unknown`."""
        future: asyncio.Future[Snapshot] = self.committer.loop.create_future()
        self.awaited.setdefault(operation, []).append(future)
        try:
            snapshot = await self.load(operation)
            return snapshot if at_rest(snapshot) else await future
        finally:
            waiting = self.awaited.get(operation)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self.awaited[operation]

    async def load(self, operation: str) -> Snapshot:
        """Return an operation as the store has it. Raises `Unknown`."""
        found = await self.committer.call(_load, operation)
        if not found:
            raise unknown_operation(operation)
        return found[0]

    def bell(self) -> asyncio.Future[None]:
        """Return a future that is done when something was committed, here or elsewhere."""
        future: asyncio.Future[None] = self.committer.loop.create_future()
        self._bells.append(future)
        return future

    def ring(self) -> None:
        """Have all bells done."""
        bells, self._bells = self._bells, []
        for bell in bells:
            _give(bell, None)


def at_rest(snapshot: Snapshot) -> bool:
    """Return whether an operation has ended, or only a person can move it."""
    return snapshot.ended or type(snapshot.phase) is Stuck


def unknown_operation(operation: str) -> Unknown:
    """Return the error for an id that the store does not hold."""
    return Unknown(
        f"no operation `{operation}` in this store; list shows those it has, start makes one", operation=operation
    )


def _exists(operation: str) -> Conflict:
    return Conflict(f"operation `{operation}` exists already", operation=operation, exists=True)


def _fired(operation: str) -> Conflict:
    what = f"operation `{operation}` exists already, or its schedule was changed meanwhile: look at the schedule again"
    return Conflict(what, operation=operation, exists=True)


def _look_at(store: Store, wanted: Snapshot, fires: Fires | None) -> tuple[bool, Standing]:
    """Return whether an operation can be started no more, and what stands at the claims that it wants."""
    gone = fires is not None and fires[0] not in store.schedules()
    return gone or bool(store.load([wanted.id])), standing_of(store, wanted)


def _load(store: Store, operation: str) -> list[Snapshot]:
    return store.load([operation])


def _fetch(
    store: Store, operation: str, known: Container[tuple[str, int]]
) -> tuple[Snapshot, Mapping[str, Any] | None] | None:
    found = store.load([operation])
    if not found:
        return None
    machine, version = found[0].machine, found[0].version
    if (machine, version) in known:
        return found[0], None
    document = store.definition(machine, version)
    if document is None:
        raise Unknown(
            f"operation `{operation}` runs machine `{machine}` version {version}, which this store does not know",
            machine=machine,
        )
    return found[0], document


def _read_definition(
    store: Store, machine: str, version: int | None
) -> tuple[int, Mapping[str, Any]] | list[tuple[str, int]]:
    known = store.definitions()
    versions = [number for name, number in known if name == machine and version in (None, number)]
    if not versions:
        return known
    document = store.definition(machine, max(versions))
    assert document is not None, f"{machine} {max(versions)} is listed and not kept"
    return max(versions), document


def _give(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
