"""Durations as people write them: ``"30s"``, ``"5m"``, ``"72h"``; seconds everywhere else."""

from __future__ import annotations

import re
from datetime import timedelta

__all__ = ["Duration", "duration_text", "seconds"]

Duration = str | int | float | timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def seconds(duration: Duration) -> float:
    """Return a duration in seconds, to the millisecond.

    Args:
        duration: a number of seconds, a `timedelta`, or text such as ``"30s"``, ``"1h30m"``, ``"250ms"``, ``"72h"``.

    Raises:
        ValueError: it is no duration, or it is negative.

    >>> seconds("1h30m"), seconds(2), seconds("250ms")
    (5400.0, 2.0, 0.25)
    """
    if isinstance(duration, timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, str):
        parts = _PART.findall(duration)
        if not parts or "".join(number + unit for number, unit in parts) != duration.strip():
            raise ValueError(f"`{duration[:60]}` is no duration: write it like `30s`, `5m`, `1h30m` or `72h`")
        value = sum(float(number) * _UNITS[unit] for number, unit in parts)
    elif isinstance(duration, bool) or not isinstance(duration, int | float):
        raise ValueError(f"`{duration!r}` is no duration: write it like `30s`, or as a number of seconds")
    else:
        value = float(duration) if -1 <= duration < 1e10 else -1.0
    if not 0 <= value < 1e10:
        raise ValueError(f"`{str(duration)[:60]}` is no duration: it must be from 0 seconds to 300 years")
    return round(value, 3)


def duration_text(value: float) -> str:
    """Return seconds in the shortest text that `seconds` reads back exactly.

    >>> duration_text(5400), duration_text(30), duration_text(0.25), duration_text(259200)
    ('1h30m', '30s', '250ms', '72h')
    """
    if value == 0:
        return "0s"
    milliseconds = round(value * 1000)
    text = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            text += f"{count}{unit}"
    return text
