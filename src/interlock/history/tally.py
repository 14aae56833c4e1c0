"""A history in numbers: one pass over it, in constant memory. Mining and conforming both read this, and nothing else.

Where a record is must be remembered to know how long it stayed, and, in a history of values, what a move is at all. At most `OPEN` records
are remembered, the ones that moved last. A record that comes back after it was forgotten is counted as such, and what it did first is not
judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import TypeVar

from interlock.errors import LimitExceeded
from interlock.history.reading import Step
from interlock.history.stays import Stays

__all__ = ["OPEN", "START", "Tally", "Use", "tally"]

OPEN = 200_000
START = ""
"""Stands for where a record was before it was made."""
EXAMPLES = 5
K = TypeVar("K")
_BITS = 1 << 27


@dataclass(slots=True)
class Use:
    """How often something happened: first and last in seconds since the epoch (None without times), and to which record first."""

    count: int
    first: float | None
    last: float | None
    example: str

    def again(self, at: float | None) -> None:
        """Count it once more."""
        self.count += 1
        if at is not None:
            if self.last is None or at > self.last:
                self.last = at
            if self.first is None or at < self.first:
                self.first = at


@dataclass(slots=True)
class Tally:
    """What a history comes to, by stored value.

    Args:
        moves: how often each move was made, by (before, after); `START` before stands for a record's making.
        met: values in which a record was first met, without being seen made; in a history of moves only.
        stays: how long records stayed in each value that they left.
        again: how often a record was given the value it had: no move.
        gaps: moves that began elsewhere than where the record was last seen.
        lines: that were read; ``records``: that were met, one that was forgotten counted anew.
        forgotten: how often a record came back that was remembered no longer.
        unordered: lines whose time lies before the one before them, of the same record.
        resting: records by the value they were last seen in, as far as they are remembered: some of each value.
    """

    moves: dict[tuple[str, str], Use] = field(default_factory=dict)
    met: dict[str, Use] = field(default_factory=dict)
    stays: dict[str, Stays] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)
    gaps: Use | None = None
    lines: int = 0
    records: int = 0
    forgotten: int = 0
    unordered: int = 0
    resting: dict[str, list[str]] = field(default_factory=dict)

    @property
    def values(self) -> list[str]:
        """Every value that was seen, in the order of meeting it."""
        pairs = chain.from_iterable(self.moves)
        return [value for value in dict.fromkeys(chain(pairs, self.met, self.again)) if value != START]

    def came(self) -> dict[str, int]:
        """Return how often records came to each value, those met in it included; to `START` as often as one was made."""
        found = {value: use.count for value, use in self.met.items()}
        for (before, after), use in self.moves.items():
            found[after] = found.get(after, 0) + use.count
            if before == START:
                found[START] = found.get(START, 0) + use.count
        return found

    def went(self) -> dict[str, int]:
        """Return how often records went from each value to another."""
        found: dict[str, int] = {}
        for (before, _), use in self.moves.items():
            found[before] = found.get(before, 0) + use.count
        return found


def tally(steps: Iterable[Step], shape: str = "moves", *, remembered: int = OPEN) -> Tally:
    """Return a history in numbers.

    Args:
        steps: what happened, each record's in the order of time.
        shape: ``moves``, or ``values``, where a move is a change of value.
        remembered: records whose place is kept in mind.

    >>> made = tally([Step("v1", None, "free", 0.0), Step("v1", "free", "used", 60.0)])
    >>> {pair: use.count for pair, use in made.moves.items()}, made.stays["free"].most
    ({('', 'free'): 1, ('free', 'used'): 1}, 60.0)
    """
    if remembered < 2:
        raise LimitExceeded(f"{remembered} records in mind are too few: at least 2")
    found = Tally()
    places = _Places(max(remembered // 2, 1))
    moves, values = found.moves, shape == "values"
    for record, before, after, at in steps:
        found.lines += 1
        last = places.get(record)
        since = at
        if last is None:
            found.records += 1
            known = (values or before is not None) and places.forgot(record)
            found.forgotten += known
            if before is None and values:
                if not known:
                    _use(moves, (START, after), at, record)
            elif before is not None and not known:
                _use(found.met, before, None, record)
        elif values:
            before = last[0]
        elif last[0] != (before or START):
            found.gaps = found.gaps or Use(0, at, at, record)
            found.gaps.again(at)
            last = None
        if before == after:
            found.again[after] = found.again.get(after, 0) + 1
            since = last[1] if last is not None else at
        elif before is not None or not values:
            _use(moves, (before or START, after), at, record)
            if last is not None and at is not None and last[1] is not None:
                if at >= last[1]:
                    stays = found.stays.get(last[0])
                    if stays is None:
                        stays = found.stays[last[0]] = Stays()
                    stays.add(at - last[1])
                else:
                    found.unordered += 1
        places.put(record, (after, since))
    for record, (value, _) in places.everything():
        shown = found.resting.setdefault(value, [])
        if len(shown) < EXAMPLES:
            shown.append(record)
    return found


def _use(uses: dict[K, Use], key: K, at: float | None, record: str) -> None:
    use = uses.get(key)
    if use is None:
        uses[key] = Use(1, at, at, record)
    else:
        use.again(at)


Place = tuple[str, float | None]


class _Places:
    """Where records are, and since when; the ones that moved longest ago are forgotten, half of them at a time.

    Two halves: what moves is in the younger one; when that is full the older one is forgotten, all at once. Of what was forgotten a trace
    is kept, in bits that several records share: of ten million records one new one in hundreds is taken for one that came back, never the
    other way.
    """

    def __init__(self, half: int) -> None:
        self.half = half
        self.young: dict[str, Place] = {}
        self.old: dict[str, Place] = {}
        self.traces: bytearray | None = None

    def get(self, record: str) -> Place | None:
        return self.young.get(record) or self.old.pop(record, None)

    def put(self, record: str, place: Place) -> None:
        self.young[record] = place
        if len(self.young) >= self.half:
            if self.old:
                self.traces = traces = self.traces or bytearray(_BITS // 8)
                for gone in self.old:
                    for bit in _bits(gone):
                        traces[bit >> 3] |= 1 << (bit & 7)
            self.old, self.young = self.young, {}

    def forgot(self, record: str) -> bool:
        traces = self.traces
        return traces is not None and all(traces[bit >> 3] & 1 << (bit & 7) for bit in _bits(record))

    def everything(self) -> Iterator[tuple[str, Place]]:
        return chain(self.old.items(), self.young.items())


def _bits(record: str) -> tuple[int, int, int]:
    spread = int.from_bytes(blake2b(record.encode("utf-8", "replace"), digest_size=12).digest(), "big")
    return spread % _BITS, (spread >> 32) % _BITS, (spread >> 64) % _BITS
