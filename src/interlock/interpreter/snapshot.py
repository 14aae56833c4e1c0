"""The snapshot: everything there is to know about an operation at a sequence number, and `fold`, the only way it changes.

What an operation is doing lives in its ``phase``, and each phase holds what it alone needs:

| phase | status (see `status_of`) | holds |
|---|---|---|
| `Beginning` | queued | not before when it begins; its claims stand in the snapshot |
| `Queued` | queued | what is to be attempted, where, not before when |
| `Running` | running | the attempt: token, worker, its bounds, whether it is to be ended |
| `Waiting` | waiting | nothing: timers and signals move it |
| `Joining` | waiting | how far its children are |
| `Stuck` | stuck | why, and what was being attempted |
| `Ended` | succeeded, failed, cancelled | the outcome |
| `Settling` | never stored | what the attempt that just ended was for |

A pause and a rollback lie across phases: they are fields of the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from interlock.interpreter import facts as f
from interlock.interpreter.facts import Bounds, Fact, Failure, Holding, Parent
from interlock.interpreter.phases import (
    Beginning,
    Choice,
    Ended,
    Held,
    Joining,
    Own,
    Pause,
    Pending,
    Phase,
    Queued,
    RollingBack,
    Running,
    Settling,
    Stuck,
    Waiting,
)

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
    "Snapshot",
    "Stuck",
    "Waiting",
    "fold",
    "status_of",
    "timer_at",
]

Status = Literal["queued", "running", "waiting", "paused", "reverting", "stuck", "succeeded", "failed", "cancelled"]
KEYS = 128


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An operation at sequence number ``seq``: the number of facts folded into it.

    Attributes:
        id, machine, version: which operation, of which machine; the version it runs now.
        state: where it is; during a rollback, where the rollback began.
        data: plain JSON values by field.
        started, since, changed: when it was started, entered its state, and was last moved.
        visit: sequence number of entering the state; with the id it makes the stay's stable idempotency key.
        entered_as: what the state was called when it was entered, if the version that it was upgraded to since calls it otherwise.
        attempts: failed attempts in this stay, or of this undo. lost: attempts nobody knows the end of.
        timers: absolute times by name.
        steps: states whose started attempts must be undone, oldest first.
        keys: the idempotency keys of the last 128 signals and reports.
        record: key of the record that other code keeps of it.
        parent: whose child it is.
        claims: what it holds, or waits for.
        on_conflict: what to do about claims that others hold, in place of what the machine says.
        preempts: claims whose holders are cancelled.
        owned: what it made and has not given back, the oldest first.
    """

    id: str
    machine: str
    version: int
    seq: int
    status: Status
    state: str
    data: dict[str, Any]
    started: float
    since: float
    changed: float
    phase: Phase
    visit: int = 0
    entered_as: str = ""
    attempts: int = 0
    lost: int = 0
    timers: dict[str, float] = {}
    steps: tuple[str, ...] = ()
    rollback: RollingBack | None = None
    pending: Pending | None = None
    choice: Choice | None = None
    paused: Pause | None = None
    held: tuple[Held, ...] = ()
    keys: tuple[str, ...] = ()
    breakpoints: tuple[str, ...] = ()
    bounds: Bounds | None = None
    failure: Failure | None = None
    by: str = ""
    record: str = ""
    parent: Parent | None = None
    claims: tuple[Holding, ...] = ()
    on_conflict: str = ""
    preempts: tuple[str, ...] = ()
    owned: tuple[Own, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return type(self.phase) is Ended


def status_of(phase: Phase, paused: Pause | None, rollback: RollingBack | None) -> Status:
    """Return the status that follows from phase, pause and rollback."""
    kind = type(phase)
    if kind is Running:
        return "reverting" if rollback else "running"
    if isinstance(phase, Ended):
        return phase.outcome
    if kind is Stuck:
        return "stuck"
    if paused:
        return "paused"
    if rollback:
        return "reverting"
    return "waiting" if kind is Waiting or kind is Joining else "queued"


def timer_at(snapshot: Snapshot) -> float | None:
    """Return when the clock alone must move the operation next (an attempt's timeout included), or None."""
    phase = snapshot.phase
    if type(phase) in (Ended, Stuck):
        return None
    until = phase.until if isinstance(phase, Running) and phase.cut is None else None
    if isinstance(phase, Beginning) and not snapshot.claims and not snapshot.paused:
        until = phase.ready_at
    if snapshot.paused or snapshot.pending or not snapshot.timers:
        return until
    times = list(snapshot.timers.values())
    if until is not None:
        times.append(until)
    return min(times) if times else None


def fold(snapshot: Snapshot | None, fact: Fact, at: float) -> Snapshot:
    """Return the snapshot after ``fact``, which happened at ``at``. The first fact of an operation is `Started`."""
    if snapshot is None:
        assert isinstance(fact, f.Started), f"the first fact must be Started, not {fact!r}"
        return Snapshot(
            id=fact.id, machine=fact.machine, version=fact.version, seq=1, status="queued", state="", data=fact.data,
            started=at, since=at, changed=at, phase=Settling("perform", ""), by=fact.by, bounds=fact.bounds,
            breakpoints=fact.breakpoints, record=fact.record, steps=fact.steps, parent=fact.parent, on_conflict=fact.on_conflict,
        )  # fmt: skip
    changes = _FOLDS[type(fact)](snapshot, fact, at)
    phase = changes.get("phase", snapshot.phase)
    paused, rollback = changes.get("paused", snapshot.paused), changes.get("rollback", snapshot.rollback)
    return replace(snapshot, seq=snapshot.seq + 1, changed=at, status=status_of(phase, paused, rollback), **changes)


Changes = dict[str, Any]


def _entered(snapshot: Snapshot, fact: f.Entered, at: float) -> Changes:
    phase: Phase
    if fact.kind == "final":
        assert fact.outcome is not None
        phase = Ended(fact.outcome)
    elif fact.kind == "waiting":
        phase = Waiting()
    elif fact.kind == "parent":
        phase = Joining(fact.children)
    else:
        phase = Queued("perform", fact.state, at, fact.queue)
    changes: Changes = {
        "state": fact.state, "since": at, "visit": snapshot.seq + 1, "attempts": 0, "lost": 0, "timers": fact.timers, "phase": phase,
        "rollback": None, "pending": None, "choice": None, "paused": None if fact.kind == "final" else snapshot.paused,
    }  # fmt: skip
    if fact.step:
        changes["steps"] = _with_step(snapshot, fact.state)
    if fact.kind == "final" and snapshot.claims:
        changes["claims"] = ()
    if snapshot.entered_as:
        changes["entered_as"] = ""
    return changes


def _postponed(snapshot: Snapshot, fact: f.Postponed, at: float) -> Changes:
    return {"state": fact.state, "timers": fact.timers, "phase": Beginning(fact.until)}


def _claims_awaited(snapshot: Snapshot, fact: f.ClaimsAwaited, at: float) -> Changes:
    return {
        "state": fact.state, "timers": fact.timers, "claims": fact.claims, "preempts": fact.preempts, "phase": Beginning(at),
    }  # fmt: skip


def _with_step(snapshot: Snapshot, state: str) -> tuple[str, ...]:
    return (*(step for step in snapshot.steps if step != state), state)


def _upgraded(snapshot: Snapshot, fact: f.Upgraded, at: float) -> Changes:
    phase = snapshot.phase
    if isinstance(phase, Queued):
        phase = replace(phase, state=fact.state, queue=fact.queue)
    entered_as = snapshot.entered_as or ("" if fact.state == snapshot.state else snapshot.state)
    return {
        "version": fact.version, "state": fact.state, "entered_as": entered_as, "phase": phase, "timers": fact.timers, "steps": fact.steps,
        "breakpoints": fact.breakpoints, "bounds": fact.bounds, "data": {**snapshot.data, **fact.data} if fact.data else snapshot.data,
    }  # fmt: skip


def _issued(snapshot: Snapshot, fact: f.Issued, at: float) -> Changes:
    queued = snapshot.phase
    assert isinstance(queued, Queued), f"{snapshot.id}: an attempt issued while {queued!r}"
    running = Running(
        queued.kind,
        queued.state,
        snapshot.seq + 1,
        fact.worker,
        at,
        fact.number,
        queued.queue,
        fact.until,
        fact.recover,
    )
    if not fact.step:
        return {"phase": running}
    return {"phase": running, "steps": _with_step(snapshot, queued.state)}


def _settling(snapshot: Snapshot) -> Settling:
    phase = snapshot.phase
    kind = type(phase)
    if kind is Waiting or kind is Ended or kind is Joining or kind is Beginning:
        return Settling("perform", snapshot.state)
    assert not isinstance(phase, Waiting | Ended | Joining | Beginning)
    return Settling(phase.kind, phase.state, phase.queue)


def _performed(snapshot: Snapshot, fact: f.Performed, at: float) -> Changes:
    data = {**snapshot.data, **fact.data} if fact.data else snapshot.data
    return {"phase": _settling(snapshot), "data": data}


def _failed(snapshot: Snapshot, fact: f.AttemptFailed, at: float) -> Changes:
    return {"phase": _settling(snapshot), "attempts": snapshot.attempts + 1, "failure": fact.failure}


def _requeue(snapshot: Snapshot, at: float, *, recover: bool = False) -> Queued:
    was = _settling(snapshot)
    return Queued(was.kind, was.state, at, was.queue, recover)


def _lost(snapshot: Snapshot, fact: f.AttemptLost, at: float) -> Changes:
    lost = snapshot.lost + (fact.reason == "lapsed")
    return {"phase": _requeue(snapshot, at, recover=True), "lost": lost}


def _cut_asked(snapshot: Snapshot, fact: f.CutAsked, at: float) -> Changes:
    assert isinstance(snapshot.phase, Running)
    return {"phase": replace(snapshot.phase, cut=fact.cause)}


def _asked(snapshot: Snapshot, fact: f.Asked, at: float) -> Changes:
    choice = Choice(fact.cause, fact.name, fact.conditions)
    return {"choice": choice, "phase": Queued("choose", snapshot.state, at, fact.queue), "attempts": 0, "lost": 0}


def _answered(snapshot: Snapshot, fact: f.Answered, at: float) -> Changes:
    return {"phase": Settling("perform", snapshot.state), "choice": None}


def _signalled(snapshot: Snapshot, fact: f.Signalled, at: float) -> Changes:
    changes: Changes = {}
    if fact.data:
        changes["data"] = {**snapshot.data, **fact.data}
    if fact.held:
        held = list(snapshot.held)
        held.remove(next(one for one in held if one.event == fact.event and one.key == fact.key))
        changes["held"] = tuple(held)
    elif fact.key:
        changes["keys"] = (*snapshot.keys, fact.key)[-KEYS:]
    return changes


def _signal_held(snapshot: Snapshot, fact: f.SignalHeld, at: float) -> Changes:
    changes: Changes = {"held": (*snapshot.held, Held(fact.event, fact.data, fact.key, fact.by))}
    if fact.key:
        changes["keys"] = (*snapshot.keys, fact.key)[-KEYS:]
    return changes


def _reported(snapshot: Snapshot, fact: f.Reported, at: float) -> Changes:
    changes: Changes = {"phase": Settling("perform", snapshot.state)}
    if fact.step:
        changes["steps"] = _with_step(snapshot, snapshot.state)
    if fact.data:
        changes["data"] = {**snapshot.data, **fact.data}
    if fact.key:
        changes["keys"] = (*snapshot.keys, fact.key)[-KEYS:]
    return changes


def _timer_fired(snapshot: Snapshot, fact: f.TimerFired, at: float) -> Changes:
    return {"timers": {name: due for name, due in snapshot.timers.items() if name != fact.timer}}


def _rollback_began(snapshot: Snapshot, fact: f.RollbackBegan, at: float) -> Changes:
    return {
        "rollback": RollingBack(fact.to, fact.cause), "timers": {}, "pending": None, "choice": None,
        "phase": Settling("undo", snapshot.state),
    }  # fmt: skip


def _undo_planned(snapshot: Snapshot, fact: f.UndoPlanned, at: float) -> Changes:
    return {"phase": Queued("undo", fact.state, at, fact.queue), "attempts": 0, "lost": 0, "visit": snapshot.seq + 1}


def _undone(snapshot: Snapshot, fact: f.Undone, at: float) -> Changes:
    return {"phase": _settling(snapshot), "steps": tuple(state for state in snapshot.steps if state != fact.state)}


def _child_issued(snapshot: Snapshot, fact: f.ChildIssued, at: float) -> Changes:
    phase = snapshot.phase
    assert isinstance(phase, Joining) and fact.index == phase.issued
    return {"phase": replace(phase, issued=phase.issued + 1, live=(*phase.live, fact.index))}


def _child_ended(snapshot: Snapshot, fact: f.ChildEnded, at: float) -> Changes:
    phase = snapshot.phase
    assert isinstance(phase, Joining)
    live = tuple(index for index in phase.live if index != fact.index)
    if fact.outcome == "succeeded":
        return {"phase": replace(phase, live=live, succeeded=phase.succeeded + 1)}
    return {"phase": replace(phase, live=live, failed=phase.failed + 1, reason=phase.reason or fact.reason)}


def _children_stopped(snapshot: Snapshot, fact: f.ChildrenStopped, at: float) -> Changes:
    assert isinstance(snapshot.phase, Joining)
    return {"phase": replace(snapshot.phase, stopping=True, event=fact.event)}


def _disowned(snapshot: Snapshot, fact: f.Disowned, at: float) -> Changes:
    return {"owned": tuple(own for own in snapshot.owned if (own.kind, own.id) != (fact.kind, fact.id))}


def _got_stuck(snapshot: Snapshot, fact: f.GotStuck, at: float) -> Changes:
    was = _settling(snapshot)
    return {"phase": Stuck(was.kind, was.state, fact.code, fact.reason, was.queue), "pending": None}


def _retried(snapshot: Snapshot, fact: f.Retried, at: float) -> Changes:
    if fact.waits:
        return {"phase": Waiting(), "attempts": 0, "lost": 0}
    recover = isinstance(snapshot.phase, Queued) and snapshot.phase.recover
    return {"phase": _requeue(snapshot, at, recover=recover), "attempts": 0, "lost": 0}


def _overrode(snapshot: Snapshot, fact: f.Overrode, at: float) -> Changes:
    return {
        "phase": Settling("perform", snapshot.state),
        "rollback": None,
        "pending": None,
        "choice": None,
        "paused": None,
    }


_FOLDS: dict[type, Callable[[Snapshot, Any, float], Changes]] = {
    f.Postponed: _postponed,
    f.ClaimsAwaited: _claims_awaited,
    f.Claimed: lambda snapshot, fact, at: {"claims": fact.claims},
    f.ChildIssued: _child_issued,
    f.ChildEnded: _child_ended,
    f.ChildrenStopped: _children_stopped,
    f.Owned: lambda snapshot, fact, at: {"owned": (*snapshot.owned, Own(fact.kind, fact.id))},
    f.Disowned: _disowned,
    f.Entered: _entered,
    f.Upgraded: _upgraded,
    f.Issued: _issued,
    f.Performed: _performed,
    f.AttemptFailed: _failed,
    f.RetryPlanned: lambda snapshot, fact, at: {"phase": _requeue(snapshot, fact.at)},
    f.AttemptLost: _lost,
    f.CutAsked: _cut_asked,
    f.AttemptCut: lambda snapshot, fact, at: {"phase": _settling(snapshot)},
    f.Asked: _asked,
    f.Answered: _answered,
    f.Signalled: _signalled,
    f.SignalHeld: _signal_held,
    f.Reported: _reported,
    f.TimerFired: _timer_fired,
    f.CancelAccepted: lambda snapshot, fact, at: {"paused": None},
    f.Deferred: lambda snapshot, fact, at: {"pending": Pending(fact.cause, fact.name)},
    f.RollbackBegan: _rollback_began,
    f.UndoPlanned: _undo_planned,
    f.Undone: _undone,
    f.Paused: lambda snapshot, fact, at: {"paused": Pause(fact.by, fact.reason)},
    f.Resumed: lambda snapshot, fact, at: {"paused": None},
    f.BreakpointsSet: lambda snapshot, fact, at: {"breakpoints": fact.states},
    f.GotStuck: _got_stuck,
    f.Retried: _retried,
    f.Skipped: lambda snapshot, fact, at: {"phase": _settling(snapshot)},
    f.Overrode: _overrode,
}
