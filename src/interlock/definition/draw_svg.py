"""A machine as one self-contained SVG: no script, no font, no link; legible on light and dark ground.

Boxes are acting states, round ones wait, cut corners start children, double frames end. Rollbacks are dashed, timers dotted; a red line
stands above the point of no return. Where things lie is `interlock.definition.draw_layout`'s affair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from textwrap import wrap

from interlock.definition.draw_layout import HEIGHT, Layout, Point, Route, lay_out
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition
from interlock.definition.picture import Arrow, Picture

__all__ = ["draw_svg"]

Box = tuple[float, float, float, float]
"""Middle, and half of width and height."""
MARGIN, LETTER, SMALL, LINE = 28.0, 8.4, 7.0, 15.0
CELL = 32.0
_AROUND = ((1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1), (0, -1), (0, 1), (0, 0))
"""Where a label may stand beside a point of its line."""

_STYLE = """
.interlock { font: 14px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; background: #fff; color: #1c2430; }
.interlock .state > :not(text) { fill: #eef2f8; stroke: #51607a; stroke-width: 1.5; }
.interlock .state text { fill: #1c2430; text-anchor: middle; }
.interlock .waiting > :not(text) { fill: #fdf6e3; stroke: #a2802b; }
.interlock .parent > :not(text) { fill: #efe9fb; stroke: #6f54ad; }
.interlock .succeeded > :not(text) { fill: #e3f4e6; stroke: #2f8743; }
.interlock .failed > :not(text) { fill: #fbe6e4; stroke: #bb3b30; }
.interlock .cancelled > :not(text) { fill: #eceded; stroke: #70757c; }
.interlock .visited > :not(text) { stroke: #1d7a3a; stroke-width: 3; }
.interlock .current > :not(text) { fill: #ffd966; stroke: #8a6500; stroke-width: 3; }
.interlock .current text { fill: #1c2430; font-weight: bold; }
.interlock .group { fill: #7d8aa31a; stroke: #7d8aa3; stroke-dasharray: 1 3; }
.interlock .way { fill: none; stroke: #51607a; stroke-width: 1.4; }
.interlock .way.done { stroke-width: 2.6; }
.interlock .way.rollback { stroke: #bb3b30; stroke-dasharray: 7 4; }
.interlock .way.timer { stroke: #a2802b; stroke-width: 2; stroke-dasharray: 2 4; }
.interlock .way.outside { stroke: #d1242f; stroke-width: 2; } .interlock .head.outside { fill: #d1242f; }
.interlock .strange > :not(text) { fill: none; stroke: #d1242f; stroke-dasharray: 4 3; }
.interlock .head { fill: #51607a; } .interlock .head.rollback { fill: #bb3b30; } .interlock .head.timer { fill: #a2802b; }
.interlock .label { fill: #1c2430; font-size: 12px; text-anchor: middle; paint-order: stroke; stroke: #fff; stroke-width: 4px; }
.interlock .note { fill: #51607a; font-size: 12px; }
.interlock .pivot { stroke: #bb3b30; stroke-width: 3; }
.interlock .pivot-label { fill: #bb3b30; font-size: 12px; font-weight: bold; }
.interlock .title { fill: #1c2430; font-size: 17px; font-weight: bold; }
@media (prefers-color-scheme: dark) {
.interlock { background: #151a21; color: #e5e9f0; }
.interlock .state > :not(text) { fill: #232c39; stroke: #93a3bd; }
.interlock .state text, .interlock .label, .interlock .title { fill: #e5e9f0; }
.interlock .label { stroke: #151a21; }
.interlock .waiting > :not(text) { fill: #3a311a; stroke: #d6b25e; }
.interlock .parent > :not(text) { fill: #31294a; stroke: #b39ce6; }
.interlock .succeeded > :not(text) { fill: #1d3a25; stroke: #6cc382; }
.interlock .failed > :not(text) { fill: #44211e; stroke: #ef8378; }
.interlock .cancelled > :not(text) { fill: #2d3033; stroke: #a5abb3; }
.interlock .visited > :not(text) { stroke: #6cc382; }
.interlock .current > :not(text) { fill: #ffd966; stroke: #fff; }
.interlock .current text { fill: #1c2430; }
.interlock .way { stroke: #93a3bd; } .interlock .head, .interlock .note { fill: #93a3bd; }
.interlock .way.rollback, .interlock .pivot { stroke: #ef8378; }
.interlock .head.rollback, .interlock .pivot-label { fill: #ef8378; }
.interlock .way.timer { stroke: #d6b25e; } .interlock .head.timer { fill: #d6b25e; }
.interlock .way.outside, .interlock .strange > :not(text) { stroke: #ff6b70; } .interlock .head.outside { fill: #ff6b70; }
}
"""


def draw_svg(shown: Picture) -> str:
    """Return the drawing; see `interlock.definition.draw.draw`."""
    definition, rows, ways = shown.definition, shown.rows, shown.arrows
    widths = {name: max(64.0, len(row.status) * LETTER + 32) for name, row in rows.items()}
    layout = lay_out(list(rows), definition.initial, ways, widths)
    page = _Page()
    for name in layout.alone:
        if name not in shown.strange:
            page.implied(name, layout.places[name], widths[name])
    for name, place in layout.places.items():
        page.occupy((*place, widths[name] / 2, HEIGHT / 2))
    _groups(page, definition, layout, widths)
    for name, row in rows.items():
        if row.pivot:
            page.pivot(layout.places[name], widths[name])
    tops = {way.target for way in shown.starts if not rows[way.target].pivot and not _entered(way.target, ways, layout)}
    labelled = []
    for way in shown.starts:
        route = page.start(way, layout.places[way.target], widths[way.target], above=way.target in tops)
        labelled.append((way.words, route))
    for way, route in zip(ways, layout.routes, strict=True):
        page.way(route, way)
        labelled.append((way.words, route))
    for label, route in sorted(labelled, key=lambda one: -len(one[0])):  # the longest while there is room
        if label:
            page.label(label, route)
    for name, row in rows.items():
        mark = "current" if name == shown.current else "visited" if name in shown.visited else ""
        page.state(row, layout.places[name], widths[name], "strange" if name in shown.strange else mark)
    return page.whole(definition, [*ways, *(way for way in shown.starts if way.kind == "outside")])


def _entered(name: str, ways: Sequence[Arrow], layout: Layout) -> bool:
    """Whether a way enters the state from above, or leaves it upwards."""
    high = layout.places[name][1]
    ends = [(way.source, way.target) for way in ways if name in (way.source, way.target) and way.source != way.target]
    return any(layout.places[one][1] < high for pair in ends for one in pair)


def _groups(page: _Page, definition: Definition, layout: Layout, widths: Mapping[str, float]) -> None:
    """Frame each group whose members lie together; name the members of the others below."""
    members: dict[str, list[str]] = {name: [] for name in definition.groups}
    for state, row in definition.table.items():
        for name in row.groups:
            members[name].append(state)
    depth = {name: len(definition.around.get(name, ())) for name in definition.groups}
    deepest = max(depth.values(), default=0)
    for name, inside in sorted(members.items(), key=lambda item: depth[item[0]]):
        pad = 12.0 + 10.0 * (deepest - depth[name])
        places = [(layout.places[one], widths[one] / 2) for one in inside]
        left, right = min(x - half for (x, _), half in places) - pad, max(x + half for (x, _), half in places) + pad
        top = min(y for (_, y), _ in places) - HEIGHT / 2 - pad * 1.6
        low = max(y for (_, y), _ in places) + HEIGHT / 2 + pad
        others = [(layout.places[one], widths[one] / 2) for one in definition.states if one not in inside]
        apart = all(
            x + half < left or x - half > right or y + HEIGHT / 2 < top or y - HEIGHT / 2 > low
            for (x, y), half in others
        )
        if apart and pad < 33:
            page.group(name, (left, top, right, low))
        else:
            page.notes.append(f"group {name}: {', '.join(inside)}")


class _Page:
    """What is drawn so far, how far it reaches, and where labels may not stand."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.notes: list[str] = []
        self.taken: list[Box] = []
        self.near: dict[tuple[int, int], list[Point]] = {}
        self.reach: list[Point] = []

    def occupy(self, box: Box) -> None:
        x, y, wide, high = box
        self.taken.append(box)
        self.reach += [(x - wide, y - high), (x + wide, y + high)]

    def text(self, kind: str, x: float, y: float, text: str, anchor: str = "start") -> None:
        """Write text whose line begins (or is centred) at a point, and keep labels off it."""
        half = len(text) * SMALL / 2
        self.occupy((x + half if anchor == "start" else x, y - 4, half, 8.0))
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def way(self, route: Route, way: Arrow) -> None:
        curves = list(route.curves)
        (x0, y0), tip = curves[-1][1], curves[-1][2]
        angle = math.atan2(tip[1] - y0, tip[0] - x0)
        size = 11 + max(0.0, (way.style.width or 0) - 2)  # a wide line needs a head it does not hide
        short = (tip[0] - (size - 4) * math.cos(angle), tip[1] - (size - 4) * math.sin(angle))
        curves[-1] = (curves[-1][0], curves[-1][1], short)
        shape = f"M{_at(route.start)}" + "".join(f" C{_at(a)} {_at(b)} {_at(c)}" for a, b, c in curves)
        turns = (0.42, -0.42) if size == 11 else (0.55, -0.55)
        wings = [(tip[0] - size * math.cos(angle + turn), tip[1] - size * math.sin(angle + turn)) for turn in turns]
        head = " ".join(_at(point) for point in (tip, *wings))
        line, tip_look = _looks(way)
        self.parts.append(
            f'<path class="way {way.kind}" d="{shape}"{line}/><polygon class="head {way.kind}" points="{head}"{tip_look}/>'
        )
        points = route.points()
        self.reach += points
        for point in points:
            self.near.setdefault((int(point[0] // CELL), int(point[1] // CELL)), []).append(point)

    def label(self, text: str, route: Route) -> None:
        """Write a way's label where it covers no state, no other label, and few lines."""
        lines = list(_lines(text))
        wide, high = max(len(line) for line in lines) * SMALL / 2 + 2, LINE * len(lines) / 2
        points = route.points()
        best: tuple[float, float, float] | None = None
        for share in (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.16, 0.84):
            x, y = points[int(share * (len(points) - 1))]
            for aside, down in _AROUND:
                at = (x + aside * (wide + 6), y + down * (high + 5))
                cost = self._cost((*at, wide, high)) + abs(share - 0.5) * 16 + (0 if aside or down else 8)
                if best is None or cost < best[0]:
                    best = (cost, *at)
        assert best is not None
        _, x, y = best
        self.occupy((x, y, wide, high))
        first = y - LINE * (len(lines) - 1) / 2
        spans = "".join(
            f'<tspan x="{x:.1f}" y="{first + LINE * number:.1f}" dy=".35em">{escape(line)}</tspan>'
            for number, line in enumerate(lines)
        )
        self.parts.append(f'<text class="label">{spans}</text>')

    def _cost(self, box: Box) -> float:
        x, y, wide, high = box
        covers = sum(abs(x - ax) < wide + aw and abs(y - ay) < high + ah for ax, ay, aw, ah in self.taken)
        cells = (
            self.near.get((column, row), ())
            for column in range(int((x - wide) // CELL), int((x + wide) // CELL) + 1)
            for row in range(int((y - high) // CELL), int((y + high) // CELL) + 1)
        )
        lines = sum(abs(x - px) < wide and abs(y - py) < high for cell in cells for px, py in cell)
        return covers * 200.0 + lines * 5.0

    def state(self, row: Row, place: Point, width: float, mark: str) -> None:
        classes = ["state", row.outcome or row.kind, *([mark] if mark else [])]
        text = f'<text x="{place[0]:.1f}" y="{place[1]:.1f}" dy=".35em">{escape(row.status)}</text>'
        self.parts.append(f'<g class="{" ".join(classes)}">{_shape(row.kind, place, width)}{text}</g>')

    def start(self, way: Arrow, place: Point, width: float, *, above: bool) -> Route:
        x, y = place
        end = (x, y - HEIGHT / 2) if above else (x - width / 2, y)
        begin = (x, end[1] - 26) if above else (end[0] - 26, y)
        self.parts.append(f'<circle class="head" cx="{begin[0]:.1f}" cy="{begin[1]:.1f}" r="6"/>')
        route = Route(begin, ((begin, begin, end),))
        self.way(route, way)
        self.occupy((*begin, 7.0, 7.0))
        return route

    def pivot(self, place: Point, width: float) -> None:
        x, y = place[0], place[1] - HEIGHT / 2 - 7
        left, right = x - width / 2 - 18, x + width / 2 + 18
        self.parts.append(f'<line class="pivot" x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}"/>')
        self.text("pivot-label", right + 6, y + 4, "point of no return")

    def implied(self, name: str, place: Point, width: float) -> None:
        """Say in words what leads to a final state that no exit names."""
        words = {"failed": "a step fails for good", "cancelled": "a cancel"}.get(name)
        if words is None:
            return
        x, y = place[0], place[1] - HEIGHT / 2
        self.way(Route((x, y - 34), (((x, y - 24), (x, y - 12), (x, y)),)), Arrow("", name, "rollback", ""))
        self.text("note", x, y - 40, words, "middle")

    def group(self, name: str, frame: tuple[float, float, float, float]) -> None:
        left, top, right, low = frame
        size = f'width="{right - left:.1f}" height="{low - top:.1f}"'
        self.parts.append(f'<rect class="group" x="{left:.1f}" y="{top:.1f}" {size} rx="10"/>')
        self.reach += [(left, top), (right, low)]
        self.text("note", right - 8 - len(name) * SMALL, top + 13, name)

    def whole(self, definition: Definition, ways: Sequence[Arrow]) -> str:
        left, right = min(x for x, _ in self.reach) - MARGIN, max(x for x, _ in self.reach) + MARGIN
        top, low = min(y for _, y in self.reach) - 52, max(y for _, y in self.reach) + 20
        title = f"{definition.name}, version {definition.version}"
        self.parts.append(f'<text class="title" x="{left + MARGIN:.1f}" y="{top + 28:.1f}">{escape(title)}</text>')
        low += 16
        x = left + MARGIN
        for sample, width, words in _legend(definition, ways):
            if x > left + MARGIN and x + width + 8 + len(words) * SMALL > max(right, left + 620):
                x, low = left + MARGIN, low + 26
            self.parts.append(sample.replace("X", f"{x:.1f}").replace("Y", f"{low:.1f}"))
            self.parts.append(f'<text class="note" x="{x + width + 8:.1f}" y="{low + 4:.1f}">{escape(words)}</text>')
            x += width + 8 + len(words) * SMALL + 20
            right = max(right, x)
        room = int((max(right - left, 560.0) - MARGIN) / SMALL)
        for line in (line for note in [*self.notes, *_notes(definition)] for line in wrap(note, room)):
            low += 20
            self.parts.append(f'<text class="note" x="{left + MARGIN:.1f}" y="{low + 4:.1f}">{escape(line)}</text>')
            right = max(right, left + MARGIN * 2 + len(line) * (SMALL - 0.4))
        right, low = max(right, left + MARGIN * 2 + len(title) * 11), low + 18
        said = escape(definition.description.split("\n")[0] or definition.name)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="interlock" viewBox="{left:.1f} {top:.1f} {right - left:.1f} '
            f'{low - top:.1f}" width="{right - left:.0f}" height="{low - top:.0f}" role="img"><title>{said}</title>'
            f"<style>{_STYLE}</style>{''.join(self.parts)}</svg>\n"
        )


def _shape(kind: str, place: Point, width: float, height: float = HEIGHT) -> str:
    x, y = place[0] - width / 2, place[1] - height / 2
    if kind == "parent":
        cut = height / 4
        corners = [(x + cut, y), (x + width - cut, y), (x + width, y + cut), (x + width, y + height - cut)]
        corners += [(x + width - cut, y + height), (x + cut, y + height), (x, y + height - cut), (x, y + cut)]
        return f'<polygon points="{" ".join(_at(point) for point in corners)}"/>'
    radius = {"waiting": height / 2, "final": 8}.get(kind, 4)
    inset = (0, 4) if kind == "final" and height == HEIGHT else (0, 3) if kind == "final" else (0,)
    return "".join(
        f'<rect x="{x + by:.1f}" y="{y + by:.1f}" width="{width - 2 * by:.1f}" height="{height - 2 * by:.1f}" rx="{radius - by}"/>'
        for by in inset
    )


def _legend(definition: Definition, ways: Sequence[Arrow]) -> Iterator[tuple[str, float, str]]:
    """Yield a sample (at X, Y), its width, and its words, for what occurs in the drawing."""
    kinds = {row.kind for row in definition.table.values()}
    for kind, words in (("acting", "acts"), ("waiting", "waits"), ("parent", "waits for children"), ("final", "ends")):
        if kind in kinds:
            shape = _shape(kind, (14, 0), 28, 18)
            yield f'<g class="state {kind}" transform="translate(X Y)">{shape}</g>', 28, words
    used = {way.kind for way in ways}
    for kind, words in (
        ("done", "done"),
        ("event", "an event"),
        ("timer", "by the clock"),
        ("rollback", "rolled back"),
        ("outside", "not in the machine"),
    ):
        if kind in used:
            line = '<path class="way {0}" d="M0,0 L24,0"/><polygon class="head {0}" points="34,0 24,-4.5 24,4.5"/>'
            yield f'<g transform="translate(X Y)">{line.format(kind)}</g>', 34, words


def _notes(definition: Definition) -> Iterable[str]:
    ends = [name for name in ("failed", "cancelled") if name in definition.finals]
    if definition.drives and ends:
        leads = {"failed": "a step fails for good", "cancelled": "somebody cancels"}
        until = "; not from the point of no return on" if any(row.pivot for row in definition.table.values()) else ""
        when = ", or ".join(leads[end] for end in ends)
        yield f"When {when}, what was started is undone, and the end is {' or '.join(ends)}{until}."


def _looks(way: Arrow) -> tuple[str, str]:
    """Return what a way's own style adds to its line and to its head."""
    words = [f"stroke:{way.style.colour}"] if way.style.colour else []
    if way.style.width is not None:
        words.append(f"stroke-width:{way.style.width:g}")
    if way.style.dashed:
        words.append("stroke-dasharray:5 4")
    head = f' style="fill:{way.style.colour}"' if way.style.colour else ""
    return f' style="{";".join(words)}"' if words else "", head


def _lines(text: str) -> Iterator[str]:
    """Yield a label's lines: its parts, as many on a line as are short together."""
    line = ""
    for part in text.split(", "):
        if line and len(line) + len(part) > 18:
            yield f"{line},"
            line = part
        else:
            line = f"{line}, {part}" if line else part
    yield line


def _at(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"
