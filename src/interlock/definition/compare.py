"""What changed from one version of a machine to the next, and what that means where operations are in flight.

For each state of the old version there is one verdict:

| verdict | an operation that stands there |
|---|---|
| ``same`` | is upgraded; the new version treats the state as the old one does |
| ``changed`` | is upgraded; from then on what the new version says holds |
| ``moved`` | is upgraded; the state is called otherwise now, as ``renames`` says |
| ``stranded`` | is not upgraded as long as it is there: that would not be safe, or the state is gone. It goes on in the old version |
| ``gone`` | has ended there, and stays as it is |

What is said here holds for every operation that may stand in the state; whether one operation can be upgraded is judged by what it has
really done (`interlock.interpreter.upgrade`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from interlock.definition.data import Fields
from interlock.definition.declare import Exit, Final, Retry
from interlock.definition.duration import duration_text
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition
from interlock.errors import Refused

__all__ = ["Change", "Comparison", "Verdict", "compare", "mistaken", "renamed", "unable"]

Verdict = Literal["same", "changed", "moved", "stranded", "gone"]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one state.

    Attributes:
        state, to: its name in the old and in the new version; ``to`` is empty if it is gone.
        verdict: see the table above.
        what: what the new version says otherwise, a sentence each.
        unsafe: why an operation that stands in it cannot be upgraded, whatever it has done; empty if it can.
        lost: steps that an operation may have started when it is here, and that the new version cannot undo.
        claims: why what an operation holds is not what the new version claims; empty if it is.
        waits: what the actions of the new version lack to go on in the old one here; empty if they can.
    """

    state: str
    to: str
    verdict: Verdict
    what: tuple[str, ...] = ()
    unsafe: str = ""
    lost: tuple[str, ...] = ()
    waits: str = ""
    claims: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions of a machine, state by state.

    Attributes:
        machine, old, new: which versions of which machine.
        states: by the old version's names, in its order.
        added: states that only the new version has.
        data: why data of the old version may not fit the new one; empty if it fits.
        claims: what is claimed otherwise, a sentence each. What operations hold that are in flight stays as it is.
    """

    machine: str
    old: int
    new: int
    states: Mapping[str, Change]
    added: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()

    @property
    def stranded(self) -> tuple[str, ...]:
        """The states in which operations would be stranded."""
        return tuple(name for name, change in self.states.items() if change.verdict == "stranded")


@lru_cache(maxsize=256)
def compare(old: Definition, new: Definition) -> Comparison:
    """Compare two versions of a machine.

    Args:
        old: the version that operations run.
        new: the version that they are to be upgraded to.

    Raises:
        Refused: they are different machines, or the new version's number is not the higher one.

    >>> from interlock import Final, Machine, State
    >>> class Door(Machine[dict[str, str]], version=1):
    ...     shut = State(initial=True, on={"push": "open"})
    ...     open = Final("succeeded")
    >>> class Door2(Machine[dict[str, str]], version=2, name="door"):
    ...     renames = {"shut": "closed"}
    ...     closed = State(initial=True, on={"push": "open"})
    ...     open = Final("succeeded")
    >>> compare(Door.definition, Door2.definition).states["shut"].verdict
    'moved'
    """
    if old.name != new.name:
        raise Refused(f"`{old.name}` and `{new.name}` are two machines: compare versions of one")
    if new.version <= old.version and old != new:
        raise Refused(
            f"machine `{new.name}`: version {new.version} is to follow version {old.version}: give the changed machine a higher version",
            machine=new.name,
        )
    data = tuple(_misfits(old.fields, new.fields))
    lost = _lost(old, new)
    claims = tuple(_claims(old, new))
    # Who holds nothing loses nothing by going on where something is claimed.
    held = claims[0] if claims and old.claims else ""
    states = {row.name: _change(old, new, row, data, lost.get(row.name, ()), held) for row in old.table.values()}
    known = {change.to for change in states.values()}
    added = tuple(name for name in new.states if name not in known)
    return Comparison(old.name, old.version, new.version, states, added, data, claims)


def renamed(new: Definition, state: str) -> str:
    """Return what a state of an older version is called in ``new``; ``""`` if it is gone."""
    name = new.renames.get(state, state)
    return name if name in new.states else ""


def mistaken(versions: Sequence[Definition], new: Definition) -> str:
    """Return which state ``new`` would take for another one; ``""`` if none.

    An operation may be upgraded past the versions between. So ``new`` has to call a state of an old one what they have made of it, one
    rename after the other.

    Args:
        versions: the earlier ones that are known, in any order.
        new: the version that comes.
    """
    line = sorted((one for one in versions if one.version < new.version), key=lambda one: one.version)
    for number, old in enumerate(line):
        for state in old.states:
            name = state
            for one in (*line[number + 1 :], new):
                name = renamed(one, name) if name else ""
            if name and renamed(new, state) not in ("", name):
                return (
                    f"state `{state}` of version {old.version} has become `{name}` by the versions between, and version {new.version} "
                    f"takes it for `{renamed(new, state)}`: keep the earlier `renames`, and never give a name to another state"
                )
    return ""


def unable(machine: Definition, written: Definition, kind: str, state: str) -> str:
    """Return what actions lack to make an attempt of another version than they were written for; ``""`` if they can make it.

    Newer actions can go on with an older version, as far as what they need is still bound, if need be under its new name. Older actions
    perform a newer version only if nothing that they see of it changed.

    Args:
        machine: the version that the operation runs.
        written: the version that the actions were written for; all of it is bound.
        kind: ``perform``, ``undo`` or ``choose``.
        state: whose action, undo or conditions.
    """
    if machine.version == written.version:
        return ""
    if machine.version > written.version:
        return "" if _bound(machine) == _bound(written) else f"they were written for version {written.version}"
    misfits = _misfits(machine.fields, written.fields)
    row, now = machine.table[state], written.table.get(renamed(written, state))
    if kind == "choose":
        missing = sorted(row.conditions - _conditions(written))
        return f"nothing is bound to the condition `{missing[0]}`" if missing else next(misfits, "")
    if now is None or now.kind not in ("acting", "parent" if kind == "undo" else ""):
        return f"no {'undo' if kind == 'undo' else 'action'} is bound to `{state}`"
    if row.undo and not now.undo:
        return f"no undo is bound to `{state}`"
    if kind == "perform" and machine.fields is not None and written.fields is not None:
        unknown = [name for name in written.fields if name not in machine.fields]
        if unknown:
            return f"they may add `{unknown[0]}`, and version {machine.version} has no such field"
    return next(misfits, "")


def _bound(machine: Definition) -> object:
    acting = {(row.name, row.undo) for row in machine.table.values() if row.kind == "acting"}
    return acting, _conditions(machine), machine.fields


def _conditions(machine: Definition) -> frozenset[str]:
    return frozenset(name for row in machine.table.values() for name in row.conditions)


def _misfits(old: Fields | None, new: Fields | None) -> Iterator[str]:
    """Yield why data with the fields ``old`` may not fit ``new``."""
    for name, field in (new or {}).items():
        was = None if old is None else old.get(name)
        if was is None or (field.required and not was.required):
            if field.required:
                yield f"field `{name}` is required and may be missing"
        elif field.types and not (was.types and {*was.types} <= _accepted(field.types)):
            yield f"field `{name}` was {_types(was.types)} and is {_types(field.types)} now"


def _accepted(types: tuple[str, ...]) -> set[str]:
    return {*types, "integer"} if "number" in types else {*types}


def _types(types: tuple[str, ...]) -> str:
    return " or ".join(types) or "any value"


def _lost(old: Definition, new: Definition) -> dict[str, tuple[str, ...]]:
    """Return for each state the steps that may be in the undo list there and that the new version cannot undo."""
    found: dict[str, tuple[str, ...]] = {}
    for step in old.table.values():
        now = new.table.get(renamed(new, step.name))
        if not step.undo or (now is not None and now.undo):
            continue
        after, todo = {step.name}, [step.name]
        while todo:
            for _, branch in old.table[todo.pop()].targets():
                if branch.to not in after and not branch.rollback:
                    after.add(branch.to)
                    todo.append(branch.to)
        for name in after:
            found[name] = (*found.get(name, ()), step.name)
    return found


def _claims(old: Definition, new: Definition) -> Iterator[str]:
    was, will = ({claim.name: claim.limit for claim in one.claims} for one in (old, new))
    for name in dict.fromkeys([*was, *will]):
        if name not in will:
            yield f"`{name}` is no longer claimed"
        elif name not in was:
            yield f"`{name}` is claimed now"
        elif was[name] != will[name]:
            yield f"`{name}` is claimed for {will[name]}, was for {was[name]}"


def _change(
    old: Definition, new: Definition, row: Row, data: tuple[str, ...], lost: tuple[str, ...], claims: str
) -> Change:
    to = renamed(new, row.name)
    now = new.table.get(to)
    if row.kind == "final":
        if now is None:
            return Change(row.name, "", "gone")
        what = tuple(_differences(old, new, row, now))
        return Change(row.name, to, "moved" if to != row.name else "changed" if what else "same", what)
    waits = unable(old, new, "perform", row.name) if row.kind == "acting" and new.version > old.version else ""
    if now is None:
        gone = "it is gone, and `renames` does not say what it became"
        return Change(row.name, "", "stranded", (), gone, lost, waits, claims)
    unsafe = data[0] if data else _unsafe(old, new, row, now)
    what = tuple(_differences(old, new, row, now))
    if unsafe or lost or claims:
        return Change(row.name, to, "stranded", what, unsafe, lost, waits, claims)
    return Change(row.name, to, "moved" if to != row.name else "changed" if what else "same", what)


def _unsafe(old: Definition, new: Definition, row: Row, now: Row) -> str:
    if row.kind != now.kind:
        return f"it was {row.kind} and is {now.kind} now"
    if row.past_pivot and not now.past_pivot:
        return "it stands past the pivot and would stand before it: what cannot be undone any more would be"
    if now.past_pivot and not row.past_pivot:
        return "it stands before the pivot and would stand past it: what was started could not be undone any more"
    for other in old.table.values():
        if other.name != row.name and renamed(new, other.name) == now.name and (row.undo or other.undo):
            return f"it and `{other.name}` are one state now: whose step is to be undone could not be told"
    return ""


_PLAIN = ("queue", "cancel", "on_stop", "timeout", "within", "heartbeat", "retry", "undo_retry", "children", "outcome")


def _differences(old: Definition, new: Definition, row: Row, now: Row) -> Iterator[str]:
    for name in _PLAIN:
        was, will = getattr(row, name), getattr(now, name)
        if was != will:
            yield f"{name.replace('_', ' ')} is {_said(name, will)}, was {_said(name, was)}"
    if _handed(old, row) != _handed(new, now):
        yield f"it hands over {', '.join(_handed(new, now)) or 'nothing'}, was {', '.join(_handed(old, row)) or 'nothing'}"
    if row.undo != now.undo:
        yield "it is undone now" if now.undo else "it is no longer undone"
    if row.pivot != now.pivot:
        yield "it is the pivot now" if now.pivot else "it is no longer the pivot"
    if row.initial != now.initial:
        yield f"operations {'may' if now.initial else 'no longer'} start here"
    ways, ways_now = dict(_ways(row)), dict(_ways(now))
    for event in dict.fromkeys([*ways, *ways_now]):
        if event not in ways_now:
            yield f"`{event}` is gone"
        elif event not in ways:
            yield f"`{event}` is new, to {_told(ways_now[event])}"
        elif _exit(ways[event], new) != _exit(ways_now[event], None):
            yield f"`{event}` leads to {_told(ways_now[event])}, led to {_told(ways[event])}"
    limits, limits_now = _limits(old, row), _limits(new, now)
    for group in dict.fromkeys([*limits, *limits_now]):
        was, will = limits.get(group), limits_now.get(group)
        if was != will:
            yield f"timeout of group `{group}` is {_said('timeout', will)}, was {_said('timeout', was)}"
    if [renamed(new, name) for name in row.to] != list(now.to):
        yield f"`to` is {', '.join(now.to) or 'none'}, was {', '.join(row.to) or 'none'}"


def _handed(machine: Definition, row: Row) -> list[str]:
    state = machine.states[row.name]
    return sorted(state.hands_over) if isinstance(state, Final) else []


def _ways(row: Row) -> Iterator[tuple[str, Exit]]:
    yield from row.exits.items()
    for wait, exit in row.after:
        yield f"after {duration_text(wait)}", exit


def _limits(machine: Definition, row: Row) -> dict[str, Any]:
    return {name: machine.groups[name].timeout for name in row.groups if machine.groups[name].timeout is not None}


def _exit(exit: Exit, new: Definition | None) -> object:
    return [
        (branch.to if new is None else renamed(new, branch.to), branch.rollback, branch.condition) for branch in exit
    ]


def _told(exit: Exit) -> str:
    ways = []
    for branch in exit:
        way = f"a rollback to `{branch.to}`" if branch.rollback else f"`{branch.to}`"
        ways.append(f"{way} if {branch.condition}" if branch.condition else way)
    return ", else ".join(ways)


def _said(name: str, value: Any) -> str:
    if value is None or value == "":
        return "the default one" if name == "queue" else "none"
    if isinstance(value, Retry):
        attempts = "attempts without limit" if value.attempts is None else f"{value.attempts} attempts"
        return f"{attempts} every {duration_text(value.delay)}" if isinstance(value.delay, float) else attempts
    if name in ("timeout", "within", "heartbeat"):
        return duration_text(value)
    return str(value) if name != "children" else f"operations of `{value.machine}`"
