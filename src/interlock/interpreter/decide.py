"""The one place that moves an operation: ``decide(machine, snapshot, input, now) -> Decision(facts, effects)``.

Theory of operation. Read this before you change a rule. The rules themselves stand, by what they answer to, in `attempts`, `ways`,
`rollback`, `timers`, `callers`, `claims`, `children`, `owned`, `reports` and `people`; they write on a `Turn` and are reached only through
the table at the end.

1.  A decision is made from a snapshot and one input. It is a list of facts; folding them gives the next snapshot. Nothing else changes.
2.  An input that cannot be granted raises a `Refused` and yields no fact. An input that changes nothing yields no fact either (a repeated
    signal, a tick that comes early).
3.  An attempt is issued by `attempts.issue` alone: to the offer that came with the input, if it serves the queue, the time has come, and
    nothing is paused. So an outcome and the issue of the next attempt are one decision.
4.  A step enters the undo list when its attempt is issued, and leaves it when its undo has succeeded (or a person says so).
5.  The token of an attempt is the sequence number of its `Issued` fact. An outcome with another token is stale and refused.
6.  Nothing overlaps a running attempt. What would move the operation meanwhile (signal, timer, cancel) is recorded, becomes ``pending``,
    and the attempt is cut; `ways.conclude` carries it out when the attempt has ended: it came back, acknowledged the cut, or its lease
    lapsed. The first of them wins; only a cancel replaces another.
7.  A cut for a timeout or a missed heartbeat leaves nothing pending: it ends one attempt. If the action comes back with an outcome after
    all, the outcome counts; otherwise the attempt has failed, and retry policy decides.
8.  `ways.follow` takes an exit. Conditions that nobody answered yet make it an attempt of kind ``choose``, which workers perform like
    any other.
9.  Failed and cancelled mean clean: every way to such a final state goes through `rollback.begin` while steps remain, and from the pivot on
    there is none: the operation gets stuck instead.
10. While it is paused or stuck no timer moves an operation; the timers that are due fire when it goes on.
11. A state that other code performs, as the worker's offer says, is not issued: the operation waits in it for a report, and its step is on
    the undo list from then on. An operation that other code began is adopted in the state it is in: all that may lie behind it is on the
    undo list, and its present state is issued with ``recover``. A report moves what nobody here performs, along the machine's edges.
12. An operation begins when its time has come and its claims are free (`claims`); until then nothing of it has begun. What stands at a
    claim is told with the input: without it, it is taken to be free, and the store refuses the commit if it is not.
13. In a parent state the operation issues its children and waits until they are over (`children`).
14. What it owns is recorded while the attempt runs (`owned`). It does not end while it owns what nobody takes over: it is stuck instead.
15. An operation is upgraded to a newer version of its machine where every rule ends: in `attempts.issue`, with an offer whose actions were
    written for it, before the next attempt is issued. So an outcome is recorded, and its exit followed, in the version that it was
    performed under, and what is issued next is the new version's, in one decision. `upgrade` says whether it is safe; only an operation
    that rests in a queue or a wait is upgraded, never one that is paused, stuck, rolling back, or being chosen a way for, and none that
    waits for its claims or its children. Any other goes on in the version it has, and is issued to newer actions only as far as these
    still have what it needs.
16. Every chain of rules ends in a phase that something can move: an issued attempt, a queue, a wait, a person, or the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from interlock.definition.machine import Definition
from interlock.interpreter import attempts, callers, children, owned, people, reports, timers
from interlock.interpreter import inputs as i
from interlock.interpreter.facts import Fact
from interlock.interpreter.inputs import Cut, Effect, Input, Perform, Preempt, Recall, Spawn, Wake
from interlock.interpreter.snapshot import Beginning, Joining, Queued, Running, Settling, Snapshot, timer_at
from interlock.interpreter.status import STATUS
from interlock.interpreter.turn import Turn

__all__ = ["Decision", "decide", "outstanding"]


class Decision(msgspec.Struct, frozen=True):
    """What follows from an input: facts to commit, the snapshot they lead to, and the effects to carry out once they are committed."""

    facts: tuple[Fact, ...]
    effects: tuple[Effect, ...]
    snapshot: Snapshot


def decide(machine: Definition, snapshot: Snapshot | None, input: Input, now: float) -> Decision:
    """Return what follows from ``input``.

    Args:
        machine: the definition in the version that the operation runs.
        snapshot: the operation as it is; None for a `Start`.
        input: what happened.
        now: seconds since the epoch.

    Raises:
        Refused: the input cannot be granted; the message says what is possible. Nothing changes.
        StaleToken: the outcome is not that of the running attempt. Nothing changes.
    """
    turn = Turn(machine, snapshot, now, getattr(input, "offer", None), getattr(input, "answers", None) or {})
    _RULES[type(input)](turn, input)
    after = turn.after
    assert type(after.phase) is not Settling, f"{after.id}: a decision on {input!r} ended half way: {turn.facts!r}"
    if snapshot is None:
        return Decision(tuple(turn.facts), outstanding(after), after)
    if not turn.facts:
        return Decision((), (), snapshot)
    assert snapshot.status == after.status or STATUS.allows(snapshot.status, after.status), (
        f"{after.id}: status {snapshot.status} -> {after.status} on {input!r}"
    )
    due = outstanding(after)
    if not _same_attempt(snapshot, after):
        return Decision(tuple(turn.facts), due, after)
    before = outstanding(snapshot)
    return Decision(tuple(turn.facts), tuple(effect for effect in due if effect not in before), after)


def _same_attempt(before: Snapshot, after: Snapshot) -> bool:
    """Whether effects of ``before`` may still be due: the attempt is the same, or none runs before and after."""
    one, other = before.phase, after.phase
    if isinstance(one, Running) and isinstance(other, Running):
        return one.token == other.token
    return not isinstance(one, Running) and not isinstance(other, Running)


def outstanding(snapshot: Snapshot) -> tuple[Effect, ...]:
    """Return the effects that are due for an operation as it stands; any of them can be carried out again at any time."""
    phase = snapshot.phase
    effects: list[Effect] = []
    due = timer_at(snapshot)
    if type(phase) is Running:
        name = phase.state if phase.kind == "undo" else snapshot.entered_as or phase.state
        key = f"{snapshot.id}:{name}:{snapshot.visit}:{phase.kind}"
        conditions = snapshot.choice.conditions if snapshot.choice and phase.kind == "choose" else ()
        effects.append(Perform(phase.token, phase.kind, phase.state, phase.number, phase.recover, key, conditions))
        if phase.cut is not None:
            effects.append(Cut(phase.token, phase.cut))
    elif type(phase) is Joining:
        for index in phase.live:
            child = children.child_id(snapshot, index)
            effects.append(Recall(index, child) if phase.stopping else Spawn(index, child))
    elif type(phase) is Beginning and snapshot.preempts and not snapshot.paused:
        effects.append(Preempt(snapshot.preempts))
    elif type(phase) is Queued and not snapshot.paused:
        due = phase.ready_at if due is None else min(due, phase.ready_at)
    if due is not None:
        effects.append(Wake(due))
    return tuple(effects)


_RULES: Mapping[type, Callable[[Turn, Any], None]] = {
    i.Start: callers.start,
    i.Take: attempts.take,
    i.Done: attempts.done,
    i.Failed: attempts.failed,
    i.Stopped: attempts.stopped,
    i.Silent: attempts.silent,
    i.Lapsed: attempts.lapsed,
    i.Tick: timers.tick,
    i.Owns: owned.owns,
    i.ChildOver: attempts.child_over,
    i.Signal: callers.signal,
    i.Report: reports.report,
    i.Cancel: callers.cancel,
    i.Pause: callers.pause,
    i.Resume: callers.resume,
    i.Retry: people.retry,
    i.Skip: people.skip,
    i.Override: people.override,
}
