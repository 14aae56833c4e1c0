"""What a person does about an operation that is stuck: retry, skip, override. Each needs a reason, which the journal keeps."""

from __future__ import annotations

from interlock.definition.declare import Final
from interlock.errors import NotPossible, Refused
from interlock.interpreter import attempts, rollback, ways
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.possible import possible
from interlock.interpreter.snapshot import Queued, Stuck, Waiting
from interlock.interpreter.turn import Turn

__all__ = ["override", "retry", "skip"]


def _reasoned(turn: Turn, verb: str, reason: str, possible_now: bool) -> None:
    after = turn.after
    if not possible_now:
        raise NotPossible(
            f"operation `{after.id}`: {verb} is not possible while it is {after.status}", possible(turn.machine, after)
        )
    if not reason.strip():
        raise Refused(f"operation `{after.id}`: {verb} needs a reason: it is kept in the history")


def retry(turn: Turn, input: i.Retry) -> None:
    phase = turn.after.phase
    early = type(phase) is Queued and phase.ready_at > turn.now
    _reasoned(turn, "retry", input.reason, type(phase) is Stuck or early)
    stuck = isinstance(phase, Stuck) and phase.kind == "perform"
    if isinstance(phase, Stuck) and phase.kind == "undo" and not turn.machine.table[phase.state].undo:
        raise NotPossible(
            f"operation `{turn.after.id}`: retry: `{phase.state}` has no undo that could be tried again",
            possible(turn.machine, turn.after),
        )
    parent = stuck and turn.row.kind == "parent"
    turn.add(f.Retried(input.by, input.reason, stuck and turn.row.kind in ("waiting", "parent")))
    if parent:
        ways.enter(turn, turn.after.state)
    attempts.issue(turn)


def skip(turn: Turn, input: i.Skip) -> None:
    phase = turn.after.phase
    _reasoned(turn, "skip", input.reason, "skip" in possible(turn.machine, turn.after))
    assert isinstance(phase, Stuck)
    turn.add(f.Skipped(input.by, input.reason))
    if phase.code == "still-owned":
        handed = {kind for one in turn.machine.states.values() if isinstance(one, Final) for kind in one.hands_over}
        for own in turn.after.owned:
            if own.kind not in handed:
                turn.add(f.Disowned(own.kind, own.id))
    if phase.kind == "undo":
        rollback.undone(turn, phase.state)
    else:
        ways.event(turn, "done")
    attempts.issue(turn)


def override(turn: Turn, input: i.Override) -> None:
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
    ways.enter(turn, input.to)
    attempts.issue(turn)
