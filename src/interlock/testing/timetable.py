"""What must be true of schedules, held against a reckoning of our own of the times that they name."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from interlock.stores.contract import Schedule

__all__ = ["PLAIN", "Noted", "beginning", "named_times", "random_schedule", "unkept"]

LATE_SECONDS = 10.0
"""In calm, whoever is there has fired what is due after so long."""
FROZEN_SECONDS = 600.0
"""No process stands still for longer, between looking at the clock and writing."""
PLAIN = 1_000_000.0
"""Some day in 1970."""
ZONE = "Europe/Berlin"
CHANGES = (datetime(2027, 3, 28, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC))
"""When clocks there go forward from two to three, and back from three to two."""
_OFTEN = ("*/10 * * * * *", "*/20 * * * * *", "7,41 * * * * *", "* * * * *", "*/2 * * * *")
_AT_TWO = ("30 2 * * *", "0 3 * * *", "1 2 * * *", "*/15 * 2 * * *", "*/15 * 3 * * *", "0,30 1,2,3 * * *")
_FIELDS = (("second", 60), ("minute", 60), ("hour", 24))


def beginning(random: Random) -> float:
    """Return when a simulation begins: mostly some day, now and then just before clocks change."""
    return random.choice(CHANGES).timestamp() - 45 if random.random() < 0.3 else PLAIN


def random_schedule(random: Random, began: float) -> tuple[str, str]:
    """Return a cron expression and a time zone."""
    if began != PLAIN and random.random() < 0.7:
        return random.choice(_AT_TWO), ZONE
    return random.choice(_OFTEN), random.choice(["UTC", ZONE])


@dataclass(frozen=True)
class Noted:
    """A schedule was written or dropped (``after`` is None): when, the row before, the row after."""

    at: float
    before: Schedule | None
    after: Schedule | None

    @property
    def fired(self) -> bool:
        """Whether a worker noted what it started, rather than a caller what it wants."""
        return self.after is not None and self.after.last_at is not None


def named_times(cron: str, timezone: str, since: float, until: float) -> list[float]:
    """Return the times in (since, until] that a cron expression of the simulator names, found by looking at every second.

    >>> named_times("0,30 * * * *", "UTC", 0.0, 3_600.0)
    [1800.0, 3600.0]
    >>> change = CHANGES[0].timestamp()
    >>> [at - change for at in named_times("30 2 * * *", ZONE, change - 3_600, change + 3_600)]  # it skips 02:30
    [0.0]
    """
    fields, zone = cron.split(), ZoneInfo(timezone)
    if len(fields) == 5 and not fields[0].startswith("*") and not fields[1].startswith("*"):
        return _by_the_clock(["0", *fields], zone, since, until)
    if len(fields) == 5:
        fields = ["0", *fields]
    seconds = range(int(since) + 1, int(until) + 1)
    return [float(at) for at in seconds if _fits(fields, datetime.fromtimestamp(at, zone))]


def _by_the_clock(fields: Sequence[str], zone: ZoneInfo, since: float, until: float) -> list[float]:
    """Times of the day: each comes once a day, one that clocks skip when they have skipped it, one that comes twice the first time."""
    found: set[float] = set()
    minute = datetime.fromtimestamp(since, zone).replace(tzinfo=None, second=0, microsecond=0, fold=0) - timedelta(
        hours=2
    )
    while minute.replace(tzinfo=zone).timestamp() <= until + 7_200:
        if _fits(fields, minute):
            there = minute
            while (
                datetime.fromtimestamp(there.replace(tzinfo=zone).timestamp(), zone).replace(tzinfo=None, fold=0)
                != there
            ):
                there += timedelta(minutes=1)
            found.add(there.replace(tzinfo=zone).timestamp())
        minute += timedelta(minutes=1)
    return sorted(at for at in found if since < at <= until)


def _fits(fields: Sequence[str], at: datetime) -> bool:
    return all(getattr(at, name) in _numbers(field, size) for field, (name, size) in zip(fields, _FIELDS, strict=False))


def _numbers(field: str, size: int) -> Sequence[int]:
    if field == "*":
        return range(size)
    if field.startswith("*/"):
        return range(0, size, int(field[2:]))
    return [int(number) for number in field.split(",")]


def unkept(changes: Sequence[Noted], started: Mapping[str, str], calm: float, now: float) -> Iterator[str]:
    """Yield what does not hold of schedules.

    Args:
        changes: every change of every schedule, in order.
        started: by the id of each operation that a schedule asked for: the schedule's name.
        calm: since when nothing has gone wrong any more, and somebody was there.
        now: the time.
    """
    allowed: set[str] = set()
    for name in dict.fromkeys((one.after or one.before or _none()).name for one in changes):
        own = [one for one in changes if (one.after or one.before or _none()).name == name]
        firsts = [number for number, one in enumerate(own) if not one.fired]
        for first, following in zip(firsts, [*firsts[1:], len(own)], strict=True):
            until = own[following].at if following < len(own) else None
            row = own[first].after
            if row is not None:
                yield from _period(row, own[first].at, own[first + 1 : following], until, calm, now, started, allowed)
    for id, name in started.items():
        if id not in allowed:
            yield f"{id} was started by schedule {name}, which has not fired for that time while it was there"


def _none() -> Schedule:
    raise AssertionError("a schedule that was not there was dropped")


def _period(
    row: Schedule,
    since: float,
    fires: Sequence[Noted],
    until: float | None,
    calm: float,
    now: float,
    started: Mapping[str, str],
    allowed: set[str],
) -> Iterator[str]:
    """Look at a schedule from when a caller wrote it until it was written anew or dropped; add the ids that it has started."""
    end = now if until is None else until
    if row.next_at <= since - FROZEN_SECONDS:
        yield f"schedule {row.name} was set up at {_stamp(since)} to be due at {_stamp(row.next_at)}"
    since = min(since, row.next_at - 1)
    due = named_times(row.cron, row.timezone, since, end)
    count = refused = 0
    for one in fires:
        before, after = one.before, one.after
        assert before is not None and after is not None and after.last_at is not None
        slot = due[bisect_left(due, before.next_at) : bisect_left(due, after.next_at)]
        where = f"schedule {row.name} ({row.cron}, {row.timezone}) at {_stamp(one.at)}"
        if not slot or slot[0] != before.next_at or slot[-1] != after.last_at:
            yield f"{where} has fired for {_stamp(after.last_at)}; it was due at {', '.join(map(_stamp, slot)) or 'no time'}"
            continue
        if after.missed - before.missed != len(slot) - 1:
            yield f"{where} was due {len(slot)} times, starts one operation, and says that it missed {after.missed - before.missed}"
        id = f"{row.name}@{_stamp(slot[-1])}"
        if after.last.startswith("refused"):
            refused += 1
        else:
            count += 1
            allowed.add(id)
            if after.last != id or id not in started:
                yield f"{where} says that it has started {after.last}, and there is no {id}"
    last = fires[-1].after if fires else row
    assert last is not None
    noted = bisect_left(due, last.next_at)
    if count + refused + last.missed != noted:
        yield f"schedule {row.name}: {count} started, {refused} refused, {last.missed} missed of {noted} times"
    left = due[noted:]
    if last.next_at < end - LATE_SECONDS and calm < end - LATE_SECONDS:
        yield f"schedule {row.name} is still due at {_stamp(last.next_at)}, it is {_stamp(end)}"
    if left and last.next_at != left[0]:
        yield f"schedule {row.name} is due at {_stamp(last.next_at)} next, not at {_stamp(left[0])}"


def _stamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}"
