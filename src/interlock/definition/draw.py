"""Drawings of a machine: Mermaid, Graphviz DOT, text for a terminal, and self-contained SVG. All from the table."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from interlock.definition.draw_mermaid import draw_mermaid
from interlock.definition.duration import duration_text
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition
from interlock.definition.picture import OUTSIDE, Arrow, Edges, EdgeStyle, Picture, arrows, picture
from interlock.errors import Refused

__all__ = ["FORMATS", "Arrow", "EdgeStyle", "arrows", "draw"]

FORMATS = ("mermaid", "dot", "text", "svg")


def draw(
    definition: Definition,
    format: str,
    *,
    current: str | None = None,
    visited: Collection[str] = (),
    edges: Edges | None = None,
) -> str:
    """Return a drawing of a machine.

    Args:
        definition: what to draw.
        format: ``mermaid``, ``dot``, ``text`` or ``svg`` (the last needs the extra ``draw``).
        current: the state to mark as the present one.
        visited: states to mark as passed.
        edges: how the ways between two states look, by the names of both; ``""`` as source is the way on which a record is made. Ways and
            states that the machine does not have are drawn too, in red. Mermaid has no look for the ways of a state diagram: with this
            it is a flowchart.

    Raises:
        Refused: an unknown format, or the library for SVG is missing.

    >>> from interlock import Final, Machine, State
    >>> class Door(Machine[dict[str, str]], version=1):
    ...     shut = State(initial=True, on={"push": "open"})
    ...     open = Final("succeeded")
    >>> print(draw(Door.definition, "text"))
    door, version 1
    > shut   waiting    push -> open
      open   succeeded
    >>> print(draw(Door.definition, "text", edges={("shut", "open"): EdgeStyle("7"), ("open", "shut"): EdgeStyle("1")}))
    door, version 1
    > shut   waiting    push -> open
      open   succeeded
    <BLANKLINE>
      shut -> open  7
    ! open -> shut  1
    (! not in the machine)
    """
    if current is not None:
        definition.row(current)
    shown = picture(definition, current=current, visited=visited, edges=edges)
    if format == "mermaid":
        return "\n".join(draw_mermaid(shown)) + "\n"
    if format == "dot":
        return "\n".join(_dot(shown)) + "\n"
    if format == "text":
        return "\n".join(_text(shown))
    if format == "svg":
        from interlock.definition.draw_svg import draw_svg

        return draw_svg(shown)
    raise Refused(f"`{format}` is no drawing: {', '.join(FORMATS)}")


_DOT_SHAPES = {"acting": "box", "waiting": "ellipse", "parent": "component", "final": "doublecircle"}


def _dot(shown: Picture) -> Iterator[str]:
    yield f'digraph "{shown.definition.name}" {{'
    yield '    node [fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];'
    for name, row in shown.rows.items():
        style = ["filled"] if name == shown.current or name in shown.visited else []
        if row.pivot:
            style.append("bold")
        color = "#ffd966" if name == shown.current else "#d7e8d4"
        words = [f'shape={_DOT_SHAPES[row.kind]}, label="{_quoted(row.status)}"']
        if style:
            words.append(f'style="{",".join(style)}", fillcolor="{color}"')
        if name in shown.strange:
            words.append(f'style=dashed, color="{OUTSIDE}"')
        yield f'    "{_quoted(name)}" [{", ".join(words)}];'
    for number, way in enumerate(shown.starts):
        looks = _dot_looks(way, "solid") if shown.styled else ""
        yield f'    "initial {number}" [shape=point]; "initial {number}" -> "{_quoted(way.target)}"{looks};'
    for way in shown.arrows:
        looks = _dot_looks(way, {"rollback": "dashed", "timer": "dotted"}.get(way.kind, "solid"))
        yield f'    "{_quoted(way.source)}" -> "{_quoted(way.target)}"{looks};'
    yield "}"


def _dot_looks(way: Arrow, line: str) -> str:
    words = [f'label="{_quoted(way.words)}", style={"dashed" if way.style.dashed else line}']
    if way.colour:
        words.append(f'color="{way.colour}", fontcolor="{way.colour}"')
    if way.style.width is not None:
        words.append(f"penwidth={way.style.width:g}")
    return f" [{', '.join(words)}]"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _text(shown: Picture) -> Iterator[str]:
    definition = shown.definition
    yield f"{definition.name}, version {definition.version}"
    names = max(len(name) for name in definition.states)
    kinds = max(len(_kind(row)) for row in definition.table.values())
    for name, row in definition.table.items():
        here, passed = name == shown.current, name in shown.visited
        mark = "*" if here else "+" if passed else ">" if row.initial else " "
        ways = "; ".join(_ways(row))
        yield f"{mark} {name:<{names}}   {_kind(row):<{kinds}}  {ways}".rstrip()
    notes = []
    if shown.current:
        notes.append("* here")
    if shown.visited:
        notes.append("+ passed")
    if shown.styled:
        yield from _text_ways(shown)
        if any(way.kind == "outside" for way in [*shown.starts, *shown.arrows]):
            notes.append("! not in the machine")
    if notes:
        yield f"({', '.join(notes)})"


def _text_ways(shown: Picture) -> Iterator[str]:
    """Yield what is said of each way, a line each."""
    said = [
        ("!" if way.kind == "outside" else " ", f"{way.source or '(new)'} -> {way.target}", way.style.label)
        for way in [*shown.starts, *shown.arrows]
        if way.style.label
    ]
    yield ""
    longest = max((len(pair) for _, pair, _ in said), default=0)
    for mark, pair, label in said:
        yield f"{mark} {pair:<{longest}}  {label}"


def _kind(row: Row) -> str:
    if row.outcome:
        return row.outcome
    return f"{row.kind}, pivot" if row.pivot else row.kind


def _ways(row: Row) -> Iterator[str]:
    everything = [(event, exit) for event, exit in row.exits.items()]
    everything += [(f"after {duration_text(wait)}", exit) for wait, exit in row.after]
    for event, exit in everything:
        targets = []
        for branch in exit:
            target = f"rollback to {branch.to}" if branch.rollback else branch.to
            targets.append(f"{target} if {branch.condition}" if branch.condition else target)
        ways = ", else ".join(targets)
        yield f"-> {ways}" if event == "done" else f"{event} -> {ways}"
    if row.to:
        yield f"-> {', '.join(row.to)}"
