"""Attempts: issued, ended, tried again, given up. Rules 3, 5, 6, 7 and 12 of `decide`."""

from __future__ import annotations

import zlib

from interlock.definition.data import fit
from interlock.definition.declare import Retry
from interlock.errors import IllegalData, StaleToken
from interlock.interpreter import children, rollback, upgrade, ways
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.facts import Failure
from interlock.interpreter.snapshot import Joining, Queued, Running, Settling
from interlock.interpreter.turn import Turn

__all__ = ["LOST_ATTEMPTS", "child_over", "done", "failed", "issue", "lapsed", "running", "silent", "stopped", "take"]

LOST_ATTEMPTS = 20
CHOICE_RETRY = Retry(10)


def issue(turn: Turn) -> None:
    """Rules 3, 11 and 16: upgrade to the offer's version; issue what is queued, if the offer fits and no other code performs it.

    In a parent state its children are issued.
    """
    while type(turn.after.phase) is Joining:
        before = turn.after.seq
        children.go_on(turn)
        if turn.after.seq == before:
            break
    offer, at = turn.offer, turn.now
    if offer is None:
        return
    written = offer.written.get(turn.machine.name)
    if written is not None and written.version != turn.machine.version and not upgrade.fits(turn, written):
        return
    phase = turn.after.phase
    if type(phase) is not Queued or turn.after.paused or phase.ready_at > at or phase.queue not in offer.queues:
        return
    if phase.kind == "perform" and turn.reported(phase.state):
        return turn.enter(phase.state)
    row = turn.machine.table[phase.state]
    bounds = turn.after.bounds
    timeout = row.timeout if bounds is None else bounds.timeouts.get(phase.state, row.timeout)
    until = None if timeout is None or phase.kind == "choose" else at + timeout
    step = phase.kind == "perform" and row.undo
    number = turn.after.attempts + turn.after.lost + 1
    turn.add(f.Issued(offer.worker, number, until, phase.recover, step))


def running(turn: Turn, token: int) -> Running:
    """Return the running attempt. Raises `StaleToken` if it is not that of ``token``."""
    phase = turn.after.phase
    if type(phase) is not Running or phase.token != token:
        now = f"attempt {phase.token} runs" if type(phase) is Running else f"it is {turn.after.status}"
        raise StaleToken(
            f"operation `{turn.after.id}`: attempt {token} is no longer its own ({now}); its outcome was not recorded",
            operation=turn.after.id,
        )
    return phase


def take(turn: Turn, input: i.Take) -> None:
    issue(turn)


def child_over(turn: Turn, input: i.ChildOver) -> None:
    children.over(turn, input)
    issue(turn)


def done(turn: Turn, input: i.Done) -> None:
    attempt = running(turn, input.token)
    if attempt.kind == "undo":
        rollback.undone(turn, attempt.state)
    elif attempt.kind == "choose":
        choice = turn.after.choice
        missing = [name for name in choice.conditions if name not in input.answers] if choice else []
        if missing:
            failure = Failure("NoAnswer", f"nobody answered {', '.join(missing)}", final=True)
            return failed(turn, i.Failed(input.token, failure, input.offer))
        ways.answer(turn)
    else:
        try:
            data = fit(turn.machine.fields, input.data, f"state `{attempt.state}`, data its action added", partial=True)
        except IllegalData as error:
            failure = Failure("IllegalData", error.message, ("IllegalData",), final=True)
            return failed(turn, i.Failed(input.token, failure, input.offer))
        turn.add(f.Performed(input.event, data))
        if turn.after.pending:
            ways.conclude(turn)
        else:
            ways.event(turn, input.event)
    issue(turn)


def failed(turn: Turn, input: i.Failed) -> None:
    running(turn, input.token)
    turn.add(f.AttemptFailed(input.failure))
    _after_failure(turn, input.failure)
    issue(turn)


def _after_failure(turn: Turn, failure: Failure) -> None:
    """Plan the next attempt, or give up on this one's way."""
    after, settling = turn.after, turn.after.phase
    assert type(settling) is Settling
    if after.pending:
        return ways.conclude(turn)
    row = turn.machine.table[settling.state]
    policy = row.undo_retry if settling.kind == "undo" else CHOICE_RETRY if settling.kind == "choose" else row.retry
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
        return turn.add(
            f.GotStuck("no-answer", f"the conditions for leaving `{settling.state}` cannot be answered: {what}")
        )
    row = turn.machine.table[settling.state]
    events = ("timeout", "failed") if failure.kind in ("timeout", "heartbeat") else ("failed",)
    for event in events:
        if event in row.exits:
            return ways.follow(turn, row.exits[event], "event", event)
    ways.roll_back_or_stick(turn, row, "failed", f"`{settling.state}` failed: {what}")


def stopped(turn: Turn, input: i.Stopped) -> None:
    attempt = running(turn, input.token)
    _ended_without_outcome(turn, attempt, lapsed=False)
    issue(turn)


def lapsed(turn: Turn, input: i.Lapsed) -> None:
    phase = turn.after.phase
    if type(phase) is Running and phase.worker == input.worker:
        _ended_without_outcome(turn, phase, lapsed=True)
        issue(turn)


def _ended_without_outcome(turn: Turn, attempt: Running, *, lapsed: bool) -> None:
    if turn.after.pending:
        turn.add(f.AttemptCut())
        return ways.conclude(turn)
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


def silent(turn: Turn, input: i.Silent) -> None:
    attempt = running(turn, input.token)
    if attempt.cut is None:
        turn.add(f.CutAsked("heartbeat"))
