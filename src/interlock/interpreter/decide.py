"""The one place that moves an operation: ``decide(machine, snapshot, input, now) -> Decision(facts, effects)``.

Theory of operation. Read this before you change a rule; every rule that moves an operation is in this file and `rollback.py`.

1.  A decision is made from a snapshot and one input. It is a list of facts; folding them gives the next snapshot. Nothing else changes.
2.  An input that cannot be granted raises a `Refused` and yields no fact. An input that changes nothing yields no fact either (a repeated
    signal, a tick that comes early).
3.  An attempt is issued by `_issue` alone: to the offer that came with the input, if it serves the queue, the time has come, and nothing is
    paused. So an outcome and the issue of the next attempt are one decision.
4.  A step enters the undo list when its attempt is issued, and leaves it when its undo has succeeded (or a person says so).
5.  The token of an attempt is the sequence number of its `Issued` fact. An outcome with another token is stale and refused.
6.  Nothing overlaps a running attempt. What would move the operation meanwhile (signal, timer, cancel) is recorded, becomes ``pending``, and
    the attempt is cut; `_conclude` carries it out when the attempt has ended: it came back, acknowledged the cut, or its lease lapsed. The
    first of them wins; only a cancel replaces another.
7.  A cut for a timeout or a missed heartbeat leaves nothing pending: it ends one attempt. If the action comes back with an outcome after
    all, the outcome counts; otherwise the attempt has failed, and retry policy decides.
8.  `_follow` takes an exit. Conditions that nobody answered yet make it an attempt of kind ``choose``, which workers perform like any other.
9.  Failed and cancelled mean clean: every way to such a final state goes through `rollback.begin` while steps remain, and from the pivot on
    there is none: the operation gets stuck instead.
10. While it is paused or stuck no timer moves an operation; the timers that are due fire when it goes on.
11. Every chain of rules ends in a phase that something can move: an issued attempt, a queue, a wait, a person, or the end.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from interlock.definition.data import fit
from interlock.definition.declare import Branch, Exit, Final, Retry
from interlock.definition.machine import RESERVED_EVENTS, Definition, Row
from interlock.errors import (
    IllegalData, LimitExceeded, NotPossible, Refused, StaleToken, Unknown, did_you_mean,
)
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter import rollback
from interlock.interpreter.facts import Cause, CutCause, Fact, Failure
from interlock.interpreter.inputs import Cut, Effect, Input, Offer, Perform, Wake
from interlock.interpreter.possible import possible, reachable_signals, signals
from interlock.interpreter.snapshot import Ended, Queued, Running, Settling, Snapshot, Stuck, Waiting, fold, timer_at
from interlock.interpreter.status import STATUS
from interlock.interpreter.turn import Turn, queue_of

__all__ = ["LOST_ATTEMPTS", "Decision", "decide", "outstanding"]

LOST_ATTEMPTS = 20
HELD_SIGNALS = 32


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an input: facts to commit, the snapshot they lead to, and the effects to carry out once they are committed."""

    facts: tuple[Fact, ...]
    effects: tuple[Effect, ...]
    snapshot: Snapshot


def decide(machine: Definition, snapshot: Snapshot | None, input: Input, now: float) -> Decision:
    """Return what follows from ``input``.

    Args:
        machine: the definition in the version that the operation runs.
        snapshot: the operation as it is; None for a `Start`.
        input: what happened.
        now: seconds since the epoch.

    Raises:
        Refused: the input cannot be granted; the message says what is possible. Nothing changes.
        StaleToken: the outcome is not that of the running attempt. Nothing changes.
    """
    turn = Turn(machine, snapshot, now, getattr(input, "offer", None), getattr(input, "answers", None) or {})
    _RULES[type(input)](turn, input)
    after = turn.after
    assert type(after.phase) is not Settling, f"{after.id}: a decision on {input!r} ended half way: {turn.facts!r}"
    if snapshot is None:
        return Decision(tuple(turn.facts), outstanding(after), after)
    if not turn.facts:
        return Decision((), (), snapshot)
    assert snapshot.status == after.status or STATUS.allows(snapshot.status, after.status), (
        f"{after.id}: status {snapshot.status} -> {after.status} on {input!r}"
    )
    before = outstanding(snapshot)
    return Decision(tuple(turn.facts), tuple(effect for effect in outstanding(after) if effect not in before), after)


