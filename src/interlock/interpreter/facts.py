"""Facts: what an operation's journal is made of. Each says one thing that happened; `fold` turns them into the snapshot.

| group | facts |
|---|---|
| life | `Started`, `Entered`, `Upgraded` |
| beginning | `Postponed`, `ClaimsAwaited`, `Claimed` |
| attempts | `Issued`, `Performed`, `AttemptFailed`, `RetryPlanned`, `AttemptLost`, `CutAsked`, `AttemptCut` |
| choices | `Asked`, `Answered` |
| events from outside | `Signalled`, `SignalHeld`, `Reported`, `TimerFired`, `CancelAccepted`, `Deferred` |
| rollback | `RollbackBegan`, `UndoPlanned`, `Undone` |
| children | `ChildIssued`, `ChildEnded`, `ChildrenStopped` |
| owned resources | `Owned`, `Disowned` |
| people | `Paused`, `Resumed`, `BreakpointsSet`, `GotStuck`, `Retried`, `Skipped`, `Overrode` |

Facts are self-contained: folding them needs no machine. Times are seconds since the epoch. A field with its default is left out of the
stored form.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "Answered",
    "Asked",
    "AttemptCut",
    "AttemptFailed",
    "AttemptLost",
    "Bounds",
    "BreakpointsSet",
    "CancelAccepted",
    "ChildEnded",
    "ChildIssued",
    "ChildrenStopped",
    "Claimed",
    "ClaimsAwaited",
    "CutAsked",
    "Deferred",
    "Disowned",
    "Entered",
    "Fact",
    "Failure",
    "GotStuck",
    "Holding",
    "Issued",
    "Overrode",
    "Owned",
    "Parent",
    "Paused",
    "Performed",
    "Postponed",
    "Reported",
    "Resumed",
    "Retried",
    "RetryPlanned",
    "RollbackBegan",
    "SignalHeld",
    "Signalled",
    "Skipped",
    "Started",
    "TimerFired",
    "UndoPlanned",
    "Undone",
    "Upgraded",
]

AttemptKind = Literal["perform", "undo", "choose"]
Cause = Literal["event", "timer", "cancel"]
Outcome = Literal["succeeded", "failed", "cancelled"]
CutCause = Literal["cancel", "event", "timer", "timeout", "heartbeat"]


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt failed.

    Attributes:
        kind: name of the error's class, or ``timeout``, ``heartbeat``, ``lost``.
        message: for people.
        kinds: the names of the error's class and its bases, nearest first: what retry policies are matched against.
        final: trying again is of no use.
        retry_after: seconds that the action asked to wait.
    """

    kind: str
    message: str = ""
    kinds: tuple[str, ...] = ()
    final: bool = False
    retry_after: float | None = None


