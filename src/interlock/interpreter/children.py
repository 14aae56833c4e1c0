"""Children: a parent state starts operations of another machine, so many at a time, and goes on when they are over.

1. A child is issued before it is started, under an id that follows from parent, stay and number: starting it again does no harm.
2. It counts as over when the shell brings `ChildOver`. A child that could not be started, or was cancelled, did not succeed.
3. What moves the parent meanwhile (signal, timer, cancel), a first failure (``fast``), or an early answer (``any``, ``first``) stops the
   children: no further one is issued, those that live are cancelled, and only when all of them are over the parent goes on.
4. Children that succeeded stay as they are; what a rollback is to do about them is the undo of the parent state, if one is declared.
"""

from __future__ import annotations

from interlock.definition.declare import Children
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter import ways
from interlock.interpreter.items import items_of, room_of
from interlock.interpreter.phases import Joining
from interlock.interpreter.snapshot import Snapshot
from interlock.interpreter.turn import Turn

__all__ = ["child_id", "go_on", "over"]


def child_id(parent: Snapshot, index: int) -> str:
    """Return the id of a parent's child in its present stay."""
    return f"{parent.id}.{parent.visit}.{index}"


def over(turn: Turn, input: i.ChildOver) -> None:
    """A child is over."""
    phase = turn.after.phase
    if isinstance(phase, Joining) and input.index in phase.live and input.id == child_id(turn.after, input.index):
        turn.add(f.ChildEnded(input.index, input.outcome, input.reason))


def go_on(turn: Turn) -> None:
    """Issue what can be issued; stop what is to stop; leave the state when all are over."""
    phase, row = turn.after.phase, turn.row
    assert isinstance(phase, Joining) and row.children is not None
    if turn.after.pending:
        if not phase.live:
            ways.conclude(turn)
        return
    items, room = items_of(row.children, turn.after.data), room_of(row.children, turn.after.data)
    if isinstance(items, str) or isinstance(room, str) or len(items) < phase.total:
        lost = f"`{row.children.each}` lost items while its children ran"
        what = next((one for one in (items, room) if isinstance(one, str)), lost)
        if phase.live:
            return None if phase.stopping else turn.add(f.ChildrenStopped(what))
        return _leave(turn, "failed", what)
    verdict = _verdict(row.children, phase)
    if verdict is None and not phase.stopping:
        while len(phase.live) < room and phase.issued < phase.total and not turn.after.paused:
            index = phase.issued
            turn.add(f.ChildIssued(index, child_id(turn.after, index)))
            assert isinstance(turn.after.phase, Joining)
            phase = turn.after.phase
        return
    if verdict is not None and phase.live:
        if not phase.stopping:
            turn.add(f.ChildrenStopped(f"`{turn.after.state}` is {verdict}", verdict))
        return
    if not phase.live:
        _leave(turn, verdict or "failed", _failure(phase))


def _verdict(children: Children, phase: Joining) -> str | None:
    """Return ``done`` or ``failed`` as soon as it is certain, else None."""
    ended = phase.succeeded + phase.failed
    if phase.event:
        return phase.event
    if children.join == "first" and ended:
        return "done" if phase.succeeded else "failed"
    if children.join == "any" and phase.succeeded:
        return "done"
    if children.join == "all" and children.on_failure == "fast" and phase.failed:
        return "failed"
    if ended < phase.total:
        return None
    return "failed" if phase.failed and (children.join == "all" or not phase.succeeded) else "done"


def _failure(phase: Joining) -> str:
    return f"{phase.failed} of {phase.total} children did not succeed" + (f": {phase.reason}" if phase.reason else "")


def _leave(turn: Turn, event: str, why: str) -> None:
    row = turn.row
    if event in row.exits:
        return ways.follow(turn, row.exits[event], "event", event)
    ways.roll_back_or_stick(turn, row, "failed", f"`{row.name}` failed: {why}")
