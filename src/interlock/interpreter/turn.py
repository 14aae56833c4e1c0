"""A decision in the making: the facts so far, and the snapshot they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.definition.declare import Final
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition
from interlock.interpreter import facts as f
from interlock.interpreter.facts import Fact
from interlock.interpreter.inputs import Offer
from interlock.interpreter.items import items_of
from interlock.interpreter.snapshot import Snapshot, fold

__all__ = ["Turn", "filled", "queue_of", "timers_in"]


class Turn:
    """What the rules of `decide` write on. ``after`` is always the fold of ``facts`` over the snapshot it began with."""

    __slots__ = ("_after", "answers", "facts", "machine", "now", "offer")

    def __init__(
        self,
        machine: Definition,
        snapshot: Snapshot | None,
        now: float,
        offer: Offer | None,
        answers: Mapping[str, bool],
    ) -> None:
        self.machine = machine
        self._after = snapshot
        self.now = now
        self.offer = offer
        self.answers = answers
        self.facts: list[Fact] = []

    @property
    def after(self) -> Snapshot:
        """The operation as it is after the facts so far."""
        assert self._after is not None, "an operation that was not started was given an input"
        return self._after

    @property
    def row(self) -> Row:
        """The row of the state it is in."""
        return self.machine.table[self.after.state]

    def add(self, fact: Fact) -> None:
        """Record a fact."""
        self._after = fold(self._after, fact, self.now)
        self.facts.append(fact)

    def enter(self, state: str) -> None:
        """Record that a state is entered, with the timers that run in it."""
        row = self.machine.table[state]
        if row.kind == "final":
            return self.end(row)
        if row.kind == "parent":
            return self.add(
                f.Entered(state, "parent", "", self._timers(row), step=row.undo, children=self._children(row))
            )
        if row.kind == "waiting" or self.reported(state):
            return self.add(f.Entered(state, "waiting", "", self._timers(row), step=row.undo))
        self.add(f.Entered(state, "acting", queue_of(self, state) if row.queue else "", self._timers(row)))

    def end(self, row: Row) -> None:
        """Record that it is over; or that it is stuck, as long as it owns what nobody takes over."""
        final = self.machine.states[row.name]
        assert isinstance(final, Final)
        handed = final.hands_over
        left = [f"{own.kind} `{own.id}`" for own in self.after.owned if own.kind not in handed]
        if left:
            what = f"it cannot end as `{row.name}`: it still owns {', '.join(left)}"
            return self.add(f.GotStuck("still-owned", what))
        self.add(f.Entered(row.name, "final", outcome=row.outcome))

    def _children(self, row: Row) -> int:
        assert row.children is not None
        items = items_of(row.children, self.after.data)
        return 0 if isinstance(items, str) else len(items)

    def reported(self, state: str) -> bool:
        """Return whether other code performs a state, as far as the worker knows that offers itself."""
        offer, machine = self.offer, self.machine.name
        if offer is None or not offer.reported:
            return False
        written = offer.written.get(machine)
        return (machine, state if written is None else written.renames.get(state, state)) in offer.reported

    def _timers(self, row: Row) -> dict[str, float]:
        after = self.after
        inside = self.machine.table[after.state].groups if after.state and after.timers else ()
        running = {name: after.timers[f"group:{name}"] for name in inside if f"group:{name}" in after.timers}
        timers = timers_in(self.machine, row, after.bounds, self.now, running)
        if row.timeout is not None and (
            row.kind == "parent" or self.reported(row.name)
        ):  # no attempt of ours that it could bound
            timers["within"] = min(timers.get("within", self.now + row.timeout), self.now + row.timeout)
        return timers

    def deadline(self) -> dict[str, float]:
        """Return the timer of the caller's deadline, if there is one."""
        bounds = self.after.bounds
        return {} if bounds is None or bounds.deadline is None else {"deadline": bounds.deadline}


class _Fields(dict[str, Any]):
    """Data for a template; what it lacks is left empty."""

    def __missing__(self, name: str) -> str:
        return ""


def timers_in(
    machine: Definition, row: Row, bounds: f.Bounds | None, since: float, running: Mapping[str, float]
) -> dict[str, float]:
    """Return the timers of a stay in a state that began at ``since``; ``running`` are the groups' that go on, by group."""
    timers: dict[str, float] = {}
    within = row.within if bounds is None else bounds.within.get(row.name, row.within)
    if within is not None:
        timers["within"] = since + within
    for number, (wait, _) in enumerate(row.after):
        timers[f"after:{number}"] = since + wait
    for name in row.groups:
        limit = machine.groups[name].timeout
        if limit is not None:
            assert isinstance(limit, float)
            timers[f"group:{name}"] = running.get(name, since + limit)
    if bounds is not None and bounds.deadline is not None and not row.past_pivot:
        timers["deadline"] = bounds.deadline
    return timers


def queue_of(turn: Turn, state: str) -> str:
    """Return the queue in which a state's attempts run, with the data's fields filled in."""
    return filled(turn.machine.table[state].queue, turn.after.data)


def filled(template: str, data: Mapping[str, Any]) -> str:
    """Return a template such as ``host:{source}`` with the data's fields filled in."""
    return template.format_map(_Fields(data)) if "{" in template else template
