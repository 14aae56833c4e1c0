"""Checking: for every code a machine that shows it, the same machine mended beside it, and the words that people read.

Machines and words stand in `golden/check/`; run with ``REWRITE=1`` to write what is said now, and review the diff.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from interlock import Final, IllegalMachine, Machine, State
from interlock.checking.check import Report, check, refused
from interlock.checking.claims import may_meet
from interlock.checking.explore import Budget
from interlock.checking.finding import CODES, SEALED, generate
from interlock.checking.written import ways
from interlock.compute.live_migration import LiveMigration
from interlock.definition.document import from_document, load, read_document, to_document
from interlock.definition.machine import Definition
from interlock.definition.source import to_python
from interlock.interpreter import facts as f
from interlock.interpreter import rollback
from interlock.interpreter.status import STATUS
from interlock.interpreter.turn import Turn
from tests.house import ROOT

GOLDEN = Path(__file__).parent / "golden" / "check"
PAIRS = sorted(path.name.removesuffix(".bad.yaml") for path in GOLDEN.glob("*.bad.yaml"))
BY_BROKEN_RULES = {"left-behind", "wrong-end", "overlap", "stale-outcome", "broken-rule"}
"""What no machine shows while the interpreter keeps its rules: `test_explore` breaks them."""


def checked(code: str, kind: str) -> Report:
    beside = [load(str(path)) for path in [GOLDEN / f"{code}.beside.yaml"] if path.exists()]
    return check(load(str(GOLDEN / f"{code}.{kind}.yaml")), beside=beside)


def words(report: Report) -> str:
    lines = [report.note]
    for one in report.findings:
        lines += [f"{one.severity} {one}", f"    {'; '.join(one.story)}".rstrip()]
        lines += [f"    accepted: {one.accepted}"] if one.accepted else []
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("code", PAIRS)
def test_a_bad_machine_is_told_and_a_mended_one_is_clean(code: str) -> None:
    bad = checked(code, "bad")
    text = words(bad)
    path = GOLDEN / f"{code}.txt"
    if os.environ.get("REWRITE"):
        path.write_text(text)
    assert path.read_text() == text
    assert code in {one.code for one in bad.findings}
    assert all(one.severity == CODES[one.code].severity for one in bad.findings)
    good = checked(code, "good")
    assert not good.errors and not good.warnings, words(good)


def test_every_code_has_a_pair() -> None:
    assert {*PAIRS, *BY_BROKEN_RULES, "left-end"} == set(CODES)


def test_an_end_that_is_left_again() -> None:
    """Only newer definitions can say so; the finding needs the attribute alone."""
    document = {"machine": "volume", "states": {"a": {"initial": True, "on": {"x": "end"}}, "end": {"final": "failed"}}}
    machine = from_document(document)
    object.__setattr__(machine.states["end"], "to", ("a",))
    (one,) = (one for one in check(machine).findings if one.code == "left-end")
    assert one.state == "end" and "left again for `a`" in one.what


def test_every_code_of_sealing_stands_in_the_table() -> None:
    source = "".join(
        (ROOT / f"src/interlock/definition/{name}.py").read_text()
        for name in ("seal", "seal_names", "machine", "declare")
    )
    used = set(re.findall(r'Fault\(\s*f?"([a-z{}-]+)"', source)) - {"no-{final}", "left-end"} | {
        "no-failed",
        "no-cancelled",
    }
    assert used == set(SEALED) - {"illegal-document"}


def test_the_page_of_codes_holds_them_all() -> None:
    (page,) = generate().values()
    assert all(f"| `{code}" in page for code in [*CODES, *SEALED])


def test_faults_of_sealing_have_the_same_shape() -> None:
    with pytest.raises(IllegalMachine) as caught:
        from_document({"machine": "m", "states": {"a": {"initial": True, "then": "b", "on": {"x": "a"}}}})
    (one,) = refused(caught.value.faults)
    assert (one.code, one.severity, one.state) == ("unknown-target", "error", "a")
    assert one.what == "`done` leads to `b`, which is no state"


# The machine that is shipped, and others


def test_live_migration_is_clean() -> None:
    report = check(LiveMigration)
    assert not report.errors and not report.warnings and report.complete
    assert [one.code for one in report.accepted] == ["stuck-after-pivot"] * 2
    assert report.explored > 100 and report.decisions > 1_000


def test_a_machine_that_guards_is_read_not_explored() -> None:
    report = check(STATUS)
    assert {one.code for one in report.warnings} == {"no-deadline", "no-recovery"} and report.decisions == 0
    assert ways(STATUS)("stuck") == ("it starts in `queued`", "it is written `stuck`")


def test_a_budget_that_runs_out_proves_nothing() -> None:
    report = check(LiveMigration, Budget(situations=50))
    assert not report.complete and "nothing is proved about the rest" in report.note and " situations" in report.note
    assert not report.warnings, "what may not have been seen is not said to be accepted for nothing"


def test_a_machine_that_no_data_can_start_is_not_said_to_be_explored() -> None:
    ends = {name: {"final": name} for name in ("succeeded", "failed", "cancelled")}
    states = {"a": {"initial": True, "undo": "nothing", "then": "succeeded"}, **ends}
    data, claims = {"rack": {"type": "null"}}, [{"name": "rack:{rack}"}]
    report = check(from_document({"machine": "m", "states": states, "data": data, "claims": claims}))
    assert not report.complete and report.note.startswith("its behaviour was not explored")


def test_a_rule_that_is_broken_is_reported_with_its_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker asks the interpreter itself, so it also proves the interpreter."""

    def hasty(turn: Turn, state: str) -> None:
        turn.add(f.Undone(state))
        assert turn.after.rollback is not None
        turn.enter(turn.after.rollback.to)

    monkeypatch.setattr(rollback, "undone", hasty)
    report = check(LiveMigration)
    one = next(one for one in report.errors if (one.code, one.state) == ("left-behind", "copying"))
    assert one.what == "it ends as cancelled and `preparing` was begun and not undone"
    assert one.story[:3] == (
        "an operation starts in `checking`",
        "`checking` is done",
        "`preparing` is done, and `disk_is_shared` holds",
    )
    assert one.story[-1] == "`copying` is undone" and "fault of the interpreter" in one.mend


