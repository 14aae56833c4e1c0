"""What can happen to an operation as it stands: the inputs that are tried on it, each with what to call it in a story.

Every input is one that `decide` can be given; whether it is granted is `decide`'s word alone. What the exploration chooses freely is put
into the snapshot before: which timer is due, and whether an attempt was the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from interlock.checking.situation import LATER, NOW, OLD_TOKEN, TOKEN, WORKER
from interlock.definition.declare import Exit
from interlock.definition.duration import duration_text
from interlock.definition.flatten import Row, template_fields
from interlock.definition.machine import Definition
from interlock.interpreter import inputs as i
from interlock.interpreter.children import child_id
from interlock.interpreter.facts import Bounds, Failure, Outcome
from interlock.interpreter.inputs import Claimant
from interlock.interpreter.snapshot import Beginning, Joining, Queued, Running, Snapshot, Stuck, Waiting
from interlock.interpreter.turn import filled

__all__ = ["LIMITLESS", "Trial", "data_of", "ends_clean", "starts", "trials"]

OUTCOMES: Sequence[Outcome] = ("succeeded", "failed", "cancelled")
LIMITLESS = 10**6
"""More attempts than any policy allows, except one without limit."""

By = Literal["course", "caller", "person", "code"]


class Trial(NamedTuple):
    """One input, tried on ``snapshot``. ``words``: for the story; empty if it is not worth a word. ``by``: who makes it happen.

    ``course``: the clock, a worker, a signal, a resume: what brings an operation forward. ``caller``: a cancel, a pause or a deadline,
    which nobody may count on. ``person``: who repairs what is stuck. ``code``: existing code that writes the next state. ``cause``: what
    it means for a stuck operation: ``out`` of attempts or time, or nothing. ``must``: something has to follow from it.
    """

    words: str
    input: i.Input
    snapshot: Snapshot | None
    by: By = "course"
    cause: str = ""
    must: bool = False


class _Everywhere(frozenset[str]):
    def __contains__(self, queue: object) -> bool:
        return True


OFFER = i.Offer(WORKER, _Everywhere())
_SAMPLES = {"string": "x", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}, "null": None}


def data_of(machine: Definition) -> dict[str, Any]:
    """Return data of the right shape: what is required, what claims name, and two items for the children of each state."""
    needed = {name for name, one in (machine.fields or {}).items() if one.required}
    needed.update(name for claim in machine.claims for name in template_fields(claim.name))
    types = {name: (machine.fields or {})[name].types for name in needed & (machine.fields or {}).keys()}
    data = {name: _SAMPLES[types[name][0]] if types.get(name) else "x" for name in sorted(needed)}
    for row in machine.table.values():
        if row.children is not None and row.children.each:
            data[row.children.each] = ["x", "x"] if row.children.item else [{}, {}]
        if row.children is not None and isinstance(row.children.limit, str):
            data[row.children.limit] = 1
    return data


def ends_clean(machine: Definition, name: str) -> bool:
    """Whether the machine has the final state ``failed`` or ``cancelled``, as ``name`` says, to roll back to."""
    row = machine.table.get(name)
    return row is not None and row.outcome == name


def starts(machine: Definition) -> Iterator[Trial]:
    """Yield every way to start an operation; each has a deadline where the machine can fail by it."""
    bounds = Bounds(deadline=LATER) if ends_clean(machine, "failed") else None
    for state in machine.initial:
        start = i.Start("operation", data_of(machine), state=state, bounds=bounds, on_conflict="wait")
        yield Trial(f"an operation starts in `{state}`", start, None)
        yield Trial(f"an operation is to start in `{state}` later", replace(start, not_before=LATER), None)
        if machine.table[state].kind == "parent":
            pauses = replace(start, breakpoints=(state,))
            yield Trial(f"an operation starts in `{state}` and pauses before its children", pauses, None)
        if machine.claims:
            taken = replace(start, standing=_taken(machine, start.data))
            yield Trial(f"an operation that is to start in `{state}` has to wait for its claims", taken, None)


def trials(machine: Definition, at: Snapshot) -> Iterator[Trial]:
    """Yield everything that can happen to an operation that is not over."""
    row = machine.table[at.state]
    phase = at.phase
    if isinstance(phase, Running):
        yield from _attempt(machine, row, at, phase)
    elif isinstance(phase, Queued):
        yield Trial("", i.Take(OFFER), at, must=not at.paused)
    elif isinstance(phase, Beginning):
        yield from _beginning(machine, at)
    elif isinstance(phase, Joining):
        yield from _children(at, phase)
    if not at.paused:
        fires = not (at.rollback or at.pending or isinstance(phase, Stuck))
        for name, by in _timers(row, at):
            yield Trial(_time(row, name), i.Tick(), _due(at, name), by, "out" if by == "course" else "", must=fires)
    for event in row.exits:
        yield Trial(f"the signal `{event}` arrives", i.Signal(event), at)
    if ends_clean(machine, "cancelled") or row.cancel == "refuse":
        yield Trial("it is cancelled", i.Cancel(), at, "caller")
    if at.paused:
        yield Trial("it is resumed", i.Resume(), at, must=True)
        for name, by in _timers(row, at):
            yield Trial(f"meanwhile {_time(row, name)}; it is resumed", i.Resume(), _due(at, name), by, "out")
    else:
        yield Trial("it is paused", i.Pause(), at, "caller")
    if isinstance(phase, Stuck):
        yield Trial("a person has it tried again", i.Retry(reason="checked"), at, "person")
        yield Trial("a person declares it done", i.Skip(reason="checked"), at, "person")
    if isinstance(phase, Waiting | Queued) and not at.rollback:
        for target in row.to:
            if machine.table[target].kind != "final":
                yield Trial(f"existing code writes `{target}`", i.Override(target, reason="checked"), at, "code")
    yield Trial("a worker that was taken over comes back", i.Done(OLD_TOKEN), at, "caller")


def _taken(machine: Definition, data: Mapping[str, Any]) -> i.Standing:
    names = [filled(claim.name, data) for claim in machine.claims]
    return {name: [Claimant("another")] * max(one.limit for one in machine.claims) for name in names}


def _beginning(machine: Definition, at: Snapshot) -> Iterator[Trial]:
    what = "its claims are free" if at.claims else "its time comes"
    yield Trial(what, i.Tick(standing={}), at, must=not at.paused)
    if machine.claims and not at.claims:
        taken = _taken(machine, at.data)
        for on_conflict in ("wait", "reject"):
            late = replace(at, on_conflict=on_conflict)
            yield Trial(
                "its time comes, and others hold what it claims", i.Tick(standing=taken), late, must=not at.paused
            )


def _children(at: Snapshot, phase: Joining) -> Iterator[Trial]:
    for index in phase.live:
        for outcome in OUTCOMES:
            over = i.ChildOver(index, child_id(at, index), outcome)
            yield Trial(f"child {index} ends as {outcome}", over, at, must=True)


def _due(at: Snapshot, name: str) -> Snapshot:
    return replace(at, timers={**at.timers, name: NOW})


def _timers(row: Row, at: Snapshot) -> Iterator[tuple[str, By]]:
    """Yield the timers that can be the next to fire. Those of the stay began together: the shortest comes first."""
    waits = {f"after:{number}": wait for number, (wait, _) in enumerate(row.after)}
    if row.within is not None:
        waits["within"] = row.within
    own = [(waits[name], name) for name in at.timers if name in waits]
    if own:
        yield min(own)[1], "course"
    for name in at.timers:
        if name not in waits:
            yield name, "caller" if name == "deadline" else "course"


def _time(row: Row, name: str) -> str:
    kind, _, rest = name.partition(":")
    if kind == "after":
        return f"{duration_text(row.after[int(rest)][0])} have passed in `{row.name}`"
    if kind == "group":
        return f"the time of group `{rest}` is over"
    if kind == "within" and row.within is not None:
        return f"`{row.name}` takes longer than {duration_text(row.within)} in all"
    return "its deadline has come"


def _attempt(machine: Definition, row: Row, at: Snapshot, attempt: Running) -> Iterator[Trial]:
    what = {"perform": "`{}`", "undo": "the undo of `{}`", "choose": "the choice of the way out of `{}`"}[attempt.kind]
    what = what.format(attempt.state)
    yield from _outcomes(row, at, attempt)
    last = replace(at, attempts=LIMITLESS)
    for kind in ("Error", *_errors(machine.table[attempt.state], attempt)):
        failure, answers = Failure(kind, kinds=(kind,)), _answers(row.exits.get("failed", ()))
        yield Trial(f"{what} fails", i.Failed(TOKEN, failure), at, cause="out")
        yield Trial(f"{what} fails for the last time", i.Failed(TOKEN, failure), last, cause="out")
        for given, words in answers:
            yield Trial(
                f"{what} fails for the last time{words}", i.Failed(TOKEN, failure, answers=given), last, cause="out"
            )
    yield Trial(f"{what} fails for good", i.Failed(TOKEN, Failure("Fail", final=True)), at)
    cut = attempt.cut is not None and at.pending is None
    if cut:
        yield Trial(f"{what} is ended", i.Stopped(TOKEN), at, cause="out")
        yield Trial(f"{what} is ended for the last time", i.Stopped(TOKEN), last, cause="out")
        yield Trial(f"the worker of {what} dies", i.Lapsed(WORKER), last, cause="out")
    elif at.pending:
        yield Trial(f"{what} is ended", i.Stopped(TOKEN), at)
    else:
        yield Trial(f"the worker of {what} stops and hands it over", i.Stopped(TOKEN), at)
        yield Trial(f"{what} has lost its last worker", i.Lapsed(WORKER), replace(at, lost=LIMITLESS))
    yield Trial(f"the worker of {what} dies", i.Lapsed(WORKER), at, must=True)
    if attempt.cut is None:
        if attempt.until is not None:
            late = replace(at, phase=replace(attempt, until=NOW))
            yield Trial(f"{what} runs into its timeout", i.Tick(), late, must=True)
        if attempt.kind == "perform" and row.heartbeat is not None:
            yield Trial(f"{what} misses its heartbeat", i.Silent(TOKEN), at, must=True)


def _errors(row: Row, attempt: Running) -> Sequence[str]:
    policy = row.undo_retry if attempt.kind == "undo" else row.retry
    return list(policy.errors) if attempt.kind != "choose" else []


def _outcomes(row: Row, at: Snapshot, attempt: Running) -> Iterator[Trial]:
    if attempt.kind == "undo":
        yield Trial(f"`{attempt.state}` is undone", i.Done(TOKEN), at)
    elif attempt.kind == "choose":
        assert at.choice is not None
        for answers, words in _of(at.choice.conditions):
            yield Trial(words.removeprefix(", and "), i.Done(TOKEN, answers=answers), at)
        yield Trial("nobody answers", i.Done(TOKEN), at)
    else:
        for event, exit in row.exits.items():
            if event in ("failed", "timeout") or (at.pending and event != "done"):
                continue
            words = f"`{row.name}` is done" if event == "done" else f"`{row.name}` ends with `{event}`"
            yield Trial(words, i.Done(TOKEN, event, offer=OFFER), at)
            yield Trial(words, i.Done(TOKEN, event), at)
            for answers, more in _answers(exit):
                yield Trial(words + more, i.Done(TOKEN, event, answers=answers), at)
        yield Trial(f"`{row.name}` ends with an outcome for which it has no exit", i.Done(TOKEN, "?"), at)


def _answers(exit: Exit) -> list[tuple[Mapping[str, bool], str]]:
    return _of([branch.condition for branch in exit if branch.condition is not None])


def _of(conditions: Sequence[str]) -> list[tuple[Mapping[str, bool], str]]:
    """Return the answers that differ in which condition is the first to hold."""
    names = list(dict.fromkeys(conditions))
    if not names:
        return []
    first = [({name: name == holds for name in names}, f", and `{holds}` holds") for holds in names]
    none = ", and `{}` does not hold".format("`, `".join(names)) if len(names) == 1 else ", and no condition holds"
    return [*first, (dict.fromkeys(names, False), none)]
