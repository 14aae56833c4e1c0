"""Sealing: every fault has a bad machine that shows it, with the message people read; and a good one beside it.

The messages stand in `golden/seal.txt`; run with ``REWRITE=1`` to write what is said now, and review the diff.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from interlock import IllegalMachine
from interlock.definition import seal
from interlock.definition.document import read_document

GOLDEN = Path(__file__).parent / "golden" / "seal.txt"
ENDS = "  failed: {final: failed}\n  cancelled: {final: cancelled}\n  done_: {final: succeeded}\n"


def machine(states: str, rest: str = "") -> str:
    return f"machine: sample\nstates:\n{states}{ENDS}{rest}"


GOOD = machine("  a: {initial: true, undo: nothing, then: done_}\n")
BAD = {
    "bad-name": machine("  a-b: {initial: true, undo: nothing, then: done_}\n"),
    "long-name": machine(f"  {'a' * 65}: {{initial: true, undo: nothing, then: done_}}\n"),
    "reserved-event": machine(
        "  a: {initial: true, undo: nothing, then: done_}\n", "groups: {g: {members: [a], on: {done: done_}}}\n"
    ),
    "unknown-target": machine("  preparing: {initial: true, undo: nothing, then: copyng}\n  copying: {undo: nothing, then: done_}\n"),
    "unknown-member": machine("  a: {initial: true, undo: nothing, then: done_}\n", "groups: {g: {members: [aa, done_]}}\n"),
    "dead-end": machine("  a: {initial: true, undo: nothing, then: b}\n  b: {}\n"),
    "open-choice": machine("  a: {initial: true, undo: nothing, then: [{when: c, to: done_}]}\n"),
    "dead-branch": machine("  a: {initial: true, undo: nothing, then: [done_, a]}\n"),
    "rollback-target": machine("  a: {initial: true, undo: nothing, then: done_, on: {x: {rollback: done_}}}\n"),
    "mixed-kind": machine("  a: {initial: true, pivot: true, then: done_, children: {machine: other}}\n"),
    "useless-option": machine("  a: {initial: true, timeout: 3s, on: {x: done_}}\n"),
    "bad-option": machine("  a: {initial: true, undo: nothing, cancel: never, timeout: 0s, then: done_}\n"),
    "no-state": "machine: sample\nstates: {}\n",
    "no-initial": machine("  a: {undo: nothing, then: done_}\n"),
    "unreachable": machine("  a: {initial: true, undo: nothing, then: done_}\n  b: {undo: nothing, then: done_}\n"),
    "no-way-out": machine("  a: {initial: true, undo: nothing, then: [{when: c, to: done_}, b]}\n  b: {undo: nothing, then: b}\n"),
    "no-undo": machine("  a: {initial: true, then: done_}\n"),
    "undo-past-pivot": machine("  a: {initial: true, undo: nothing, then: b}\n  b: {pivot: true, undo: true, then: done_}\n"),
    "way-back": machine("  a: {initial: true, undo: nothing, then: b}\n  b: {pivot: true, then: done_, on: {lost: {rollback: failed}}}\n"),
    "unclean-end": machine("  a: {initial: true, undo: nothing, then: b}\n  b: {pivot: true, then: done_, on: {lost: failed}}\n"),
    "no-failed": "machine: sample\nstates:\n  a: {initial: true, undo: nothing, cancel: refuse, then: b}\n  b: {final: succeeded}\n",
    "no-cancelled": "machine: sample\nstates:\n  a: {initial: true, undo: nothing, then: b}\n  b: {final: succeeded}\n  failed: {final: failed}\n",
    "group-cycle": machine("  a: {initial: true, undo: nothing, then: done_}\n", "groups: {g: {members: [a, h]}, h: {members: [g]}}\n"),
    "competing-exits": machine(
        "  a: {initial: true, undo: nothing, then: done_}\n",
        "groups: {g: {members: [a], on: {x: done_}}, h: {members: [a], on: {x: failed}}}\n",
    ),
    "unknown-field": machine("  a: {initial: true, undo: nothing, queue: 'host:{sorce}', then: done_}\n", "data: {source: string}\n"),
    "bad-template": machine("  a: {initial: true, undo: nothing, queue: 'host:{source!r}', then: done_}\n", "data: {source: string}\n"),
    "twice-claimed": machine("  a: {initial: true, undo: nothing, then: done_}\n", "claims: [{name: x}, {name: x}]\n"),
    "view-unknown": machine("  a: {initial: true, undo: nothing, then: done_}\n", "views: {v1: {A: [b], REST: ...}}\n"),
    "view-twice": machine("  a: {initial: true, undo: nothing, then: done_}\n", "views: {v1: {A: [a], B: [a], REST: ...}}\n"),
    "view-missing": machine("  a: {initial: true, undo: nothing, then: done_}\n", "views: {v1: {A: [a]}}\n"),
}  # fmt: skip


def message(document: str) -> str:
    with pytest.raises(IllegalMachine) as refusal:
        read_document(document)
    return str(refusal.value)


def test_the_good_machine_is_built() -> None:
    assert read_document(GOOD).initial == ("a",)


@pytest.mark.parametrize("code", BAD)
def test_a_bad_machine_is_refused_with_its_code(code: str) -> None:
    with pytest.raises(IllegalMachine) as refusal:
        read_document(BAD[code])
    assert code in {fault.code for fault in refusal.value.faults}


def test_every_code_has_a_bad_machine() -> None:
    table = (seal.__doc__ or "").split("\n\n")[-1]
    listed = {code.strip(" ,") for line in table.splitlines() for code in re.split(r"\s{2,}|, ", line.strip())[1:]}
    assert listed == set(BAD)


def test_the_messages() -> None:
    says = "\n".join(f"== {code}\n{message(document)}\n" for code, document in BAD.items())
    if os.environ.get("REWRITE"):
        GOLDEN.write_text(says)
    assert says == GOLDEN.read_text()


def test_all_faults_are_told_at_once() -> None:
    text = machine("  a: {initial: true, then: bb, timeout: 0s}\n  b: {on: {x: cc}}\n")
    assert message(text).count("\n  - ") == 3


def test_a_machine_of_ten_thousand_states_is_built_and_one_more_refused() -> None:
    def chain(length: int) -> str:
        lines = [
            f"  s{n}: {{undo: nothing, then: {f's{n + 1}' if n + 1 < length else 'done_'}}}" for n in range(length)
        ]
        lines[0] = lines[0].replace("{undo", "{initial: true, undo")
        return machine("\n".join(lines) + "\n")

    assert len(read_document(chain(2_000)).table) == 2_003
    big = "{" + ", ".join(f'"s{n}": {{"on": {{"x": "s{n}"}}}}' for n in range(10_001)) + "}"
    assert "stay below 10000" in message(f'{{"machine": "big", "states": {big}}}').lower()