# Accepting


class Slow(Machine[dict[str, Any]], version=1):
    """Its action takes what it takes."""

    accepts = {"no-timeout:a": "a person watches it"}

    a = State(initial=True, undo="nothing", then="b")
    b = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


def test_a_reason_stands_in_both_forms() -> None:
    machine = Slow.definition
    document = to_document(machine)
    assert document["accepts"] == {"no-timeout:a": "a person watches it"}
    assert from_document(document) == machine
    names: dict[str, Any] = {}
    exec(to_python(machine), names)
    assert names["Slow"].definition.accepts == machine.accepts and names["Slow"].definition.states == machine.states
    assert [one.accepted for one in check(Slow).findings] == ["a person watches it"]


@pytest.mark.parametrize("accepts", [{"no-timeout": ""}, {"": "why"}, {"no-timeout": 3}, ["no-timeout"]])
def test_a_reason_is_text(accepts: Any) -> None:
    with pytest.raises(IllegalMachine, match="reasons by the code"):
        Definition("m", 1, Slow.definition.states, accepts=accepts)


def test_an_error_cannot_be_accepted() -> None:
    bad = load(str(GOLDEN / "dead-timer.bad.yaml"))
    machine = Definition("m", 1, bad.states, bad.groups, accepts={"dead-timer": "not minded"})
    report = check(machine)
    assert len(report.errors) == 3 and not report.accepted
    assert "errors are mended" in report.warnings[-1].what


# Bad input


def test_ten_thousand_states() -> None:
    count = 9_990
    states = {f"s{n}": {"undo": True, "then": f"s{n + 1}" if n + 1 < count else "end"} for n in range(count)}
    ends = {"end": {"final": "succeeded"}, "failed": {"final": "failed"}, "cancelled": {"final": "cancelled"}}
    machine = from_document({"machine": "m", "states": {**states, "s0": {**states["s0"], "initial": True}, **ends}})
    began = time.process_time()
    report = check(machine, Budget(situations=2_000))
    assert time.process_time() - began < 10
    assert len(report.warnings) == count and not report.complete and f"of {count + 3:,} states" in report.note
    story = report.warnings[-1].story
    assert story[0] == f"after {count - 40:,} earlier events" and story[-1] == f"`done` leads to `s{count - 1}`"


def test_fifty_states_that_lead_everywhere() -> None:
    states: dict[str, Any] = {
        f"s{n}": {
            "undo": True,
            "timeout": "1m",
            "heartbeat": "5s",
            "then": [{"when": "c", "to": f"s{(n * 7 + 3) % 50}"}, f"s{n + 1}" if n < 49 else "end"],
            "on": {f"e{k}": f"s{(n * k + k) % 50}" for k in range(1, 5)},
        }
        for n in range(50)
    }
    states["s0"]["initial"] = True
    states |= {"end": {"final": "succeeded"}, "failed": {"final": "failed"}, "cancelled": {"final": "cancelled"}}
    began = time.process_time()
    report = check(from_document({"machine": "m", "states": states}))
    assert report.complete and not report.findings
    assert time.process_time() - began < 10


def test_a_circle_of_groups_has_a_clear_word() -> None:
    text = "machine: m\nstates:\n  a: {initial: true, on: {x: b}}\n  b: {final: succeeded}\n"
    with pytest.raises(IllegalMachine) as caught:
        read_document(text + "groups: {g: {members: [a, h]}, h: {members: [g]}}\n")
    assert {one.code for one in refused(caught.value.faults)} == {"group-cycle"}


# Claims


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("host:a", "host:a", True),
        ("host:a", "host:b", False),
        ("host:{x}", "host:a", True),
        ("host:{x}", "disk:{x}", False),
        ("host:{x}", "host:{x}:in", False),
        ("vm-{x}", "vm-{y}-b", True),
        ("a{x}", "b{x}", False),
        ("{x}a", "{x}b", False),
        ("{x}{y}", "abc", True),
        ("ab{x}bc", "abc", False),
    ],
)
def test_templates_that_may_meet(one: str, other: str, meets: bool) -> None:
    assert may_meet(one, other) is may_meet(other, one) is meets
