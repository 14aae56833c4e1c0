"""The worker: leases, recovery, plain functions, stopping, and stores that fail."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock import Actions, Final, Interlock, Machine, Operation, State, StoreFailed
from interlock.interpreter.facts import AttemptLost, CutAsked, Fact, Issued, Performed
from interlock.interpreter.snapshot import Queued, Running
from interlock.runtime.clock import SystemClock
from interlock.stores.contract import Store
from interlock.stores.memory import MemoryStore
from interlock.stores.sqlite import SqliteStore
from tests.deliveries import Delivery, Depot, Gate, Letter, Parcel, a_store, eventually


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    one = a_store(request.param, tmp_path)
    yield one
    one.close()


@pytest.fixture
def depot() -> Depot:
    return Depot()


async def facts_of(interlock: Interlock, id: str) -> list[Fact]:
    return [fact for record in await interlock.history(id) for fact in record.facts]


class Shared:
    """A store that several engines use and none closes; it can be made to fail."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.down = False
        self.failed = 0
        self.owner = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.store, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if self.down:
                self.failed += 1
                raise StoreFailed("database or disk is full; make room")
            with self.owner:
                return verb(*arguments, **named)

        return call

    def close(self) -> None:
        pass


class Shifted(SystemClock):
    """A clock that goes before the others', or stands still."""

    def __init__(self, ahead: float = 0.0, stands: bool = False) -> None:
        self.ahead, self.at = ahead, time.time() if stands else None

    def now(self) -> float:
        return (self.at or super().now()) + self.ahead


# Recovery


async def test_a_killed_worker_s_operations_are_finished_by_another_at_once(tmp_path: Path, depot: Depot) -> None:
    """Real processes, SIGKILL: the second does not wait for the lease, because it sees that the first is gone."""
    path = str(tmp_path / "ops.db")
    names = [f"web-{n}" for n in range(20)]
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.killed_worker", path, *names, stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    assert await asyncio.wait_for(victim.stdout.readline(), 30) == b"driving\n"
    victim.kill()
    await victim.wait()
    began = time.monotonic()
    async with Interlock(path, [depot.actions(recover=("driving",))]) as interlock:
        ops = [await interlock.start(Delivery, name=name, key=name) for name in names]
        await eventually(lambda: depot.calls.count("recover driving") == len(names))
        taken_over = time.monotonic() - began
        assert {(await op.finished()).status for op in ops} == {"succeeded"}
        facts = await facts_of(interlock, ops[0].id)
        await eventually(lambda: interlock._worker is not None and not interlock._worker._taken)
        assert len(await interlock.leases()) == 1, "the lease of a process that is gone is forgotten"
    assert taken_over < 0.9, f"taken over after {taken_over:.2f} s"
    assert "perform packing" not in depot.calls and "perform driving" not in depot.calls
    assert all(op.recovering and op.number == 2 for op in depot.seen if op.state == "driving")
    assert sum(isinstance(fact, Performed) for fact in facts) == 3 and AttemptLost("lapsed") in facts


async def test_without_a_recover_the_action_is_performed_again(store: Store, depot: Depot) -> None:
    shared, gate = Shared(store), Gate()
    depot.do["perform driving"] = gate
    frozen = Interlock(shared, [depot.actions()], clock=Shifted(stands=True), poll_seconds=60, process="")
    await frozen.open()
    op = await frozen.start(Delivery, name="web-1")
    await gate.entered.wait()
    other = Depot()
    async with Interlock(shared, [other.actions()], clock=Shifted(ahead=60)) as interlock:
        assert (await interlock.finished(op.id)).status == "succeeded"
    assert other.calls == ["perform driving", "perform arriving"] and other.seen[0].recovering
    gate.open.set()
    await frozen.close()


