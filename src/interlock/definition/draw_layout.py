"""Where the states and ways of a drawing lie: layers from the initial states down, ways that run between the layers.

States are placed by fast-sugiyama (the extra ``draw``). A way leaves a state below and enters the next above (or the other way round,
where it leads back up); it moves sideways only between two layers, so that it crosses no state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from interlock.errors import LimitExceeded, Refused

if TYPE_CHECKING:
    from interlock.definition.picture import Arrow

__all__ = ["HEIGHT", "Layout", "Point", "Route", "lay_out"]

Point = tuple[float, float]
LAYER, HEIGHT, GAP, PARALLEL = 116.0, 42.0, 52.0, 18.0
SPACING = 100
STATES = 500


@dataclass(frozen=True, slots=True)
class Route:
    """A way's curve: where it starts, and the cubic curves that follow, each as two control points and an end."""

    start: Point
    curves: tuple[tuple[Point, Point, Point], ...]

    def points(self) -> list[Point]:
        """Return points along the curve, close together."""
        found, here = [self.start], self.start
        for one, other, end in self.curves:
            for step in range(1, 13):
                t = step / 12
                a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
                found.append(
                    (
                        a * here[0] + b * one[0] + c * other[0] + d * end[0],
                        a * here[1] + b * one[1] + c * other[1] + d * end[1],
                    )
                )
            here = end
        return found


@dataclass(frozen=True, slots=True)
class Layout:
    """Middles of the states, and the curve of each way in the order given. ``alone``: states that no way touches."""

    places: Mapping[str, Point]
    routes: Sequence[Route]
    alone: Sequence[str]


def lay_out(names: Sequence[str], initial: Sequence[str], ways: Sequence[Arrow], widths: Mapping[str, float]) -> Layout:
    """Return where everything lies.

    Raises:
        Refused: the layout library is missing.
        LimitExceeded: more states than can be drawn.
    """
    if len(names) > STATES:
        raise LimitExceeded(f"{len(names):,} states are more than an SVG shows (at most {STATES:,}): draw text or dot")
    ids = {name: number for number, name in enumerate(names)}
    pairs = list(dict.fromkeys((ids[way.source], ids[way.target]) for way in ways if way.source != way.target))
    back = _back_edges(pairs, [ids[name] for name in initial])
    edges = sorted({(b, a) if (a, b) in back else (a, b) for a, b in pairs})
    at, chains = _sugiyama(edges, len(names), (max(widths.values()) + GAP) / SPACING)
    alone = [name for name in names if ids[name] not in at]
    low = max((y for _, y in at.values()), default=0.0)
    edge = 0.0
    for name in alone:
        at[ids[name]] = (edge + widths[name] / 2, low + (LAYER if len(at) > len(alone) else 0.0))
        edge += widths[name] + GAP
    bends = {(a, b): chains.get((a, b)) or list(reversed(chains.get((b, a), ()))) for a, b in pairs}
    places = {name: at[number] for name, number in ids.items()}
    return Layout(places, _routes(ways, ids, places, bends, widths), alone)


def _back_edges(pairs: Sequence[tuple[int, int]], initial: Sequence[int]) -> set[tuple[int, int]]:
    """Return the edges that lead back to a state on the path walked so far: without them there is no circle."""
    after: dict[int, list[int]] = {}
    for a, b in pairs:
        after.setdefault(a, []).append(b)
    back: set[tuple[int, int]] = set()
    done: set[int] = set()
    for root in [*initial, *after]:
        if root in done:
            continue
        open_, path = {root}, [(root, iter(after.get(root, ())))]
        while path:
            here, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                open_.discard(here)
                done.add(here)
            elif following in open_:
                back.add((here, following))
            elif following not in done:
                open_.add(following)
                path.append((following, iter(after.get(following, ()))))
    return back


