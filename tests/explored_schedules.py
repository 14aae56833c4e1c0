"""A meter that is read at fixed times, as scenarios for the explorer.

interlock explore tests.explored_schedules:read
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from interlock import Actions, Claim, Final, Machine, Operation, Retry, State
from interlock.exploring.effects import effects
from interlock.exploring.scenario import Exploration, Scheduled, Start
from interlock.interpreter.snapshot import Snapshot

TIMES = 3


@dataclass
class Meter:
    """The data of a reading."""

    meter: str


class Reading(Machine[Meter], version=1):
    """Read a meter, and send what it says."""

    claims = [Claim("meter:{meter}")]

    reading = State(initial=True, undo=True, retry=Retry(2), then="sending")
    sending = State(pivot=True, retry=Retry.forever(), then="done")
    done = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Book:
    """What was read, and what was sent, by operation."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.read: list[str] = []
        self.sent: list[str] = []

    def admit(self, id: str, token: int) -> None:
        if token < self.tokens.get(id, 0):
            raise PermissionError(f"{id}: {token} is old")
        self.tokens[id] = token

    def write(self, id: str, token: int) -> None:
        self.admit(id, token)
        if id not in self.read:
            self.read.append(id)

    def strike(self, id: str, token: int) -> None:
        self.admit(id, token)
        if id in self.read:
            self.read.remove(id)

    def send(self, id: str, token: int) -> None:
        self.admit(id, token)
        if id not in self.sent:
            self.sent.append(id)


class Double(Book):
    """Sends as often as it is told."""

    def send(self, id: str, token: int) -> None:
        self.admit(id, token)
        self.sent.append(id)


class Once(Book):
    """Sends what it sends once, and never again."""

    def send(self, id: str, token: int) -> None:
        if not self.sent:
            super().send(id, token)


def reading(book: Book) -> Actions[Meter]:
    actions, told = Actions(Reading), effects(book)

    @actions.perform(Reading.reading)
    def read(op: Operation[Meter]) -> None:
        told.write(op.id, op.token)

    @actions.undo(Reading.reading)
    def strike(op: Operation[Meter]) -> None:
        told.strike(op.id, op.token)

    @actions.perform(Reading.sending)
    def send(op: Operation[Meter]) -> None:
        told.send(op.id, op.token)

    return actions


def sent_when_done(book: Book, operations: Sequence[Snapshot]) -> str | None:
    """Each reading that has succeeded was sent, once; of what was given up there is nothing."""
    for one in operations:
        times = book.sent.count(one.id)
        if times > 1 or (one.status == "succeeded" and not times):
            return f"{one.id} is {one.status}, and was sent {times} times"
        if one.status in ("failed", "cancelled") and (times or one.id in book.read):
            return f"{one.id} is {one.status}, and it is in the book"
    return None


def each_time_once(book: Book, operations: Sequence[Snapshot]) -> str | None:
    """A schedule starts one operation at each of its times, and none when it was dropped."""
    clocked = [one.id for one in operations if one.id.startswith("schedule-")]
    return f"{len(clocked)} were started: {', '.join(clocked)}" if len(clocked) > TIMES else None


def exploring(book: Callable[[], Book] = Book, more: Sequence[Start] = (), **rest: Any) -> Exploration[Book]:
    return Exploration(
        world=book,
        actions=reading,
        operations=[Scheduled(Reading, "* * * * *", TIMES, meter="m1"), *more],
        invariants=[sent_when_done, each_time_once],
        lease_seconds=40,
        **rest,
    )


read = exploring()
by_hand_too = exploring(more=[Start(Reading, {"delay": "115s", "on_conflict": "wait"}, meter="m1")])
