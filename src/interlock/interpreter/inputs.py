"""Inputs: everything that can happen to an operation, as `decide` is told of it; and effects, what `decide` asks the shell to do.

| from | inputs |
|---|---|
| a caller | `Start`, `Signal`, `Cancel`, `Pause`, `Resume`, `Retry`, `Skip`, `Override` |
| a worker | `Take`, `Done`, `Failed`, `Stopped`, `Silent`, `Owns` |
| a child | `ChildOver` |
| the clock | `Tick`, `Lapsed` |

Inputs that a worker brings carry its `Offer`: the right to issue the next attempt to it in the same decision.

The shell's duties on receiving a `Decision`:

1. Commit its facts and its snapshot in one transaction, compare-and-set on the sequence number the decision was made from.
2. Only then carry out its effects, and only then answer whoever brought the input.
3. If the compare-and-set fails, drop the decision, read the operation again and decide anew.
4. `Perform`: perform the action under the token; bring back exactly one `Done`, `Failed` or `Stopped` with that token.
5. `Cut`: have the attempt with that token ended; bring back `Stopped` only when it really has ended.
6. `Wake`: bring a `Tick` at that time. Waking early or twice does no harm.
7. `Spawn`: start the child under its id; that it exists already is as good. If it is refused, or once it is over, bring `ChildOver`.
8. `Recall`: cancel the child; a refusal changes nothing, it is waited for. `Preempt`: cancel whoever is in the way of the claims.
9. Who waits for claims is brought a `Tick` with what stands there now, when something may have become free.
10. After a crash nothing else is needed: `outstanding(snapshot)` gives the effects that are due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from interlock.definition.machine import Definition
from interlock.interpreter.facts import AttemptKind, Bounds, CutCause, Failure, Outcome, Parent

__all__ = [
    "Cancel",
    "ChildOver",
    "Claimant",
    "Cut",
    "Done",
    "Effect",
    "Failed",
    "Input",
    "Lapsed",
    "Offer",
    "Override",
    "Owns",
    "Pause",
    "Perform",
    "Preempt",
    "Recall",
    "Report",
    "Resume",
    "Retry",
    "Signal",
    "Silent",
    "Skip",
    "Spawn",
    "Standing",
    "Start",
    "Stopped",
    "Take",
    "Tick",
    "Wake",
]


class Offer(msgspec.Struct, frozen=True):
    """A worker that would perform the next attempt.

    Attributes:
        worker: its name.
        queues: those it serves (``""`` is the default queue).
        reported: (machine, state) of acting states that other code performs and reports.
        written: by machine, the version that its actions were written for. Older operations are to be upgraded to it.
    """

    worker: str
    queues: frozenset[str] = frozenset({""})
    reported: frozenset[tuple[str, str]] = frozenset()
    written: Mapping[str, Definition] = {}


class Claimant(msgspec.Struct, frozen=True):
    """Who holds a claim, or waits for it."""

    operation: str
    held: bool = True


Standing = Mapping[str, Sequence[Claimant]]
"""What stands at each claim: everybody who holds it, then everybody who waits for it, in order."""


class Start(msgspec.Struct, frozen=True):
    """Start an operation.

    Attributes:
        state: which initial state, where there are several; of an adopted one the state it is in.
        bounds: ``deadline`` is absolute.
        record: key of the record that other code keeps of it.
        adopted: other code began it; ``state`` may be any that is not final.
        begun: of an adopted one: other code has begun the present state, and nobody knows how far it is.
        steps: of an adopted one: the states that other code may have begun; None: all that may lie behind it.
        parent: whose child it is.
        not_before: when it begins; None: now.
        on_conflict: what to do about claims that others hold (``reject``, ``wait``, ``preempt``), in place of what the machine says.
        standing: what stands at its claims; None: as far as is known they are free.
    """

    id: str
    data: Mapping[str, Any]
    state: str | None = None
    by: str = ""
    bounds: Bounds | None = None
    breakpoints: tuple[str, ...] = ()
    offer: Offer | None = None
    record: str = ""
    adopted: bool = False
    begun: bool = True
    steps: tuple[str, ...] | None = None
    parent: Parent | None = None
    not_before: float | None = None
    on_conflict: str = ""
    standing: Standing | None = None


class Take(msgspec.Struct, frozen=True):
    """A worker offers itself for a queued operation."""

    offer: Offer


class Done(msgspec.Struct, frozen=True):
    """The attempt ended well: with the outcome ``event`` and data to add; or, for a choice, with the conditions' answers.

    ``answers`` may hold answers to the conditions of the exit that follows, so that no second attempt is needed for them.
    """

    token: int
    event: str = "done"
    data: Mapping[str, Any] = {}
    answers: Mapping[str, bool] = {}
    offer: Offer | None = None


class Failed(msgspec.Struct, frozen=True):
    """The attempt ended badly."""

    token: int
    failure: Failure
    offer: Offer | None = None
    answers: Mapping[str, bool] = {}


class Stopped(msgspec.Struct, frozen=True):
    """The attempt was ended and has really ended: because it was cut, or because its worker hands it over."""

    token: int
    offer: Offer | None = None


class Silent(msgspec.Struct, frozen=True):
    """The attempt's action has missed its heartbeat."""

    token: int