def outstanding(snapshot: Snapshot) -> tuple[Effect, ...]:
    """Return the effects that are due for an operation as it stands; any of them can be carried out again at any time."""
    phase = snapshot.phase
    effects: list[Effect] = []
    due = timer_at(snapshot)
    if type(phase) is Running:
        key = f"{snapshot.id}:{phase.state}:{snapshot.visit}:{phase.kind}"
        conditions = snapshot.choice.conditions if snapshot.choice and phase.kind == "choose" else ()
        effects.append(Perform(phase.token, phase.kind, phase.state, phase.number, phase.recover, key, conditions))
        if phase.cut is not None:
            effects.append(Cut(phase.token, phase.cut))
    elif type(phase) is Queued and not snapshot.paused:
        due = phase.ready_at if due is None else min(due, phase.ready_at)
    if due is not None:
        effects.append(Wake(due))
    return tuple(effects)


# Attempts: issued, ended, tried again


def _issue(turn: Turn) -> None:
    """Rule 3: issue the attempt that is queued, if the offer fits."""
    phase, offer, at = turn.after.phase, turn.offer, turn.now
    if type(phase) is not Queued or offer is None or turn.after.paused or phase.ready_at > at or phase.queue not in offer.queues:
        return
    row = turn.machine.table[phase.state]
    bounds = turn.after.bounds
    timeout = row.timeout if bounds is None else bounds.timeouts.get(phase.state, row.timeout)
    until = None if timeout is None or phase.kind == "choose" else at + timeout
    step = phase.kind == "perform" and row.undo
    number = turn.after.attempts + turn.after.lost + 1
    turn.add(f.Issued(offer.worker, number, until, phase.recover, step))


def _running(turn: Turn, token: int) -> Running:
    phase = turn.after.phase
    if type(phase) is not Running or phase.token != token:
        now = f"attempt {phase.token} runs" if type(phase) is Running else f"it is {turn.after.status}"
        raise StaleToken(
            f"operation `{turn.after.id}`: attempt {token} is no longer its own ({now}); its outcome was not recorded", operation=turn.after.id
        )
    return phase


def _take(turn: Turn, input: i.Take) -> None:
    _issue(turn)


def _done(turn: Turn, input: i.Done) -> None:
    attempt = _running(turn, input.token)
    if attempt.kind == "undo":
        rollback.undone(turn, attempt.state)
    elif attempt.kind == "choose":
        choice = turn.after.choice
        missing = [name for name in choice.conditions if name not in input.answers] if choice else []
        if missing:
            failure = Failure("NoAnswer", f"nobody answered {', '.join(missing)}", final=True)
            return _failed(turn, i.Failed(input.token, failure, input.offer))
        _answer(turn)
    else:
        try:
            data = fit(turn.machine.fields, input.data, f"state `{attempt.state}`, data its action added", partial=True)
        except IllegalData as error:
            failure = Failure("IllegalData", error.message, ("IllegalData",), final=True)
            return _failed(turn, i.Failed(input.token, failure, input.offer))
        turn.add(f.Performed(input.event, data))
        if turn.after.pending:
            _conclude(turn)
        else:
            _event(turn, input.event)
    _issue(turn)


def _failed(turn: Turn, input: i.Failed) -> None:
    _running(turn, input.token)
    turn.add(f.AttemptFailed(input.failure))
    _after_failure(turn, input.failure)
    _issue(turn)


