"""The test kit: what a user's plain test can do with a machine."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from interlock import (
    Actions,
    Event,
    Fail,
    Final,
    Machine,
    NotPossible,
    Operation,
    Refused,
    Retry,
    Rollback,
    State,
    When,
)
from interlock.compute.fake_hypervisor import FakeHypervisor
from interlock.compute.live_migration import LiveMigration, Move, live_migration
from interlock.interpreter.facts import AttemptLost, ChildIssued, CutAsked, TimerFired
from interlock.testing import CRASHES, HANGS, Kit, NeverQuiet
from tests.machines import Drain, Migration

MOVE = {"instance": "vm-1", "source": "a", "destination": "b"}


class Parcel(Machine[dict[str, Any]], version=1):
    """A machine with timers, conditions, and a state that waits."""

    packing = State(initial=True, undo=True, retry=Retry(3, delay="10s", jitter=0), within="10m", then="packed")
    packed = State(
        on={"send": [When("heavy", "by_truck"), "by_bike"], "drop": Rollback("cancelled")},
        after={"2h": "by_bike", "72h": Rollback("failed")},
    )
    by_truck = State(undo="nothing", timeout="1h", then="delivered")
    by_bike = State(undo=True, timeout="1h", then="delivered")
    delivered = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Circle(Machine[dict[str, Any]], version=1):
    """Goes round for ever."""

    one = State(initial=True, undo="nothing", then="two", on={"out": "done_"})
    two = State(undo="nothing", then="one")
    done_ = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Endless(Machine[dict[str, Any]], version=1):
    """Is tried for ever."""

    trying = State(initial=True, undo="nothing", retry=Retry.forever(max_delay="1h"), then="well")
    well = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


def test_ten_lines() -> None:
    kit = Kit(LiveMigration)
    kit.stub("copying", raises=OSError("disk full"))
    op = kit.start(**MOVE)
    op.expect(status="failed", undone=["copying", "preparing"])
    assert op.performed("preparing") == 1 and op.performed("copying") == 0 and op.attempts("copying") == 1


def test_without_stubs_every_action_succeeds() -> None:
    op = Kit(LiveMigration).start(**MOVE)
    op.expect(
        status="succeeded",
        state=LiveMigration.completed,
        visited=["checking", "preparing", "copying", "switching", "cleaning", "completed"],
        undone=[],
        data={"instance": "vm-1"},
    )


def test_an_answer_for_each_attempt_and_the_last_for_all_that_follow() -> None:
    kit = Kit(Parcel)
    kit.stub(Parcel.packing, OSError("one"), OSError("two"), {"box": 3})
    op, other = kit.start(), kit.start()
    assert op.status == "queued" and op.attempts("packing") == 1
    kit.advance("9s")
    assert op.attempts("packing") == 1
    kit.advance("2s")
    assert op.attempts("packing") == 2
    kit.advance("20s")
    op.expect(state="packed", status="waiting", data={"box": 3})
    other.expect(state="packed", data={"box": 3})


def test_events_functions_and_final_failures() -> None:
    kit = Kit(LiveMigration)
    kit.stub("checking", event=Event("unsuitable", reason="no such CPU"))
    kit.start(**MOVE).expect(state="refused", data={"reason": "no such CPU"})
    seen: list[Move] = []

    async def look(op: Operation[Move]) -> None:
        seen.append(op.data)
        await asyncio.sleep(60)

    kit.stub("checking", runs=lambda op: seen.append(op.data))
    kit.stub("preparing", runs=look, takes="5s")
    op = kit.start(**MOVE)
    op.expect(state="preparing", status="running")
    kit.advance("1m")
    op.expect(status="queued")  # its timeout is one minute
    assert seen == [Move("vm-1", "a", "b")] * 2
    kit.stub("preparing", raises=Fail("never"))
    kit.advance("10s")
    op.expect(status="failed")


def test_timers_fire_on_the_way_and_in_order() -> None:
    kit = Kit(Parcel)
    kit.stub("by_bike", hangs=True)
    op = kit.start()
    before = kit.now
    kit.advance("3h30m")
    op.expect(status="failed", visited=["packing", "packed", "by_bike", "failed"], undone=["by_bike", "packing"])
    assert [fact.timer for fact in op.facts if isinstance(fact, TimerFired)] == ["after:0"]
    assert [fact.cause for fact in op.facts if isinstance(fact, CutAsked)] == ["timeout"]
    assert kit.now == before + 3.5 * 3600
    assert "2030-01-01 02:00:00.000" in op.journal and "2030-01-01 03:00:00.000" in op.journal


def test_a_timer_is_not_forgotten_over_one_that_came_before() -> None:
    kit = Kit(Parcel)
    first = kit.start()
    kit.advance("1h")
    second = kit.start()
    kit.advance("1h")
    first.expect(status="succeeded")
    second.expect(status="waiting")
    kit.advance("1h")
    second.expect(status="succeeded")


def test_conditions() -> None:
    kit = Kit(Parcel)
    kit.stub_condition("heavy", False, True)
    op = kit.start()
    op.signal("send")
    op.expect(status="succeeded", visited=["packing", "packed", "by_bike", "delivered"])
    kit.stub_condition("heavy", True)
    other = kit.start()
    other.signal("send")
    assert "by_truck" in other.visited


def test_people() -> None:
    kit = Kit(LiveMigration)
    kit.stub("switching", raises=Fail("lost"))
    op = kit.start(**MOVE)
    op.expect(status="stuck", state="switching")
    with pytest.raises(NotPossible):
        op.cancel()
    op.retry()
    op.expect(status="stuck")
    op.skip("seen by hand")
    op.expect(status="succeeded")
    held = kit.start(breakpoints=["copying"], **MOVE)
    held.expect(status="paused", state="copying")
    held.resume()
    held.expect(status="stuck")
    held.override("completed")
    held.expect(status="succeeded")
    kit.stub("copying", hangs=True)
    third = kit.start(**MOVE)
    third.pause("wait")
    third.cancel("enough")
    third.expect(status="cancelled", undone=["copying", "preparing"])
    fourth = kit.start(**MOVE)
    fourth.signal("force")
    fourth.expect(status="stuck", visited=["checking", "preparing", "copying", "forcing", "switching"])


def test_undos_answer_too() -> None:
    kit = Kit(LiveMigration)
    kit.stub("copying", raises=OSError("no"))
    kit.stub_undo("preparing", OSError("not yet"), None)
    op = kit.start(**MOVE)
    op.expect(status="reverting", undone=["copying"])
    kit.finish(op, within="1m")
    op.expect(status="failed", undone=["copying", "preparing"])


def test_a_crash_and_a_restart() -> None:
    kit = Kit(LiveMigration)
    kit.stub("copying", hangs=True)
    op = kit.start(**MOVE)
    kit.crash()
    with pytest.raises(Refused, match="restart"):
        op.cancel()
    kit.advance("1h")
    op.expect(status="running")
    seen = []
    kit.stub_recover("copying", runs=lambda op: seen.append(op.recovering))
    kit.restart()
    op.expect(status="succeeded")
    assert seen == [True] and sum(isinstance(fact, AttemptLost) for fact in op.facts) == 1


def test_a_worker_that_dies_within_an_attempt() -> None:
    kit = Kit(LiveMigration)
    kit.stub("copying", CRASHES, CRASHES, None)
    op = kit.start(**MOVE)
    op.expect(status="running", state="copying")
    kit.restart()
    op.expect(status="running")
    kit.restart()
    op.expect(status="succeeded")
    assert op.attempts("copying") == 3


def test_the_users_own_actions_in_part(tmp_path: Path) -> None:
    fake = FakeHypervisor(tmp_path / "world.json")
    kit = Kit(live_migration(fake))
    op = kit.start(**MOVE)
    kit.finish(op)
    op.expect(state="refused")  # the fake knows no such guest
    kit.stub("checking", returns=None)
    kit.stub("preparing", returns={"uri": "tcp:b", "port": 1})
    kit.stub("copying", HANGS)
    other = kit.start(**MOVE)
    other.expect(state="copying", status="running", data={"port": 1})


def test_plain_functions_are_called_on_the_spot() -> None:
    actions = Actions(Endless)
    threads = []

    @actions.perform("trying")
    def attempt(op: Operation[dict[str, Any]]) -> dict[str, Any]:
        import threading

        threads.append(threading.current_thread())
        return {"it": "is well"}

    import threading

    Kit(actions).start().expect(status="succeeded", data={"it": "is well"})
    assert threads == [threading.main_thread()]


def test_reported_states_wait_for_other_code() -> None:
    actions = Actions(Parcel, reported=["packing"])
    actions.undo("packing")(lambda op: None)
    actions.perform("by_truck")(lambda op: None)
    actions.perform("by_bike")(lambda op: None)
    actions.undo("by_bike")(lambda op: None)
    actions.when("heavy")(lambda op: True)
    kit = Kit(actions)
    op = kit.start()
    op.expect(status="waiting", state="packing")
    op.report("done")
    op.signal("send")
    op.expect(status="succeeded", visited=["packing", "packed", "by_truck", "delivered"])
    with pytest.raises(Refused, match="no state with an action `packing`"):
        kit.stub("packing", None)


def test_a_failed_expectation_tells_the_journal() -> None:
    op = Kit(LiveMigration).start(**MOVE)
    with pytest.raises(AssertionError) as failure:
        op.expect(status="failed", state="failed", undone=["copying"], visited=[], data={"instance": "vm-2", "size": 1})
    text = str(failure.value)
    assert text.startswith("<op-1: succeeded in completed>: status is 'succeeded', not 'failed'; state is 'completed'")
    for said in ("undone is []", "data['instance'] is 'vm-1', not 'vm-2'", "data has no `size`", "visited is ["):
        assert said in text
    assert "    1  started: live-migration version 1" in text and "ends in completed (succeeded)" in text
    assert text.count("\n") == len(op.facts) + 1
    with pytest.raises(Refused, match="did you mean `copying`"):
        op.expect(state="copyin")


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (lambda kit: kit.stub("copyin", None), "did you mean `copying`"),
        (lambda kit: kit.stub("completed", None), "no state with an action `completed`"),
        (lambda kit: kit.stub_undo("switching"), "no state with an undo `switching`"),
        (lambda kit: kit.stub("copying", 3), "cannot answer 3"),
        (lambda kit: kit.stub("copying"), "at least one answer"),
        (lambda kit: kit.stub("copying", None, raises=OSError()), "say one of"),
        (lambda kit: kit.stub_condition("heavy", True), "no condition `heavy`.*postcopy_allowed"),
        (lambda kit: kit.advance(-1), "does not go back|duration"),
        (lambda kit: kit.operation("op-7"), "no operation `op-7`"),
        (lambda kit: kit.start(instance="vm"), "source"),
        (lambda kit: kit.start(**MOVE).performed("copyin"), "did you mean"),
    ],
)
def test_bad_input_is_refused(put: Any, said: str) -> None:
    with pytest.raises((Refused, ValueError), match=said):
        put(Kit(LiveMigration))


def test_an_action_that_never_returns_is_stopped_and_named() -> None:
    def spin(op: Operation[Any]) -> None:
        while True:
            pass

    kit = Kit(Endless, action_seconds=0.3)
    kit.stub("trying", runs=spin)
    began = time.monotonic()
    with pytest.raises(NeverQuiet, match=r"neither returns nor awaits for 300ms: it was in `spin` .*test_kit.py, line"):
        kit.start()
    assert time.monotonic() - began < 5
    kit.stub("trying", returns=None)
    kit.restart()
    kit.operation("op-1").expect(status="succeeded")


def test_an_action_that_awaits_for_ever_is_bounded_too() -> None:
    async def spin(op: Operation[Any]) -> None:
        while True:
            await asyncio.sleep(0)

    kit = Kit(Endless, steps=2_000)
    kit.stub("trying", runs=spin)
    with pytest.raises(NeverQuiet, match="2,000 steps"):
        kit.start()


def test_a_machine_that_turns_in_a_circle_is_bounded() -> None:
    with pytest.raises(
        NeverQuiet, match=r"(?s)5,000 steps, and there is still something.*last facts of op-1:.*enters two"
    ):
        Kit(Circle, steps=5_000).start()


def test_endless_retries_are_bounded() -> None:
    kit = Kit(Endless)
    kit.stub("trying", raises=OSError("never"))
    op = kit.start()
    with pytest.raises(
        NeverQuiet, match=r"(?s)op-1: queued in trying.* neither over nor stuck after 72h.*OSError: never"
    ):
        kit.finish(op, within="72h")
    with pytest.raises(NeverQuiet, match="steps"):
        kit.advance(f"{24 * 3650}h")


async def test_in_an_async_test_the_tests_own_loop_goes_on() -> None:
    asked = []
    kit = Kit(LiveMigration)
    kit.stub("checking", runs=lambda op: asked.append(asyncio.get_running_loop()))
    kit.start(**MOVE).expect(status="succeeded")
    await asyncio.sleep(0)
    assert len(asked) == 1 and asked[0] is not asyncio.get_running_loop()


def test_a_parent_state_starts_children_of_machines_that_the_kit_knows() -> None:
    where = {"host": "a", "source": "a", "destination": "b"}
    kit = Kit(Drain, children=[Migration])
    op = kit.start(guests=["vm-1", "vm-2"], **where)
    op.expect(status="succeeded", visited=["disabling", "moving", "drained"])
    (child, _) = (kit.operation(fact.id) for fact in op.facts if isinstance(fact, ChildIssued))
    child.expect(status="succeeded", state="completed", data={"instance": "vm-1"})
    assert child.performed("copying") == 1
    kit = Kit(Drain)
    kit.start(guests=["vm-1"], **where).expect(status="failed", undone=["disabling"])


def test_a_month_passes_quickly() -> None:
    kit = Kit(Parcel)
    kit.stub("by_bike", hangs=True)
    began = time.monotonic()
    kit.start(timeouts={"by_bike": "8000h"})
    kit.advance("720h")
    assert time.monotonic() - began < 3


def test_a_kit_that_nobody_holds_is_gone_and_says_nothing() -> None:
    kit = Kit(Parcel)
    kit.stub("packing", hangs=True)
    kit.start()
    there = weakref.ref(kit)
    del kit
    gc.collect()
    assert there() is None
