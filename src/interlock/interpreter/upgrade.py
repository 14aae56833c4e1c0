"""Upgrades: an operation goes on in a newer version of its machine. Rule 15 of `decide`.

1. Only an operation at rest is upgraded: queued for an action, or waiting for a signal or the clock. Nothing of it runs, is pending,
   paused, stuck, or being undone.
2. Its state is there under the same or its new name, is of the same kind, and on the same side of the pivot.
3. Every step on its undo list is there, can be undone, and can be told from the others.
4. What people asked of it is kept: breakpoints and held signals still mean something, and its data fits. What it holds is what the new
   version claims, or it holds nothing.
5. Its stay goes on: timers run from when it entered the state, as the new version has them. If one of them would be over already, the
   operation is not upgraded there: an upgrade alone makes nothing late. The idempotency key of its attempts stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.definition.compare import compare, renamed, unable
from interlock.definition.flatten import RESERVED_EVENTS, Row
from interlock.definition.machine import Definition
from interlock.interpreter import facts as f
from interlock.interpreter.facts import Bounds
from interlock.interpreter.possible import signals_ahead
from interlock.interpreter.snapshot import Beginning, Joining, Queued, Snapshot, Waiting
from interlock.interpreter.turn import Turn, filled, timers_in

__all__ = ["fits", "performable", "stranded", "upgradable"]

_UNRESTED: Mapping[type, str] = {Beginning: "it has not begun", Joining: "its children are not over"}


def fits(turn: Turn, written: Definition) -> bool:
    """Upgrade the operation to ``written`` if that is safe; return whether actions written for it can make the attempt that is queued."""
    if written.version > turn.machine.version:
        fact = _upgrade(turn.machine, written, turn.after, turn.now)
        if isinstance(fact, f.Upgraded):
            turn.add(fact)
            turn.machine = written
            return True
    phase = turn.after.phase
    return type(phase) is not Queued or not unable(turn.machine, written, phase.kind, phase.state)


def upgradable(old: Definition, new: Definition, snapshot: Snapshot, now: float) -> str | None:
    """Return why an operation cannot be upgraded as it stands; None if it can.

    Args:
        old: the version it runs.
        new: the version that it would be upgraded to.
        snapshot: the operation.
        now: seconds since the epoch.
    """
    fact = _upgrade(old, new, snapshot, now)
    return None if isinstance(fact, f.Upgraded) else fact


def performable(old: Definition, new: Definition, snapshot: Snapshot, now: float) -> bool:
    """Return whether actions written for ``new`` can make the attempt that is queued, once it is upgraded or in the version it runs."""
    phase = snapshot.phase
    if type(phase) is not Queued or not unable(old, new, phase.kind, phase.state):
        return True
    return new.version > old.version and upgradable(old, new, snapshot, now) is None


def stranded(old: Definition, new: Definition, snapshot: Snapshot) -> str | None:
    """Return why an operation cannot be upgraded as long as it is where it is, be it at rest or not; None if it can.

    An operation that is rolling back never is; it is stranded if the new version's actions could not undo its steps.
    """
    if snapshot.ended:
        return None
    change = compare(old, new).states[snapshot.state]
    if snapshot.rollback:
        return next((fault for step in snapshot.steps if (fault := unable(old, new, "undo", step))), None)
    fault = change.unsafe or _unfit(new, snapshot) or _unsafe_steps(new, snapshot) or _dropped(new, snapshot, change.to)
    return fault or _other_claims(old, new, snapshot) or None


def _upgrade(old: Definition, new: Definition, snapshot: Snapshot, now: float) -> f.Upgraded | str:
    """Return the fact of going on as ``new``, or why that is not safe."""
    phase = snapshot.phase
    if not (type(phase) is Waiting or (type(phase) is Queued and phase.kind == "perform")):
        return _UNRESTED.get(type(phase), f"it is {snapshot.status}")
    if snapshot.paused or snapshot.pending or snapshot.choice or snapshot.rollback:
        return "it is paused" if snapshot.paused else f"it is {snapshot.status}"
    if type(phase) is Waiting and old.table[snapshot.state].kind == "acting":
        return f"other code performs `{snapshot.state}` and is to report what came of it"
    fault = stranded(old, new, snapshot)
    if fault:
        return fault
    state = renamed(new, snapshot.state)
    row = new.table[state]
    bounds = _bounds(new, snapshot.bounds)
    timers = timers_in(new, row, bounds, snapshot.since, _running(old, new, snapshot, row))
    late = next((name for name, at in timers.items() if at <= now), None)
    if late is not None:
        return f"its timer `{late}` would be over already"
    data = _defaults(new, snapshot.data)
    queue = filled(row.queue, {**snapshot.data, **data}) if row.queue else ""
    steps = tuple(renamed(new, step) for step in snapshot.steps)
    breakpoints = tuple(dict.fromkeys(renamed(new, name) for name in snapshot.breakpoints))
    return f.Upgraded(new.version, state, queue, timers, steps, breakpoints, bounds, data)


def _unfit(new: Definition, snapshot: Snapshot) -> str:
    for name, field in (new.fields or {}).items():
        if name not in snapshot.data:
            if field.required:
                return f"its data has no `{name}`, which version {new.version} requires"
        elif not field.accepts(snapshot.data[name]):
            return f"its `{name}` is no {' or '.join(field.types)}"
    return ""


def _unsafe_steps(new: Definition, snapshot: Snapshot) -> str:
    names: set[str] = set()
    for step in snapshot.steps:
        row = new.table.get(renamed(new, step))
        if row is None or not row.undo:
            return f"version {new.version} cannot undo `{step}`, which was started"
        if row.name in names:
            return f"`{step}` and another started step are one state now"
        names.add(row.name)
    return ""


def _dropped(new: Definition, snapshot: Snapshot, to: str) -> str:
    """Return what people asked of an operation that would come to nothing."""
    for name in snapshot.breakpoints:
        if not renamed(new, name):
            return f"it is to pause before `{name}`, which is gone"
    if snapshot.choice:
        known = {name for row in new.table.values() for name in row.conditions}
        missing = [name for name in snapshot.choice.conditions if name not in known]
        if missing:
            return f"it waits for an answer to `{missing[0]}`, which version {new.version} does not ask"
    if snapshot.held:
        ahead, now = signals_ahead(new, to), frozenset(new.table[to].exits) - RESERVED_EVENTS
        for held in snapshot.held:
            if held.event not in ahead:
                return f"signal `{held.event}` is held for it, and no state ahead would accept it"
            if held.event in now:
                return f"signal `{held.event}` is held for it, and was not for this state"
    return ""


def _other_claims(old: Definition, new: Definition, snapshot: Snapshot) -> str:
    """Return why what it holds is not what ``new`` claims, the same for all operations of which that is true."""
    was, will = ({(claim.name, claim.limit) for claim in one.claims} for one in (old, new))
    if not snapshot.claims or was == will:
        return ""
    data = {**snapshot.data, **_defaults(new, snapshot.data)}
    holds = {(claim.name, claim.limit) for claim in snapshot.claims}
    if holds == {(filled(name, data), limit) for name, limit in will}:
        return ""
    return f"it holds {_named(was)}, and version {new.version} claims {_named(will)}"


def _named(claims: set[tuple[str, int]]) -> str:
    named = (f"`{name}`" if limit == 1 else f"`{name}` for {limit}" for name, limit in sorted(claims))
    return ", ".join(named) or "nothing"


def _running(old: Definition, new: Definition, snapshot: Snapshot, row: Row) -> dict[str, float]:
    """Return when the groups' deadlines are that go on, moved by what their limit changed."""
    found = {}
    for name in row.groups:
        at = snapshot.timers.get(f"group:{name}")
        was = old.groups[name].timeout if name in old.groups else None
        limit = new.groups[name].timeout
        if at is not None and isinstance(was, float) and isinstance(limit, float):
            found[name] = at - was + limit
    return found


def _bounds(new: Definition, bounds: Bounds | None) -> Bounds | None:
    if bounds is None:
        return None

    def named(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for state, value in values.items() if (name := renamed(new, state))}

    return Bounds(bounds.deadline, named(bounds.timeouts), named(bounds.within), named(bounds.retries))


def _defaults(new: Definition, data: dict[str, Any]) -> dict[str, Any]:
    """Return what fields that are new begin with."""
    missing = {name: field for name, field in (new.fields or {}).items() if name not in data}
    return {name: field.default for name, field in missing.items() if field.default is not None or field.accepts(None)}
