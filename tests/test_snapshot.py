"""The snapshot and `fold`: the one door through which an operation changes."""

from __future__ import annotations

import pytest

from interlock.interpreter import facts as f
from interlock.interpreter.snapshot import (
    Ended,
    Queued,
    Running,
    Settling,
    Snapshot,
    Stuck,
    Waiting,
    fold,
    status_of,
    timer_at,
)


def story(*facts: f.Fact, at: float = 1.0) -> Snapshot:
    snapshot = None
    for fact in (f.Started("op", "m", 1, {"a": 1}), *facts):
        snapshot = fold(snapshot, fact, at)
    assert snapshot is not None
    return snapshot


def test_the_first_fact_is_started() -> None:
    with pytest.raises(AssertionError, match="first fact must be Started"):
        fold(None, f.Resumed(), 0.0)


def test_sequence_numbers_count_facts_and_the_token_is_the_issue() -> None:
    snapshot = story(f.Entered("one"), f.Issued("w1", until=9.0))
    assert snapshot.seq == 3 and snapshot.visit == 2
    assert snapshot.phase == Running("perform", "one", 3, "w1", 1.0, 1, "", 9.0)


@pytest.mark.parametrize(
    ("facts", "phase", "status"),
    [
        ([f.Entered("one", queue="q")], Queued("perform", "one", 1.0, "q"), "queued"),
        ([f.Entered("one", kind="waiting")], Waiting(), "waiting"),
        ([f.Entered("end", kind="final", outcome="failed")], Ended("failed"), "failed"),
        ([f.Entered("one"), f.Paused("ann")], Queued("perform", "one", 1.0), "paused"),
        ([f.Entered("one"), f.Issued("w"), f.Paused("ann")], Running("perform", "one", 3, "w", 1.0), "running"),
        ([f.Entered("one"), f.Issued("w"), f.AttemptLost()], Queued("perform", "one", 1.0, recover=True), "queued"),
        (
            [f.Entered("one"), f.GotStuck("no-exit", "because")],
            Stuck("perform", "one", "no-exit", "because"),
            "stuck",
        ),
        (
            [f.Entered("one"), f.RollbackBegan("failed"), f.UndoPlanned("one")],
            Queued("undo", "one", 1.0),
            "reverting",
        ),
        (
            [f.Entered("one"), f.RollbackBegan("failed"), f.UndoPlanned("one"), f.Issued("w")],
            Running("undo", "one", 5, "w", 1.0),
            "reverting",
        ),
        (
            [f.Entered("one"), f.RollbackBegan("failed"), f.UndoPlanned("one"), f.Paused()],
            Queued("undo", "one", 1.0),
            "paused",
        ),
    ],
)
def test_phase_and_status(facts: list[f.Fact], phase: object, status: str) -> None:
    snapshot = story(*facts)
    assert snapshot.phase == phase
    assert snapshot.status == status == status_of(snapshot.phase, snapshot.paused, snapshot.rollback)


def test_an_end_clears_what_no_longer_matters() -> None:
    snapshot = story(f.Entered("one"), f.Paused("ann"), f.Entered("end", kind="final", outcome="succeeded"))
    assert snapshot.ended and snapshot.paused is None and not snapshot.timers


def test_a_step_stands_once_in_the_undo_list_at_its_latest_place() -> None:
    def visit(state: str) -> list[f.Fact]:
        return [f.Entered(state), f.Issued("w", step=True), f.Performed()]

    assert story(*visit("a"), *visit("b"), *visit("a")).steps == ("b", "a")


def test_data_is_added_and_never_shared() -> None:
    before = story(f.Entered("one"), f.Issued("w"))
    after = fold(before, f.Performed(data={"b": 2}), 2.0)
    assert after.data == {"a": 1, "b": 2} and before.data == {"a": 1}
    assert isinstance(after.phase, Settling)


def test_timer_at_is_the_earliest_thing_only_the_clock_does() -> None:
    timers = {"within": 50.0, "after:0": 40.0}
    assert timer_at(story(f.Entered("one", timers=timers))) == 40.0
    assert timer_at(story(f.Entered("one", timers=timers), f.Issued("w", until=30.0))) == 30.0
    assert timer_at(story(f.Entered("one", timers=timers), f.Paused())) is None
    assert timer_at(story(f.Entered("one", timers=timers), f.Issued("w", until=30.0), f.Paused())) == 30.0
    assert timer_at(story(f.Entered("one", timers=timers), f.GotStuck("x", "y"))) is None
    waits_for_end = story(f.Entered("one", timers=timers), f.Issued("w", until=30.0), f.Deferred("cancel"))
    assert timer_at(waits_for_end) == 30.0, "whoever waits for the attempt's end is still kept from waiting for ever"
    assert timer_at(fold(waits_for_end, f.CutAsked("timeout"), 31.0)) is None
