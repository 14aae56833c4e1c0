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

__all__ = ["Turn", "filled", "queue_of"]


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
        return (
            self.offer is not None and bool(self.offer.reported) and (self.machine.name, state) in self.offer.reported
        )

    def _timers(self, row: Row) -> dict[str, float]:
        after, now, machine = self.after, self.now, self.machine
        bounds = after.bounds
        timers: dict[str, float] = {}
        within = row.within if bounds is None else bounds.within.get(row.name, row.within)
        if row.timeout is not None and (row.kind == "parent" or self.reported(row.name)):
            within = (
                row.timeout if within is None else min(within, row.timeout)
            )  # no attempt of ours that it could bound
        if within is not None:
            timers["within"] = now + within
        for number, (wait, _) in enumerate(row.after):
            timers[f"after:{number}"] = now + wait
        for name in row.groups:
            limit = machine.groups[name].timeout
            if limit is not None:
                assert isinstance(limit, float)
                running = (
                    after.timers.get(f"group:{name}")
                    if after.state and name in machine.table[after.state].groups
                    else None
                )
                timers[f"group:{name}"] = now + limit if running is None else running
        if not row.past_pivot:
            timers.update(self.deadline())
        return timers

    def deadline(self) -> dict[str, float]:
        """Return the timer of the caller's deadline, if there is one."""
        bounds = self.after.bounds
        return {} if bounds is None or bounds.deadline is None else {"deadline": bounds.deadline}


class _Fields(dict[str, Any]):
    """Data for a template; what it lacks is left empty."""

    def __missing__(self, name: str) -> str:
        return ""


def queue_of(turn: Turn, state: str) -> str:
    """Return the queue in which a state's attempts run, with the data's fields filled in."""
    return filled(turn.machine.table[state].queue, turn.after.data)


def filled(template: str, data: Mapping[str, Any]) -> str:
    """Return a template such as ``host:{source}`` with the data's fields filled in."""
    return template.format_map(_Fields(data)) if "{" in template else template
