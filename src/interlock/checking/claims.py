"""Claims: what operations hold alone or share, within one machine and between machines that run beside each other.

Claims are taken in one commit, all or none, when an operation starts. So operations of one machine cannot hold some and wait for others;
what can go wrong is between a parent and its children, and between machines that say different things about the same resource.

Two templates may name the same resource if their parts between ``:`` and ``/`` can be equal; a field stands for any text without these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from interlock.checking.finding import CODES, Finding
from interlock.definition.declare import Claim
from interlock.definition.flatten import template_fields
from interlock.definition.machine import Definition

__all__ = ["claims", "may_meet"]


def may_meet(one: str, other: str) -> bool:
    """Say whether two templates may name the same resource.

    >>> may_meet("host:{source}", "host:{destination}"), may_meet("host:{source}", "host:{source}:outgoing")
    (True, False)
    >>> may_meet("host:a", "host:b"), may_meet("host:rack-{rack}", "host:{host}")
    (False, True)
    """
    parts, others = re.split("[:/]", one), re.split("[:/]", other)
    return len(parts) == len(others) and all(_part_may_meet(*pair) for pair in zip(parts, others, strict=True))


def _part_may_meet(one: str, other: str) -> bool:
    if "{" not in one and "{" not in other:
        return one == other
    pattern, text = (one, other) if "{" in one else (other, one)
    first, last = re.split(r"\{.*\}", pattern, maxsplit=1)
    if "{" not in text:
        return len(text) >= len(first) + len(last) and text.startswith(first) and text.endswith(last)
    start, end = re.split(r"\{.*\}", text, maxsplit=1)
    return (first.startswith(start) or start.startswith(first)) and (last.endswith(end) or end.endswith(last))


def claims(machine: Definition, beside: Sequence[Definition]) -> Iterator[Finding]:
    """Yield what is wrong with a machine's claims, by themselves and beside other machines'."""
    for number, claim in enumerate(machine.claims):
        yield from _unset(machine, claim)
        for other in machine.claims[number + 1 :]:
            if may_meet(claim.name, other.name):
                what = f"may name the same as the claim `{other.name}` of the same operation, which then stands in its own way"
                yield _finding("claim-twice", claim, what, "Give the two names that differ in a part without a field.")
    for other_machine in beside:
        if other_machine.name == machine.name:
            continue
        for claim in machine.claims:
            for other in other_machine.claims:
                if may_meet(claim.name, other.name):
                    yield from _together(machine, claim, other_machine, other)
        yield from _order(machine, other_machine)
    yield from _children(machine, [machine, *beside])


def _finding(code: str, claim: Claim, what: str, mend: str) -> Finding:
    return Finding(code, CODES[code].severity, claim.name, what, (), mend)


def _unset(machine: Definition, claim: Claim) -> Iterator[Finding]:
    for name in template_fields(claim.name):
        field = (machine.fields or {}).get(name)
        if field is not None and not field.required and (field.default in (None, "") or "null" in field.types):
            what = f"uses `{{{name}}}`, which may be left out of the data: all operations without it claim the same, nothing in particular"
            yield _finding("claim-unset", claim, what, f"Make `{name}` required, or claim by a field that is.")


def _together(machine: Definition, claim: Claim, beside: Definition, other: Claim) -> Iterator[Finding]:
    if claim.limit > 1 and other.limit == 1:
        what = f"lets {claim.limit} operations share what machine `{beside.name}` claims alone as `{other.name}`: they can overlap on it"
        yield _finding("claim-overlap", claim, what, "Give both the same limit, or different names.")
    if claim.on_conflict == "preempt" and beside.drives and _never_cancelled(beside):
        what = f"preempts its holder, and machine `{beside.name}` (`{other.name}`) refuses every cancel"
        yield _finding("preempt-refused", claim, what, 'Use on_conflict="wait", or let that machine be cancelled.')
    if claim.on_conflict == other.on_conflict == "preempt" and machine.name < beside.name:
        what = f"preempts machine `{beside.name}` (`{other.name}`), which preempts it in turn"
        yield _finding("preempt-each-other", claim, what, 'Let one of the two use on_conflict="wait".')


def _never_cancelled(machine: Definition) -> bool:
    return all(row.cancel == "refuse" for row in machine.table.values())


def _order(machine: Definition, beside: Definition) -> Iterator[Finding]:
    """Taken all or none they cannot wait for each other in a circle; but each can keep the other's whole set from ever being free."""
    if machine.name > beside.name:
        return
    meets = [
        (mine, theirs)
        for mine, claim in enumerate(machine.claims)
        for theirs, other in enumerate(beside.claims)
        if claim.on_conflict == other.on_conflict == "wait" and may_meet(claim.name, other.name)
    ]
    for mine, theirs in meets:
        for mine_too, theirs_too in meets:
            if mine < mine_too and theirs > theirs_too:
                first, then = machine.claims[mine], machine.claims[mine_too]
                what = (
                    f"is waited for before `{then.name}`, and after it by machine `{beside.name}`: "
                    "operations of the two can keep each other waiting"
                )
                yield _finding(
                    "claim-order", first, what, "Declare claims that several machines wait for in one order."
                )
                return


def _children(machine: Definition, known: Sequence[Definition]) -> Iterator[Finding]:
    by_name = {one.name: one for one in known}
    for row in machine.table.values():
        child = by_name.get(row.children.machine) if row.children else None
        for claim in machine.claims if child else ():
            for other in child.claims if child else ():
                taken = claim.limit == 1 or other.limit == 1
                if child and taken and other.on_conflict == "wait" and may_meet(claim.name, other.name):
                    what = (
                        f"is held while `{row.name}` waits for its children, and machine `{child.name}` waits for it as `{other.name}`: "
                        "where they name the same, both wait for ever"
                    )
                    yield _finding("claim-deadlock", claim, what, "Let only the parent or only the children claim it.")
