"""Facts as sentences: what `interlock history` and the live view say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from interlock.interpreter import facts as f
from interlock.interpreter.facts import Fact

__all__ = ["one_line", "told", "when"]

VALUE_CHARACTERS = 200
"""A longer value is cut off in a sentence; `--json` has all of it."""


def told(fact: Fact) -> str:
    """Return one sentence for a fact, on one line.

    >>> told(f.Issued("w1", number=2, recover=True))
    'attempt 2 is issued to w1, to recover'
    """
    return one_line(_SENTENCES[type(fact)](fact))


def one_line(text: str) -> str:
    """Return a text that people or actions gave as one that a terminal only shows: what would steer it is written out.

    >>> one_line("went\\nwrong")
    'went\\\\nwrong'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def when(at: float) -> str:
    """Return a time for people, in UTC.

    >>> when(0.5)
    '1970-01-01 00:00:00.500'
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}… ({len(text)} characters)"


def _by(fact: Any) -> str:
    who = f" by {fact.by}" if fact.by else ""
    why = f": {fact.reason}" if getattr(fact, "reason", "") else ""
    return f"{who}{why}"


def _adds(data: dict[str, Any]) -> str:
    return f", with {', '.join(f'{key}={_value(value)}' for key, value in data.items())}" if data else ""


def _started(fact: f.Started) -> str:
    return f"started{_by(fact)}: {fact.machine} version {fact.version}"


def _entered(fact: f.Entered) -> str:
    if fact.kind == "final":
        return f"ends in {fact.state} ({fact.outcome})"
    where = f", for queue {fact.queue}" if fact.queue else ""
    return f"enters {fact.state}{where}" + (f", with {fact.children} children" if fact.kind == "parent" else "")


def _names(claims: Sequence[f.Holding]) -> str:
    return ", ".join(claim.name for claim in claims)


def _awaited(fact: f.ClaimsAwaited) -> str:
    asked = f"; whoever holds {', '.join(fact.preempts)} is cancelled" if fact.preempts else ""
    return f"waits for its claims ({_names(fact.claims)}) to begin in {fact.state}{asked}"


def _child_ended(fact: f.ChildEnded) -> str:
    why = f": {fact.reason}" if fact.reason else ""
    return f"child {fact.index} {'was ' if fact.outcome == 'cancelled' else ''}{fact.outcome}{why}"


def _children_stopped(fact: f.ChildrenStopped) -> str:
    certain = f"; the state is {fact.event}" if fact.event else ""
    return f"no further child is started, those that run are cancelled ({fact.reason}){certain}"


def _issued(fact: f.Issued) -> str:
    return f"attempt {fact.number} is issued to {fact.worker}" + (", to recover" if fact.recover else "")


def _performed(fact: f.Performed) -> str:
    return ("the action is done" if fact.event == "done" else f"the action says {fact.event}") + _adds(fact.data)


def _attempt_failed(fact: f.AttemptFailed) -> str:
    failure = fact.failure
    return f"the attempt failed: {failure.kind}" + (f": {failure.message}" if failure.message else "")


def _reported(fact: f.Reported) -> str:
    what = f"that its record went to {fact.to}" if fact.to else fact.event
    return f"other code reports {what}{_by(fact)}{_adds(fact.data)}"


def _attempt_lost(fact: f.AttemptLost) -> str:
    if fact.reason == "adopted":
        return "other code began this state; how far it came is unknown"
    if fact.reason == "handover":
        return "the attempt was handed over"
    return "the attempt's worker is lost; how far it came is unknown"


def _answered(fact: f.Answered) -> str:
    return "the conditions say " + ", ".join(
        f"{name}: {'yes' if answer else 'no'}" for name, answer in fact.answers.items()
    )


def _signalled(fact: f.Signalled) -> str:
    return f"signal {fact.event}{' (held until now)' if fact.held else ''}{_by(fact)}{_adds(fact.data)}"


def _deferred(fact: f.Deferred) -> str:
    what = {"event": f"signal {fact.name}", "timer": f"timer {fact.name}", "cancel": "the cancel"}[fact.cause]
    return f"{what} waits for the attempt to end"


def _overrode(fact: f.Overrode) -> str:
    return f"overridden to {fact.to}{_by(fact)}" + "".join(f"; this broke a rule: {rule}" for rule in fact.broke)


_SENTENCES: dict[type, Callable[[Any], str]] = {
    f.Started: _started,
    f.Postponed: lambda fact: f"begins in {fact.state}, not before {when(fact.until)} UTC",
    f.ClaimsAwaited: _awaited,
    f.Claimed: lambda fact: f"holds {_names(fact.claims)}",
    f.Entered: _entered,
    f.Upgraded: lambda fact: f"goes on as version {fact.version}, in {fact.state}",
    f.Issued: _issued,
    f.Performed: _performed,
    f.AttemptFailed: _attempt_failed,
    f.RetryPlanned: lambda fact: f"another attempt is planned, not before {when(fact.at)} UTC",
    f.AttemptLost: _attempt_lost,
    f.CutAsked: lambda fact: f"the attempt is told to end ({fact.cause})",
    f.AttemptCut: lambda fact: "the attempt has ended",
    f.Asked: lambda fact: f"the way on depends on {', '.join(fact.conditions)}",
    f.Answered: _answered,
    f.Signalled: _signalled,
    f.SignalHeld: lambda fact: f"signal {fact.event} is held until a state accepts it{_by(fact)}",
    f.Reported: _reported,
    f.TimerFired: lambda fact: f"timer {fact.timer} fired",
    f.CancelAccepted: lambda fact: f"cancelled{_by(fact)}",
    f.Deferred: _deferred,
    f.RollbackBegan: lambda fact: (
        f"rolls back to {fact.to}" + (f": {fact.cause}" if fact.cause not in ("", fact.to) else "")
    ),
    f.UndoPlanned: lambda fact: f"{fact.state} is undone next" + (f", for queue {fact.queue}" if fact.queue else ""),
    f.Undone: lambda fact: f"{fact.state} is undone",
    f.ChildIssued: lambda fact: f"child {fact.index} is to be started: {fact.id}",
    f.ChildEnded: _child_ended,
    f.ChildrenStopped: _children_stopped,
    f.Owned: lambda fact: f"owns {fact.kind} {fact.id}",
    f.Disowned: lambda fact: f"owns {fact.kind} {fact.id} no longer",
    f.Paused: lambda fact: f"paused{_by(fact)}",
    f.Resumed: lambda fact: f"resumed{_by(fact)}",
    f.BreakpointsSet: lambda fact: f"will pause before {', '.join(fact.states) or 'no state'}{_by(fact)}",
    f.GotStuck: lambda fact: f"stuck ({fact.code}): {fact.reason}",
    f.Retried: lambda fact: f"tried again{_by(fact)}",
    f.Skipped: lambda fact: f"declared done{_by(fact)}",
    f.Overrode: _overrode,
}