def _sugiyama(
    edges: list[tuple[int, int]], states: int, across: float
) -> tuple[dict[int, Point], dict[tuple[int, int], list[Point]]]:
    """Return the places of states, and the bends of edges that span several layers."""
    try:
        from fast_sugiyama import from_edges
    except ImportError:
        raise Refused(
            "drawing SVG needs a layout library: pip install 'interlock[draw]'; mermaid, dot and text need nothing"
        ) from None
    places: dict[int, Point] = {}
    bends: dict[tuple[int, int], list[Point]] = {}
    shift = 0.0
    layouts: list[Any] = list(from_edges(edges, vertex_spacing=SPACING)) if edges else []
    for positions, width, _, links in layouts:
        top = max(y for _, (_, y) in positions)
        at = {number: (shift + x * across, (top - y) / SPACING * LAYER) for number, (x, y) in positions}
        places |= {number: point for number, point in at.items() if number < states}
        after: dict[int, list[int]] = {}
        for one, other in links or ():
            after.setdefault(one, []).append(other)
        for begin, follow in after.items():
            for first in follow if begin < states else ():
                chain, here = [], first
                while here >= states:
                    chain.append(at[here])
                    here = after[here][0]
                bends[begin, here] = chain
        shift += (width + SPACING) * across
    return places, bends


def _routes(
    ways: Sequence[Arrow],
    ids: Mapping[str, int],
    places: Mapping[str, Point],
    bends: Mapping[tuple[int, int], list[Point]],
    widths: Mapping[str, float],
) -> list[Route]:
    stops: list[list[Point]] = []
    parallel: dict[frozenset[str], int] = {}
    for way in ways:
        pair = frozenset((way.source, way.target))
        nth = parallel[pair] = parallel.get(pair, -1) + 1
        between = bends.get((ids[way.source], ids[way.target]), [])
        stops.append([(x + nth * PARALLEL, y) for x, y in between])
    ports = _ports(ways, stops, places, widths)
    loops: dict[str, int] = {}
    found = []
    for number, way in enumerate(ways):
        if way.source == way.target:
            nth = loops[way.source] = loops.get(way.source, -1) + 1
            found.append(_loop(places[way.source], widths[way.source], nth))
        else:
            down = 1 if places[way.source][1] < places[way.target][1] else -1
            found.append(_route(ports[number, 0], stops[number], ports[number, 1], down * HEIGHT / 2))
    return found


def _ports(
    ways: Sequence[Arrow], stops: Sequence[list[Point]], places: Mapping[str, Point], widths: Mapping[str, float]
) -> dict[tuple[int, int], Point]:
    """Return for each way where it leaves (0) and where it enters (1), spread along the states' lower and upper sides."""
    sides: dict[tuple[str, bool], list[tuple[float, int, int]]] = {}
    for number, way in enumerate(ways):
        if way.source == way.target:
            continue
        begin, end = places[way.source], places[way.target]
        inner = stops[number]
        sides.setdefault((way.source, end[1] > begin[1]), []).append(((inner[0] if inner else end)[0], number, 0))
        sides.setdefault((way.target, begin[1] > end[1]), []).append(((inner[-1] if inner else begin)[0], number, 1))
    found = {}
    for (name, below), ends in sides.items():
        x, y = places[name]
        span = min(widths[name] - 28, (len(ends) - 1) * 26.0)
        for place, (_, number, end_) in enumerate(sorted(ends)):
            shift = span * (place / (len(ends) - 1) - 0.5) if len(ends) > 1 else 0.0
            found[number, end_] = (x + shift, y + (HEIGHT / 2 if below else -HEIGHT / 2))
    return found


def _route(start: Point, stops: Sequence[Point], end: Point, half: float) -> Route:
    """Return the curve through the layers; ``half`` is half a state's height, negative for a way that leads up."""
    points = [start, *(point for x, y in stops for point in ((x, y - half), (x, y + half))), end]
    return Route(start, tuple(_curves(points)))


def _curves(points: Sequence[Point]) -> Iterator[tuple[Point, Point, Point]]:
    for (x0, y0), (x1, y1) in pairwise(points):
        reach = (y1 - y0) * 0.5
        yield (x0, y0 + reach), (x1, y1 - reach), (x1, y1)


def _loop(place: Point, width: float, nth: int) -> Route:
    x, y = place[0] + width / 2, place[1]
    out = x + 34 + 16 * nth
    return Route((x, y - 9), (((out, y - 30), (out, y + 30), (x, y + 9)),))
