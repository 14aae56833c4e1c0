"""Findings: what `interlock check` says about a machine, each under a stable code, and the one table of all codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["CODES", "EXPLORED", "SEALED", "Code", "Finding", "generate"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found in a machine.

    Attributes:
        code: stable; what it means stands in `CODES`.
        severity: ``error`` breaks a promise; ``warning`` is what an operator would want to know, and can be accepted with a reason.
        state: the state, group or claim it is about; empty for the machine as a whole.
        what: what is wrong, a sentence without its full stop.
        story: how an operation gets there, one event each; the shortest way.
        mend: what would mend it.
        accepted: the reason for which the machine itself accepts it.

    >>> str(Finding("no-timeout", "warning", "copying", "has no timeout", (), "Give it a timeout."))
    'copying: has no timeout. Give it a timeout. [no-timeout]'
    """

    code: str
    severity: Severity
    state: str
    what: str
    story: tuple[str, ...]
    mend: str
    accepted: str = ""

    def __str__(self) -> str:
        return f"{self.state or 'the machine'}: {self.what}. {self.mend} [{self.code}]"


class Code(NamedTuple):
    """What a code stands for."""

    severity: Severity
    meaning: str


EXPLORED: Mapping[str, Code] = {
    "never-entered": Code("error", "A state is declared, and no operation ever gets there."),
    "no-end": Code("error", "An operation can get where nothing but a person can bring it to an end."),
    "left-behind": Code(
        "error", "An operation ends as failed or cancelled, or forgets a step, though what it started was not undone."
    ),
    "undone-after-pivot": Code(
        "error", "An operation that is past the pivot rolls back, or ends as failed or cancelled."
    ),
    "wrong-end": Code("error", "A rollback ends in another final state than the one it names."),
    "overlap": Code("error", "Something begins before the attempt that runs has ended."),
    "stale-outcome": Code("error", "The outcome of an attempt that was taken over is recorded."),
    "broken-rule": Code("error", "The interpreter itself fails, or breaks one of its own rules."),
    "stuck-after-pivot": Code(
        "warning", "Past the pivot an operation runs out of attempts or time, and then waits for a person."
    ),
}
"""What only the exploration of the whole behaviour can say."""

_WRITTEN: Mapping[str, Code] = {
    "dead-event": Code("warning", "An exit that can never be taken: nothing brings its event."),
    "dead-timer": Code("error", "A timer that never fires: another one always moves the operation on before."),
    "dead-choice": Code("error", "A conditional target behind one that asks the same condition."),
    "competing-timers": Code("error", "Two timers that are due at the same moment lead to different places."),
    "no-timeout": Code("warning", "An action that hangs is never ended: no timeout, heartbeat or other bound."),
    "no-deadline": Code("warning", "A state that waits for a report, and nothing moves it when the report never comes."),
    "no-recovery": Code("warning", "A guarded state without an exit for the death of the process that writes it."),
    "no-cancel": Code("warning", "A guarded state that nobody can cancel."),
    "no-failure": Code("warning", "A guarded state that has no way to fail."),
    "left-end": Code("warning", "A final state is left again."),
    "claim-deadlock": Code("error", "A parent holds a claim that the children of another wait for, and the other way round: for ever."),
    "claim-overlap": Code("error", "One machine claims a resource alone and another one shares it: they can overlap on it."),
    "claim-twice": Code("warning", "One operation can claim the same resource twice, and then stands in its own way."),
    "claim-unset": Code("warning", "A claim is named by a field that may be empty: operations without it meet, or do not, by accident."),
    "preempt-refused": Code("warning", "A claim preempts its holder, whose machine refuses every cancel."),
    "preempt-each-other": Code("warning", "Two machines preempt each other on the same claim: they can cancel one another for ever."),
    "accepts-nothing": Code("warning", "The machine accepts what is not found in it, or what cannot be accepted."),
}  # fmt: skip

CODES: Mapping[str, Code] = {**EXPLORED, **_WRITTEN}
"""Every code that checking a sealed machine can find."""

SEALED: Mapping[str, str] = {
    "bad-shape": "A part of the machine is not of the kind it has to be.",
    "not-a-state": "A class has an attribute that a machine has no use for.",
    "data-type": "The data's type cannot be read.",
    "one-name": "One State object stands under two names.",
    "bad-name": "A name is none, or means something else already.",
    "long-name": "A name is too long.",
    "reserved-event": "A group has an exit for an outcome that belongs to one state.",
    "open-end": "A final state of a machine that drives has exits.",
    "same-status": "Two states have the same stored value.",
    "too-many": "More states, groups or exits than the limit.",
    "unknown-target": "An exit leads to no state.",
    "unknown-member": "A group has a member that is neither state nor group.",
    "dead-end": "A state has no exit.",
    "open-choice": "A conditional exit leads nowhere when no condition holds.",
    "dead-branch": "Targets stand behind one without a condition.",
    "rollback-target": "A rollback ends in no failed or cancelled final state.",
    "mixed-kind": "A state is of two kinds at once.",
    "useless-option": "An option that has no meaning in its state.",
    "bad-option": "An option has a value it cannot have.",
    "group-cycle": "Groups contain one another in a circle.",
    "competing-exits": "Two groups give a state an exit for the same event.",
    "no-state": "The machine has no state.",
    "no-initial": "The machine has no initial state.",
    "unreachable": "A state cannot be reached from an initial one.",
    "no-way-out": "No final state can be reached from a state.",
    "no-undo": "A state starts something before the pivot and does not say how it is undone.",
    "undo-past-pivot": "A state at or after the pivot has an undo.",
    "way-back": "A way leads back behind the pivot.",
    "unclean-end": "An operation ends as failed or cancelled after the pivot.",
    "no-failed": "Something can fail, and there is no final state `failed` to roll back to.",
    "no-cancelled": "Something can be cancelled, and there is no final state `cancelled` to roll back to.",
    "unknown-field": "A template uses what is no field of the data.",
    "bad-default": "A field's default does not fit it.",
    "bad-template": "A template is malformed.",
    "twice-claimed": "A claim is declared twice.",
    "view-unknown": "A view names what is no state.",
    "rename-first": "The first version of a machine renames states of an earlier one.",
    "rename-source": "`renames` says what a state became that is still there.",
    "rename-target": "`renames` leads to no state.",
    "view-twice": "A view gives a state two public names.",
    "view-missing": "A view has no public name for a state.",
    "illegal-document": "The document describes no machine.",
}
"""What is refused before there is a machine to check: found as errors under these codes."""

_PAGE = """<!-- generated by interlock.checking.finding: change the code, then run `make generate` -->

# What `interlock check` finds

How to read and to accept findings: [check a machine](../how-to/check.md). An error breaks a promise and cannot be accepted; a warning can,
with a reason, in the machine itself.

## In a machine

Codes marked with * come from exploring everything that the interpreter can do with the machine; the others from its text.

| code | severity | meaning |
|---|---|---|
{codes}

## Before there is a machine

These make a machine, or a document, be refused when it is built; all are errors.

| code | meaning |
|---|---|
{sealed}
"""


def generate() -> dict[str, str]:
    """Return the page of all codes, by path."""
    codes = "\n".join(
        f"| `{name}`{'*' if name in EXPLORED else ''} | {code.severity} | {code.meaning} |"
        for name, code in CODES.items()
    )
    sealed = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in SEALED.items())
    return {"docs/reference/checks.md": _PAGE.format(codes=codes, sealed=sealed)}
