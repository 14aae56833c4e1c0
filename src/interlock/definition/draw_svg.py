"""A machine as one self-contained SVG: no script, no font, no link; legible on light and dark ground.

States are laid out in layers by fast-sugiyama (the extra ``draw``): from the initial state down along the main way. Boxes are acting
states, rounded ones wait, double frames end. Rollbacks are dashed, timers dotted; a red line stands above the point of no return.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from interlock.definition.flatten import Row
from interlock.definition.machine import Definition
from interlock.errors import Refused

if TYPE_CHECKING:
    from interlock.definition.draw import Arrow

__all__ = ["draw_svg"]

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Middle, and half of width and height."""
LAYER, HEIGHT, GAP, MARGIN, LETTER = 104.0, 42.0, 56.0, 28.0, 8.2
SPACING = 100

_STYLE = """
svg { font: 14px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; background: #fff; color: #1c2430; }
.state rect { fill: #f4f6f9; stroke: #51607a; stroke-width: 1.5; }
.state text { fill: #1c2430; text-anchor: middle; }
.waiting rect { fill: #fdf6e3; stroke: #a2802b; }
.parent rect { fill: #efe9fb; stroke: #6f54ad; }
.succeeded rect { fill: #e3f4e6; stroke: #2f8743; }
.failed rect { fill: #fbe6e4; stroke: #bb3b30; }
.cancelled rect { fill: #eceded; stroke: #70757c; }
.visited rect { fill: #cfe6d3; }
.current rect { fill: #ffd966; stroke: #8a6500; stroke-width: 3; }
.current text { fill: #1c2430; font-weight: bold; }
.way { fill: none; stroke: #51607a; stroke-width: 1.5; }
.way.done { stroke-width: 2.2; }
.way.rollback { stroke: #bb3b30; stroke-dasharray: 6 4; }
.way.timer { stroke: #a2802b; stroke-dasharray: 2 3; }
.label { fill: #1c2430; font-size: 12px; text-anchor: middle; paint-order: stroke; stroke: #fff; stroke-width: 4px; }
.note { fill: #51607a; font-size: 12px; }
.pivot { stroke: #bb3b30; stroke-width: 2; }
.pivot-label { fill: #bb3b30; font-size: 12px; }
.title { fill: #1c2430; font-size: 17px; font-weight: bold; }
.head { fill: #51607a; } .head.rollback { fill: #bb3b30; } .head.timer { fill: #a2802b; }
@media (prefers-color-scheme: dark) {
svg { background: #151a21; color: #e5e9f0; }
.state rect { fill: #232c39; stroke: #93a3bd; }
.state text, .label, .title { fill: #e5e9f0; }
.label { stroke: #151a21; }
.waiting rect { fill: #3a311a; stroke: #d6b25e; } .parent rect { fill: #31294a; stroke: #b39ce6; }
.succeeded rect { fill: #1d3a25; stroke: #6cc382; } .failed rect { fill: #44211e; stroke: #ef8378; }
.cancelled rect { fill: #2d3033; stroke: #a5abb3; } .visited rect { fill: #2c4a35; } .current rect { fill: #ffd966; }
.current text { fill: #1c2430; }
.way { stroke: #93a3bd; } .head { fill: #93a3bd; } .note { fill: #93a3bd; }
.way.rollback, .pivot { stroke: #ef8378; } .head.rollback, .pivot-label { fill: #ef8378; }
.way.timer { stroke: #d6b25e; } .head.timer { fill: #d6b25e; }
}
"""


def draw_svg(definition: Definition, ways: Sequence[Arrow], current: str | None, visited: Collection[str]) -> str:
    """Return the drawing; see `interlock.definition.draw.draw`."""
    widths = {name: max(64.0, len(row.status) * LETTER + 30) for name, row in definition.table.items()}
    places, bends = _layout(definition, ways, widths)
    parts: list[str] = []
    taken = [(*place, widths[name] / 2, HEIGHT / 2) for name, place in places.items()]
    labels: list[str] = []
    pairs: dict[tuple[str, str], int] = {}
    for way in ways:
        again = pairs.get((way.source, way.target), 0)
        pairs[way.source, way.target] = again + 1
        line = _line(way, places, bends, widths, again)
        parts.append(_path(line, way.kind))
        if way.label:
            labels.append(_label(way.label, line, again, taken))
    parts += labels
    parts += [
        _state(row, places[name], widths[name], name == current, name in visited)
        for name, row in definition.table.items()
    ]
    parts += [_start(places[name], widths[name]) for name in definition.initial]
    parts += [_pivot(places[name], widths[name]) for name, row in definition.table.items() if row.pivot]
    return _page(definition, parts, places, widths)


