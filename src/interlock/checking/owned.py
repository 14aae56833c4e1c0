"""What must hold of owned resources: each decision is made once more for an operation that owns something.

Nothing in a machine says which action owns what, so an operation may own anything at any time. What it owns must change nothing about what
it does, until it would end: then it is stuck, unless that end hands over resources of this kind. So there is no need of more situations.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from interlock.checking.promises import FAULT, Broken
from interlock.checking.situation import NOW, OLD_TOKEN, TOKEN
from interlock.checking.trying import Trial, trials
from interlock.definition.declare import Final
from interlock.definition.machine import Definition
from interlock.errors import InterlockError
from interlock.interpreter import inputs as i
from interlock.interpreter.decide import Decision, decide
from interlock.interpreter.snapshot import Ended, Own, Running, Snapshot, Stuck

__all__ = ["let_go", "taken_and_given_back"]

ANYTHING = "any thing"
"""A kind that no machine's end hands over."""


def let_go(machine: Definition, trial: Trial, decision: Decision) -> Iterator[Broken]:
    """Yield how an operation that owns something departs from a decision that was made for one that owns nothing."""
    if trial.snapshot is None:
        return
    for kind in (ANYTHING, *_handed(machine, decision.snapshot)):
        own = Own(kind, "1")
        try:
            after = decide(machine, replace(trial.snapshot, owned=(own,)), trial.input, NOW).snapshot
        except InterlockError as error:
            yield Broken("broken-rule", f"it is refused to an operation that owns something: {error.message}", FAULT)
            continue
        ends = isinstance(decision.snapshot.phase, Ended) and not _handed(machine, decision.snapshot, kind)
        if own not in after.owned:
            yield Broken("left-behind", "an operation forgets what it owns", FAULT)
        elif not ends and replace(after, owned=()) != decision.snapshot:
            yield Broken("broken-rule", f"an operation that owns something goes on as {after.status} instead", FAULT)
        elif ends and not (isinstance(after.phase, Stuck) and after.phase.code == "still-owned"):
            yield Broken("left-behind", f"it is {after.status} and owns what nobody takes over", FAULT)
        elif ends:
            yield from _stays(machine, after)


def taken_and_given_back(machine: Definition, at: Snapshot) -> Iterator[Broken]:
    """Yield what does not hold when the attempt that runs says what it owns, and that it gave it back; or a worker that is too late."""
    if not isinstance(at.phase, Running):
        return
    took = decide(machine, at, i.Owns(TOKEN, ANYTHING, "1"), NOW).snapshot
    gave = decide(machine, took, i.Owns(TOKEN, ANYTHING, "1", gone=True), NOW).snapshot
    if took.owned != (Own(ANYTHING, "1"),) or replace(took, owned=(), seq=at.seq, changed=at.changed) != at:
        yield Broken("broken-rule", "what an attempt owns is not recorded, or more than that", FAULT)
    if replace(gave, seq=at.seq, changed=at.changed) != at:
        yield Broken("broken-rule", "what an attempt has given back is still owned", FAULT)
    try:
        decide(machine, at, i.Owns(OLD_TOKEN, ANYTHING, "1"), NOW)
    except InterlockError:
        return
    yield Broken("stale-outcome", "what a worker owns is recorded, though it was taken over", FAULT)


def _handed(machine: Definition, at: Snapshot, kind: str = "") -> list[str]:
    """Return the kinds, or the one of them, that the end hands over in which an operation is."""
    final = machine.states[at.state]
    kinds = final.hands_over if isinstance(final, Final) and isinstance(at.phase, Ended) else ()
    return [one for one in kinds if one == kind or not kind]


def _stays(machine: Definition, stuck: Snapshot) -> Iterator[Broken]:
    """Nothing brings it to an end with what it owns, but a person who says that it is gone."""
    for trial in trials(machine, stuck):
        try:
            after = decide(machine, trial.snapshot, trial.input, NOW).snapshot
        except InterlockError:
            continue
        left = [own for own in after.owned if not _handed(machine, after, own.kind)]
        lost = not after.owned and not isinstance(trial.input, i.Skip)
        if lost or (isinstance(after.phase, Ended) and left):
            what = f"stuck with what it owns, it is {after.status} and nobody owns that any more"
            yield Broken("left-behind", f"{what}, when {trial.words or 'a worker takes it'}", FAULT)
