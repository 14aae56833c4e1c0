"""Situations: operations that will behave alike, made one.

What an operation may do next does not depend on when it happened, which worker or token it was, or what its data says. So a snapshot is
brought into one plain form: times are "now" or "some time later", the data is as it was at the start, counts of attempts begin anew
(whether any are left is a free choice of `trying`), a wait for a retry is over. Snapshots with the same `key_of` are one situation.

Of the undo list the interpreter asks three things: is it empty, which step is the newest, and what remains without it. So before a
rollback only its emptiness tells situations apart; during one, which step is undone, for which end, and whether more remain. A rollback is
a row of such stages, each of which behaves the same wherever it began; `explore` sees to it that every stage is visited. This keeps the
number of situations linear in the number of states, where undo lists would make it quadratic, and orders of steps exponential. The list
itself is cut to its newest steps.

Not told apart, because decide's rules make them the same: a signal that is held and one that comes as soon as its state is entered; a
breakpoint and a pause at that moment; an attempt that recovers and one that does not. Left out: what a caller sets for one operation at its
start, but for a deadline. What actions own changes nothing but the end, which `owned` sees to.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from msgspec.structs import replace

from interlock.interpreter.snapshot import (
    Beginning,
    Choice,
    Joining,
    Pause,
    Pending,
    Phase,
    Queued,
    RollingBack,
    Running,
    Snapshot,
    Stuck,
)

__all__ = ["KEPT_STEPS", "LATER", "NOW", "OLD_TOKEN", "TOKEN", "WORKER", "key_of", "plain"]

NOW, LATER = 1_000.0, 1e12
SEQ, TOKEN, OLD_TOKEN = 1_000, 1, 2
WORKER = "w"
KEPT_STEPS = 4


def plain(snapshot: Snapshot, data: Mapping[str, Any]) -> Snapshot:
    """Return a snapshot in its plain form; ``data`` is what every operation holds here."""
    pending, choice, back = snapshot.pending, snapshot.choice, snapshot.rollback
    return replace(
        snapshot,
        seq=SEQ,
        data=data,
        started=0.0,
        since=0.0,
        changed=0.0,
        visit=1,
        attempts=0,
        lost=0,
        timers=dict.fromkeys(snapshot.timers, LATER),
        keys=(),
        failure=None,
        phase=_phase(snapshot.phase, pending is not None),
        steps=snapshot.steps[-KEPT_STEPS:],
        rollback=RollingBack(back.to) if back else None,
        pending=Pending(pending.cause, pending.name) if pending else None,
        choice=Choice(choice.cause, choice.name, choice.conditions) if choice else None,
        paused=Pause() if snapshot.paused else None,
    )


def _phase(phase: Phase, pending: bool) -> Phase:
    if isinstance(phase, Running):
        # When a way on is pending it does not matter any more why the attempt was cut first.
        cut = "event" if pending and phase.cut else phase.cut
        until = None if phase.until is None or cut else LATER
        return Running(phase.kind, phase.state, TOKEN, WORKER, 0.0, queue=phase.queue, until=until, cut=cut)
    if isinstance(phase, Queued):
        return Queued(phase.kind, phase.state, 0.0, phase.queue)
    if isinstance(phase, Stuck):
        return Stuck(phase.kind, phase.state, phase.code, "", phase.queue)
    if isinstance(phase, Beginning):
        return Beginning(0.0)
    if isinstance(phase, Joining):
        return replace(phase, reason="")
    return phase


def key_of(plain: Snapshot) -> Hashable:
    """Return what tells a plain snapshot's situation from all others."""
    phase = plain.phase
    doing: tuple[Hashable, ...] = (type(phase).__name__, plain.paused is not None)
    if isinstance(phase, Running | Queued | Stuck):
        doing = (*doing, phase.kind, phase.state)
    if isinstance(phase, Running):
        doing = (*doing, phase.cut, phase.until)
    if isinstance(phase, Stuck):
        doing = (*doing, phase.code)
    if isinstance(phase, Beginning):
        doing = (*doing, bool(plain.claims))
    if isinstance(phase, Joining):
        counts = (phase.issued, phase.live, phase.succeeded, phase.failed)
        doing = (*doing, counts, phase.stopping, phase.event)
    if plain.rollback:
        return (plain.rollback.to, len(plain.steps) > 1, *doing)
    pending = (plain.pending.cause, plain.pending.name) if plain.pending else None
    choice = (plain.choice.cause, plain.choice.name) if plain.choice else None
    return (plain.state, bool(plain.steps), tuple(sorted(plain.timers)), pending, choice, *doing)