async def test_a_zombie_s_outcome_is_refused_and_said(
    store: Store, depot: Depot, caplog: pytest.LogCaptureFixture
) -> None:
    """The first worker's clock stands still: it believes to hold its lease and brings its outcome when another has taken over."""
    shared, gate, second = Shared(store), Gate({"port": 1}), Gate({"port": 2})
    depot.do["perform driving"] = gate
    zombie = Interlock(shared, [depot.actions()], clock=Shifted(stands=True), poll_seconds=60, process="")
    await zombie.open()
    op = await zombie.start(Delivery, name="web-1")
    await gate.entered.wait()
    other = Depot()
    other.do["perform driving"] = second
    async with Interlock(shared, [other.actions()], clock=Shifted(ahead=60)) as interlock:
        await second.entered.wait()
        gate.open.set()
        await eventually(lambda: not zombie._performed())
        assert "its outcome was not recorded" in caplog.text
        second.open.set()
        snapshot = await interlock.finished(op.id)
        facts = await facts_of(interlock, op.id)
    assert snapshot.data["port"] == 2
    assert sum(isinstance(fact, Performed) for fact in facts) == 3
    assert other.seen[0].token > depot.seen[1].token
    await zombie.close()


async def test_what_a_frozen_worker_issues_after_it_was_taken_over_is_found(store: Store, depot: Depot) -> None:
    shared, gates = Shared(store), [Gate(), Gate()]
    depot.do["perform packing"] = lambda op: gates[int(op.data.name)](op)
    frozen = Interlock(shared, [depot.actions()], clock=Shifted(stands=True), poll_seconds=60, process="")
    await frozen.open()
    other = Depot()
    async with Interlock(shared, [other.actions()], clock=Shifted(ahead=60), poll_seconds=0.01) as interlock:
        for name in ("0", "1"):
            op = await frozen.start(Delivery, name=name)
            await gates[int(name)].entered.wait()
            assert (await interlock.finished(op.id)).status == "succeeded"
    for gate in gates:
        gate.open.set()
    await frozen.close()


async def test_a_lease_that_cannot_be_renewed_ends_what_runs_under_it(
    store: Store, depot: Depot, caplog: pytest.LogCaptureFixture
) -> None:
    shared, gate = Shared(store), Gate()
    depot.do["perform driving"] = lambda op: gate(op) if not op.recovering else None
    async with Interlock(shared, [depot.actions()], lease_seconds=0.15, poll_seconds=0.02) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await gate.entered.wait()
        (before,) = await interlock.leases()
        shared.down = True
        await eventually(lambda: gate.cancelled)
        shared.down = False
        assert (await op.finished()).status == "succeeded"
        (after,) = [lease for lease in await interlock.leases() if lease.worker != before.worker]
        facts = await facts_of(interlock, op.id)
    assert after.worker != before.worker and "lost its lease" in caplog.text
    assert AttemptLost("lapsed") in facts and depot.overlaps == 0


async def test_an_action_that_outlives_its_lease_is_waited_for(store: Store, depot: Depot) -> None:
    shared, let, entered = Shared(store), asyncio.Event(), asyncio.Event()

    async def deaf(op: Operation[Parcel]) -> None:
        while not op.recovering and not let.is_set():
            entered.set()
            try:
                await let.wait()
            except asyncio.CancelledError:
                continue

    depot.do["perform driving"] = deaf
    async with Interlock(shared, [depot.actions()], lease_seconds=0.15, poll_seconds=0.02) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await entered.wait()
        (before,) = await interlock.leases()
        shared.down = True
        await eventually(lambda: depot.seen[-1].stopping)
        shared.down = False
        async for record in op.watch():
            if any(isinstance(fact, Issued) and fact.worker != before.worker for fact in record.facts):
                break
        assert depot.calls.count("perform driving") == 1
        let.set()
        assert (await op.finished()).status == "succeeded"
    assert depot.calls.count("perform driving") == 2 and depot.overlaps == 0


