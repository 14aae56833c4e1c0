"""What must hold of every single decision, whatever the machine: looked at while exploring, from outside of the rules.

A ``ledger`` is kept beside the operation: what was begun and not undone, oldest first, by the effects that the interpreter asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from interlock.checking.situation import KEPT_STEPS, OLD_TOKEN
from interlock.definition.machine import Definition
from interlock.interpreter import inputs as i
from interlock.interpreter.decide import Decision
from interlock.interpreter.facts import RollbackBegan
from interlock.interpreter.inputs import Input, Perform
from interlock.interpreter.snapshot import Ended, Queued, Running, Snapshot, Stuck

__all__ = ["FAULT", "Broken", "Ledger", "broken", "ledger_after"]

Ledger = tuple[str, ...]
_ENDS = (i.Done, i.Failed, i.Stopped, i.Lapsed)


class Broken(NamedTuple):
    """A promise that a decision breaks."""

    code: str
    what: str
    mend: str


FAULT = "This is a fault of the interpreter: report it with this machine."


def ledger_after(
    machine: Definition, before: Snapshot | None, input: Input, decision: Decision, ledger: Ledger
) -> Ledger:
    """Return the ledger after a decision."""
    phase = before.phase if before else None
    if isinstance(input, i.Done | i.Skip) and isinstance(phase, Running | Stuck) and phase.kind == "undo":
        ledger = tuple(step for step in ledger if step != phase.state)
    for effect in decision.effects:
        if isinstance(effect, Perform) and effect.kind == "perform" and machine.table[effect.state].undo:
            ledger = (*(step for step in ledger if step != effect.state), effect.state)
    return ledger[-KEPT_STEPS:]


def broken(
    machine: Definition, before: Snapshot | None, input: Input, decision: Decision, ledger: Ledger
) -> Iterator[Broken]:
    """Yield the promises that a decision breaks; ``ledger`` is the one after it."""
    after = decision.snapshot
    if set(after.steps[-KEPT_STEPS:]) != set(ledger):
        told = ", ".join(f"`{step}`" for step in after.steps) or "nothing"
        begun = ", ".join(f"`{step}`" for step in ledger) or "nothing"
        yield Broken("left-behind", f"its undo list holds {told}, and begun and not undone is {begun}", FAULT)
    elif after.steps[-KEPT_STEPS:] != ledger:
        yield Broken("broken-rule", "its undo list is not in the order in which steps were begun", FAULT)
    if isinstance(after.phase, Ended) and after.phase.outcome != "succeeded" and ledger:
        left = ", ".join(f"`{step}`" for step in ledger)
        yield Broken("left-behind", f"it ends as {after.phase.outcome} and {left} was begun and not undone", FAULT)
    if before is None:
        return
    yield from _past_pivot(machine, before, input, decision)
    if before.rollback and isinstance(after.phase, Ended) and after.state != before.rollback.to:
        yield Broken("wrong-end", f"it rolls back to `{before.rollback.to}` and ends in `{after.state}`", FAULT)
    yield from _attempts(before, input, decision)


def _past_pivot(machine: Definition, before: Snapshot, input: Input, decision: Decision) -> Iterator[Broken]:
    """A person's override may break this, and says so; nothing else may."""
    row, after = machine.table[before.state], decision.snapshot
    if not row.past_pivot or isinstance(input, i.Override):
        return
    mend = "Lead this way forward, or leave it out: then the operation gets stuck for a person."
    end = after.phase.outcome if isinstance(after.phase, Ended) else ""
    began = any(isinstance(fact, RollbackBegan) for fact in decision.facts)
    if began or end in ("failed", "cancelled"):
        does = f"ends as {end}" if end else "rolls back"
        yield Broken("undone-after-pivot", f"stands at or after the pivot, and an operation {does} from it", mend)


def _attempts(before: Snapshot, input: Input, decision: Decision) -> Iterator[Broken]:
    was, now = before.phase, decision.snapshot.phase
    if isinstance(input, i.Done) and input.token == OLD_TOKEN:
        yield Broken("stale-outcome", "an outcome whose token is not that of the running attempt is recorded", FAULT)
    elif (
        isinstance(was, Running)
        and not isinstance(input, _ENDS)
        and not (isinstance(now, Running) and now.token == was.token)
    ):
        yield Broken(
            "overlap", f"while an attempt at `{was.state}` runs, it goes on as {decision.snapshot.status}", FAULT
        )
    issued = isinstance(now, Running) and not (isinstance(was, Running) and now.token == was.token)
    if issued and before.paused and not isinstance(input, i.Resume | i.Cancel):
        yield Broken("broken-rule", "an attempt is issued while it is paused", FAULT)
    if isinstance(was, Queued) and was.kind == "undo" and before.steps and was.state != before.steps[-1]:
        yield Broken("broken-rule", f"`{was.state}` is undone before the newer step `{before.steps[-1]}`", FAULT)
