"""Ways out of a state: which exit is taken, what has to end first, and where it leads. Rules 6, 8 and 9 of `decide`."""

from __future__ import annotations

from interlock.definition.declare import Branch, Exit, Final
from interlock.definition.flatten import RESERVED_EVENTS, Row
from interlock.interpreter import facts as f
from interlock.interpreter import rollback
from interlock.interpreter.facts import Cause, CutCause
from interlock.interpreter.snapshot import Running
from interlock.interpreter.turn import Turn, queue_of

__all__ = ["answer", "conclude", "enter", "event", "follow", "leave", "roll_back_or_stick", "take"]


def event(turn: Turn, event: str) -> None:
    row = turn.row
    if event not in row.exits:
        known = ", ".join(row.exits) or "none"
        return turn.add(
            f.GotStuck("no-exit", f"`{row.name}` came back with `{event}`, for which it has no exit; it has {known}")
        )
    follow(turn, row.exits[event], "event", event)


def follow(turn: Turn, exit: Exit, cause: Cause, name: str) -> None:
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
        return take(turn, branch, name)
    raise AssertionError(f"{turn.after.id}: exit {name} of {turn.after.state} is open, sealing should have refused it")


def answer(turn: Turn) -> None:
    choice = turn.after.choice
    assert choice is not None
    if turn.after.pending:
        turn.add(f.Answered({name: turn.answers[name] for name in choice.conditions}))
        return conclude(turn)
    follow(turn, _exit_for(turn, choice.cause, choice.name), choice.cause, choice.name)


def take(turn: Turn, branch: Branch, why: str) -> None:
    """Take a branch, whose condition holds."""
    target = turn.machine.states[branch.to]
    unclean = isinstance(target, Final) and target.outcome != "succeeded"
    if unclean and turn.row.past_pivot and turn.after.steps:
        return turn.add(
            f.GotStuck("past-pivot", f"`{why}` leads to `{branch.to}`, but past the pivot nothing is undone")
        )
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
            return follow(turn, row.exits[held.event], "event", held.event)


def leave(turn: Turn, cause: Cause, name: str, cut: CutCause) -> None:
    """Rule 6: carry out a way on at once, or after the running attempt has ended."""
    if type(turn.after.phase) is Running:
        turn.add(f.Deferred(cause, name))
        if turn.after.phase.cut is None:
            turn.add(f.CutAsked(cut))
    else:
        _conclude_way(turn, cause, name)


def conclude(turn: Turn) -> None:
    pending = turn.after.pending
    assert pending is not None
    _conclude_way(turn, pending.cause, pending.name)


def _conclude_way(turn: Turn, cause: Cause, name: str) -> None:
    if cause == "cancel":
        rollback.begin(turn, "cancelled", "cancelled")
    elif cause == "timer" and not _exit_for(turn, cause, name):
        roll_back_or_stick(turn, turn.row, "failed", f"`{turn.after.state}` ran out of time ({name})")
    else:
        follow(turn, _exit_for(turn, cause, name), cause, name)


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


def roll_back_or_stick(turn: Turn, row: Row, to: str, cause: str) -> None:
    if row.past_pivot:
        return turn.add(f.GotStuck("past-pivot", f"{cause}; past the pivot nothing is undone"))
    rollback.begin(turn, to, cause)
