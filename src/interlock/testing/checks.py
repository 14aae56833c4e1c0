"""What must be true of every simulated operation, whatever happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from interlock.definition.document import from_document
from interlock.interpreter import facts as f
from interlock.interpreter.children import child_id
from interlock.interpreter.claims import blocked, family
from interlock.interpreter.inputs import Start
from interlock.interpreter.plan import plan
from interlock.interpreter.snapshot import Beginning, Ended, Joining, Running, Snapshot, Stuck, fold
from interlock.interpreter.status import STATUS
from interlock.stores.contract import Record, Store
from interlock.stores.stored import standing_of

__all__ = ["Acknowledged", "broken", "held_up_by_stuck", "unruly"]

_ENDS = (f.Performed, f.Undone, f.AttemptFailed, f.AttemptLost, f.AttemptCut)


@dataclass(frozen=True)
class Acknowledged:
    """What a caller was told had happened: ``start``, ``signal`` (with its key) or ``cancel``."""

    what: str
    operation: str
    key: str = ""


def broken(
    store: Store,
    told: Sequence[Acknowledged],
    things: set[tuple[str, str]],
    alive: set[str],
    came_back: set[tuple[str, int]],
) -> Iterator[str]:
    """Yield everything that does not hold.

    Args:
        store: with everything that was committed.
        told: what callers were told.
        things: (operation, state) of what is left in the world.
        alive: the names of workers' sessions that still run.
        came_back: (operation, token) of every action that came back with an outcome.
    """
    snapshots, journals = _committed(store)
    held_up = held_up_by_stuck(store, [*snapshots.values()])
    yield from unruly(store)
    for id, snapshot in snapshots.items():
        if id not in held_up:
            yield from _at_rest(snapshot, alive)
        yield from _clean(snapshot, journals[id], things)
        yield from _own(id, journals[id], came_back)
    yield from _kept(told, snapshots, journals)


def unruly(store: Store) -> Iterator[str]:
    """Yield what should never have been committed, whoever performs what and whatever goes wrong.

    That is: a claim that more hold than may, a parent that does not wait for its children, two attempts at once, a change of status that
    there is not, a start before its time, a state that the plan of the start had not named, a snapshot that is not what its journal says.
    """
    snapshots, journals = _committed(store)
    yield from _together(store)
    for id, snapshot in snapshots.items():
        yield from _journal(snapshot, journals[id])
        yield from _not_before(id, journals[id])
        yield from _as_planned(store, journals[id])


def _committed(store: Store) -> tuple[Mapping[str, Snapshot], Mapping[str, Sequence[Record]]]:
    found = store.search(machine=None, status=(), state=None, cursor=None, limit=1_000).snapshots
    return {one.id: one for one in found}, {one.id: store.journal(one.id, 0, 100_000) for one in found}


def held_up_by_stuck(store: Store, snapshots: Sequence[Snapshot]) -> set[str]:
    """Return the operations that are stuck with a reason, and those that wait for them: for a claim that they hold, or as their parents."""
    found = {one.id for one in snapshots if isinstance(one.phase, Stuck) and one.phase.reason}
    while True:
        more = {one.id for one in snapshots if one.id not in found and _waits_for(store, one) & found}
        if not more:
            return found
        found |= more


def _waits_for(store: Store, snapshot: Snapshot) -> set[str]:
    phase = snapshot.phase
    if isinstance(phase, Joining):
        return {child_id(snapshot, index) for index in phase.live}
    if isinstance(phase, Beginning):
        taken = blocked(snapshot.claims, standing_of(store, snapshot), snapshot.id, family(snapshot))
        return {one.operation for _, others in taken for one in others}
    return set()


def _together(store: Store) -> Iterator[str]:
    """No more hold a claim than may; and no parent goes on while a child of it lives."""
    now: dict[str, Snapshot] = {}
    for record in store.tail(0, 1_000_000):
        before = after = now.get(record.operation)
        for fact in record.facts:
            if isinstance(fact, f.Started) and after is not None:
                yield f"{record.operation} is started twice"
                after = None
            after = fold(after, fact, record.at)
        assert after is not None
        now[record.operation] = after
        if any(isinstance(fact, f.Claimed) for fact in record.facts):
            for claim in after.claims:
                ours = {after.id, *family(after)}
                others = [one.id for one in now.values() if one.id not in ours and _holds(one, claim.name)]
                if len(others) >= claim.limit:
                    yield f"{after.id} takes {claim.name}, which {', '.join(others)} hold"
        if before is not None and isinstance(before.phase, Joining) and not isinstance(after.phase, Joining):
            mine = [one for one in now.values() if one.parent and one.parent.operation == after.id]
            left = [one.id for one in mine if not one.ended and one.id.startswith(f"{after.id}.{before.visit}.")]
            overridden = any(isinstance(fact, f.Overrode) for fact in record.facts)
            if left and not overridden:
                yield f"{after.id} goes on to {after.state} while its children {', '.join(left)} live"


def _holds(snapshot: Snapshot, name: str) -> bool:
    return any(claim.name == name and claim.held for claim in snapshot.claims)


def _at_rest(snapshot: Snapshot, alive: set[str]) -> Iterator[str]:
    phase = snapshot.phase
    if isinstance(phase, Running) and phase.worker not in alive:
        yield f"{snapshot.id} is left running under {phase.worker}, which is dead"
    elif not isinstance(phase, Ended):
        yield f"{snapshot.id} is neither over nor stuck: {snapshot.status} in {snapshot.state}, {phase!r}"


def _journal(snapshot: Snapshot, records: Sequence[Record]) -> Iterator[str]:
    again: Snapshot | None = None
    status = ""
    running = False
    for record in records:
        for fact in record.facts:
            if isinstance(fact, f.Started):
                again, status, running = None, "", False
            if isinstance(fact, f.Issued):
                if running:
                    yield f"{snapshot.id}: an attempt was issued while another ran (record {record.seq})"
                running = True
            elif isinstance(fact, _ENDS) or (isinstance(fact, f.Answered) and running):
                if not running and not isinstance(fact, f.Undone | f.AttemptFailed):
                    yield f"{snapshot.id}: {type(fact).__name__} ends an attempt that does not run (record {record.seq})"
                running = False
            again = fold(again, fact, record.at)
        assert again is not None
        if again.seq != record.seq:
            yield f"{snapshot.id}: record {record.seq} follows {again.seq - len(record.facts)} facts"
        if status and status != again.status and not STATUS.allows(status, again.status):
            yield f"{snapshot.id}: status {status} -> {again.status} is no edge"
        status = again.status
    if again != snapshot:
        yield f"{snapshot.id}: folding the journal does not give the stored snapshot"


def _own(id: str, records: Sequence[Record], came_back: set[tuple[str, int]]) -> Iterator[str]:
    """An outcome is recorded for the attempt that had it, and for no other."""
    token = 0
    for record in records:
        for seq, fact in enumerate(record.facts, record.seq - len(record.facts) + 1):
            if isinstance(fact, f.Issued):
                token = seq
            elif isinstance(fact, f.Performed) and (id, token) not in came_back:
                yield f"{id}: an outcome is recorded for attempt {token}, which never came back with one"


def _not_before(id: str, records: Sequence[Record]) -> Iterator[str]:
    """A start that was delayed begins when its time has come, unless somebody moved it by hand."""
    until: float = 0.0
    for record in records:
        for fact in record.facts:
            if isinstance(fact, f.Postponed):
                until = fact.until
            elif isinstance(fact, f.Overrode | f.Skipped):
                until = 0.0
            elif isinstance(fact, f.Issued) and record.at < until:
                yield f"{id} was to begin {until - record.at:.3f} s later than it did"


def _as_planned(store: Store, records: Sequence[Record]) -> Iterator[str]:
    """As long as nobody moves it by hand and nothing is undone, it comes through states that the plan of its start has named."""
    facts = [fact for record in records for fact in record.facts]
    started = facts[0]
    assert isinstance(started, f.Started)
    document = store.definition(started.machine, started.version)
    assert document is not None
    found = plan(from_document(document), Start("", started.data), {}, records[0].at)
    named = {state.name for state in found.states}
    if found.refused:
        yield f"{started.id} was started, and its plan says that it is refused: {found.refused}"
    for fact in facts:
        if isinstance(fact, f.Overrode | f.Upgraded | f.RollbackBegan):
            return
        if isinstance(fact, f.Entered) and fact.outcome in (None, "succeeded") and fact.state not in named:
            yield f"{started.id} came to {fact.state}, and its plan had named {', '.join(sorted(named))} only"


def _clean(snapshot: Snapshot, records: Sequence[Record], things: set[tuple[str, str]]) -> Iterator[str]:
    facts = [fact for record in records for fact in record.facts]
    state = ""
    issued: set[str] = set()
    for fact in facts:
        if isinstance(fact, f.Entered):
            state = fact.state
        if isinstance(fact, f.Upgraded):
            state = fact.state
        if isinstance(fact, f.Started | f.Upgraded):
            issued.update(fact.steps)
        elif isinstance(fact, f.Issued | f.Entered | f.Reported) and fact.step:
            issued.add(state)
        elif isinstance(fact, f.UndoPlanned) and fact.state not in issued:
            yield f"{snapshot.id}: {fact.state} is undone and was never issued"
    by_hand = any(isinstance(fact, f.Overrode | f.Skipped) for fact in facts)
    left = sorted(state for id, state in things if id == snapshot.id)
    if snapshot.status in ("failed", "cancelled") and left and not by_hand:
        yield f"{snapshot.id} is {snapshot.status} and left {', '.join(left)} behind"


def _kept(
    told: Sequence[Acknowledged], snapshots: Mapping[str, Snapshot], journals: Mapping[str, Sequence[Record]]
) -> Iterator[str]:
    starts: dict[str, set[str]] = {}
    for one in told:
        if one.operation not in snapshots:
            yield f"{one.what} of {one.operation} was acknowledged, and the operation is not there"
            continue
        facts = [fact for record in journals[one.operation] for fact in record.facts]
        if one.what == "start" and one.key:
            starts.setdefault(one.key, set()).add(one.operation)
        if one.what == "signal":
            count = sum(isinstance(fact, f.Signalled) and fact.key == one.key and not fact.held for fact in facts)
            count += sum(isinstance(fact, f.SignalHeld) and fact.key == one.key for fact in facts)
            if count != 1:
                yield f"signal {one.key} to {one.operation} was acknowledged, and is {count} times in its journal"
        if one.what == "cancel" and not any(isinstance(fact, f.CancelAccepted) for fact in facts):
            back = any(isinstance(fact, f.RollbackBegan) and fact.to == "cancelled" for fact in facts)
            if not back:
                yield f"a cancel of {one.operation} was acknowledged, and is not in its journal"
    for key, operations in starts.items():
        if len(operations) > 1:
            yield f"starts with the key {key} made {len(operations)} operations"
