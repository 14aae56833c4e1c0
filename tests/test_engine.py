"""The facade over real stores: what an operation goes through, and what can be asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock import (
    ActionsMismatch,
    Event,
    Fail,
    IllegalData,
    Interlock,
    KeyReused,
    LimitExceeded,
    NotPossible,
    Refused,
    RetryAfter,
    StoreFailed,
    Unavailable,
    Unknown,
)
from interlock.interpreter.facts import Entered, Fact, Issued, Performed
from interlock.interpreter.snapshot import Queued, Stuck
from interlock.runtime.limits import Limits
from interlock.stores.contract import Store
from tests.deliveries import Delivery, Depot, Gate, Letter, Parcel, a_store, eventually, failing


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    one = a_store(request.param, tmp_path)
    yield one
    one.close()


@pytest.fixture(params=["thread", "inline"])
def committer(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def depot() -> Depot:
    return Depot()


async def facts_of(interlock: Interlock, id: str) -> list[Fact]:
    return [fact for record in await interlock.history(id) for fact in record.facts]


async def test_an_operation_of_three_steps_is_performed_in_four_commits(
    store: Store, committer: Any, depot: Depot
) -> None:
    depot.do["perform packing"] = lambda op: {"port": 49152}
    async with Interlock(store, [depot.actions()], committer=committer) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        snapshot = await op.finished()
        assert (snapshot.status, snapshot.state) == ("succeeded", "delivered")
        assert depot.calls == ["perform packing", "perform driving", "perform arriving"]
        assert [record.facts[0].__class__.__name__ for record in await op.history()] == ["Started", *["Performed"] * 3]
        assert await op.data() == Parcel("web-1", 49152)
        assert [type(fact) for fact in (await op.history())[0].facts][-1] is Issued


async def test_what_an_action_is_given(store: Store, depot: Depot) -> None:
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, Parcel("web-1", tags=["a"]))
        await op.finished()
    first, second, _ = depot.seen
    assert (first.id, first.machine, first.version, first.state, first.number) == (op.id, "delivery", 1, "packing", 1)
    assert first.data == Parcel("web-1", tags=["a"]) and isinstance(first.data, Parcel)
    assert first.token < second.token and first.key != second.key
    assert not first.recovering and not first.stopping


async def test_a_failing_action_is_tried_again_with_the_same_key(store: Store, depot: Depot) -> None:
    depot.do["perform packing"] = failing(ValueError("once"), RetryAfter(0.01), None)
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        assert (await op.finished()).status == "succeeded"
    tries = depot.seen[:3]
    assert [op.number for op in tries] == [1, 2, 3]
    assert len({op.key for op in tries}) == 1 and len({op.token for op in tries}) == 3


@pytest.mark.parametrize(
    "how", ["out of attempts", "Fail", "event", "wrong result", "wrong data", "too much data", "exit"]
)
async def test_whatever_fails_rolls_back(store: Store, depot: Depot, how: str) -> None:
    depot.do["perform driving"] = {
        "out of attempts": failing(*[ValueError("again")] * 3),
        "Fail": failing(Fail("never")),
        "event": lambda op: Event("astray", port=1),
        "wrong result": lambda op: 5,
        "wrong data": lambda op: {"tags": [1]},
        "too much data": lambda op: {"name": "x" * 2_000},
        "exit": failing(SystemExit(3)),
    }[how]
    async with Interlock(store, [depot.actions()], limits=Limits(payload_bytes=1_000)) as interlock:
        op = await interlock.start(Delivery, name="web-1", retries={"driving": 1} if how == "exit" else None)
        snapshot = await op.finished()
        why = await op.why()
    assert (snapshot.status, snapshot.steps) == ("failed", ())
    assert [call for call in depot.calls if "undo" in call] == ["undo driving", "undo packing"]
    expected = {
        "wrong result": "IllegalResult",
        "wrong data": "IllegalData",
        "too much data": "LimitExceeded",
        "Fail": "Fail",
        "exit": "SystemExit",
    }
    if how in expected:
        assert snapshot.failure is not None and snapshot.failure.kind == expected[how]
    cause = "`astray` in `driving`" if how == "event" else "`driving` failed: " + expected.get(how, "ValueError")
    assert why.waits_for.startswith(f"nothing: it failed, because {cause}")


async def test_an_undo_out_of_attempts_sticks_until_a_person_helps(store: Store, depot: Depot) -> None:
    depot.do["perform driving"] = failing(Fail("no"))
    depot.do["undo packing"] = failing(*[OSError("disk")] * 2, Fail("still"))
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        snapshot = await op.finished()
        assert snapshot.status == "stuck" and isinstance(snapshot.phase, Stuck) and snapshot.phase.code == "undo-failed"
        with pytest.raises(Refused, match="needs a reason"):
            await op.retry("")
        await op.retry("disk mended", by="ann")
        assert (await op.finished()).status == "stuck"
        await op.skip("wiped by hand")
        assert (await op.finished()).status == "failed"
    assert depot.calls.count("undo packing") == 3


@pytest.mark.parametrize("swallow", [False, True])
async def test_cancel_ends_the_running_action_and_undoes_it(
    store: Store, committer: Any, depot: Depot, swallow: bool
) -> None:
    gate = Gate()
    ended: list[str] = []

    async def act(op: Any) -> None:
        try:
            await gate(op)
        except asyncio.CancelledError:
            ended.append(depot.calls[-1])
            if not swallow:
                raise

    depot.do["perform driving"] = act
    async with Interlock(store, [depot.actions()], committer=committer) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await gate.entered.wait()
        await op.cancel("no longer wanted", by="ann")
        snapshot = await op.finished()
        assert snapshot.status == "cancelled"
    assert gate.cancelled == 1 and ended == ["perform driving"]  # the undo began only when the action had ended
    assert depot.calls == ["perform packing", "perform driving", "undo driving", "undo packing"]
    assert depot.overlaps == 0


async def test_past_the_pivot_a_cancel_is_refused_with_what_is_possible(store: Store, depot: Depot) -> None:
    depot.do["perform arriving"] = gate = Gate()
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await gate.entered.wait()
        with pytest.raises(NotPossible, match="point of no return") as caught:
            await op.cancel()
        assert caught.value.possible == ("pause",)
        gate.open.set()
        assert (await op.finished()).status == "succeeded"


async def test_a_timeout_ends_the_attempt_and_the_next_one_follows(store: Store, depot: Depot) -> None:
    gate = Gate()
    depot.do["perform driving"] = lambda op: gate(op) if op.number == 1 else None
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1", timeouts={"driving": 0.05})
        snapshot = await op.finished()
    assert snapshot.status == "succeeded" and gate.cancelled == 1
    assert depot.calls.count("perform driving") == 2


async def test_a_missed_heartbeat_ends_the_attempt(store: Store, depot: Depot) -> None:
    silent = Gate()

    async def lively(op: Any) -> None:
        for _ in range(20):
            op.progress(1, 2, "bytes", "half")
            await asyncio.sleep(0.01)

    depot.do["perform flying"] = silent
    depot.do["when abroad"] = lambda op: True
    async with Interlock(store, [depot.actions(Letter)]) as interlock:
        op = await interlock.start(Letter, name="x", retries={"flying": 2})
        await eventually(lambda: depot.calls)
        await op.signal("sent", {"port": 7}, hold=True)
        await silent.entered.wait()
        depot.do["perform flying"] = lively
        snapshot = await op.finished()
        progress = await op.progress()
    assert snapshot.status == "succeeded" and silent.cancelled == 1 and snapshot.data["port"] == 7
    assert depot.calls.count("perform flying") == 2  # twenty reports in 200 ms kept the second attempt alive, at 50 ms
    assert progress is not None and (progress.done, progress.total, progress.message) == (1, 2, "half")


async def test_conditions_are_answered_in_the_outcomes_own_commit(store: Store, depot: Depot) -> None:
    depot.do["when heavy"] = lambda op: op.data.port == 9
    depot.do["perform posting"] = lambda op: {"port": 9}
    async with Interlock(store, [depot.actions(Letter)]) as interlock:
        op = await interlock.start(Letter, name="x", breakpoints=["waiting"])
        await op.signal("sent", hold=True)
        await eventually(lambda: "perform writing" in depot.calls)
        with pytest.raises(NotPossible):
            await op.signal("done")
        if (await op.show()).paused:
            await op.resume()
        snapshot = await op.finished()
        names = [type(fact).__name__ for fact in await facts_of(interlock, op.id)]
    assert snapshot.status == "failed"
    assert depot.calls == ["perform writing", "perform posting", "when abroad", "when heavy"]
    assert "Asked" not in names and "Answered" in names


async def test_a_condition_that_fails_is_asked_again(store: Store, depot: Depot) -> None:
    answers: list[Any] = [OSError("no network"), OSError("no network"), True]

    def abroad(op: Any) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    depot.do["when abroad"] = abroad
    async with Interlock(store, [depot.actions(Letter)]) as interlock:
        op = await interlock.start(Letter, name="x")
        await op.signal("sent", hold=True)
        await eventually(lambda: len(answers) == 1)
        snapshot = await op.show()
        assert isinstance(snapshot.phase, Queued) and snapshot.phase.kind == "choose"
        await op.retry("network is back")
        assert (await op.finished()).status == "succeeded"


async def test_pause_lets_the_action_finish_and_starts_nothing_more(store: Store, depot: Depot) -> None:
    depot.do["perform packing"] = gate = Gate()
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await gate.entered.wait()
        assert (await op.pause("look at it")).status == "running"
        gate.open.set()
        async for record in op.watch():
            if any(isinstance(fact, Performed) for fact in record.facts):
                break
        snapshot = await op.show()
        assert (snapshot.status, snapshot.state) == ("paused", "driving")
        assert "resume" in (await op.why()).possible
        await op.resume()
        assert (await op.finished()).status == "succeeded"
    assert gate.cancelled == 0


async def test_breakpoints_pause_before_a_state(store: Store, depot: Depot) -> None:
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1", breakpoints=["arriving"])
        async for record in op.watch():
            if any(isinstance(fact, Entered) and fact.state == "arriving" for fact in record.facts):
                break
        assert (await op.show()).status == "paused"
        assert "perform arriving" not in depot.calls
        await op.pause(before=[])
        await op.resume()
        assert (await op.finished()).status == "succeeded"


async def test_a_signal_moves_a_running_operation_once_its_action_has_ended(store: Store, depot: Depot) -> None:
    depot.do["perform driving"] = gate = Gate()
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await gate.entered.wait()
        await op.signal("turn", {"tags": ["late"]}, key="k1")
        await op.signal("turn", {"tags": ["late"]}, key="k1")
        snapshot = await op.finished()
    assert (snapshot.status, snapshot.data["tags"]) == ("cancelled", ["late"])


async def test_a_signal_that_does_not_fit_is_refused(store: Store, depot: Depot) -> None:
    depot.do["perform packing"] = gate = Gate()
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await gate.entered.wait()
        with pytest.raises(Unknown, match="did you mean `turn`"):
            await op.signal("trun")
        with pytest.raises(NotPossible, match="possible now"):
            await op.signal("turn")
        with pytest.raises(IllegalData, match="unknown field"):
            await op.signal("turn", {"colour": 1}, hold=True)
        await op.signal("turn", hold=True)
        gate.open.set()
        assert (await op.finished()).status == "cancelled"


async def test_a_key_starts_one_operation(store: Store, depot: Depot) -> None:
    async with Interlock(store, [depot.actions()]) as interlock:
        first, again = await asyncio.gather(*(interlock.start(Delivery, name="web-1", key="order-7") for _ in range(2)))
        assert first.id == again.id
        await first.finished()
        assert (await interlock.start(Delivery, Parcel("web-1"), key="order-7")).id == first.id
        with pytest.raises(KeyReused, match="started with other data"):
            await interlock.start(Delivery, name="web-2", key="order-7")
        assert len((await interlock.list()).snapshots) == 1
    assert depot.calls.count("perform packing") == 1


async def test_starts_that_cannot_be_are_refused_and_leave_nothing(store: Store, depot: Depot) -> None:
    async with Interlock(store, [depot.actions()], limits=Limits(payload_bytes=200, breakpoints=2)) as interlock:
        refused: list[tuple[type[Exception], str, Any]] = [
            (IllegalData, "`name` is missing", {}),
            (IllegalData, "did you mean `port`", {"name": "a", "prt": 1}),
            (IllegalData, "tags", {"name": "a", "tags": [1]}),
            (IllegalData, "NaN", {"name": "a", "port": float("nan")}),
            (IllegalData, "unsupported", {"name": object()}),
            (LimitExceeded, "payload_bytes", {"name": "a" * 500}),
            (LimitExceeded, "breakpoints", {"name": "a", "breakpoints": ["packing"] * 3}),
            (Unknown, "packng", {"name": "a", "breakpoints": ["packng"]}),
            (Unknown, "nowhere", {"name": "a", "timeouts": {"nowhere": 1}}),
            (Refused, "no duration", {"name": "a", "timeouts": {"packing": "soon"}}),
            (Refused, "attempts", {"name": "a", "retries": {"packing": 0}}),
            (Refused, "do not start in", {"name": "a", "state": "driving"}),
            (Refused, "empty idempotency key", {"name": "a", "key": ""}),
            (LimitExceeded, "by_characters", {"name": "a", "by": "b" * 300}),
        ]
        for kind, text, given in refused:
            with pytest.raises(kind, match=text):
                await interlock.start(Delivery, **given)
        with pytest.raises(Unknown, match="it knows delivery"):
            await interlock.start("delivry", name="a")
        assert (await interlock.list()).snapshots == ()


async def test_questions(store: Store, depot: Depot) -> None:
    async with Interlock(store, [depot.actions()], machines=[Letter]) as interlock:
        ops = [await interlock.start(Delivery, name=f"web-{n}") for n in range(3)]
        for op in ops:
            await op.finished()
        letter = await interlock.start("letter", {"name": "x"})
        assert await interlock.machines() == (("delivery", 1), ("letter", 1))
        assert await interlock.counts() == {
            ("delivery", "delivered", "succeeded"): 3,
            ("letter", "writing", "queued"): 1,
        }
        page = await interlock.list(Delivery, status="succeeded", limit=2)
        rest = await interlock.list("delivery", status=["succeeded"], cursor=page.cursor)
        assert [one.id for one in (*page.snapshots, *rest.snapshots)] == [op.id for op in reversed(ops)]
        assert "none that is alive serves" in (await letter.why()).waits_for
        assert (await interlock.definition("letter")).name == "letter"
        assert len(await interlock.leases()) == 1
        assert len(await ops[0].history(limit=2)) == 2
        with pytest.raises(LimitExceeded, match="setting `page`"):
            await ops[0].history(limit=5_000)
        for question in (interlock.show, interlock.history, interlock.finished, interlock.why, interlock.cancel):
            with pytest.raises(Unknown, match="no operation `nope`"):
                await question("nope")


async def test_watch_follows_all_operations_from_now_on(store: Store, depot: Depot) -> None:
    async with Interlock(store, [depot.actions()]) as interlock:
        await (await interlock.start(Delivery, name="before")).finished()
        watching = interlock.watch()
        seen: list[str] = []

        async def follow() -> None:
            async for record in watching:
                seen.append(record.operation)
                if len(seen) == 8:
                    return

        following = asyncio.create_task(follow())
        await eventually(lambda: interlock._ledger._bells)
        ops = [await interlock.start(Delivery, name="after") for _ in range(2)]
        await asyncio.wait_for(following, 10)
        assert set(seen) == {op.id for op in ops}


async def test_what_another_process_does_is_noticed(tmp_path: Path, depot: Depot) -> None:
    """A second engine on the same file stands for the command line: it cancels, pauses and waits."""
    depot.do["perform driving"] = gate = Gate()
    path = str(tmp_path / "ops.db")
    async with (
        Interlock(path, [depot.actions()], poll_seconds=0.02) as serving,
        Interlock(path, committer="inline", poll_seconds=0.02) as asking,
    ):
        op = await asking.start("delivery", {"name": "web-1"})
        await gate.entered.wait()
        mine = serving.operation(op.id)
        waiting = asyncio.create_task(mine.finished())
        assert (await op.cancel()).status == "running"
        assert (await op.finished()).status == "cancelled"
        assert (await waiting).status == "cancelled"
    assert gate.cancelled == 1
    assert depot.calls[-2:] == ["undo driving", "undo packing"]


async def test_what_is_handed_on_is_taken_up_long_before_the_next_poll(tmp_path: Path, depot: Depot) -> None:
    """Three engines on one file that poll once in an hour: one performs, one starts and waits, one watches."""
    path, hour = str(tmp_path / "ops.db"), 3600
    ended: list[str] = []

    async def follow(looking: Interlock) -> None:
        async for record in looking.watch():
            ended.extend(
                record.operation for fact in record.facts if isinstance(fact, Entered) and fact.kind == "final"
            )

    async with (
        asyncio.timeout(20),
        Interlock(path, [depot.actions()], poll_seconds=hour),
        Interlock(path, poll_seconds=hour) as asking,
        Interlock(path, poll_seconds=hour) as looking,
    ):
        following = asyncio.create_task(follow(looking))
        ops = []
        for _ in range(3):
            ops.append(await asking.start("delivery", {"name": "web-1"}))
            assert (await ops[-1].finished()).status == "succeeded"
            await eventually(lambda: len(ended) == len(ops))
        following.cancel()
    assert ended == [op.id for op in ops]


async def test_a_deadline_rolls_back(store: Store, depot: Depot) -> None:
    depot.do["perform driving"] = gate = Gate()
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1", deadline=0.05)
        assert (await op.finished()).status == "failed"
    assert gate.cancelled == 1 and "undo driving" in depot.calls


async def test_override_says_which_rule_it_breaks(store: Store, depot: Depot) -> None:
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1", breakpoints=["driving"])
        await eventually(lambda: "perform packing" in depot.calls)
        async for _ in op.watch():
            if (await op.show()).paused:
                break
        await op.override("delivered", "it is there already")
        assert (await op.finished()).status == "succeeded"
        broke = [fact.broke for fact in await facts_of(interlock, op.id) if hasattr(fact, "broke")]
    assert broke == [("the machine has no edge from `driving` to `delivered`",)]


async def test_finished_can_be_given_up(store: Store, depot: Depot) -> None:
    depot.do["perform packing"] = gate = Gate()
    async with Interlock(store, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        with pytest.raises(TimeoutError):
            await op.finished(timeout=0.01)
        gate.open.set()
        assert (await op.finished(timeout=10)).status == "succeeded"
        assert interlock._ledger.awaited == {}


def test_settings_and_actions_that_cannot_be_are_refused_at_once(depot: Depot) -> None:
    actions = depot.actions()
    del actions.undos["packing"]
    with pytest.raises(ActionsMismatch, match="Bind a function with"):
        Interlock(actions=[actions])
    with pytest.raises(Refused, match="two Actions for machine `delivery`"):
        Interlock(actions=[depot.actions(), depot.actions()])
    with pytest.raises(Refused, match="lease_seconds"):
        Interlock(lease_seconds=0)
    with pytest.raises(ValueError, match="`thread` or `inline`"):
        Interlock(committer="forked")  # type: ignore[arg-type]  # what a caller without types may write


async def test_a_store_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        async with Interlock(str(tmp_path / "nowhere" / "ops.db")):
            pass
    with pytest.raises(Refused, match="names no store"):
        async with Interlock("redis://there"):
            pass


async def test_after_close_nothing_is_answered(store: Store, depot: Depot) -> None:
    interlock = Interlock(store, [depot.actions()])
    with pytest.raises(Refused, match="async with"):
        await interlock.counts()
    async with interlock:
        await interlock.stop()
        assert await interlock.counts() == {}
        await interlock.start(Delivery, name="web-1")  # accepted, for another worker
    await interlock.close()
    with pytest.raises(Unavailable, match="closed"):
        await interlock.counts()
    assert depot.calls == []