async def test_a_store_that_fails_for_a_while_loses_no_outcome(
    store: Store, depot: Depot, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Shared(store)
    gates = [Gate({"port": n}) for n in range(5)]
    depot.do["perform driving"] = lambda op: gates[int(op.data.name)](op)
    async with Interlock(shared, [depot.actions()], poll_seconds=0.02) as interlock:
        ops = [await interlock.start(Delivery, name=str(n)) for n in range(5)]
        for gate in gates:
            await gate.entered.wait()
        shared.down = True
        with pytest.raises(StoreFailed):
            await interlock.start(Delivery, name="x")
        for gate in gates:
            gate.open.set()
        await eventually(lambda: caplog.text.count("the store cannot record its outcome") == 5)
        shared.down = False
        found = [await op.finished() for op in ops]
    assert [(one.status, one.data["port"]) for one in found] == [("succeeded", n) for n in range(5)]
    assert depot.calls.count("perform driving") == 5


# Several workers


async def test_two_workers_on_one_file_share_the_work(tmp_path: Path) -> None:
    path, depots = str(tmp_path / "ops.db"), [Depot(), Depot()]
    engines = [
        Interlock(SqliteStore(path, synchronous="NORMAL"), [depot.actions()], max_running=4, poll_seconds=0.01)
        for depot in depots
    ]
    for depot in depots:
        depot.do["perform driving"] = lambda op: asyncio.sleep(0.002)
    async with engines[0], engines[1]:
        ops = [await engines[n % 2].start(Delivery, name=str(n)) for n in range(60)]
        statuses = {(await engines[(n + 1) % 2].finished(op.id)).status for n, op in enumerate(ops)}
        issued = {fact.worker for op in ops for fact in await facts_of(engines[0], op.id) if isinstance(fact, Issued)}
    calls = depots[0].calls + depots[1].calls
    assert statuses == {"succeeded"} and len(issued) == 2
    assert len(calls) == 180 and all(depot.overlaps == 0 for depot in depots)


async def test_a_queue_is_served_only_where_it_is(store: Store) -> None:
    class Routed(Machine[Parcel], version=1):
        here = State(initial=True, undo="nothing", then="there")
        there = State(undo="nothing", queue="host:{name}", then="done")
        done = Final("succeeded")
        failed = Final("failed")
        cancelled = Final("cancelled")

    shared, central, host = Shared(store), Depot(), Depot()
    async with Interlock(shared, [central.actions(Routed)], poll_seconds=0.01) as interlock:
        op = await interlock.start(Routed, name="b")
        await eventually(lambda: central.calls == ["perform here"])
        assert "none that is alive serves queue `host:b`" in (await op.why()).waits_for
        async with Interlock(shared, [host.actions(Routed)], queues=["host:b"], poll_seconds=0.01):
            assert (await op.finished()).status == "succeeded"
    assert (central.calls, host.calls) == (["perform here"], ["perform there"])


async def test_no_more_run_than_there_is_room_for(store: Store, depot: Depot) -> None:
    most = 0

    async def drive(op: Any) -> None:
        nonlocal most
        most = max(most, sum(depot.running.values()))
        await asyncio.sleep(0.001)

    depot.do["perform driving"] = depot.do["perform packing"] = drive
    async with Interlock(store, [depot.actions()], max_running=3) as interlock:
        ops = await asyncio.gather(*(interlock.start(Delivery, name=str(n)) for n in range(30)))
        assert {(await op.finished()).status for op in ops} == {"succeeded"}
    assert most == 3


async def test_timers_of_waiting_operations_fire_even_without_room(
    store: Store, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.runtime.worker.BATCH", 1)  # so that one queued operation could hide the timer

    class Alarm(Machine[Parcel], version=1):
        waiting = State(initial=True, on={"stop": "done"}, after={"20ms": "done"})
        acting = State(initial=True, undo="nothing", then="done")
        done = Final("succeeded")
        failed = Final("failed")
        cancelled = Final("cancelled")

    depot.do["perform acting"] = gate = Gate()
    async with Interlock(store, [depot.actions(Alarm)], max_running=1) as interlock:
        await interlock.start(Alarm, name="busy", state="acting")
        await gate.entered.wait()
        await interlock.start(Alarm, name="queued", state="acting")
        waiting = await interlock.start(Alarm, name="x", state="waiting")
        assert (await waiting.finished()).status == "succeeded"
        assert depot.calls == ["perform acting"]
        gate.open.set()


# Plain functions


def plain(perform: Callable[[Operation[Parcel]], Any], *, inline: bool = False) -> Actions[Parcel]:
    actions = Actions(Delivery)
    for state in ("packing", "driving"):
        actions.undo(state, inline=True)(lambda op: None)
    for state in ("packing", "arriving"):
        actions.perform(state, inline=True)(lambda op: None)
    actions.perform("driving", inline=inline)(perform)
    return actions


@pytest.mark.parametrize("inline", [False, True])
async def test_plain_functions_run_in_a_thread_or_on_the_loop(store: Store, inline: bool) -> None:
    where: list[threading.Thread] = []

    def drive(op: Operation[Parcel]) -> dict[str, int]:
        where.append(threading.current_thread())
        op.progress(3)
        return {"port": 5}

    async with Interlock(store, [plain(drive, inline=inline)]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        snapshot = await op.finished()
        progress = await op.progress()
    assert snapshot.data["port"] == 5 and progress is not None and progress.done == 3
    assert (where[0] is threading.current_thread()) is inline


async def test_a_plain_function_is_told_to_stop_and_waited_for(store: Store) -> None:
    entered, let, told = threading.Event(), threading.Event(), []

    def drive(op: Operation[Parcel]) -> None:
        entered.set()
        while not op.stopping:
            let.wait(0.002)
        let.wait(0.05)
        told.append(op.stopping)
        op.raise_if_stopping()

    async with Interlock(store, [plain(drive)]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await eventually(entered.is_set)
        snapshot = await op.cancel()
        assert snapshot.status == "running" and told == []
        assert (await op.finished()).status == "cancelled"
        facts = await facts_of(interlock, op.id)
    assert told == [True] and CutAsked("cancel") in facts


async def test_a_plain_function_that_waits_for_a_thread_is_cut_at_once(store: Store) -> None:
    from interlock.runtime.limits import Limits

    entered, let = threading.Event(), threading.Event()

    def drive(op: Operation[Parcel]) -> None:
        entered.set()
        let.wait(60)

    async with Interlock(store, [plain(drive)], limits=Limits(threads=1)) as interlock:
        first = await interlock.start(Delivery, name="first")
        await eventually(entered.is_set)
        second = await interlock.start(Delivery, name="second")
        await eventually(lambda: len(interlock._performed()) == 2)
        async for record in second.watch():
            if sum(isinstance(fact, Performed) for fact in record.facts):
                break
        await second.cancel()
        try:
            assert (await second.finished(timeout=5)).status == "cancelled"
        finally:
            let.set()
        assert (await first.finished()).status == "succeeded"


# Stopping


async def test_a_graceful_stop_waits_for_what_runs(store: Store, depot: Depot) -> None:
    depot.do["perform driving"] = gate = Gate({"port": 4})
    shared = Shared(store)
    async with Interlock(shared, [depot.actions()]) as interlock:
        op = await interlock.start(Delivery, name="web-1")
        await gate.entered.wait()
        stopping = asyncio.create_task(interlock.stop())
        await eventually(lambda: interlock._worker is not None and interlock._worker.stopping)
        gate.open.set()
        await stopping
        snapshot = await op.show()
        assert await interlock.leases() == ()
    assert gate.cancelled == 0 and snapshot.data["port"] == 4
    assert snapshot.state == "arriving" and isinstance(snapshot.phase, Queued) and not snapshot.phase.recover
    async with Interlock(shared, [depot.actions()]) as interlock:
        assert (await interlock.finished(op.id)).status == "succeeded"
    assert depot.calls.count("perform driving") == 1


@pytest.mark.parametrize("how", ["handover", "grace over"])
async def test_a_graceful_stop_hands_over(store: Store, depot: Depot, how: str) -> None:
    machine, state = (Letter, "flying") if how == "handover" else (Delivery, "driving")
    gate = Gate()
    depot.do[f"perform {state}"] = lambda op: gate(op) if not op.recovering else None
    depot.do["when abroad"] = lambda op: True
    shared = Shared(store)
    async with Interlock(
        shared, [depot.actions(machine)], grace_seconds=30 if how == "handover" else 0.05
    ) as interlock:
        op = await interlock.start(machine, name="web-1")
        if how == "handover":
            await op.signal("sent", hold=True)
        await gate.entered.wait()
        async with asyncio.timeout(5):
            await interlock.stop()
        snapshot = await op.show()
        facts = await facts_of(interlock, op.id)
    assert gate.cancelled == 1 and AttemptLost("handover") in facts
    assert isinstance(snapshot.phase, Queued) and snapshot.phase.recover
    async with Interlock(shared, [depot.actions(machine)]) as interlock:
        assert (await interlock.finished(op.id)).status == "succeeded"
    assert depot.seen[-2 if machine is Delivery else -1].recovering


async def test_a_function_that_will_not_end_is_named_and_its_lease_left_to_lapse(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered, let = threading.Event(), threading.Event()

    def stubborn(op: Operation[Parcel]) -> None:
        entered.set()
        let.wait(30)

    store = Shared(MemoryStore())
    interlock = Interlock(store, [plain(stubborn)])
    await interlock.open()
    op = await interlock.start(Delivery, name="web-1")
    await eventually(entered.is_set)
    assert interlock._worker is not None
    await interlock._worker.stop(0.01, stubborn_seconds=0.01)
    snapshot = await op.show()
    assert isinstance(snapshot.phase, Running) and len(await interlock.leases()) == 1
    assert f"of operation `{op.id}`" in caplog.text and "until the lease lapses" in caplog.text
    let.set()
    await eventually(lambda: not interlock._worker or not interlock._worker.attempts)
    await interlock.close()


# Versions


async def test_an_older_version_is_performed_where_the_actions_fit_it(store: Store, depot: Depot) -> None:
    def moving(number: int, *, extra: bool) -> type[Machine[Parcel]]:
        class Moving(Machine[Parcel], version=number):
            locals()["loading" if extra else "going"] = State(initial=True, undo="nothing", then="done")
            done = Final("succeeded")
            failed = Final("failed")
            cancelled = Final("cancelled")

        return Moving

    old, same, new = moving(1, extra=True), moving(2, extra=False), moving(3, extra=False)
    shared = Shared(store)
    async with Interlock(shared, machines=[old, same]) as interlock:
        strange, known = await interlock.start(old, name="a"), await interlock.start(same, name="b")
    async with Interlock(shared, [depot.actions(new)], poll_seconds=0.01) as interlock:
        assert (await interlock.finished(known.id)).status == "succeeded"
        assert (await interlock.start("moving", {"name": "c"})).snapshot.version == 3  # type: ignore[union-attr]  # just started
        why = await interlock.why(strange.id)
        assert why.status == "queued" and "no action is bound to `loading`" in why.waits_for
        assert "Run one with the actions of version 1" in why.waits_for
        assert any("is not upgraded to version 3 here: it is gone" in one for one in why.details)
        assert (await interlock.show(known.id)).version == 3


async def test_an_alarm_that_rings_during_a_look_does_not_silence_the_worker(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Interlock(MemoryStore(), [depot.actions()], poll_seconds=0.01) as interlock:
        worker = interlock._worker
        assert worker is not None
        rounds = 0

        async def round_with_more_to_do() -> bool:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                worker.nudge_at(worker.clock.now())
                await eventually(worker._nudge.is_set)
            return rounds == 1

        monkeypatch.setattr(worker, "_round", round_with_more_to_do)
        await eventually(lambda: rounds > 5)
