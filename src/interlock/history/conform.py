"""A machine held against what happened: the moves it does not allow, the edges nothing took, the values it does not know.

A move is judged as guards judge it: by stored value; writing the value that is already there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interlock.definition.machine import Definition, Machine, definition_of
from interlock.definition.picture import Edges, EdgeStyle
from interlock.history.stays import Stays
from interlock.history.tally import START, Tally, Use

__all__ = ["Conformance", "Stranger", "conform", "painted"]

UNUSED = EdgeStyle("0", colour="#8b98a9", dashed=True)
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stranger:
    """A value that the machine does not know: how often records came to it, how many are in it still, and some of them."""

    value: str
    count: int
    resting: int
    records: Sequence[str]


@dataclass(frozen=True, slots=True)
class Conformance:
    """What a history says about a machine; values are the stored ones.

    Args:
        machine: the machine.
        allowed: moves along its edges.
        refused: moves it does not allow, the most frequent first.
        made: values that records were made with, and may not be.
        strangers: values it does not know.
        unused: edges that nothing took, as it names its states' stored values; the first of a pair is ``""`` for an initial state.
        lasted: how long records stayed in each value that they left.
    """

    machine: Definition
    allowed: Mapping[Pair, Use]
    refused: Mapping[Pair, Use]
    made: Mapping[str, Use]
    strangers: Sequence[Stranger]
    unused: Sequence[Pair]
    lasted: Mapping[str, Stays]

    @property
    def holds(self) -> bool:
        """Whether everything that happened is allowed."""
        return not (self.refused or self.made or self.strangers)


def conform(machine: Definition | type[Machine[Any]], tally: Tally, *, partial: bool = False) -> Conformance:
    """Return what a history says about a machine.

    Args:
        machine: class or definition.
        tally: the history in numbers.
        partial: the history begins in the middle: the first value of a record is no making.

    >>> from interlock import Final, State
    >>> from interlock.history.reading import Step
    >>> from interlock.history.tally import tally
    >>> class Volume(Machine[dict[str, str]]):
    ...     free = State(initial=True, to=["used"])
    ...     used = State(to=["free", "gone"], status="in-use")
    ...     gone = Final("succeeded")
    >>> found = conform(Volume, tally([Step("v1", None, "free", 0.0), Step("v1", "free", "gone", 1.0)]))
    >>> list(found.refused), found.unused
    ([('free', 'gone')], [('free', 'in-use'), ('in-use', 'free'), ('in-use', 'gone')])
    """
    definition = definition_of(machine)
    status = {name: row.status for name, row in definition.table.items()}
    targets = {status[name]: {status[to] for to in reached} for name, reached in definition.moves.items()}
    initial = {status[name] for name in definition.initial}
    moves = {pair: use for pair, use in tally.moves.items() if pair[0] != START}
    begun = {} if partial else {after: use for (before, after), use in tally.moves.items() if before == START}
    allowed = {pair: use for pair, use in moves.items() if pair[1] in targets.get(pair[0], ())}
    refused = {pair: use for pair, use in moves.items() if pair not in allowed}
    made = {value: use for value, use in begun.items() if value not in initial}
    allowed |= {(START, value): use for value, use in begun.items() if value in initial}
    declared = [(row.status, status[branch.to]) for row in definition.table.values() for _, branch in row.targets()]
    declared += [] if partial or not begun else [(START, status[name]) for name in definition.initial]
    unused = [
        pair
        for pair in dict.fromkeys(declared)
        if pair not in allowed and not (pair[0] == pair[1] and pair[0] in tally.again)
    ]
    came, went = tally.came(), tally.went()
    strangers = [
        Stranger(value, came.get(value, 0), came.get(value, 0) - went.get(value, 0), _some(tally, value))
        for value in tally.values
        if value not in targets
    ]
    lasted = {value: tally.stays[value] for value in [*targets, *tally.values] if value in tally.stays}
    return Conformance(definition, allowed, _sorted(refused), _sorted(made), strangers, unused, lasted)


def _sorted(uses: Mapping[Any, Use]) -> dict[Any, Use]:
    return dict(sorted(uses.items(), key=lambda item: -item[1].count))


def _some(tally: Tally, value: str) -> list[str]:
    """Return records that are in a state, or one that came to it."""
    there = tally.resting.get(value)
    if there:
        return list(there)
    uses = [use for (_, after), use in tally.moves.items() if after == value]
    return [use.example for use in [*uses, *([tally.met[value]] if value in tally.met else [])]][:1]


def painted(found: Conformance, again: Mapping[str, int] | None = None) -> Edges:
    """Return the look of a machine's ways, by names of states: as wide as they were used, what it does not allow in red.

    Args:
        found: what a history says.
        again: how often records were given the value they had, by value: the use of a state's way to itself.
    """
    names = {row.status: name for name, row in found.machine.table.items()}

    def name(value: str) -> str:
        """A value the machine does not know is drawn under its own text, which must not be a state's name."""
        known = names.get(value, value)
        return known if value in names or value not in found.machine.states else f"{value} (stored)"

    uses = {(before, after): use.count for (before, after), use in [*found.allowed.items(), *found.refused.items()]}
    uses |= {(START, value): use.count for value, use in found.made.items()}
    uses |= {
        (value, value): count
        for value, count in (again or {}).items()
        if found.machine.allows(name(value), name(value))
    }
    most = max(uses.values(), default=1)
    wrong = {*found.refused, *((START, value) for value in found.made)}
    looks = {
        (before and name(before), name(after)): _look(count / most, f"{count:,}", (before, after) in wrong)
        for (before, after), count in uses.items()
    }
    return looks | {(before and name(before), name(after)): UNUSED for before, after in found.unused}


def _look(share: float, label: str, wrong: bool) -> EdgeStyle:
    width = round(1.2 + 6.8 * math.sqrt(share), 1)
    return EdgeStyle(label, width=max(width, 2.4) if wrong else width)
