"""An operation's journal, held against today's machine: every decision in it is made again, and the first that comes out otherwise is told.

A record of the journal is one decision. What led to it is read off its facts (an outcome, a signal, a timer, ...), and given once more to
`decide`, with the operation as it was and the machine as it is. What may differ from then: times, because timeouts and delays are tuned;
queues; and the words in which a rule says why. What may not: which facts follow, and where they lead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from interlock.definition.machine import Definition, Machine, definition_of
from interlock.errors import InterlockError, Refused
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.children import child_id
from interlock.interpreter.claims import wanted
from interlock.interpreter.decide import decide
from interlock.interpreter.facts import Fact
from interlock.interpreter.snapshot import Beginning, Running, Settling, Snapshot, fold
from interlock.runtime.telling import told, when
from interlock.stores.contract import Record
from interlock.testing.journals import read_journal, renamed, started

__all__ = ["NoLongerFits", "Replayed", "replay"]


class NoLongerFits(AssertionError):
    """Today's machine would have gone another way than the journal.

    Attributes:
        operation: whose journal it is.
        seq: number of the first fact that does not fit.
        fact: that fact.
        instead: what today's machine says in its place; None if it says nothing.
    """

    def __init__(self, message: str, operation: str, seq: int, fact: Fact, instead: Fact | None) -> None:
        super().__init__(message)
        self.operation = operation
        self.seq = seq
        self.fact = fact
        self.instead = instead


@dataclass(frozen=True)
class Replayed:
    """A journal that fits.

    Attributes:
        snapshot: the operation at its end.
        decisions: how many decisions were made again.
        version: the version that it ran by; today's may be another.
    """

    snapshot: Snapshot
    decisions: int
    version: int


def replay(
    machine: type[Machine[Any]] | Definition,
    journal: str | Path,
    *,
    older: Iterable[type[Machine[Any]] | Definition] = (),
) -> Replayed:
    """Hold an operation's journal against a machine.

    Args:
        machine: today's.
        older: versions that the operation ran before it was upgraded: what it did under one of them is held against that one, and its
            upgrade is made again. Without them all of it is held against today's.
        journal: what `interlock history ID --json` printed: a path, or the text itself.

    Raises:
        NoLongerFits: an `AssertionError`, with the first fact that no longer fits, and what the machine would have said there.
        Refused: it is no whole journal of one operation, or of another machine.

    >>> from interlock import Final, Machine, State
    >>> from interlock.testing import Kit
    >>> class Door(Machine[dict[str, str]], version=1):
    ...     shut = State(initial=True, on={"push": "open"})
    ...     open = Final("succeeded")
    >>> op = Kit(Door).start()
    >>> op.signal("push")
    >>> replay(Door, op.history).snapshot.state
    'open'
    >>> class Locked(Machine[dict[str, str]], version=2, name="door"):
    ...     shut = State(initial=True, on={"turn": "open"})
    ...     open = Final("succeeded")
    >>> replay(Locked, op.history)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    interlock.testing.replaying.NoLongerFits: ...
    """
    definition = definition_of(machine)
    read = read_journal(journal)
    version = started(read).version
    snapshot: Snapshot | None = None
    versions = {one.version: one for one in (*map(definition_of, older), definition)}
    records = read if len(versions) > 1 else renamed(read, definition)
    for record in records:
        own = versions.get(version if snapshot is None else snapshot.version, definition)
        _again(own, snapshot, _known_upgrades(record, versions, own), versions)
        snapshot = _folded(snapshot, record)
    assert snapshot is not None
    return Replayed(snapshot, len(records), version)


def _known_upgrades(record: Record, versions: Mapping[int, Definition], own: Definition) -> Record:
    """Return a decision without upgrades to versions that are not there: all of it is held against one machine then."""
    left = tuple(fact for fact in record.facts if not isinstance(fact, f.Upgraded) or _is_step(fact, versions, own))
    return Record(record.position, record.operation, record.seq, record.at, left)


def _is_step(fact: f.Upgraded, versions: Mapping[int, Definition], own: Definition) -> bool:
    return fact.version in versions and fact.version > own.version


def _folded(snapshot: Snapshot | None, record: Record) -> Snapshot:
    for number, fact in enumerate(record.facts):
        seq = record.seq - len(record.facts) + 1 + number
        try:
            snapshot = fold(snapshot, fact, record.at)
        except (AssertionError, LookupError, StopIteration, ValueError) as error:
            raise _misfit(record, seq, fact, None, f"it cannot follow what came before: {error}") from error
    assert snapshot is not None
    if isinstance(snapshot.phase, Settling):
        raise _misfit(record, record.seq, record.facts[-1], None, "the decision ends half way: facts are missing")
    return snapshot


def _again(machine: Definition, before: Snapshot | None, record: Record, versions: Mapping[int, Definition]) -> None:
    """Make a decision again; raise `NoLongerFits` with the first fact that differs."""
    if not record.facts:
        return
    furthest = -1
    misfit: tuple[Fact | None, str] = (None, "nothing that the machine knows leads to it")
    for offer in _offers(machine, record.facts, versions):
        for input in _inputs(machine, before, record.facts):
            try:
                facts = decide(machine, before, _offering(input, offer), record.at).facts
            except InterlockError as error:
                if furthest < 0:
                    misfit = None, error.message
                continue
            except (AssertionError, LookupError, ValueError) as error:
                if furthest < 0:
                    misfit = None, f"the machine has no such way: {type(error).__name__} {error}".rstrip()
                continue
            same = _same(facts, record.facts)
            if same == len(record.facts) == len(facts):
                return
            if same > furthest:
                furthest = same
                misfit = (facts[same], "") if same < len(facts) else (None, "the machine says nothing more there")
    number = min(max(furthest, 0), len(record.facts) - 1)
    seq = record.seq - len(record.facts) + 1 + number
    raise _misfit(record, seq, record.facts[number], *misfit)


def _misfit(record: Record, seq: int, fact: Fact, instead: Fact | None, why: str) -> NoLongerFits:
    then = f"{when(record.at)}  {seq:>5}  {told(fact)}"
    now = f"the machine says now: {told(instead)}" if instead is not None else why
    text = f"{record.operation}: fact {seq} no longer fits\n  {then}\n  {now}"
    return NoLongerFits(text, record.operation, seq, fact, instead)


# What led to a decision


class _AnyQueue(frozenset[str]):
    def __contains__(self, queue: object) -> bool:
        return True


def _offers(machine: Definition, facts: Sequence[Fact], versions: Mapping[int, Definition]) -> Iterator[i.Offer | None]:
    """Yield the offers that may have come with the input; where nothing was issued, the worker may have had none."""
    upgraded = next((fact for fact in facts if isinstance(fact, f.Upgraded)), None)
    written = {} if upgraded is None else {machine.name: versions[upgraded.version]}
    reported = frozenset(
        (machine.name, fact.state)
        for fact in facts
        if isinstance(fact, f.Entered) and fact.kind == "waiting" and _acts(machine, fact.state)
    )
    issued = next((fact for fact in facts if isinstance(fact, f.Issued)), None)
    if issued is not None:
        yield i.Offer(issued.worker, _AnyQueue(("",)), reported, written)
    elif not reported and upgraded is None:
        yield None
    else:
        yield i.Offer("another", _AnyQueue(("",)), reported, written)
        yield i.Offer("another", frozenset(), reported, written)


def _acts(machine: Definition, state: str) -> bool:
    row = machine.table.get(state)
    return row is not None and row.kind == "acting"


def _offering(input: i.Input, offer: i.Offer | None) -> i.Input:
    if isinstance(input, i.Take):
        return input if offer is None else i.Take(offer)
    return input if offer is None or isinstance(input, i.Silent | i.Pause | i.Owns) else replace(input, offer=offer)


def _inputs(machine: Definition, before: Snapshot | None, facts: Sequence[Fact]) -> Iterator[i.Input]:
    """Yield the inputs that may have led to a decision's facts, the likeliest first."""
    first = facts[0]
    if isinstance(first, f.Started):
        start = _start(first, facts)
        for standing in _standings(machine, first.data):
            yield replace(start, standing=standing)
    if before is None:
        return
    answers = {name: answer for fact in facts if isinstance(fact, f.Answered) for name, answer in fact.answers.items()}
    running = before.phase if isinstance(before.phase, Running) else None
    if running is not None:
        yield from _ends(running, facts, answers)
    yield from _asked(first)
    if isinstance(first, f.ChildEnded):
        yield i.ChildOver(first.index, child_id(before, first.index), first.outcome, first.reason)
    elif isinstance(before.phase, Beginning):
        for standing in _standings(machine, before.data):
            yield i.Tick(standing=standing)
    elif isinstance(
        first, f.TimerFired | f.CutAsked | f.Issued | f.Entered | f.ChildIssued | f.ChildrenStopped | f.Upgraded
    ):
        yield i.Tick()


