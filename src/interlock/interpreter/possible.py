"""What can be asked of an operation as it stands: the list that a refusal, a 409 and `why` show."""

from __future__ import annotations

from interlock.definition.flatten import RESERVED_EVENTS
from interlock.definition.machine import Definition
from interlock.interpreter.snapshot import Beginning, Ended, Joining, Queued, Running, Snapshot, Stuck

__all__ = ["possible", "reachable_signals", "signals", "signals_ahead"]


def signals(machine: Definition, snapshot: Snapshot) -> frozenset[str]:
    """Return the events that a signal may bring now."""
    phase = snapshot.phase
    if type(phase) in (Beginning, Ended, Stuck) or snapshot.rollback or snapshot.pending or snapshot.choice:
        return frozenset()
    return frozenset(machine.table[snapshot.state].exits) - RESERVED_EVENTS


def reachable_signals(machine: Definition, snapshot: Snapshot) -> frozenset[str]:
    """Return the events that some state ahead accepts, the present one included."""
    return frozenset() if snapshot.ended or snapshot.rollback else signals_ahead(machine, snapshot.state)


def signals_ahead(machine: Definition, state: str) -> frozenset[str]:
    """Return the events that ``state``, or some state that can follow it, accepts."""
    found, todo = {state}, [state]
    while todo:
        for _, branch in machine.table[todo.pop()].targets():
            if branch.to not in found:
                found.add(branch.to)
                todo.append(branch.to)
    return frozenset(event for state in found for event in machine.table[state].exits) - RESERVED_EVENTS


def possible(machine: Definition, snapshot: Snapshot) -> tuple[str, ...]:
    """Return what can be asked now, in the words of the command line: ``signal abort``, ``cancel``, ``retry``, ..."""
    if snapshot.ended:
        return ()
    phase = snapshot.phase
    found = [f"signal {event}" for event in sorted(signals(machine, snapshot))]
    cancelling = snapshot.pending is not None and snapshot.pending.cause == "cancel"
    refused = machine.table[snapshot.state].cancel == "refuse" and type(phase) is not Beginning
    refused = refused or "cancelled" not in machine.states
    if not snapshot.rollback and not cancelling and not refused:
        found.append("cancel")
    found.append("resume" if snapshot.paused else "pause")
    if type(phase) is Stuck:
        if phase.kind != "undo" or machine.table[phase.state].undo:
            found.append("retry")
        if phase.kind == "undo" or (phase.kind == "perform" and "done" in machine.table[phase.state].exits):
            found.append("skip")
    elif type(phase) is Queued and phase.ready_at > snapshot.changed:
        found.append("retry")
    if type(phase) not in (Beginning, Joining, Running):
        found.append("override")
    return tuple(found)
