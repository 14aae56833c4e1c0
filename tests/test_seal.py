"""Sealing: for every fault a machine that shows it, with the message people read, and beside it the machine as the message mends it.

The messages stand in `golden/seal.txt`; run with ``REWRITE=1`` to write what is said now, and review the diff.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from interlock import Final, Group, IllegalMachine, State
from interlock.definition import seal, seal_names
from interlock.definition.data import Field
from interlock.definition.document import read_document
from interlock.definition.machine import Definition

GOLDEN = Path(__file__).parent / "golden" / "seal.txt"
ENDS = "  failed: {final: failed}\n  cancelled: {final: cancelled}\n  done_: {final: succeeded}\n"
A = "  a: {initial: true, undo: nothing, then: done_}\n"
AB = "  a: {initial: true, undo: nothing, then: b}\n"


def machine(states: str, rest: str = "") -> str:
    return f"machine: sample\nstates:\n{states}{ENDS}{rest}"


def many(count: int) -> str:
    states = ", ".join(f'"s{n}": {{"initial": true, "on": {{"x": "end"}}}}' for n in range(count))
    return f'{{"machine": "sample", "states": {{{states}, "end": {{"final": "succeeded"}}}}}}'


CASES = {
    "bad-shape": (machine(A, "version: 0\n"), machine(A, "version: 1\n")),
    "bad-name": (
        machine(
            "  a-b: {initial: true, undo: nothing, then: [{when: is it, to: done_}, failed]}\n  views: {undo: nothing, then: done_}\n"
        ),
        machine("  a_b: {initial: true, status: a-b, undo: nothing, then: [{when: is_it, to: done_}, failed]}\n"),
    ),
    "long-name": (
        machine(f"  {'a' * 65}: {{initial: true, undo: nothing, then: done_}}\n"),
        machine(f"  {'a' * 64}: {{initial: true, undo: nothing, then: done_}}\n"),
    ),
    "reserved-event": (
        machine(A, "groups: {g: {members: [a], on: {done: done_}}}\n"),
        machine(A, "groups: {g: {members: [a], on: {over: done_}}}\n"),
    ),
    "same-status": (
        machine(AB + "  b: {undo: nothing, status: a, then: done_}\n"),
        machine(AB + "  b: {undo: nothing, status: a (again), then: done_}\n"),
    ),
    "too-many": (many(10_000), many(9_999)),
    "unknown-target": (
        machine("  preparing: {initial: true, undo: nothing, then: copyng}\n  copying: {undo: nothing, then: done_}\n"),
        machine(
            "  preparing: {initial: true, undo: nothing, then: copying}\n  copying: {undo: nothing, then: done_}\n"
        ),
    ),
    "unknown-member": (
        machine(A, "groups: {g: {members: [aa, done_]}, h: {members: []}}\n"),
        machine(A, "groups: {g: {members: [a]}}\n"),
    ),
    "dead-end": (machine(AB + "  b: {}\n"), machine(AB + "  b: {on: {go: done_}}\n")),
    "open-choice": (
        machine("  a: {initial: true, undo: nothing, then: [{when: c, to: done_}]}\n"),
        machine("  a: {initial: true, undo: nothing, then: [{when: c, to: done_}, failed]}\n"),
    ),
    "dead-branch": (
        machine("  a: {initial: true, undo: nothing, then: [done_, a]}\n"),
        machine("  a: {initial: true, undo: nothing, then: [{when: c, to: a}, done_]}\n"),
    ),
    "rollback-target": (
        machine("  a: {initial: true, undo: nothing, then: done_, on: {x: {rollback: done_}}}\n"),
        machine("  a: {initial: true, undo: nothing, then: done_, on: {x: {rollback: failed}}}\n"),
    ),
    "open-end": (
        machine(A).replace("done_: {final: succeeded}", "done_: {final: succeeded, to: [failed]}"),
        machine("  a: {initial: true, to: [done_]}\n").replace(
            "done_: {final: succeeded}", "done_: {final: succeeded, to: [failed, cancelled]}"
        ),
    ),
    "mixed-kind": (
        machine("  a: {initial: true, pivot: true, then: done_, children: {machine: other}}\n"),
        machine("  a: {initial: true, then: b, children: {machine: other}}\n  b: {pivot: true, then: done_}\n"),
    ),
    "useless-option": (
        machine("  a: {initial: true, timeout: 3s, on: {x: done_}}\n"),
        "machine: sample\nstates:\n  a: {initial: true, within: 3s, on: {x: b}}\n  b: {final: succeeded}\n  failed: {final: failed}\n",
    ),
    "bad-option": (
        machine(
            "  a: {initial: true, undo: nothing, cancel: never, timeout: 0s, then: b}\n"
            "  b: {then: done_, children: {machine: other, join: some, limit: 0}}\n",
            "claims: [{name: x, limit: 0, on_conflict: fight}, {name: ''}]\ngroups: {g: {members: [a], timeout: 0s}}\n",
        ),
        machine(
            "  a: {initial: true, undo: nothing, cancel: refuse, timeout: 1s, then: b}\n"
            "  b: {then: done_, children: {machine: other, join: any, limit: 1}}\n",
            "claims: [{name: x, limit: 1, on_conflict: wait}]\ngroups: {g: {members: [a], timeout: 1s}}\n",
        ),
    ),
    "no-state": ("machine: sample\nstates: {}\n", machine(A)),
    "no-initial": (machine("  a: {undo: nothing, then: done_}\n"), machine(A)),
    "unreachable": (
        machine(A + "  b: {undo: nothing, then: done_}\n"),
        machine("  a: {initial: true, undo: nothing, then: b}\n  b: {undo: nothing, then: done_}\n"),
    ),
    "no-way-out": (
        machine(
            "  a: {initial: true, undo: nothing, then: [{when: c, to: done_}, b]}\n  b: {undo: nothing, then: b}\n"
        ),
        machine(
            "  a: {initial: true, undo: nothing, then: [{when: c, to: done_}, b]}\n  b: {undo: nothing, then: b, on: {enough: done_}}\n"
        ),
    ),
    "no-undo": (machine("  a: {initial: true, then: done_}\n"), machine(A)),
    "undo-past-pivot": (
        machine(AB + "  b: {pivot: true, undo: true, then: done_}\n"),
        machine(AB + "  b: {pivot: true, then: done_}\n"),
    ),
    "way-back": (
        machine(
            AB
            + "  b: {pivot: true, cancel: rollback, then: c, on: {lost: {rollback: failed}}}\n  c: {then: done_, on: {again: a}}\n"
        ),
        machine(AB + "  b: {pivot: true, then: c}\n  c: {then: done_, on: {again: b}}\n"),
    ),
    "unclean-end": (
        machine(AB + "  b: {pivot: true, then: done_, on: {lost: failed}}\n"),
        machine(AB + "  b: {pivot: true, then: done_, on: {lost: done_}}\n"),
    ),
    "no-failed": (
        "machine: sample\nstates:\n  a: {initial: true, undo: nothing, cancel: refuse, then: b}\n  b: {final: succeeded}\n",
        "machine: m\nstates:\n  a: {initial: true, undo: nothing, cancel: refuse, then: b, on: {failed: b}}\n  b: {final: succeeded}\n",
    ),
    "no-cancelled": (
        "machine: sample\nstates:\n  a: {initial: true, undo: nothing, then: b}\n  b: {final: succeeded}\n  failed: {final: failed}\n",
        "machine: m\nstates:\n"
        "  a: {initial: true, undo: nothing, cancel: refuse, then: b}\n  b: {final: succeeded}\n  failed: {final: failed}\n",
    ),
    "group-cycle": (
        machine(A, "groups: {g: {members: [a, h]}, h: {members: [g]}}\n"),
        machine(A, "groups: {g: {members: [h]}, h: {members: [a]}}\n"),
    ),
    "competing-exits": (
        machine(A, "groups: {g: {members: [a], on: {x: done_}}, h: {members: [a], on: {x: failed}}}\n"),
        machine(A, "groups: {g: {members: [a], on: {x: done_}}, h: {members: [g], on: {x: failed}}}\n"),
    ),
    "unknown-field": (
        machine(
            "  a: {initial: true, undo: nothing, queue: 'host:{sorce}', then: done_}\n", "data: {source: string}\n"
        ),
        machine(
            "  a: {initial: true, undo: nothing, queue: 'host:{source}', then: done_}\n", "data: {source: string}\n"
        ),
    ),
    "bad-default": (
        machine(A, "data: {port: {type: integer, default: eighty}}\n"),
        machine(A, "data: {port: {type: integer, default: 80}}\n"),
    ),
    "bad-template": (
        machine(
            "  a: {initial: true, undo: nothing, queue: 'host:{source!r}', then: done_}\n", "data: {source: string}\n"
        ),
        machine(
            "  a: {initial: true, undo: nothing, queue: 'host:{{{source}}}', then: done_}\n", "data: {source: string}\n"
        ),
    ),
    "twice-claimed": (machine(A, "claims: [{name: x}, {name: x}]\n"), machine(A, "claims: [{name: x}, {name: y}]\n")),
    "view-unknown": (
        machine(A, "views: {v1: {A: [b], REST: ...}}\n"),
        machine(A, "views: {v1: {A: [a], REST: ...}}\n"),
    ),
    "view-twice": (
        machine(A, "views: {v1: {A: [a], B: [a], REST: ...}}\n"),
        machine(A, "views: {v1: {A: [a], B: [done_], REST: ...}}\n"),
    ),
    "view-missing": (machine(A, "views: {v1: {A: [a]}}\n"), machine(A, "views: {v1: {A: [a], B: ...}}\n")),
    "rename-first": (machine(A, "renames: {b: a}\n"), machine(A, "version: 2\nrenames: {b: a}\n")),
    "rename-source": (
        machine(A, "version: 2\nrenames: {a: done_}\n"),
        machine(A, "version: 2\nrenames: {b: done_}\n"),
    ),
    "rename-target": (
        machine(AB + "  b: {undo: nothing, then: done_}\n", "version: 2\nrenames: {c: bb}\n"),
        machine(AB + "  b: {undo: nothing, then: done_}\n", "version: 2\nrenames: {c: b}\n"),
    ),
}


def message(document: str) -> str:
    with pytest.raises(IllegalMachine) as refusal:
        read_document(document)
    return str(refusal.value)


@pytest.mark.parametrize("code", CASES)
def test_a_bad_machine_is_refused_with_its_code(code: str) -> None:
    with pytest.raises(IllegalMachine) as refusal:
        read_document(CASES[code][0])
    assert code in {fault.code for fault in refusal.value.faults}


@pytest.mark.parametrize("code", CASES)
def test_the_mended_machine_is_built(code: str) -> None:
    assert read_document(CASES[code][1]).initial


def test_every_code_has_a_bad_machine() -> None:
    lines = (seal.__doc__ or "").split("\n\n")[-1].strip().splitlines()
    listed = {code for line in lines for code in line.split(None, 1)[1].split(", ")}
    assert listed == set(CASES)
    source = Path(seal.__file__).read_text() + Path(seal_names.__file__).read_text()
    assert set(re.findall(r'Fault\(\s*"([a-z-]+)"', source)) | {"no-failed", "no-cancelled"} == set(CASES)


def test_the_messages() -> None:
    says = "\n".join(f"== {code}\n{message(bad)}\n" for code, (bad, _) in CASES.items())
    if os.environ.get("REWRITE"):
        GOLDEN.write_text(says)
    assert says == GOLDEN.read_text()


def test_all_faults_are_told_at_once_but_not_without_end() -> None:
    text = machine("  a: {initial: true, then: bb, timeout: 0s}\n  b: {on: {x: cc}}\n")
    assert message(text).count("\n  - ") == 3
    lost = "".join(f"  s{n}: {{undo: nothing, then: done_}}\n" for n in range(80))
    assert message(machine(A + lost)).endswith("  - and 30 more")


def test_an_inner_groups_exit_comes_first_however_the_groups_are_written() -> None:
    groups = "groups: {outer: {members: [a, inner], on: {x: failed}}, inner: {members: [a], on: {x: done_}}}\n"
    row = read_document(machine(A, groups)).table["a"]
    assert row.groups == ("inner", "outer") and row.exits["x"][0].to == "done_"


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"states": []}, "needs states by name"),
        ({"states": {"a": 5}}, "needs states by name"),
        ({"states": {"a": State(then="b", name="b")}}, "`a`: is named `b` itself"),
        ({"name": 5}, "needs a name"),
        ({"groups": {"g": ["a"]}}, "needs groups by name"),
        ({"claims": ["host"]}, "needs a list of claims"),
        ({"views": {"v1": ["a"]}}, "needs views"),
        ({"fields": {"a": "string"}}, "needs data"),
        ({"fields": {"a": Field(("number",), False, float("nan"))}}, "has the default nan, which is no JSON"),
    ],
)
def test_no_definition_exists_that_was_not_sealed(parts: dict[str, Any], says: str) -> None:
    a, end = State(initial=True, on={"go": "end"}, name="a"), Final("succeeded", name="end")
    whole: dict[str, Any] = {"name": "m", "version": 1, "states": {"a": a, "end": end}}
    assert Definition(**whole).initial == ("a",)
    with pytest.raises(IllegalMachine) as refusal:
        Definition(**{**whole, **parts})
    assert says in str(refusal.value)


def test_what_was_sealed_cannot_be_changed() -> None:
    machine_ = read_document(machine(A, "views: {v1: {ALL: ...}}\n"))
    for part in (machine_.states, machine_.groups, machine_.views, machine_.views["v1"]):
        with pytest.raises(TypeError, match="does not support item assignment"):
            part["a"] = 5  # type: ignore[index]  # the test's point


@pytest.mark.parametrize("groups", [0, 1, 999])
def test_a_large_machine_is_built_without_delay(groups: int) -> None:
    """Ten thousand states in nested groups and a view take a second or so: nothing in sealing is quadratic."""
    count = 9_000
    states: dict[str, State | Final] = {
        f"s{n}": State(initial=n == 0, undo="nothing", then=f"s{n + 1}" if n + 1 < count else "end", name=f"s{n}")
        for n in range(count)
    }
    for name, outcome in (("end", "succeeded"), ("failed", "failed"), ("cancelled", "cancelled")):
        states[name] = Final(outcome, name=name)  # type: ignore[arg-type]  # the outcomes, as text
    nested = {
        f"g{n}": Group(
            *([f"g{n + 1}"] if n + 1 < groups else states.keys() - {"end", "failed", "cancelled"}),
            on={"x": "end"},
            name=f"g{n}",
        )
        for n in range(groups)
    }
    if groups > 1:
        nested[f"g{groups - 1}"] = Group("s0", "s1", on={"x": "end"}, name=f"g{groups - 1}")
    began = time.perf_counter()
    built = Definition("big", 1, states, nested, views={"v1": {"A": list(states)[:5000], "B": list(states)[5000:]}})
    assert len(built.table) == count + 3 and time.perf_counter() - began < 20, "quadratic work takes minutes"


def test_a_small_document_does_not_make_a_huge_table() -> None:
    states = ", ".join(f'"s{n}": {{"initial": true, "on": {{"x": "end"}}}}' for n in range(5_000))
    names = ", ".join(f'"s{n}"' for n in range(5_000))
    on = ", ".join(f'"e{n}": "end"' for n in range(5_000))
    text = (
        f'{{"machine": "big", "states": {{{states}, "end": {{"final": "succeeded"}}}}, '
        f'"groups": {{"g": {{"members": [{names}], "on": {{{on}}}}}}}}}'
    )
    assert "has 25,005,000 exits" in message(text)
