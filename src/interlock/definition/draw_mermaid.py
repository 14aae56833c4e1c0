"""A machine as Mermaid: a state diagram, or, where ways have a look of their own, a flowchart, whose ways can be given one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from interlock.definition.picture import OUTSIDE, Arrow, Picture

__all__ = ["draw_mermaid"]

_WORDS = frozenset(
    {"as", "class", "default", "direction", "end", "graph", "hide", "note", "scale", "state", "style", "subgraph"}
)
_SHAPES = {"acting": '["{}"]', "waiting": '(["{}"])', "parent": '{{{{"{}"}}}}', "final": '((("{}")))'}
_LINES = {"rollback": "stroke-dasharray:7 4", "timer": "stroke-dasharray:2 4"}


def draw_mermaid(shown: Picture) -> Iterator[str]:
    """Yield the lines of the drawing; see `interlock.definition.draw.draw`."""
    ids = _ids(shown)
    if shown.styled:
        yield "flowchart TD"
        yield from _flowchart(shown, ids)
    else:
        yield "stateDiagram-v2"
        yield from _states(shown, ids)
    if shown.current or shown.visited:
        yield "    classDef visited fill:#d7e8d4,color:#000"
        yield "    classDef current fill:#ffd966,color:#000,font-weight:bold"
    passed = [ids[name] for name in shown.rows if name in shown.visited and name != shown.current]
    if passed:
        yield f"    class {','.join(passed)} visited"
    if shown.current:
        yield f"    class {ids[shown.current]} current"


def _ids(shown: Picture) -> dict[str, str]:
    """Return a word for each state that means nothing else to Mermaid."""
    ids = {name: name for name in shown.definition.states}
    for name in ids:
        while ids[name].lower() in _WORDS or (ids[name] != name and ids[name] in shown.definition.states):
            ids[name] += "_"
    for number, name in enumerate(name for name in shown.rows if name in shown.strange):
        ids[name] = _free(f"strange_{number}", shown)
    return ids


def _free(word: str, shown: Picture) -> str:
    return _free(f"{word}_", shown) if word in shown.definition.states else word


def _states(shown: Picture, ids: Mapping[str, str]) -> Iterator[str]:
    for name, row in shown.rows.items():
        if row.status != ids[name]:
            yield f'    state "{_quoted(row.status)}" as {ids[name]}'
        if row.pivot:
            yield f"    note right of {ids[name]}: point of no return"
    for way in shown.starts:
        yield f"    [*] --> {ids[way.target]}"
    for way in shown.arrows:
        label = f"rollback: {way.words}" if way.kind == "rollback" else way.words
        yield f"    {ids[way.source]} --> {ids[way.target]}" + (f": {label}" if label else "")
    for name in shown.definition.finals:
        yield f"    {ids[name]} --> [*]"


def _flowchart(shown: Picture, ids: Mapping[str, str]) -> Iterator[str]:
    for name, row in shown.rows.items():
        pivot = " (point of no return)" if row.pivot else ""
        yield f"    {ids[name]}{_SHAPES[row.kind].format(_quoted(row.status + pivot))}"
    looks = []
    for number, way in enumerate(shown.starts):
        begin = _free(f"start_{number}", shown)
        yield f'    {begin}((" "))'
        yield _link(begin, way, ids)
        looks.append(_look(way))
    for way in shown.arrows:
        yield _link(ids[way.source], way, ids)
        looks.append(_look(way))
    for number, look in enumerate(looks):
        if look:
            yield f"    linkStyle {number} {look}"
    if shown.strange:
        yield f"    classDef strange stroke:{OUTSIDE},stroke-dasharray:4 3"
        yield f"    class {','.join(ids[name] for name in shown.rows if name in shown.strange)} strange"


def _link(source: str, way: Arrow, ids: Mapping[str, str]) -> str:
    label = f"rollback: {way.words}" if way.kind == "rollback" else way.words
    return f"    {source} -->" + (f'|"{_quoted(label)}"|' if label else "") + f" {ids[way.target]}"


def _look(way: Arrow) -> str:
    words = [f"stroke:{way.colour},color:{way.colour}"] if way.colour else []
    if way.style.width is not None:
        words.append(f"stroke-width:{way.style.width:g}px")
    if way.style.dashed:
        words.append("stroke-dasharray:5 4")
    elif way.kind in _LINES:
        words.append(_LINES[way.kind])
    return ",".join(words)


def _quoted(text: str) -> str:
    return "".join(f"#{ord(letter)};" if letter in '#";<>' else letter for letter in text)
