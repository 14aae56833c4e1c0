"""Flattening: one `Row` for each state, with its groups' exits and every default filled in."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from interlock.definition.declare import Branch, Children, Exit, Final, Group, Retry, State
from interlock.definition.duration import duration_text

if TYPE_CHECKING:
    from interlock.definition.machine import Definition

__all__ = ["NAME", "RESERVED_EVENTS", "Row", "branches_of", "flatten", "surroundings", "template_fields"]

Kind = Literal["acting", "waiting", "parent", "final"]
RESERVED_EVENTS = frozenset({"done", "failed", "timeout"})
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One state with every question answered. Durations are seconds."""

    name: str
    kind: Kind
    status: str
    initial: bool
    exits: Mapping[str, Exit]
    after: tuple[tuple[float, Exit], ...]
    to: tuple[str, ...]
    queue: str
    undo: bool
    undo_said: bool
    pivot: bool
    past_pivot: bool
    retry: Retry
    undo_retry: Retry
    timeout: float | None
    within: float | None
    heartbeat: float | None
    cancel: Literal["rollback", "finish", "refuse"]
    on_stop: Literal["wait", "handover"]
    groups: tuple[str, ...]
    children: Children | None
    outcome: Literal["succeeded", "failed", "cancelled"] | None
    conditions: frozenset[str]

    def targets(self) -> Iterator[tuple[str, Branch]]:
        """Yield (event, branch) for everything that leads out of this state; timers are named ``after 30s``, plain moves ``to``."""
        for event, branches in self.exits.items():
            for branch in branches:
                yield event, branch
        for wait, branches in self.after:
            for branch in branches:
                yield f"after {duration_text(wait)}", branch
        for name in self.to:
            yield "to", Branch(name)


def template_fields(template: str) -> list[str]:
    """Return the fields that a template such as ``host:{source}`` uses; raises ValueError for a malformed one."""
    found = []
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not NAME.fullmatch(name) or spec or conversion:
            raise ValueError(f"`{template}`: only plain fields like {{source}} may stand in it")
        found.append(name)
    return found


def surroundings(groups: Mapping[str, Group]) -> Mapping[str, tuple[str, ...]]:
    """Return the groups around every state and group that is a member of one, inner groups before the groups around them."""
    direct: dict[str, list[str]] = {}
    inner: dict[str, int] = {}
    for name, group in groups.items():
        inner[name] = sum(member in groups for member in group.members)
        for member in group.members:
            direct.setdefault(member, []).append(name)
    order: dict[str, int] = {}
    ready = [name for name, count in inner.items() if not count]
    for name in ready:  # grows while it is read
        order[name] = len(order)
        for around in direct.get(name, ()):
            inner[around] -= 1
            if not inner[around]:
                ready.append(around)
    return {
        member: tuple(sorted(_closure(direct, member), key=lambda name: order.get(name, len(order))))
        for member in direct
    }


def _closure(direct: Mapping[str, Sequence[str]], member: str) -> set[str]:
    found: set[str] = set()
    todo = list(direct[member])
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(direct.get(name, ()))
    return found


def past_pivot(definition: Definition) -> frozenset[str]:
    """Return the pivots and every state that can follow one; sealing refuses a state that can also be reached without passing it."""
    found: set[str] = set()
    todo = [name for name, state in definition.states.items() if isinstance(state, State) and state.pivot]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        state = definition.states.get(name)
        if isinstance(state, State):
            todo.extend(branch.to for branch in branches_of(definition, state) if not branch.rollback)
    return frozenset(name for name in found if not isinstance(definition.states.get(name), Final))


def branches_of(definition: Definition, state: State | Final) -> Sequence[Branch]:
    """Return every branch that leads out of a state, its groups' included."""
    if isinstance(state, Final):
        return [Branch(name) for name in state.to]
    exits: list[Exit] = [*state.on.values(), *state.after.values()]
    exits += [exit for name in definition.around.get(state.name, ()) for exit in definition.groups[name].on.values()]
    return [branch for branches in exits for branch in branches] + [Branch(name) for name in state.to]


def _row(definition: Definition, state: State | Final, past: bool) -> Row:
    groups = definition.around.get(state.name, ())
    if isinstance(state, Final):
        return Row(
            state.name, "final", state.status or state.name, state.initial, {}, (), tuple(state.to), "", False, True, False, False,
            Retry(), Retry(), None, None, None, "refuse", "wait", groups, None, state.outcome, frozenset(),
        )  # fmt: skip
    exits: dict[str, Exit] = dict(state.on)
    for name in groups:
        for event, branches in definition.groups[name].on.items():
            exits.setdefault(event, branches)
    after = tuple(sorted((cast(float, wait), exit) for wait, exit in state.after.items()))
    everything = [*exits.values(), *(branches for _, branches in after)]
    return Row(
        name=state.name,
        kind=state.kind,
        status=state.status or state.name,
        initial=state.initial,
        exits=exits,
        after=after,
        to=tuple(state.to),
        queue=state.queue or "",
        undo=state.undo is True,
        undo_said=state.undo is not None,
        pivot=state.pivot,
        past_pivot=past,
        retry=state.retry or Retry(),
        undo_retry=state.undo_retry or Retry(10),
        timeout=cast("float | None", state.timeout),  # State.__post_init__ made seconds of it
        within=cast("float | None", state.within),
        heartbeat=cast("float | None", state.heartbeat),
        cancel=state.cancel or ("refuse" if past else "rollback"),
        on_stop=state.on_stop,
        groups=groups,
        children=state.children,
        outcome=None,
        conditions=frozenset(branch.condition for branches in everything for branch in branches if branch.condition),
    )


def flatten(definition: Definition) -> Mapping[str, Row]:
    """Return one row for each state of a definition, in the order of writing."""
    after = past_pivot(definition)
    return {name: _row(definition, state, name in after) for name, state in definition.states.items()}