def _start(first: f.Started, facts: Sequence[Fact]) -> i.Start:
    state = next((fact.state for fact in facts if isinstance(fact, f.Entered | f.ClaimsAwaited)), None)
    begun = any(isinstance(fact, f.AttemptLost) for fact in facts)
    adopted = bool(first.record or first.steps or begun)
    steps = first.steps if adopted else None
    postponed = next((fact for fact in facts if isinstance(fact, f.Postponed)), None)
    return i.Start(
        first.id, first.data, state if postponed is None else postponed.state, first.by, first.bounds, first.breakpoints, None,
        first.record, adopted, begun, steps, first.parent, None if postponed is None else postponed.until, first.on_conflict,
    )  # fmt: skip


def _standings(machine: Definition, data: Mapping[str, Any]) -> Iterator[i.Standing]:
    """Yield what may have stood at an operation's claims: nobody, or as many others as one of them takes."""
    yield {}
    try:
        claims = wanted(machine, data)
    except Refused:
        return  # the machine claims now what this data does not name: it is told when the operation begins
    for claim in claims:
        yield {claim.name: [i.Claimant(f"another {number}") for number in range(claim.limit)]}


def _ends(running: Running, facts: Sequence[Fact], answers: dict[str, bool]) -> Iterator[i.Input]:
    """Yield what may have been brought of the attempt that ran."""
    first, token = facts[0], running.token
    if isinstance(first, f.Performed):
        yield i.Done(token, first.event, first.data, answers)
    elif isinstance(first, f.Undone | f.Asked | f.Answered):
        yield i.Done(token, answers=answers)
    elif isinstance(first, f.AttemptFailed):
        yield i.Failed(token, first.failure, None, answers)
    elif isinstance(first, f.CutAsked):
        yield i.Silent(token)
    elif isinstance(first, f.Owned | f.Disowned):
        yield i.Owns(token, first.kind, first.id, isinstance(first, f.Disowned))
    if isinstance(first, f.AttemptFailed | f.AttemptCut | f.AttemptLost):
        yield i.Stopped(token)
        yield i.Lapsed(running.worker)