def _after_failure(turn: Turn, failure: Failure) -> None:
    """Plan the next attempt, or give up on this one's way."""
    after, settling = turn.after, turn.after.phase
    assert type(settling) is Settling
    if after.pending:
        return _conclude(turn)
    row = turn.machine.table[settling.state]
    policy = row.undo_retry if settling.kind == "undo" else Retry(10) if settling.kind == "choose" else row.retry
    policy = policy.for_error(failure.kinds or (failure.kind,))
    attempts = policy.attempts
    if after.bounds and settling.kind == "perform":
        attempts = after.bounds.retries.get(settling.state, attempts)
    if failure.final or (attempts is not None and after.attempts >= attempts):
        return _give_up(turn, settling, failure)
    wait = policy.wait(after.attempts) if failure.retry_after is None else failure.retry_after
    spread = zlib.crc32(f"{after.id}:{after.visit}:{after.attempts}".encode()) / 2**32
    turn.add(f.RetryPlanned(turn.now + wait * (1 + policy.jitter * spread)))


def _give_up(turn: Turn, settling: Settling, failure: Failure) -> None:
    what = f"{failure.kind}: {failure.message}" if failure.message else failure.kind
    if settling.kind == "undo":
        return turn.add(f.GotStuck("undo-failed", f"the undo of `{settling.state}` is out of attempts: {what}"))
    if settling.kind == "choose":
        return turn.add(f.GotStuck("no-answer", f"the conditions for leaving `{settling.state}` cannot be answered: {what}"))
    row = turn.machine.table[settling.state]
    events = ("timeout", "failed") if failure.kind in ("timeout", "heartbeat") else ("failed",)
    for event in events:
        if event in row.exits:
            return _follow(turn, row.exits[event], "event", event)
    _roll_back_or_stick(turn, row, "failed", f"`{settling.state}` failed: {what}")


def _roll_back_or_stick(turn: Turn, row: Row, to: str, cause: str) -> None:
    if row.past_pivot:
        return turn.add(f.GotStuck("past-pivot", f"{cause}; past the pivot nothing is undone"))
    rollback.begin(turn, to, cause)


def _stopped(turn: Turn, input: i.Stopped) -> None:
    attempt = _running(turn, input.token)
    _ended_without_outcome(turn, attempt, lapsed=False)
    _issue(turn)


def _lapsed(turn: Turn, input: i.Lapsed) -> None:
    phase = turn.after.phase
    if type(phase) is Running and phase.worker == input.worker:
        _ended_without_outcome(turn, phase, lapsed=True)
        _issue(turn)


def _ended_without_outcome(turn: Turn, attempt: Running, *, lapsed: bool) -> None:
    if turn.after.pending:
        turn.add(f.AttemptCut())
        return _conclude(turn)
    if attempt.cut is not None:
        limit = "its timeout" if attempt.cut == "timeout" else "its heartbeat"
        failure = Failure(attempt.cut, f"attempt {attempt.number} missed {limit}", (attempt.cut,))
        turn.add(f.AttemptFailed(failure))
        return _after_failure(turn, failure)
    turn.add(f.AttemptLost("lapsed" if lapsed else "handover"))
    if turn.after.lost >= LOST_ATTEMPTS:
        failure = Failure("lost", f"{LOST_ATTEMPTS} workers were lost while performing it", ("lost",), final=True)
        turn.add(f.AttemptFailed(failure))
        _after_failure(turn, failure)


def _silent(turn: Turn, input: i.Silent) -> None:
    attempt = _running(turn, input.token)
    if attempt.cut is None:
        turn.add(f.CutAsked("heartbeat"))


# Ways out of a state


def _event(turn: Turn, event: str) -> None:
    row = turn.row
    if event not in row.exits:
        known = ", ".join(row.exits) or "none"
        return turn.add(f.GotStuck("no-exit", f"`{row.name}` came back with `{event}`, for which it has no exit; it has {known}"))
    _follow(turn, row.exits[event], "event", event)