def _layout(
    definition: Definition, ways: Sequence[Arrow], widths: Mapping[str, float]
) -> tuple[dict[str, Point], dict[tuple[str, str], list[Point]]]:
    try:
        from fast_sugiyama import from_edges
    except ImportError:
        raise Refused(
            "drawing SVG needs a layout library: pip install 'interlock[draw]'; mermaid, dot and text need nothing"
        ) from None
    names = list(definition.states)
    ids = {name: number for number, name in enumerate(names)}
    edges = sorted({(ids[way.source], ids[way.target]) for way in ways if way.source != way.target})
    across = (max(widths.values()) + GAP) / SPACING
    at: dict[int, Point] = {}
    chains: list[tuple[int, int]] = []
    shift, fresh = 0.0, len(names)
    layouts: list[Any] = list(from_edges(edges, vertex_spacing=SPACING)) if edges else []
    for positions, width, _, chain in layouts:
        top = max(y for _, (_, y) in positions)
        renamed = {number: number if number < len(names) else fresh + number for number, _ in positions}
        for number, (x, y) in positions:
            at[renamed[number]] = (shift + x * across, (top - y) / SPACING * LAYER)
        chains += [(renamed[one], renamed[other]) for one, other in chain or ()]
        fresh += len(positions) + len(names)
        shift += width * across + SPACING * across
    bottom = max((y for _, y in at.values()), default=-LAYER) + LAYER
    alone = [name for name in names if ids[name] not in at]
    for number, name in enumerate(alone):
        at[ids[name]] = (number * SPACING * across, bottom)
    places = {name: at[ids[name]] for name in names}
    return places, {edge: _chain(ids[edge[0]], ids[edge[1]], chains, at, len(names)) for edge in _pairs(ways)}


def _pairs(ways: Sequence[Arrow]) -> set[tuple[str, str]]:
    return {(way.source, way.target) for way in ways}


def _chain(
    source: int, target: int, chains: Sequence[tuple[int, int]], at: Mapping[int, Point], states: int
) -> list[Point]:
    """Return the bends between two states: follow the links from the source over bends only."""
    after: dict[int, list[int]] = {}
    for one, other in chains:
        after.setdefault(one, []).append(other)
    for begin in after.get(source, ()):
        found, here = [], begin
        while here >= states and here in after:
            found.append(at[here])
            here = after[here][0]
        if here == target:
            return found
    return []


def _line(
    way: Arrow,
    places: Mapping[str, Point],
    bends: Mapping[tuple[str, str], list[Point]],
    widths: Mapping[str, float],
    again: int,
) -> list[Point]:
    begin, end = places[way.source], places[way.target]
    if way.source == way.target:
        x, y, half = begin[0], begin[1], widths[way.source] / 2
        out = half + 26 + 14 * again
        return [(x + half, y - 9), (x + out, y - 18), (x + out, y + 18), (x + half, y + 9)]
    middle = [(x + 24 * again, y) for x, y in bends[way.source, way.target]]
    backwards = end[1] < begin[1] and not middle
    if backwards or (again and not middle):
        side = max(widths[way.source], widths[way.target]) / 2 + 22 + 22 * again
        x = (begin[0] + end[0]) / 2
        middle = (
            [(x + side, (begin[1] + end[1]) / 2)]
            if abs(begin[0] - end[0]) < side * 2
            else [(x, (begin[1] + end[1]) / 2 + 14 * again)]
        )
    points = [begin, *middle, end]
    points[0] = _border(points[0], points[1], widths[way.source])
    points[-1] = _border(points[-1], points[-2], widths[way.target])
    return points


def _border(center: Point, towards: Point, width: float) -> Point:
    """Return where the line from a state's middle leaves its box."""
    x, y = towards[0] - center[0], towards[1] - center[1]
    half_width, half_height = width / 2 + 1, HEIGHT / 2 + 1
    scale = min(half_width / abs(x) if x else math.inf, half_height / abs(y) if y else math.inf)
    return (center[0] + x * scale, center[1] + y * scale)