def _asked(first: Fact) -> Iterator[i.Input]:
    """Yield what somebody may have asked for."""
    if isinstance(first, f.Signalled):
        yield i.Signal(first.event, first.data, first.key, False, first.by)
    elif isinstance(first, f.SignalHeld):
        yield i.Signal(first.event, first.data, first.key, True, first.by)
    elif isinstance(first, f.Reported):
        yield i.Report("" if first.to else first.event, first.to, first.data, first.key, first.by)
    elif isinstance(first, f.CancelAccepted):
        yield i.Cancel(first.by, first.reason)
    elif isinstance(first, f.Paused):
        yield i.Pause(first.by, first.reason)
    elif isinstance(first, f.BreakpointsSet):
        yield i.Pause(first.by, "", first.states)
    elif isinstance(first, f.Resumed):
        yield i.Resume(first.by)
    elif isinstance(first, f.Retried):
        yield i.Retry(first.by, first.reason)
    elif isinstance(first, f.Skipped):
        yield i.Skip(first.by, first.reason)
    elif isinstance(first, f.Overrode):
        yield i.Override(first.to, first.by, first.reason)


# What may differ


def _same(facts: Sequence[Fact], then: Sequence[Fact]) -> int:
    """Return how many facts from the first on say the same."""
    number = 0
    for one, other in zip(facts, then, strict=False):
        if _essence(one) != _essence(other):
            break
        number += 1
    return number


def _essence(fact: Fact) -> Fact:
    """Return a fact without what a machine's tuning may change."""
    if isinstance(fact, f.Started):
        return replace(fact, data={})  # a field with a default may have come since
    if isinstance(fact, f.Entered):
        return replace(fact, timers={}, queue="")
    if isinstance(fact, f.Postponed | f.ClaimsAwaited):
        return replace(fact, timers={})
    if isinstance(fact, f.ChildrenStopped):
        return replace(fact, reason="")
    if isinstance(fact, f.Issued):
        return replace(fact, until=None)
    if isinstance(fact, f.RetryPlanned):
        return replace(fact, at=0.0)
    if isinstance(fact, f.Asked | f.UndoPlanned):
        return replace(fact, queue="")
    if isinstance(fact, f.RollbackBegan):
        return replace(fact, cause="")
    if isinstance(fact, f.GotStuck):
        return replace(fact, reason="")
    if isinstance(fact, f.Overrode):
        return replace(fact, broke=())
    if isinstance(fact, f.Paused):
        return replace(fact, reason="")
    return fact
