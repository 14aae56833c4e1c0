"""Why an operation did not succeed, told from the last facts of its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interlock.interpreter import facts as f

__all__ = ["because"]

_CHARACTERS = 400


def because(last: Sequence[f.Fact]) -> str:
    """Return what led to an end, in words; empty if these facts do not tell.

    Args:
        last: the facts before the end, in order; the earliest ones may be left out.

    >>> because([f.Entered("checking"), f.Performed("unsuitable", {"reason": "no such host"}), f.Entered("refused", "final")])
    'the action of `checking` came out as `unsuitable` (reason: no such host)'
    """
    state, cause, cancel = "", "", ""
    for fact in last:
        if isinstance(fact, f.Entered) and fact.kind != "final":
            state, cause = fact.state, ""
        elif isinstance(fact, f.CancelAccepted):
            cause = cancel = "it was cancelled" + _by(fact.by, fact.reason)
        elif isinstance(fact, f.RollbackBegan):
            # What comes after is undone, and no cause.
            return cancel if cancel and fact.cause == "cancelled" else _with(fact.cause, cause)
        else:
            cause = _cause(fact, state) or cause
    return cause


def _cause(fact: f.Fact, state: str) -> str:
    where = f" in `{state}`" if state else ""
    if isinstance(fact, f.Performed) and fact.event != "done":
        return f"the action of `{state}` came out as `{fact.event}`" + _words(fact.data) if state else ""
    if isinstance(fact, f.AttemptFailed):
        what = f"{fact.failure.kind}: {fact.failure.message}".rstrip(": ")
        return f"`{state}` failed: {what}" if state else what
    if isinstance(fact, f.Signalled):
        return f"signal `{fact.event}`{where}" + _by(fact.by) + _words(fact.data)
    if isinstance(fact, f.Reported):
        return f"`{fact.event or fact.to}` was reported{where}" + _by(fact.by) + _words(fact.data)
    if isinstance(fact, f.TimerFired):
        return f"timer `{fact.timer}` ran out{where}"
    if isinstance(fact, f.Overrode):
        return "it was moved there" + _by(fact.by, fact.reason)
    return ""


def _with(cause: str, event: str) -> str:
    """Return a rollback's cause, with who sent the event that led to it, or what it brought along."""
    if event.startswith("signal"):
        return event
    _, bracket, brought = event.partition(" (")
    return cause + bracket + brought if event.startswith("the action of") and bracket else cause


def _by(who: str, reason: str = "") -> str:
    return (f" by {who}" if who else "") + (f" ({reason})" if reason else "")


def _words(data: Mapping[str, Any]) -> str:
    said = "; ".join(f"{name}: {value}" for name, value in data.items() if isinstance(value, str) and value)
    return f" ({said if len(said) <= _CHARACTERS else said[:_CHARACTERS] + '…'})" if said else ""