def _path(line: Sequence[Point], kind: str) -> str:
    if len(line) == 2:
        shape = f"M{_at(line[0])} L{_at(line[1])}"
    else:
        shape = f"M{_at(line[0])}"
        for one, other in pairwise(line[1:]):
            middle = other if other is line[-1] else ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
            shape += f" Q{_at(one)} {_at(middle)}"
    (x0, y0), (x1, y1) = line[-2], line[-1]
    angle = math.atan2(y1 - y0, x1 - x0)
    wings = [(x1 - 10 * math.cos(angle + turn), y1 - 10 * math.sin(angle + turn)) for turn in (0.42, -0.42)]
    head = " ".join(_at(point) for point in ((x1, y1), *wings))
    return f'<path class="way {kind}" d="{shape}"/><polygon class="head {kind}" points="{head}"/>'


def _label(text: str, line: Sequence[Point], again: int, taken: list[Box]) -> str:
    """Return a label near the middle of its line, where it covers no state and no other label; note the place in ``taken``."""
    if len(line) == 2:
        share = 0.42 + 0.16 * (again % 2)
        x, y = (line[0][0] + (line[1][0] - line[0][0]) * share, line[0][1] + (line[1][1] - line[0][1]) * share)
    else:
        x, y = line[len(line) // 2]
    half = len(text) * 3.5
    for step in range(12):
        moved = y + (step + 1) // 2 * 15 * (1 if step % 2 else -1)
        if not any(abs(x - at) < half + wide and abs(moved - high) < 7 + tall for at, high, wide, tall in taken):
            y = moved
            break
    taken.append((x, y, half, 7))
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}" dy=".35em">{escape(text)}</text>'


def _at(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def _state(row: Row, place: Point, width: float, current: bool, visited: bool) -> str:
    classes = ["state", row.outcome or row.kind]
    if current:
        classes.append("current")
    elif visited:
        classes.append("visited")
    x, y = place[0] - width / 2, place[1] - HEIGHT / 2
    radius = {"waiting": HEIGHT / 2, "final": 8, "parent": 4}.get(row.kind, 4)
    boxes = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{HEIGHT:.1f}" rx="{radius}"/>'
    if row.kind == "final":
        boxes += f'<rect x="{x + 4:.1f}" y="{y + 4:.1f}" width="{width - 8:.1f}" height="{HEIGHT - 8:.1f}" rx="{radius - 3}"/>'
    text = f'<text x="{place[0]:.1f}" y="{place[1]:.1f}" dy=".35em">{escape(row.status)}</text>'
    return f'<g class="{" ".join(classes)}">{boxes}{text}</g>'


def _start(place: Point, width: float) -> str:
    x, y = place[0], place[1] - HEIGHT / 2
    line = _path([(x, y - 26), (x, y - 1)], "done")
    return f'<circle class="head" cx="{x:.1f}" cy="{y - 28:.1f}" r="6"/>{line}'


def _pivot(place: Point, width: float) -> str:
    x, y = place[0], place[1] - HEIGHT / 2 - 6
    left, right = x - width / 2 - 14, x + width / 2 + 14
    line = f'<line class="pivot" x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text class="pivot-label" x="{right + 6:.1f}" y="{y + 4:.1f}">point of no return</text>'


def _page(
    definition: Definition, parts: Sequence[str], places: Mapping[str, Point], widths: Mapping[str, float]
) -> str:
    left = min(place[0] - widths[name] / 2 for name, place in places.items()) - MARGIN
    right = max(place[0] + widths[name] / 2 for name, place in places.items()) + MARGIN + 130
    top = min(place[1] for place in places.values()) - HEIGHT / 2 - 74
    low = max(place[1] for place in places.values()) + HEIGHT / 2
    notes = []
    if definition.drives:
        notes.append("bold: the action is done; thin: an event; dashed red: after a rollback; dotted: by the clock")
    ends = [name for name in ("failed", "cancelled") if name in definition.finals]
    if ends and definition.drives:
        notes.append(
            f"a failure for good, or a cancel, undoes what was started and ends in {' or '.join(ends)}, up to the point of no return"
        )
    right = max(right, left + max((len(note) * 6.6 for note in notes), default=0.0) + MARGIN)
    bottom = low + 18 + 18 * len(notes) + 10
    title = f'<text class="title" x="{left + MARGIN:.1f}" y="{top + 26:.1f}">{escape(definition.name)}, version {definition.version}</text>'
    listed = [
        f'<text class="note" x="{left + MARGIN:.1f}" y="{low + 30 + 18 * number:.1f}">{escape(note)}</text>'
        for number, note in enumerate(notes)
    ]
    width, height = right - left, bottom - top
    said = escape(definition.description.split("\n")[0] or definition.name)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.1f} {top:.1f} {width:.1f} {height:.1f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img"><title>{said}</title><style>{_STYLE}</style>'
        f"{title}{''.join(parts)}{''.join(listed)}</svg>\n"
    )