def _follow(turn: Turn, exit: Exit, cause: Cause, name: str) -> None:
    """Rule 8: take the first branch whose condition holds."""
    known: dict[str, bool] = {}
    for branch in exit:
        if branch.condition is not None:
            answer = turn.answers.get(branch.condition)
            if answer is None:
                conditions = tuple(one.condition for one in exit if one.condition is not None)
                return turn.add(f.Asked(cause, name, conditions, queue_of(turn, turn.after.state)))
            known[branch.condition] = answer
            if not answer:
                continue
        if known:
            turn.add(f.Answered(known))
        return _go(turn, branch, name)
    raise AssertionError(f"{turn.after.id}: exit {name} of {turn.after.state} is open, sealing should have refused it")


def _answer(turn: Turn) -> None:
    choice = turn.after.choice
    assert choice is not None
    if turn.after.pending:
        turn.add(f.Answered({name: turn.answers[name] for name in choice.conditions}))
        return _conclude(turn)
    _follow(turn, _exit_for(turn, choice.cause, choice.name), choice.cause, choice.name)


def _go(turn: Turn, branch: Branch, why: str) -> None:
    target = turn.machine.states[branch.to]
    unclean = isinstance(target, Final) and target.outcome != "succeeded"
    if unclean and turn.row.past_pivot and turn.after.steps:
        return turn.add(f.GotStuck("past-pivot", f"`{why}` leads to `{branch.to}`, but past the pivot nothing is undone"))
    if branch.rollback or (unclean and turn.after.steps):
        return rollback.begin(turn, branch.to, f"`{why}` in `{turn.after.state}`")
    enter(turn, branch.to)


def enter(turn: Turn, state: str) -> None:
    """Enter a state; pause there if somebody asked for it, and let a held signal that it accepts move on at once."""
    turn.enter(state)
    after = turn.after
    if after.ended:
        return
    if state in after.breakpoints:
        turn.add(f.Paused(reason=f"breakpoint before `{state}`", breakpoint=True))
    row = turn.row
    for held in after.held:
        if held.event in row.exits and held.event not in RESERVED_EVENTS:
            turn.add(f.Signalled(held.event, held.data, held.key, held.by, held=True))
            return _follow(turn, row.exits[held.event], "event", held.event)


def _leave(turn: Turn, cause: Cause, name: str, cut: CutCause) -> None:
    """Rule 6: carry out a way on at once, or after the running attempt has ended."""
    if type(turn.after.phase) is Running:
        turn.add(f.Deferred(cause, name))
        if turn.after.phase.cut is None:
            turn.add(f.CutAsked(cut))
    else:
        _conclude_way(turn, cause, name)


def _conclude(turn: Turn) -> None:
    pending = turn.after.pending
    assert pending is not None
    _conclude_way(turn, pending.cause, pending.name)


def _conclude_way(turn: Turn, cause: Cause, name: str) -> None:
    if cause == "cancel":
        rollback.begin(turn, "cancelled", "cancelled")
    elif cause == "timer" and not _exit_for(turn, cause, name):
        _roll_back_or_stick(turn, turn.row, "failed", f"`{turn.after.state}` ran out of time ({name})")
    else:
        _follow(turn, _exit_for(turn, cause, name), cause, name)


def _exit_for(turn: Turn, cause: Cause, name: str) -> Exit:
    """Return the exit that an event or a timer takes; empty if it has none of its own."""
    row = turn.row
    if cause == "event":
        return row.exits[name]
    kind, _, rest = name.partition(":")
    if kind == "after":
        return row.after[int(rest)][1]
    if kind == "group":
        exit: Exit = turn.machine.groups[rest].on.get("timeout", ())
        return exit
    if kind == "within":
        return row.exits.get("timeout") or row.exits.get("failed") or ()
    return ()


# The clock


def _tick(turn: Turn, input: i.Tick) -> None:
    after = turn.after
    if type(after.phase) in (Ended, Stuck):
        return
    attempt = after.phase
    if type(attempt) is Running and attempt.cut is None and attempt.until is not None and attempt.until <= turn.now:
        turn.add(f.CutAsked("timeout"))
    _fire_timers(turn)
    _issue(turn)


