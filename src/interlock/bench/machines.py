"""The machines that are measured: five steps over 240 bytes of data, and one that goes round for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interlock import Actions, Event, Final, Machine, Operation, State

__all__ = ["Five", "Round", "five", "round_actions", "some_data"]

STEPS = 5


@dataclass
class Load:
    instance: str
    source: str
    destination: str
    notes: str
    step: int = 0


class Five(Machine[Load], version=1):
    """Five steps that do nothing, each durable."""

    one = State(initial=True, undo="nothing", then="two")
    two = State(undo="nothing", then="three")
    three = State(undo="nothing", then="four")
    four = State(undo="nothing", then="five")
    five = State(undo="nothing", then="completed")
    completed = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Round(Machine[dict[str, Any]], version=1):
    """Goes round until it has gone round often enough."""

    turning = State(initial=True, undo="nothing", then="turning", on={"enough": "completed"})
    completed = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


def some_data() -> dict[str, Any]:
    """Return data of 240 bytes as JSON."""
    return {"instance": "i" * 36, "source": "compute-1", "destination": "compute-2", "notes": "n" * 122, "step": 0}


five = Actions(Five)


async def _step(op: Operation[Load]) -> dict[str, Any]:
    return {"step": op.data.step + 1}


for _name in ("one", "two", "three", "four", "five"):
    five.perform(_name)(_step)


def round_actions(turns: int, marks: dict[int, float], clock: Any) -> Actions[dict[str, Any]]:
    """Return actions that go round ``turns`` times and note the time at the turns in ``marks``."""
    actions = Actions(Round)
    count = 0

    @actions.perform("turning")
    async def turn(op: Operation[dict[str, Any]]) -> Event | None:
        nonlocal count
        count += 1
        if count in marks:
            marks[count] = clock()
        return Event("enough") if count >= turns else None

    return actions
