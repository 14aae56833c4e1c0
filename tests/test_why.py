"""`why`: one sentence for whatever an operation waits for."""

from __future__ import annotations

import pytest

from interlock.interpreter import facts as f
from interlock.interpreter.snapshot import Snapshot, fold
from interlock.interpreter.why import Load, why
from interlock.stores.contract import Lease
from tests.machines import Crossing, Migration

MACHINE = Migration.definition
LIVE = Lease("w1", 100.0, queues=("", "host:a"), machines=("migration",))


def story(*facts: f.Fact) -> Snapshot:
    data = {"instance": "i", "source": "a", "destination": "b"}
    snapshot = fold(None, f.Started("op", "migration", 1, data), 1.0)
    for fact in facts:
        snapshot = fold(snapshot, fact, 1.0)
    return snapshot


ENTERED = f.Entered("copying", queue="host:a")


@pytest.mark.parametrize(
    ("facts", "waits_for"),
    [
        ([ENTERED], "a free worker to begin `copying` (queue `host:a`; 1 alive: w1)"),
        (
            [f.Entered("preparing", queue="host:b")],
            "a worker: none that is alive serves queue `host:b` for `migration`",
        ),
        ([ENTERED, f.Issued("w1")], "the action of `copying` to end (attempt 1, by w1)"),
        ([ENTERED, f.Issued("w0")], "another worker to take over the action of `copying`: the lease of w0 has lapsed"),
        (
            [ENTERED, f.Issued("w1"), f.AttemptFailed(f.Failure("X", "y")), f.RetryPlanned(60.0)],
            "the time of attempt 2 of `copying`",
        ),
        ([ENTERED, f.Paused("ann", "lunch")], "a resume: it was paused by ann (lunch)"),
        ([ENTERED, f.GotStuck("past-pivot", "it broke")], "a person: it broke"),
        ([f.Entered("failed", "final", outcome="failed")], "nothing: it failed"),
        ([f.Entered("cancelled", "final", outcome="cancelled")], "nothing: it was cancelled"),
        (
            [ENTERED, f.RollbackBegan("failed", "x"), f.UndoPlanned("copying", "host:a")],
            "a free worker to begin the undo of `copying` (queue `host:a`; 1 alive: w1)",
        ),
    ],
)
def test_what_it_waits_for(facts: list[f.Fact], waits_for: str) -> None:
    assert why(MACHINE, story(*facts), [LIVE], 10.0).waits_for == waits_for


def test_a_signal_and_a_timer() -> None:
    snapshot = story(f.Entered("flying", kind="waiting", timers={"within": 50.0}))
    answer = why(Crossing.definition, snapshot, [LIVE], 10.0)
    assert answer.waits_for == "a signal: landed" and answer.next_at == 50.0
    assert "timer `within` is set for 50.000" in answer.details
    assert answer.possible == ("signal landed", "pause", "override")


def test_a_missing_definition() -> None:
    answer = why(None, story(ENTERED), [LIVE], 10.0)
    assert answer.waits_for == "a definition: nobody knows `migration` version 1"
    assert answer.possible == ()


def test_a_cut_that_is_not_acknowledged_is_named() -> None:
    snapshot = story(ENTERED, f.Issued("w1"), f.CancelAccepted(), f.Deferred("cancel"), f.CutAsked("cancel"))
    answer = why(MACHINE, snapshot, [LIVE], 10.0)
    assert any("asked to end (cancel)" in detail for detail in answer.details)
    assert answer.held_by == "w1" and answer.held_until == 100.0


@pytest.mark.parametrize(
    ("load", "line"),
    [
        (Load({"w1": 2, "w2": 2}), "it is the next"),
        (Load({"w1": 2, "w2": 2}, before=4), "4 before it"),
        (Load({"w1": 2, "w2": 2}, before=1_000, more=True), "1000 or more before it"),
    ],
)
def test_a_full_queue_is_named_with_who_fills_it_and_the_place_in_it(load: Load, line: str) -> None:
    leases = [Lease(name, 100.0, queues=("host:a",), machines=("migration",), max_running=2) for name in ("w2", "w1")]
    answer = why(MACHINE, story(ENTERED), leases, 10.0, load)
    assert answer.waits_for == (
        f"a place to begin `copying`: queue `host:a` is full (w1 performs 2 of 2, w2 performs 2 of 2; {line})"
    )


def test_a_queue_with_room_somewhere_is_not_full() -> None:
    leases = [Lease(name, 100.0, queues=("host:a",), machines=("migration",), max_running=2) for name in ("w2", "w1")]
    answer = why(MACHINE, story(ENTERED), leases, 10.0, Load({"w1": 2, "w2": 1}))
    assert answer.waits_for == "a free worker to begin `copying` (queue `host:a`; 2 alive: w1, w2)"