def _fire_timers(turn: Turn) -> None:
    while not (turn.after.paused or turn.after.pending or turn.after.rollback or turn.after.ended):
        due = sorted((at, name) for name, at in turn.after.timers.items() if at <= turn.now)
        if not due or type(turn.after.phase) is Stuck:
            return
        name = due[0][1]
        turn.add(f.TimerFired(name))
        _leave(turn, "timer", name, "timer")


# Callers


def _start(turn: Turn, input: i.Start) -> None:
    machine = turn.machine
    state = input.state
    parents = [row.name for row in machine.table.values() if row.kind == "parent"]
    if parents:
        raise Refused(f"machine `{machine.name}` has children in `{parents[0]}`; this release declares and checks them, but cannot run them")
    if state is None:
        if len(machine.initial) > 1:
            raise Refused(f"machine `{machine.name}` has several initial states: say state= one of {', '.join(machine.initial)}")
        state = machine.initial[0]
    elif state not in machine.initial:
        machine.row(state)
        raise Refused(f"operations of `{machine.name}` do not start in `{state}`; they start in {', '.join(machine.initial)}")
    for name in input.breakpoints:
        machine.row(name)
    bounds = input.bounds
    if bounds:
        for name in (*bounds.timeouts, *bounds.within, *bounds.retries):
            machine.row(name)
    data = fit(machine.fields, input.data, f"operation of `{machine.name}`")
    turn.add(f.Started(input.id, machine.name, machine.version, data, input.by, bounds, tuple(input.breakpoints)))
    enter(turn, state)
    _issue(turn)


def _signal(turn: Turn, input: i.Signal) -> None:
    after, row = turn.after, turn.row
    if input.key and input.key in after.keys:
        return
    where = f"operation `{after.id}` ({after.machine}, in `{after.state}`, {after.status})"
    known = {event for one in turn.machine.table.values() for event in one.exits} - RESERVED_EVENTS
    if input.event in RESERVED_EVENTS:
        raise NotPossible(f"{where}: `{input.event}` is an action's outcome, not a signal", possible(turn.machine, after))
    if input.event not in known:
        raise Unknown(
            f"{where}: machine `{after.machine}` has no event `{input.event}`{did_you_mean(input.event, known)}; "
            f"its signals are {', '.join(sorted(known)) or 'none'}",
            event=input.event,
        )
    data = fit(turn.machine.fields, input.data, f"signal `{input.event}`", partial=True)
    if input.event in signals(turn.machine, after):
        turn.add(f.Signalled(input.event, data, input.key, input.by))
        _leave(turn, "event", input.event, "event")
        return _issue(turn)
    assert input.event in row.exits or input.event in known
    if input.hold and input.event in reachable_signals(turn.machine, after):
        if len(after.held) >= HELD_SIGNALS:
            raise LimitExceeded(f"{where}: {HELD_SIGNALS} signals are held already; none is held beyond that")
        return turn.add(f.SignalHeld(input.event, data, input.key, input.by))
    held = " and no state ahead accepts it" if input.hold else ""
    raise NotPossible(f"{where}: signal `{input.event}` is not possible now{held}", possible(turn.machine, after), operation=after.id)


def _cancel(turn: Turn, input: i.Cancel) -> None:
    after, row = turn.after, turn.row
    where = f"operation `{after.id}` ({after.machine}, in `{after.state}`, {after.status})"
    back = after.rollback
    if not after.ended and ((after.pending and after.pending.cause == "cancel") or (back and back.to == "cancelled")):
        if type(after.phase) is not Stuck:
            if after.paused:
                turn.add(f.CancelAccepted(input.by, input.reason))
            return _issue(turn)
    why = ""
    if after.ended:
        why = "it is over"
    elif back:
        why = f"it is already rolling back to `{back.to}`"
    elif row.cancel == "refuse":
        why = "it is past the point of no return" if row.past_pivot else f"`{row.name}` refuses it"
    if why:
        raise NotPossible(f"{where}: cannot be cancelled: {why}", possible(turn.machine, after), operation=after.id)
    turn.add(f.CancelAccepted(input.by, input.reason))
    phase = turn.after.phase
    if type(phase) is Running and row.cancel == "finish" and phase.kind == "perform":
        return turn.add(f.Deferred("cancel"))
    _leave(turn, "cancel", "", "cancel")
    _issue(turn)


