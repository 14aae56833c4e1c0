"""What a scenario's machines know of the world outside: signals, and queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.definition.flatten import RESERVED_EVENTS
from interlock.errors import Refused, did_you_mean
from interlock.exploring.scenario import Exploration, Signal

__all__ = ["queues_of", "signals_of"]


def signals_of(exploration: Exploration[Any]) -> Mapping[str, Signal]:
    """Return the signals that are sent, by name; raises `Refused`."""
    rows = [row for start in exploration.operations for row in start.definition.table.values()]
    known = sorted({event for row in rows for event in row.exits} - RESERVED_EVENTS)
    wanted = known if exploration.signals is None else exploration.signals
    found = {one.event: one for one in (Signal(one) if isinstance(one, str) else one for one in wanted)}
    for event in found:
        if event not in known:
            there = ", ".join(known) or "none"
            raise Refused(f"signals: no machine knows `{event}`{did_you_mean(event, known)}; they know {there}")
    return found


def queues_of(exploration: Exploration[Any]) -> tuple[str, ...]:
    """Return the queues that workers serve."""
    if exploration.queues is not None:
        return tuple(exploration.queues)
    found = {"": None}
    for start in exploration.operations:
        defaults = {name: one.default for name, one in (start.definition.fields or {}).items()}
        data = {**defaults, **start.fields}
        for row in start.definition.table.values():
            try:
                found[row.queue.format_map(data)] = None
            except KeyError:
                continue  # an action adds it: whoever is queued there is told to name it
    return tuple(found)
