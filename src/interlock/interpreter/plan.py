"""The plan: what would become of a start, without starting anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from interlock.definition.data import fit
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition
from interlock.errors import Refused
from interlock.interpreter.claims import blocked, wanted
from interlock.interpreter.decide import decide
from interlock.interpreter.facts import ClaimsAwaited, Entered, Postponed
from interlock.interpreter.inputs import Standing, Start
from interlock.interpreter.items import child_data, items_of
from interlock.interpreter.turn import filled

__all__ = ["Plan", "PlannedClaim", "PlannedState", "plan"]


class PlannedClaim(msgspec.Struct, frozen=True, omit_defaults=True):
    """A claim as it stands now. ``on_conflict``: what happens if it is not free; ``others``: who is in its way, in order."""

    name: str
    limit: int
    free: bool
    on_conflict: str
    others: tuple[str, ...] = ()


class PlannedState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A state that the operation may come through.

    Attributes:
        kind: ``acting``, ``waiting``, ``parent`` or ``final``.
        queue: whose workers would perform it.
        ways: where it leads, by event.
        undo: it is undone by a rollback.
        pivot: from here on nothing is undone.
        timeout: of one attempt, seconds.
        attempts: at most; None without limit.
        children: what each child would be given; ``child``: its machine.
    """

    name: str
    kind: str
    queue: str = ""
    ways: Mapping[str, tuple[str, ...]] = {}
    undo: bool = False
    pivot: bool = False
    timeout: float | None = None
    attempts: int | None = 1
    child: str = ""
    children: tuple[Mapping[str, Any], ...] = ()


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a start would lead to now. ``refused``: why it would be refused; empty if it would not."""

    machine: str
    version: int
    refused: str
    claims: tuple[PlannedClaim, ...]
    states: tuple[PlannedState, ...]


def plan(machine: Definition, start: Start, standing: Standing, now: float) -> Plan:
    """Return what a start would lead to: decided by `decide`, and committed nowhere.

    Args:
        standing: what stands at its claims.

    >>> from interlock import Claim, Final, Machine, State
    >>> class Deploy(Machine[dict[str, str]], version=1):
    ...     claims = [Claim("host:{host}")]
    ...     building = State(initial=True, queue="host:{host}", undo="nothing", then="live")
    ...     live = Final("succeeded")
    ...     failed = Final("failed")
    ...     cancelled = Final("cancelled")
    >>> found = plan(Deploy.definition, Start("", {"host": "a"}), {}, 0.0)
    >>> [(state.name, state.queue) for state in found.states], found.claims[0].free
    ([('building', 'host:a'), ('live', '')], True)
    """
    refused, data, first = "", dict(start.data), start.state
    try:
        data = fit(machine.fields, data, "operation")
        facts = decide(machine, None, msgspec.structs.replace(start, standing=standing), now).facts
        # Not where it is then: it may have passed a state by, as a parent of no children.
        first = next(fact.state for fact in facts if isinstance(fact, Entered | Postponed | ClaimsAwaited))
    except Refused as error:
        refused = error.message
    return Plan(
        machine.name,
        machine.version,
        refused,
        _claims(machine, start, data, standing),
        tuple(_state(machine.table[name], data) for name in _ahead(machine, first)),
    )


def _claims(machine: Definition, start: Start, data: Mapping[str, Any], standing: Standing) -> tuple[PlannedClaim, ...]:
    try:
        holdings = wanted(machine, data)
    except Refused:
        return ()
    taken = {claim.name: others for claim, others in blocked(holdings, standing, start.id, ())}
    return tuple(
        PlannedClaim(
            holding.name,
            holding.limit,
            holding.name not in taken,
            start.on_conflict or claim.on_conflict,
            tuple(one.operation for one in taken.get(holding.name, ())),
        )
        for holding, claim in zip(holdings, machine.claims, strict=True)
    )


def _ahead(machine: Definition, first: str | None) -> list[str]:
    """Return the states that lie ahead without a rollback, the nearest first."""
    found: list[str] = [first] if first is not None and first in machine.table else [*machine.initial]
    for name in found:
        branches: Sequence[str] = [one.to for _, one in machine.table[name].targets() if not one.rollback]
        found += [
            to for to in dict.fromkeys(branches) if to not in found and machine.table[to].outcome in (None, "succeeded")
        ]
    return found


def _state(row: Row, data: Mapping[str, Any]) -> PlannedState:
    ways: dict[str, tuple[str, ...]] = {}
    for event, branch in row.targets():
        word = f"{branch.to} (rolls back)" if branch.rollback else branch.to
        word += f" if {branch.condition}" if branch.condition else ""
        ways[event] = (*ways.get(event, ()), word)
    acts = row.kind == "acting"
    items = items_of(row.children, data) if row.children else []
    children = () if isinstance(items, str) else tuple(items)
    if row.children:
        known = data.keys()
        children = tuple(child_data(row.children, data, index, known) for index in range(len(children)))
    return PlannedState(
        row.name,
        row.kind,
        filled(row.queue, data) if acts else "",
        ways,
        row.undo,
        row.pivot,
        row.timeout,
        row.retry.attempts if acts else 1,
        row.children.machine if row.children else "",
        children,
    )
