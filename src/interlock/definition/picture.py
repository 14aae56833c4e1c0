"""What a drawing shows: a machine's states and the ways between them, and how each way is to look.

The one place where ways get a look. Use, coverage or violations are painted by giving an `EdgeStyle` for each pair of states; a pair that
is no edge of the machine is drawn all the same, as a way *outside* it, and so is a state that the machine does not have.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from interlock.definition.declare import Retry
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition

__all__ = ["OUTSIDE", "START", "Arrow", "EdgeStyle", "Edges", "Picture", "arrows", "picture"]

START = ""
"""Stands for the source of the way on which a record is made: ``("", "queued")``."""
OUTSIDE = "#d1242f"
"""The colour of a way that the machine does not have, unless its style names another."""
WIDEST = 12.0
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}|[a-z]+")
Kind = Literal["done", "event", "timer", "rollback", "outside"]


@dataclass(frozen=True, slots=True)
class EdgeStyle:
    """How the way between two states looks.

    Args:
        label: is written beside it, behind its events: a count, a share.
        width: of its line, from 0.5 to 12; None leaves it as it is.
        colour: ``#rrggbb`` or a plain name such as ``red``; None leaves it as it is.
        dashed: draw it dashed.

    Raises:
        ValueError: a width or a colour that cannot be drawn.

    >>> EdgeStyle("1,204", width=3.0)
    EdgeStyle(label='1,204', width=3.0, colour=None, dashed=False)
    """

    label: str = ""
    width: float | None = None
    colour: str | None = None
    dashed: bool = False

    def __post_init__(self) -> None:
        if self.width is not None and not 0.5 <= self.width <= WIDEST:
            raise ValueError(f"EdgeStyle(width={self.width!r}): a line is from 0.5 to {WIDEST:g} wide")
        if self.colour is not None and not _COLOUR.fullmatch(self.colour):
            raise ValueError(f"EdgeStyle(colour={self.colour!r}): write #rrggbb, or a plain name such as red")


Edges = Mapping[tuple[str, str], EdgeStyle]
"""How ways look, by source and target, names of states both; `START` as source is the way on which a record is made.

Where several ways join the same two states (an event's, a timer's), label and width are the first one's.
"""
_PLAIN = EdgeStyle()


@dataclass(frozen=True, slots=True)
class Arrow:
    """A way from one state to another, with everything that leads along it.

    ``rollback``: through the undos; ``outside``: not of the machine.
    """

    source: str
    target: str
    kind: Kind
    label: str
    style: EdgeStyle = _PLAIN

    @property
    def words(self) -> str:
        """What is written beside it: its events, and what its style adds."""
        return " · ".join(word for word in (self.label, self.style.label) if word)

    @property
    def colour(self) -> str | None:
        """The colour it must have; None leaves it to the kind of drawing."""
        return self.style.colour or (OUTSIDE if self.kind == "outside" else None)


@dataclass(frozen=True, slots=True)
class Picture:
    """A machine as it is to be drawn.

    Args:
        definition: the machine.
        rows: its states, and behind them those that only styled ways name.
        arrows: the ways between them.
        starts: the ways on which records are made; their source is `START`.
        strange: states that the machine does not have.
        styled: whether any way was given a style.
        current: the present state, if one is marked.
        visited: states that were passed.
    """

    definition: Definition
    rows: Mapping[str, Row]
    arrows: list[Arrow]
    starts: list[Arrow]
    strange: frozenset[str] = frozenset()
    styled: bool = False
    current: str | None = None
    visited: Collection[str] = field(default=())


def picture(
    definition: Definition, *, current: str | None = None, visited: Collection[str] = (), edges: Edges | None = None
) -> Picture:
    """Return what to draw of a machine, each way with its look.

    >>> from interlock import Final, Machine, State
    >>> class Door(Machine[dict[str, str]], version=1):
    ...     shut = State(initial=True, on={"push": "open"})
    ...     open = Final("succeeded")
    >>> made = picture(Door.definition, edges={("shut", "open"): EdgeStyle("7"), ("open", "ajar"): EdgeStyle("1")})
    >>> [(way.source, way.target, way.kind, way.words) for way in made.arrows]
    [('shut', 'open', 'event', 'push · 7'), ('open', 'ajar', 'outside', '1')]
    """
    given = dict(edges or {})
    named = dict.fromkeys(name for pair in given for name in pair if name != START)
    strange = [name for name in named if name not in definition.table]
    rows = {**definition.table, **{name: _strange(name) for name in strange}}
    drawn, ways = set[tuple[str, str]](), list[Arrow]()
    for way in arrows(definition):
        pair = (way.source, way.target)
        style = given.get(pair, _PLAIN)
        ways.append(replace(way, style=replace(style, label="", width=None) if pair in drawn else style))
        drawn.add(pair)
    for pair, style in given.items():
        if pair not in drawn and pair[0] != START:
            ways.append(Arrow(*pair, "outside", "", style))
    starts = [Arrow(START, name, "done", "", given.get((START, name), _PLAIN)) for name in definition.initial]
    starts += [
        Arrow(*pair, "outside", "", style)
        for pair, style in given.items()
        if pair[0] == START and pair[1] not in definition.initial
    ]
    return Picture(definition, rows, ways, starts, frozenset(strange), bool(given), current, visited)


def arrows(definition: Definition) -> list[Arrow]:
    """Return the ways between a machine's states, in the order of writing; ways of one kind between the same states are joined."""
    joined: dict[tuple[str, str, Kind], list[str]] = {}
    for row in definition.table.values():
        for event, branch in row.targets():
            kind: Kind = "event"
            if branch.rollback:
                kind = "rollback"
            elif event.startswith("after "):
                kind = "timer"
            elif event == "done":
                kind = "done"
            words = [] if event in ("done", "to") else [event]
            if branch.condition:
                words.append(f"[{branch.condition}]")
            joined.setdefault((row.name, branch.to, kind), []).append(" ".join(words))
    return [
        Arrow(source, target, kind, ", ".join(dict.fromkeys(label for label in labels if label)))
        for (source, target, kind), labels in joined.items()
    ]


def _strange(name: str) -> Row:
    """Return a row for a state that the machine does not have: nothing is known of it."""
    return Row(
        name, "waiting", name, False, {}, (), (), "", False, True, False, False,
        Retry(), Retry(), None, None, None, "refuse", "wait", (), None, None, frozenset(),
    )  # fmt: skip
