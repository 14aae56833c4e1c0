"""Drawings of a machine: Mermaid, Graphviz DOT, text for a terminal, and self-contained SVG. All from the table."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from interlock.definition.duration import duration_text
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition
from interlock.errors import Refused

__all__ = ["FORMATS", "Arrow", "arrows", "draw"]

FORMATS = ("mermaid", "dot", "text", "svg")


@dataclass(frozen=True, slots=True)
class Arrow:
    """A way from one state to another, with everything that leads along it. ``rollback``: through the undos."""

    source: str
    target: str
    kind: Literal["done", "event", "timer", "rollback"]
    label: str


def arrows(definition: Definition) -> list[Arrow]:
    """Return what to draw between the states, in the order of writing; ways of one kind between the same states are joined."""
    joined: dict[tuple[str, str, Literal["done", "event", "timer", "rollback"]], list[str]] = {}
    for row in definition.table.values():
        for event, branch in row.targets():
            kind: Literal["done", "event", "timer", "rollback"] = "event"
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


def draw(definition: Definition, format: str, *, current: str | None = None, visited: Collection[str] = ()) -> str:
    """Return a drawing of a machine.

    Args:
        definition: what to draw.
        format: ``mermaid``, ``dot``, ``text`` or ``svg`` (the last needs the extra ``draw``).
        current: the state to mark as the present one.
        visited: states to mark as passed.

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
    """
    if current is not None:
        definition.row(current)
    if format == "mermaid":
        return "\n".join(_mermaid(definition, current, visited)) + "\n"
    if format == "dot":
        return "\n".join(_dot(definition, current, visited)) + "\n"
    if format == "text":
        return "\n".join(_text(definition, current, visited))
    if format == "svg":
        from interlock.definition.draw_svg import draw_svg

        return draw_svg(definition, arrows(definition), current, visited)
    raise Refused(f"`{format}` is no drawing: {', '.join(FORMATS)}")


_MERMAID_WORDS = frozenset({"as", "class", "default", "direction", "end", "hide", "note", "scale", "state", "style"})


def _mermaid(definition: Definition, current: str | None, visited: Collection[str]) -> Iterator[str]:
    yield "stateDiagram-v2"
    ids = {name: name for name in definition.states}
    for name, row in definition.table.items():
        while name.lower() in _MERMAID_WORDS and (ids[name] in definition.states):
            ids[name] += "_"
        if row.status != ids[name]:
            shown = "".join(f"#{ord(letter)};" if letter in '#";<>' else letter for letter in row.status)
            yield f'    state "{shown}" as {ids[name]}'
        if row.pivot:
            yield f"    note right of {ids[name]}: point of no return"
    for name in definition.initial:
        yield f"    [*] --> {ids[name]}"
    for arrow in arrows(definition):
        label = f"rollback: {arrow.label}" if arrow.kind == "rollback" else arrow.label
        yield f"    {ids[arrow.source]} --> {ids[arrow.target]}" + (f": {label}" if label else "")
    for name in definition.finals:
        yield f"    {ids[name]} --> [*]"
    if current or visited:
        yield "    classDef visited fill:#d7e8d4,color:#000"
        yield "    classDef current fill:#ffd966,color:#000,font-weight:bold"
    passed = [ids[name] for name in definition.states if name in visited and name != current]
    if passed:
        yield f"    class {','.join(passed)} visited"
    if current:
        yield f"    class {ids[current]} current"


_DOT_SHAPES = {"acting": "box", "waiting": "ellipse", "parent": "component", "final": "doublecircle"}


def _dot(definition: Definition, current: str | None, visited: Collection[str]) -> Iterator[str]:
    yield f'digraph "{definition.name}" {{'
    yield '    node [fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];'
    for name, row in definition.table.items():
        style = ["filled"] if name == current or name in visited else []
        if row.pivot:
            style.append("bold")
        color = "#ffd966" if name == current else "#d7e8d4"
        words = [f'shape={_DOT_SHAPES[row.kind]}, label="{_quoted(row.status)}"']
        if style:
            words.append(f'style="{",".join(style)}", fillcolor="{color}"')
        yield f'    "{name}" [{", ".join(words)}];'
    for number, name in enumerate(definition.initial):
        yield f'    "initial {number}" [shape=point]; "initial {number}" -> "{name}";'
    for arrow in arrows(definition):
        style_of = {"rollback": "dashed", "timer": "dotted"}.get(arrow.kind, "solid")
        yield f'    "{arrow.source}" -> "{arrow.target}" [label="{_quoted(arrow.label)}", style={style_of}];'
    yield "}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _text(definition: Definition, current: str | None, visited: Collection[str]) -> Iterator[str]:
    yield f"{definition.name}, version {definition.version}"
    names = max(len(name) for name in definition.states)
    kinds = max(len(_kind(row)) for row in definition.table.values())
    for name, row in definition.table.items():
        mark = "*" if name == current else "+" if name in visited else ">" if row.initial else " "
        ways = "; ".join(_ways(row))
        yield f"{mark} {name:<{names}}   {_kind(row):<{kinds}}  {ways}".rstrip()
    notes = []
    if current:
        notes.append("* here")
    if visited:
        notes.append("+ passed")
    if notes:
        yield f"({', '.join(notes)})"


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