class Lapsed(msgspec.Struct, frozen=True):
    """The lease of ``worker`` has lapsed: whatever it was attempting has to be taken over."""

    worker: str
    offer: Offer | None = None


class Tick(msgspec.Struct, frozen=True):
    """Time has passed; or a claim may have become free: ``standing``."""

    offer: Offer | None = None
    standing: Standing | None = None


class Owns(msgspec.Struct, frozen=True):
    """The attempt's action makes a resource, or has given it back (``gone``)."""

    token: int
    kind: str
    id: str
    gone: bool = False


class ChildOver(msgspec.Struct, frozen=True):
    """A child is over, or was refused its start."""

    index: int
    id: str
    outcome: Outcome
    reason: str = ""
    offer: Offer | None = None


class Signal(msgspec.Struct, frozen=True):
    """An event from outside. ``key``: a second signal with the same key is a no-op. ``hold``: keep it until a state accepts it."""

    event: str
    data: Mapping[str, Any] = {}
    key: str = ""
    hold: bool = False
    by: str = ""
    offer: Offer | None = None


class Report(msgspec.Struct, frozen=True):
    """Other code says what came of a state that it performs: an event, or ``to``, the state that it wrote into the record."""

    event: str = ""
    to: str = ""
    data: Mapping[str, Any] = {}
    key: str = ""
    by: str = ""
    offer: Offer | None = None


class Cancel(msgspec.Struct, frozen=True):
    """Undo what was started and end as cancelled."""

    by: str = ""
    reason: str = ""
    offer: Offer | None = None


class Pause(msgspec.Struct, frozen=True):
    """Start nothing more. ``before``: go on, and pause before each of these states instead."""

    by: str = ""
    reason: str = ""
    before: tuple[str, ...] | None = None


class Resume(msgspec.Struct, frozen=True):
    """End the pause."""

    by: str = ""
    offer: Offer | None = None


class Retry(msgspec.Struct, frozen=True):
    """A person: try what is stuck again, or what waits for its next attempt at once."""

    by: str = ""
    reason: str = ""
    offer: Offer | None = None


class Skip(msgspec.Struct, frozen=True):
    """A person: what is stuck has been done by hand."""

    by: str = ""
    reason: str = ""
    offer: Offer | None = None


class Override(msgspec.Struct, frozen=True):
    """A person: move to the state ``to``, whatever the machine says."""

    to: str
    by: str = ""
    reason: str = ""
    offer: Offer | None = None


Input = (
    Start
    | Take
    | Done
    | Failed
    | Stopped
    | Silent
    | Lapsed
    | Tick
    | Owns
    | ChildOver
    | Signal
    | Report
    | Cancel
    | Pause
    | Resume
    | Retry
    | Skip
    | Override
)


class Perform(msgspec.Struct, frozen=True):
    """Perform an attempt. ``kind``: the action, its undo, or the conditions named in ``conditions``."""

    token: int
    kind: AttemptKind
    state: str
    number: int
    recover: bool
    key: str
    conditions: tuple[str, ...] = ()


class Cut(msgspec.Struct, frozen=True):
    """End the attempt with this token."""

    token: int
    cause: CutCause


class Wake(msgspec.Struct, frozen=True):
    """Bring a `Tick` at this time."""

    at: float


class Spawn(msgspec.Struct, frozen=True):
    """Start the child ``id``."""

    index: int
    id: str


class Recall(msgspec.Struct, frozen=True):
    """Cancel the child ``id``."""

    index: int
    id: str


class Preempt(msgspec.Struct, frozen=True):
    """Cancel whoever is in the way of these claims."""

    claims: tuple[str, ...]


Effect = Perform | Cut | Wake | Spawn | Recall | Preempt
