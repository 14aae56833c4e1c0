"""What callers ask: start, signal, cancel, pause, resume."""

from __future__ import annotations

from interlock.definition.data import fit
from interlock.definition.flatten import RESERVED_EVENTS
from interlock.errors import LimitExceeded, NotPossible, Refused, Unknown, did_you_mean
from interlock.interpreter import attempts, reports, timers, ways
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.possible import possible, reachable_signals, signals
from interlock.interpreter.snapshot import Queued, Running, Stuck
from interlock.interpreter.turn import Turn

__all__ = ["HELD_SIGNALS", "cancel", "pause", "resume", "signal", "start"]

HELD_SIGNALS = 32


def start(turn: Turn, input: i.Start) -> None:
    machine = turn.machine
    state = input.state
    parents = [row.name for row in machine.table.values() if row.kind == "parent"]
    if parents:
        raise Refused(
            f"machine `{machine.name}` has children in `{parents[0]}`; this release declares and checks them, but cannot run them"
        )
    if input.adopted:
        state = reports.adoptable(machine, state)
    elif state is None:
        if len(machine.initial) != 1:
            raise Refused(
                f"machine `{machine.name}` has several initial states: say state= one of {', '.join(machine.initial)}"
            )
        (state,) = machine.initial
    elif state not in machine.initial:
        machine.row(state)
        raise Refused(
            f"operations of `{machine.name}` do not start in `{state}`; they start in {', '.join(machine.initial)}"
        )
    for name in input.breakpoints:
        machine.row(name)
    bounds = input.bounds
    if bounds:
        for name in (*bounds.timeouts, *bounds.within, *bounds.retries):
            machine.row(name)
        if (bounds.deadline is not None or bounds.within) and "failed" not in machine.states:
            raise Refused(
                f"machine `{machine.name}` has no final state `failed` to roll back to: start its operations without deadline and within"
            )
    data = fit(machine.fields, input.data, f"operation of `{machine.name}`")
    steps: tuple[str, ...] = ()
    if input.adopted:
        steps = reports.steps_behind(machine, state) if input.steps is None else tuple(input.steps)
        for name in steps:
            if not machine.row(name).undo:
                raise Refused(f"`{name}` of `{machine.name}` is declared without an undo: leave it out of steps=")
    breaks = tuple(input.breakpoints)
    turn.add(f.Started(input.id, machine.name, machine.version, data, input.by, bounds, breaks, input.record, steps))
    ways.enter(turn, state)
    if input.adopted and input.begun and type(turn.after.phase) is Queued:
        turn.add(f.AttemptLost("adopted"))  # other code's attempt, whose end nobody knows
    attempts.issue(turn)


def signal(turn: Turn, input: i.Signal) -> None:
    after = turn.after
    if input.key and input.key in after.keys:
        return
    where = f"operation `{after.id}` ({after.machine}, in `{after.state}`, {after.status})"
    known = turn.machine.events - RESERVED_EVENTS
    if input.event in RESERVED_EVENTS:
        raise NotPossible(
            f"{where}: `{input.event}` is an action's outcome, not a signal", possible(turn.machine, after)
        )
    if input.event not in known:
        raise Unknown(
            f"{where}: machine `{after.machine}` has no event `{input.event}`{did_you_mean(input.event, known)}; "
            f"its signals are {', '.join(sorted(known)) or 'none'}",
            event=input.event,
        )
    data = fit(turn.machine.fields, input.data, f"signal `{input.event}`", partial=True)
    if input.event in signals(turn.machine, after):
        turn.add(f.Signalled(input.event, data, input.key, input.by))
        ways.leave(turn, "event", input.event, "event")
        return attempts.issue(turn)
    if input.hold and input.event in reachable_signals(turn.machine, after):
        if len(after.held) >= HELD_SIGNALS:
            raise LimitExceeded(f"{where}: {HELD_SIGNALS} signals are held already; none is held beyond that")
        return turn.add(f.SignalHeld(input.event, data, input.key, input.by))
    held = " and no state ahead accepts it" if input.hold else ""
    raise NotPossible(
        f"{where}: signal `{input.event}` is not possible now{held}", possible(turn.machine, after), operation=after.id
    )


def cancel(turn: Turn, input: i.Cancel) -> None:
    after, row = turn.after, turn.row
    where = f"operation `{after.id}` ({after.machine}, in `{after.state}`, {after.status})"
    back = after.rollback
    coming = (after.pending and after.pending.cause == "cancel") or (back and back.to == "cancelled")
    if coming and type(after.phase) is not Stuck:
        if after.paused:
            turn.add(f.CancelAccepted(input.by, input.reason))
        return attempts.issue(turn)
    why = ""
    if after.ended:
        why = "it is over"
    elif back:
        why = f"it is already rolling back to `{back.to}`"
    elif row.cancel == "refuse":
        why = "it is past the point of no return" if row.past_pivot else f"`{row.name}` refuses it"
    elif "cancelled" not in turn.machine.states:
        why = f"machine `{after.machine}` has no final state `cancelled`"
    if why:
        raise NotPossible(f"{where}: cannot be cancelled: {why}", possible(turn.machine, after), operation=after.id)
    turn.add(f.CancelAccepted(input.by, input.reason))
    phase = turn.after.phase
    if type(phase) is Running and row.cancel == "finish" and phase.kind == "perform":
        return turn.add(f.Deferred("cancel"))
    ways.leave(turn, "cancel", "", "cancel")
    attempts.issue(turn)


def pause(turn: Turn, input: i.Pause) -> None:
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


def resume(turn: Turn, input: i.Resume) -> None:
    after = turn.after
    if not after.paused:
        raise NotPossible(
            f"operation `{after.id}` is not paused, it is {after.status}",
            possible(turn.machine, after),
            operation=after.id,
        )
    turn.add(f.Resumed(input.by))
    timers.fire_timers(turn)
    attempts.issue(turn)
