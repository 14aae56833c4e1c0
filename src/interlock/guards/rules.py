"""What a machine allows, by stored value; the one judge behind every guard.

`Rules` answers three questions: may a record be created with this value, may it move from this value to that one, is this value known at
all. In mode ``enforce`` a no is `IllegalMove`; in mode ``observe`` it is counted, with where in the code it came from, and nothing else
happens. Writing the value that is already there is no move.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from types import FrameType
from typing import Any, Literal, get_args

from interlock.definition.machine import Definition, Machine, definition_of
from interlock.errors import IllegalMove, Refused

__all__ = ["MAX_SIGHTINGS", "Mode", "Rules", "Sighting"]

Mode = Literal["observe", "enforce"]
MAX_SIGHTINGS = 1_000
"""Different illegal moves that one guard remembers; further ones are counted together."""
_OURS = ("interlock.guards", "sqlalchemy", "django.db", "enum", "dataclasses")


@dataclass
class Sighting:
    """An illegal move that an observing guard saw, and would have refused.

    Args:
        current: the value before; None when the record was created with ``wanted``.
        wanted: the value written, or loaded when ``current`` is None and ``loaded`` is set.
        site: where: ``file:line function``, the nearest caller outside Interlock and the ORM.
        record: one record it happened to, the latest.
        count: how often.
        first: when first, in seconds since the epoch.
        last: when last.
        loaded: the value was found in the database, not written by this process.
    """

    current: str | None
    wanted: str
    site: str
    record: str
    count: int
    first: float
    last: float
    loaded: bool = False


class Rules:
    """What a machine allows, by stored value.

    Args:
        machine: class or definition.
        mode: ``enforce`` refuses, ``observe`` counts.

    >>> from interlock import Final, Machine, State
    >>> class Volume(Machine[dict[str, str]]):
    ...     free = State(initial=True, to=["used"])
    ...     used = State(to=["free", "gone"], status="in-use")
    ...     gone = Final("succeeded")
    >>> rules = Rules(Volume)
    >>> rules.move("volume 7", "free", "in-use")
    >>> rules.move("volume 7", "free", "gone")
    Traceback (most recent call last):
    interlock.errors.IllegalMove: volume 7: machine `volume` does not allow `free` -> `gone`; from `free` it may go to `in-use`
    """

    def __init__(self, machine: Definition | type[Machine[Any]], mode: Mode = "enforce") -> None:
        if mode not in get_args(Mode):
            raise Refused(f"mode {mode!r}: a guard can `observe` or `enforce`", mode=mode)
        self.machine = definition_of(machine)
        self.mode: Mode = mode
        status = {name: row.status for name, row in self.machine.table.items()}
        self.targets: Mapping[str, frozenset[str]] = {
            status[name]: frozenset(status[to] for to in reached) for name, reached in self.machine.moves.items()
        }
        """The stored values that may follow each stored value."""
        self.initial = frozenset(status[name] for name in self.machine.initial)
        """The stored values a record may be created with."""
        self.default = next(iter(self.initial)) if len(self.initial) == 1 else None
        """The one initial value, if there is just one."""
        self.allowed = {value: targets | {value} for value, targets in self.targets.items()}
        """The same with each value itself: what may be written over it."""
        self._seen: dict[tuple[str | None, str, str, bool], Sighting] = {}
        self._lock = Lock()

    def move(self, record: str, current: Any, wanted: Any) -> None:
        """Judge a move from one stored value to another; raises `IllegalMove` when enforcing."""
        before, after = stored(current), stored(wanted)
        if before != after and after not in self.targets.get(before, ()):
            self.refuse(record, before, after)

    def create(self, record: str, wanted: Any) -> None:
        """Judge the value that a record is created with; raises `IllegalMove` when enforcing."""
        after = stored(wanted)
        if after not in self.initial:
            self.refuse(record, None, after)

    def load(self, record: str, found: Any) -> None:
        """Judge a value that was found in a record: an unknown one is counted, in both modes; nothing is refused by reading it."""
        value = stored(found)
        if value not in self.allowed:
            self._count(record, None, value, loaded=True)

    def refuse(self, record: str, current: str | None, wanted: str) -> None:
        """Say no: raise `IllegalMove`, or count when observing."""
        if self.mode == "observe":
            self._count(record, current, wanted, loaded=False)
            return
        allowed = self.initial if current is None else self.targets.get(current, frozenset())
        raise IllegalMove(self.machine.name, record, current, wanted, sorted(allowed), known=wanted in self.allowed)

    def sightings(self) -> list[Sighting]:
        """Return what an observing guard would have refused, most frequent first."""
        with self._lock:
            return sorted(self._seen.values(), key=lambda one: (-one.count, one.first))

    def _count(self, record: str, current: str | None, wanted: str, loaded: bool) -> None:
        now, site = time.time(), _call_site()
        key = (current, wanted, site, loaded)
        with self._lock:
            if key not in self._seen and len(self._seen) >= MAX_SIGHTINGS:
                key = (None, "(others)", "", False)
            sighting = self._seen.get(key)
            if sighting is None:
                sighting = self._seen[key] = Sighting(key[0], key[1], key[2], record, 0, now, now, key[3])
            sighting.count += 1
            sighting.last, sighting.record = now, record
        if sighting.count == 1:
            import logging  # not needed by a guard that never sees anything

            what = "holds unknown" if loaded else f"`{current}` ->" if current is not None else "created as"
            logging.getLogger("interlock.guard").warning(
                "%s: machine `%s` does not allow: %s `%s`, at %s", record, self.machine.name, what, wanted, site
            )


def stored(value: Any) -> str:
    """Return a value as it is stored: an enumeration's member as its value, anything else as text."""
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        value = value.value
    return value if isinstance(value, str) else repr(value)


def _call_site() -> str:
    """Return ``file:line function`` of the nearest caller outside Interlock's guards and the ORMs."""
    frame, greenlets = sys._getframe(1), _greenlets()
    while frame.f_globals.get("__name__", "").startswith(_OURS):
        below = frame.f_back or next(greenlets, None)
        if below is None:
            break
        frame = below
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"


def _greenlets() -> Iterator[FrameType]:
    """Yield where each greenlet around this one was left: SQLAlchemy runs what is called from async code in one of its own."""
    greenlet = sys.modules.get("greenlet")
    around = greenlet.getcurrent().parent if greenlet else None
    while around is not None and around.gr_frame is not None:
        yield around.gr_frame
        around = around.parent