class Bounds(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a caller set for one operation at its start; by state, in seconds and attempts, in place of the machine's."""

    deadline: float | None = None
    timeouts: dict[str, float] = {}
    within: dict[str, float] = {}
    retries: dict[str, int] = {}


class Holding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A claim of an operation: it holds ``name``, which up to ``limit`` may hold together, or waits for it."""

    name: str
    limit: int = 1
    held: bool = True


class Parent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose child an operation is.

    Attributes:
        operation: the parent.
        index: which of its children, from 0.
        ancestors: the parent's own ancestors, the oldest first.
    """

    operation: str
    index: int = 0
    ancestors: tuple[str, ...] = ()


class _Fact(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="fact", tag=lambda name: name[0].lower() + name[1:]
):
    """Base of all facts."""


class Started(_Fact, frozen=True):
    """The operation exists.

    Attributes:
        by: who asked for it.
        record: key of the record that other code keeps of it.
        steps: states that other code may have begun before it was adopted: they must be undone.
        parent: whose child it is.
        on_conflict: what to do about claims that others hold, in place of what the machine says.
    """

    id: str
    machine: str
    version: int
    data: dict[str, Any]
    by: str = ""
    bounds: Bounds | None = None
    breakpoints: tuple[str, ...] = ()
    record: str = ""
    steps: tuple[str, ...] = ()
    parent: Parent | None = None
    on_conflict: str = ""


class Postponed(_Fact, frozen=True):
    """It is to begin in ``state``, not before ``until``."""

    state: str
    until: float
    timers: dict[str, float] = {}


class ClaimsAwaited(_Fact, frozen=True):
    """Others hold what it claims: it begins in ``state`` when all of ``claims`` are free. Who holds one of ``preempts`` is cancelled."""

    state: str
    claims: tuple[Holding, ...]
    timers: dict[str, float] = {}
    preempts: tuple[str, ...] = ()


class Claimed(_Fact, frozen=True):
    """It holds its claims until it ends."""

    claims: tuple[Holding, ...]


class Entered(_Fact, frozen=True):
    """The operation is in ``state`` now. ``timers`` are all that run from here on, by name, at absolute times.

    An acting state of kind ``waiting`` is performed by other code, which reports what came of it; ``step``: it must be undone.
    ``children``: how many a parent state has.
    """

    state: str
    kind: Literal["acting", "waiting", "parent", "final"] = "acting"
    queue: str = ""
    timers: dict[str, float] = {}
    outcome: Outcome | None = None
    step: bool = False
    children: int = 0


class Upgraded(_Fact, frozen=True):
    """From here on the operation runs ``version`` of its machine. All else is what it goes on with there, by the names it has there.

    ``timers`` are all that run, at absolute times; ``data`` is what fields that are new begin with.
    """

    version: int
    state: str
    queue: str = ""
    timers: dict[str, float] = {}
    steps: tuple[str, ...] = ()
    breakpoints: tuple[str, ...] = ()
    bounds: Bounds | None = None
    data: dict[str, Any] = {}


class Issued(_Fact, frozen=True):
    """An attempt may be performed by ``worker``; its token is this fact's sequence number. ``step``: from now on it must be undone."""

    worker: str
    number: int = 1
    until: float | None = None
    recover: bool = False
    step: bool = False


class Performed(_Fact, frozen=True):
    """The action ended with an outcome; ``data`` is what it added."""

    event: str = "done"
    data: dict[str, Any] = {}


class AttemptFailed(_Fact, frozen=True):
    """The attempt ended with a failure."""

    failure: Failure


class RetryPlanned(_Fact, frozen=True):
    """The next attempt is not issued before ``at``."""

    at: float


class AttemptLost(_Fact, frozen=True):
    """The attempt ended without anybody knowing how: its lease lapsed, or its worker handed it over."""

    reason: Literal["lapsed", "handover", "adopted"] = "lapsed"


class CutAsked(_Fact, frozen=True):
    """The running attempt is to be ended."""

    cause: CutCause


class AttemptCut(_Fact, frozen=True):
    """The attempt that was to be ended has ended, without an outcome."""


class Asked(_Fact, frozen=True):
    """The way on depends on conditions; a worker has to answer them. ``cause`` and ``name`` say what led here."""

    cause: Cause
    name: str
    conditions: tuple[str, ...]
    queue: str = ""


class Answered(_Fact, frozen=True):
    """What the conditions said."""

    answers: dict[str, bool]


class Signalled(_Fact, frozen=True):
    """A signal was accepted. ``held``: it had been waiting for a state that accepts it."""

    event: str
    data: dict[str, Any] = {}
    key: str = ""
    by: str = ""
    held: bool = False


class SignalHeld(_Fact, frozen=True):
    """A signal is kept until a state accepts it."""

    event: str
    data: dict[str, Any] = {}
    key: str = ""
    by: str = ""


class Reported(_Fact, frozen=True):
    """Other code, which performs the state, said what came of it: ``event``, or that the record is in ``to`` now; ``data`` is added.

    ``step``: what it performed must be undone.
    """

    event: str
    to: str = ""
    data: dict[str, Any] = {}
    key: str = ""
    by: str = ""
    step: bool = False


class TimerFired(_Fact, frozen=True):
    """A timer's time has come: ``within``, ``after:N``, ``group:NAME`` or ``deadline``."""

    timer: str


class CancelAccepted(_Fact, frozen=True):
    """Somebody asked for the operation to be cancelled, and it will be."""

    by: str = ""
    reason: str = ""


class Deferred(_Fact, frozen=True):
    """What happens next is settled and waits for the running attempt to end."""

    cause: Cause
    name: str = ""


class RollbackBegan(_Fact, frozen=True):
    """From here on steps are undone; it ends in the final state ``to``."""

    to: str
    cause: str = ""


class UndoPlanned(_Fact, frozen=True):
    """The step ``state`` is undone next."""

    state: str
    queue: str = ""


class Undone(_Fact, frozen=True):
    """The step ``state`` is undone."""

    state: str


class ChildIssued(_Fact, frozen=True):
    """The child ``id`` is to be started."""

    index: int
    id: str


class ChildEnded(_Fact, frozen=True):
    """A child is over, or was refused its start; ``reason`` says why it did not succeed."""

    index: int
    outcome: Outcome
    reason: str = ""


class ChildrenStopped(_Fact, frozen=True):
    """No further child is started, and those that run are cancelled. ``event``: how the parent state goes on then, if that is certain."""

    reason: str = ""
    event: str = ""


class Owned(_Fact, frozen=True):
    """It has made, or is about to make, a resource that must be gone, or handed over, before it ends."""

    kind: str
    id: str


class Disowned(_Fact, frozen=True):
    """A resource is its own no longer."""

    kind: str
    id: str


class Paused(_Fact, frozen=True):
    """Nothing more is started. ``breakpoint``: it stopped before a state that somebody had named."""

    by: str = ""
    reason: str = ""
    breakpoint: bool = False


class Resumed(_Fact, frozen=True):
    """The pause is over."""

    by: str = ""


class BreakpointsSet(_Fact, frozen=True):
    """The operation pauses before each of these states; replaces the earlier set."""

    states: tuple[str, ...]
    by: str = ""


class GotStuck(_Fact, frozen=True):
    """The operation needs a person. ``code``: ``undo-failed``, ``past-pivot``, ``no-exit`` or ``no-answer``."""

    code: str
    reason: str


class Retried(_Fact, frozen=True):
    """A person had it tried again. ``waits``: nothing is performed in the state, it waits once more."""

    by: str = ""
    reason: str = ""
    waits: bool = False


class Skipped(_Fact, frozen=True):
    """A person declared the step done (or undone)."""

    by: str = ""
    reason: str = ""


class Overrode(_Fact, frozen=True):
    """A person moved the operation to ``to``; ``broke`` names the machine's rules that this broke."""

    to: str
    by: str = ""
    reason: str = ""
    broke: tuple[str, ...] = ()


Fact = (
    Started
    | Postponed
    | ClaimsAwaited
    | Claimed
    | Entered
    | Upgraded
    | Issued
    | Performed
    | AttemptFailed
    | RetryPlanned
    | AttemptLost
    | CutAsked
    | AttemptCut
    | Asked
    | Answered
    | Signalled
    | SignalHeld
    | Reported
    | TimerFired
    | CancelAccepted
    | Deferred
    | RollbackBegan
    | UndoPlanned
    | Undone
    | ChildIssued
    | ChildEnded
    | ChildrenStopped
    | Owned
    | Disowned
    | Paused
    | Resumed
    | BreakpointsSet
    | GotStuck
    | Retried
    | Skipped
    | Overrode
)
