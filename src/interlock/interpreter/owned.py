"""Owned resources: what an operation's actions make beside their work, and have to give back, or hand over, before it ends."""

from __future__ import annotations

from interlock.errors import LimitExceeded
from interlock.interpreter import attempts
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.phases import Own
from interlock.interpreter.turn import Turn

__all__ = ["MAX_OWNED", "owns"]

MAX_OWNED = 200


def owns(turn: Turn, input: i.Owns) -> None:
    """Record that a resource is owned, or no longer; what is known already changes nothing."""
    attempts.running(turn, input.token)
    owned = turn.after.owned
    known = Own(input.kind, input.id) in owned
    if input.gone and known:
        turn.add(f.Disowned(input.kind, input.id))
    elif not input.gone and not known:
        if len(owned) >= MAX_OWNED:
            raise LimitExceeded(f"operation `{turn.after.id}` owns {MAX_OWNED} resources already; no more are recorded")
        turn.add(f.Owned(input.kind, input.id))