def _pause(turn: Turn, input: i.Pause) -> None:
    after = turn.after
    if after.ended:
        raise NotPossible(f"operation `{after.id}`: cannot be paused: it is {after.status}", (), operation=after.id)
    if input.before is not None:
        for name in input.before:
            turn.machine.row(name)
        if input.before != after.breakpoints:
            turn.add(f.BreakpointsSet(tuple(input.before), input.by))
    elif not after.paused:
        turn.add(f.Paused(input.by, input.reason))


def _resume(turn: Turn, input: i.Resume) -> None:
    after = turn.after
    if not after.paused:
        raise NotPossible(f"operation `{after.id}` is not paused, it is {after.status}", possible(turn.machine, after), operation=after.id)
    turn.add(f.Resumed(input.by))
    _fire_timers(turn)
    _issue(turn)


# People, when it is stuck


def _reasoned(turn: Turn, verb: str, reason: str, possible_now: bool) -> None:
    after = turn.after
    if not possible_now:
        raise NotPossible(f"operation `{after.id}`: {verb} is not possible while it is {after.status}", possible(turn.machine, after))
    if not reason.strip():
        raise Refused(f"operation `{after.id}`: {verb} needs a reason: it is kept in the history")


def _retry(turn: Turn, input: i.Retry) -> None:
    phase = turn.after.phase
    early = type(phase) is Queued and phase.ready_at > turn.now
    _reasoned(turn, "retry", input.reason, type(phase) is Stuck or early)
    waits = type(phase) is Stuck and phase.kind == "perform" and turn.row.kind == "waiting"
    turn.add(f.Retried(input.by, input.reason, waits))
    _issue(turn)


def _skip(turn: Turn, input: i.Skip) -> None:
    phase = turn.after.phase
    _reasoned(turn, "skip", input.reason, "skip" in possible(turn.machine, turn.after))
    assert isinstance(phase, Stuck)
    turn.add(f.Skipped(input.by, input.reason))
    if phase.kind == "undo":
        rollback.undone(turn, phase.state)
    else:
        _event(turn, "done")
    _issue(turn)


def _override(turn: Turn, input: i.Override) -> None:
    after = turn.after
    row = turn.machine.row(input.to)
    _reasoned(turn, "override", input.reason, type(after.phase) in (Stuck, Waiting, Queued))
    broke = []
    if not turn.machine.allows(after.state, input.to):
        broke.append(f"the machine has no edge from `{after.state}` to `{input.to}`")
    if turn.row.past_pivot and not row.past_pivot and row.outcome != "succeeded":
        broke.append("it leads back behind the pivot")
    if after.rollback:
        broke.append(f"the rollback to `{after.rollback.to}` was not finished")
    if row.outcome in ("failed", "cancelled") and after.steps:
        broke.append(f"{row.outcome} means clean, and {', '.join(f'`{step}`' for step in after.steps)} was not undone")
    turn.add(f.Overrode(input.to, input.by, input.reason, tuple(broke)))
    enter(turn, input.to)
    _issue(turn)


_RULES: Mapping[type, Callable[[Turn, Any], None]] = {
    i.Start: _start,
    i.Take: _take,
    i.Done: _done,
    i.Failed: _failed,
    i.Stopped: _stopped,
    i.Silent: _silent,
    i.Lapsed: _lapsed,
    i.Tick: _tick,
    i.Signal: _signal,
    i.Cancel: _cancel,
    i.Pause: _pause,
    i.Resume: _resume,
    i.Retry: _retry,
    i.Skip: _skip,
    i.Override: _override,
}
