"""Owned resources, checked: no decision forgets one or ends with it, whatever the machine; every rule that is broken is found."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.checking.explore import explore
from interlock.compute.live_migration import LiveMigration
from interlock.definition.document import from_document
from interlock.interpreter import attempts
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter import snapshot as snapshots
from interlock.interpreter.decide import _RULES
from interlock.interpreter.snapshot import Running, Snapshot
from interlock.interpreter.turn import Turn
from tests.machines import ALL

PLUG = from_document(
    {
        "machine": "plug",
        "states": {
            "binding": {"initial": True, "undo": True, "timeout": "1m", "then": "plugging"},
            "plugging": {"undo": True, "timeout": "1m", "then": "plugged"},
            "plugged": {"final": "succeeded", "hands_over": ["port"]},
            "failed": {"final": "failed"},
            "cancelled": {"final": "cancelled"},
        },
    }
)


def codes() -> set[str]:
    return {one.code for one in explore(PLUG).findings}


@pytest.mark.parametrize("machine", [LiveMigration, *ALL])
def test_whatever_is_owned_changes_nothing_but_the_end(machine: Any) -> None:
    seen = explore(machine.definition)
    assert seen.complete and not seen.findings


def test_an_end_may_hand_over_what_it_says() -> None:
    seen = explore(PLUG)
    assert seen.complete and not seen.findings and set(seen.first) == set(PLUG.states)


def test_an_end_that_does_not_look_at_what_is_owned_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(turn: Turn, row: Any) -> None:
        turn.add(f.Entered(row.name, "final", outcome=row.outcome))

    monkeypatch.setattr(Turn, "end", hasty)
    found = explore(PLUG).findings
    assert {one.code for one in found} == {"left-behind"}
    assert "it is succeeded and owns what nobody takes over" in {one.what for one in found}


def test_an_end_that_takes_nothing_over_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says in `hands_over` is not looked at."""

    def strict(turn: Turn, row: Any) -> None:
        if turn.after.owned:
            return turn.add(f.GotStuck("still-owned", "it still owns something"))
        turn.add(f.Entered(row.name, "final", outcome=row.outcome))

    monkeypatch.setattr(Turn, "end", strict)
    assert {one.what for one in explore(PLUG).findings} == {"an operation that owns something goes on as stuck instead"}


@pytest.mark.parametrize("kind", [f.RollbackBegan, f.Undone, f.AttemptLost, f.Issued])
def test_a_fact_that_lets_go_of_what_is_owned_is_found(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> None:
    fold = snapshots._FOLDS[kind]

    def forgetful(before: Snapshot, fact: Any, at: float) -> dict[str, Any]:
        return {**fold(before, fact, at), "owned": ()}

    monkeypatch.setitem(snapshots._FOLDS, kind, forgetful)
    assert "left-behind" in codes()


def test_a_fact_that_takes_no_more_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(snapshots._FOLDS, f.Owned, lambda before, fact, at: {})
    assert codes() == {"broken-rule"}


def test_what_is_given_back_and_stays_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(snapshots._FOLDS, f.Disowned, lambda before, fact, at: {})
    assert "broken-rule" in codes()


def test_a_late_worker_that_may_own_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(turn: Turn, token: int) -> Running:
        assert isinstance(turn.after.phase, Running)
        return turn.after.phase

    monkeypatch.setattr(attempts, "running", trusting)
    assert "what a worker owns is recorded, though it was taken over" in {one.what for one in explore(PLUG).findings}


def test_an_operation_that_fails_on_what_it_owns_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = snapshots._FOLDS[f.Performed]

    def failing(before: Snapshot, fact: f.Performed, at: float) -> dict[str, Any]:
        assert not before.owned
        return fold(before, fact, at)

    monkeypatch.setitem(snapshots._FOLDS, f.Performed, failing)
    assert any("fails on it when it owns something" in one.what for one in explore(PLUG).findings)


def test_a_person_who_tries_again_and_lets_it_go_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stuck with what it owns ends without it by a skip only, which says so."""
    retry = _RULES[i.Retry]

    def forgiving(turn: Turn, input: i.Retry) -> None:
        for own in turn.after.owned:
            turn.add(f.Disowned(own.kind, own.id))
        retry(turn, input)

    monkeypatch.setitem(_RULES, i.Retry, forgiving)
    found = [one.what for one in explore(PLUG).findings if one.code == "left-behind"]
    assert any("nobody owns that any more, when a person has it tried again" in what for what in found), found
