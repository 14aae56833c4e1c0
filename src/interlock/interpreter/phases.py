"""What an operation is doing: its phase, and what lies across phases. Each phase holds what it alone needs."""

from __future__ import annotations

from typing import Any

import msgspec

from interlock.interpreter.facts import AttemptKind, Cause, CutCause, Outcome

__all__ = [
    "Beginning",
    "Choice",
    "Ended",
    "Held",
    "Joining",
    "Own",
    "Pause",
    "Pending",
    "Phase",
    "Queued",
    "RollingBack",
    "Running",
    "Settling",
    "Stuck",
    "Waiting",
]


class _Phase(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="is", tag=str.lower):
    """Base of all phases."""


class Beginning(_Phase, frozen=True):
    """Nothing has begun: it waits for its time, or for its claims, and then enters its first state."""

    ready_at: float


class Queued(_Phase, frozen=True):
    """Nothing of the step has begun: it waits for a worker of ``queue``, not before ``ready_at``."""

    kind: AttemptKind
    state: str
    ready_at: float
    queue: str = ""
    recover: bool = False


class Running(_Phase, frozen=True):
    """An attempt is issued to ``worker``. ``until``: its timeout. ``cut``: why it is to be ended, if it is."""

    kind: AttemptKind
    state: str
    token: int
    worker: str
    since: float
    number: int = 1
    queue: str = ""
    until: float | None = None
    recover: bool = False
    cut: CutCause | None = None


class Waiting(_Phase, frozen=True):
    """An event or a timer moves it on."""


class Joining(_Phase, frozen=True):
    """Its children move it on.

    Attributes:
        total: how many it has.
        issued: how many were begun.
        live: those of them that are not over, by index.
        succeeded, failed: how many are over, and how they ended; a cancelled child did not succeed.
        reason: why the first failed.
        stopping: no more are begun, and those that live are cancelled.
        event: how the state ends then, if that is certain.
    """

    total: int
    issued: int = 0
    live: tuple[int, ...] = ()
    succeeded: int = 0
    failed: int = 0
    reason: str = ""
    stopping: bool = False
    event: str = ""


class Stuck(_Phase, frozen=True):
    """It needs a person. ``kind`` and ``state``: what was being attempted."""

    kind: AttemptKind
    state: str
    code: str
    reason: str
    queue: str = ""


class Ended(_Phase, frozen=True):
    """It is over."""

    outcome: Outcome


class Settling(_Phase, frozen=True):
    """Between two facts of one decision only."""

    kind: AttemptKind
    state: str
    queue: str = ""


Phase = Beginning | Queued | Running | Waiting | Joining | Stuck | Ended | Settling


class RollingBack(msgspec.Struct, frozen=True, omit_defaults=True):
    """Steps are being undone; it ends in the final state ``to``."""

    to: str
    cause: str = ""


class Pending(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens when the running attempt has ended: an exit by event, by timer, or a cancel."""

    cause: Cause
    name: str = ""


class Choice(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exit whose conditions a worker has yet to answer."""

    cause: Cause
    name: str
    conditions: tuple[str, ...]


class Pause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nothing more is started."""

    by: str = ""
    reason: str = ""


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """A signal kept until a state accepts it."""

    event: str
    data: dict[str, Any] = {}
    key: str = ""
    by: str = ""


class Own(msgspec.Struct, frozen=True):
    """A resource that it made, and has to give back or hand over."""

    kind: str
    id: str
