"""Rollback: undo every step whose attempt was issued, newest first, then enter the final state.

1. It begins only when no attempt runs (`decide` waits for the running one to end).
2. The undo list is the snapshot's ``steps``: whatever was issued, done or not. Undos tolerate that the action never ran.
3. One undo is queued at a time; `undone` takes it off the list and queues the next.
4. With an empty list the final state is entered: so failed and cancelled mean clean.
5. An undo out of attempts makes the operation stuck; the steps that are left stay on the list.
"""

from __future__ import annotations

from interlock.interpreter import facts as f
from interlock.interpreter.snapshot import Settling
from interlock.interpreter.turn import Turn, queue_of

__all__ = ["begin", "undone"]


def begin(turn: Turn, to: str, cause: str) -> None:
    """Begin a rollback that ends in the final state ``to``."""
    turn.add(f.RollbackBegan(to, cause))
    _next(turn)


def undone(turn: Turn, state: str) -> None:
    """Record that a step is undone and go on with the next."""
    assert turn.after.rollback is not None
    turn.add(f.Undone(state))
    _next(turn)


def _next(turn: Turn) -> None:
    after = turn.after
    assert after.rollback is not None and type(after.phase) is Settling
    if not after.steps:
        return turn.enter(after.rollback.to)
    state = after.steps[-1]
    turn.add(f.UndoPlanned(state, queue_of(turn, state)))
