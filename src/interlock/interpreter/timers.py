"""The clock: timeouts of attempts, and timers that move an operation on. Rules 7 and 10 of `decide`."""

from __future__ import annotations

from interlock.interpreter import attempts, claims, ways
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.snapshot import Beginning, Ended, Running, Stuck
from interlock.interpreter.turn import Turn

__all__ = ["fire_timers", "tick"]


def tick(turn: Turn, input: i.Tick) -> None:
    after = turn.after
    if type(after.phase) in (Ended, Stuck):
        return
    attempt = after.phase
    if type(attempt) is Running and attempt.cut is None and attempt.until is not None and attempt.until <= turn.now:
        turn.add(f.CutAsked("timeout"))
    fire_timers(turn)
    if type(turn.after.phase) is Beginning:
        claims.tick(turn, input.standing)
    attempts.issue(turn)


def fire_timers(turn: Turn) -> None:
    while not (turn.after.paused or turn.after.pending or turn.after.rollback or turn.after.ended):
        due = sorted((at, name) for name, at in turn.after.timers.items() if at <= turn.now)
        if not due or type(turn.after.phase) is Stuck:
            return
        name = due[0][1]
        turn.add(f.TimerFired(name))
        ways.leave(turn, "timer", name, "timer")
