"""The checker: every promise about a machine, held against its text and against everything the interpreter can do with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from interlock.checking.claims import claims
from interlock.checking.explore import Budget, Exploration, explore
from interlock.checking.finding import CODES, EXPLORED, Finding
from interlock.checking.written import Story, driven, guarded, timers, ways
from interlock.definition.machine import Definition, Machine, definition_of
from interlock.errors import Fault, did_you_mean

__all__ = ["Report", "check", "refused"]


@dataclass(frozen=True)
class Report:
    """What was found in one machine, and how much was looked at.

    Attributes:
        machine, version: which one.
        findings: errors first, then in the order of the states.
        explored: situations an operation can be in that were visited.
        decisions: inputs that were given to the interpreter.
        complete: all there are were visited; nothing was left out.
        note: one sentence about what was explored.
    """

    machine: str
    version: int
    findings: tuple[Finding, ...]
    explored: int = 0
    decisions: int = 0
    complete: bool = False
    note: str = ""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What breaks a promise."""
        return tuple(one for one in self.findings if one.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Warnings that the machine does not accept."""
        return tuple(one for one in self.findings if one.severity == "warning" and not one.accepted)

    @property
    def accepted(self) -> tuple[Finding, ...]:
        """Warnings that it does."""
        return tuple(one for one in self.findings if one.accepted)


def check(
    target: Definition | type[Machine[Any]],
    budget: Budget | None = None,
    beside: Iterable[Definition | type[Machine[Any]]] = (),
    watch: Callable[[int], None] | None = None,
) -> Report:
    """Check a machine.

    Args:
        target: the machine; building it has refused what contradicts itself already.
        budget: how much of its behaviour is explored at most.
        beside: other machines that run with it: their claims are held against its own, and children are looked up among them.
        watch: told now and then how many situations were seen.

    Returns:
        what was found. If the budget did not suffice, ``complete`` is false and ``note`` says how much was seen.

    >>> from interlock import Final, Machine, State
    >>> class Deploy(Machine[dict[str, str]], version=1):
    ...     building = State(initial=True, undo="nothing", then="live")
    ...     live = Final("succeeded")
    ...     failed = Final("failed")
    ...     cancelled = Final("cancelled")
    >>> report = check(Deploy)
    >>> report.complete, [(one.code, one.state, one.story) for one in report.findings]
    (True, [('no-timeout', 'building', ('an operation starts in `building`',))])
    """
    machine = definition_of(target)
    others = [one for one in map(definition_of, beside) if one is not machine]
    read = ways(machine)
    findings: list[Finding] = []
    if machine.drives:
        seen = explore(machine, budget, watch)
        findings += seen.findings
        findings += _seen(seen)
        story = _stories(seen, read)
        findings += driven(machine, story)
        note, complete = _note(seen), seen.complete
        explored, decisions = len(seen.nodes), seen.decisions
    else:
        story, explored, decisions, complete = read, len(machine.states), 0, True
        note = "it performs no action, so there is nothing to explore: what is said follows from its text"
        findings += guarded(machine, story)
    findings += timers(machine, story)
    findings += claims(machine, others)
    places = {name: number for number, name in enumerate([*machine.states, *machine.groups])}
    findings.sort(key=lambda one: (one.severity != "error", places.get(one.state, len(places))))
    findings = list(_accepted(machine, findings, complete))
    return Report(machine.name, machine.version, tuple(findings), explored, decisions, complete, note)


def _stories(seen: Exploration, read: Story) -> Story:
    def story(state: str) -> tuple[str, ...]:
        return seen.story(seen.first[state]) if state in seen.first else read(state)

    return story


def _note(seen: Exploration) -> str:
    if seen.refused:
        return f"its behaviour was not explored: {seen.refused}"
    what = f"{len(seen.nodes):,} situations, {seen.decisions:,} decisions"
    if seen.complete:
        return f"explored all there is: {what}"
    entered, states = len(seen.first), len(seen.machine.states)
    return (
        f"the budget ran out after {what}, in {entered:,} of {states:,} states: "
        "nothing is proved about the rest; give it a larger budget"
    )


def _seen(seen: Exploration) -> Iterator[Finding]:
    """Yield what follows from all that was seen together."""
    machine = seen.machine
    for state, stall in seen.stuck.items():
        short = "time" if stall.late else "attempts"
        what = f"stands at or after the pivot and can run out of {short}: then the operation is stuck and waits for a person"
        mend = "Give it retry=Retry.forever(), or an exit for `failed` that leads forward."
        if stall.late:
            mend = "Give it an exit for `timeout` that leads forward, or no bound of the whole stay."
        yield Finding("stuck-after-pivot", "warning", state, what, seen.story(stall.node, stall.words), mend)
    if not seen.complete:
        return
    for name in machine.states:
        if name not in seen.first and name not in ("failed", "cancelled"):
            what = "is never entered, whatever happens"
            yield Finding(
                "never-entered", "error", name, what, (), "Lead an exit to it that can be taken, or delete it."
            )


def _accepted(machine: Definition, findings: Sequence[Finding], complete: bool) -> Iterator[Finding]:
    used = set()
    for one in findings:
        key = next((key for key in (f"{one.code}:{one.state}", one.code) if key in machine.accepts), None)
        if key is None or one.severity == "error":
            yield one
        else:
            used.add(key)
            yield replace(one, accepted=machine.accepts[key])
    for key in machine.accepts:
        code = key.partition(":")[0]
        if key in used or (code in EXPLORED and not complete):
            continue
        what, mend = f"accepts `{key}`, which is not found in it", "Delete the line."
        if code not in CODES:
            what = f"accepts `{key}`, and there is no such code{did_you_mean(code, CODES)}"
            mend = "Write the code of a warning, or code:state."
        elif CODES[code].severity == "error":
            what, mend = (
                f"accepts `{key}`, which is an error: errors are mended, not accepted",
                "Mend the machine, and delete the line.",
            )
        yield Finding("accepts-nothing", "warning", "", what, (), mend)


def refused(faults: Iterable[Fault]) -> tuple[Finding, ...]:
    """Return the faults for which a machine could not be built, as findings.

    >>> refused([Fault("dead-end", "`b`", "has no exit", "Give it one.")])[0].state
    'b'
    """
    return tuple(_refused(fault) for fault in faults)


def _refused(fault: Fault) -> Finding:
    place = re.fullmatch(r"`([^`]+)`(?:, (.*))?", fault.where)
    if place is None:
        what = fault.what if fault.where == "machine" else f"{fault.where} {fault.what}"
        return Finding(fault.code, "error", "", what, (), fault.mend)
    what = f"{place[2]} {fault.what}" if place[2] else fault.what
    return Finding(fault.code, "error", place[1], what, (), fault.mend)
