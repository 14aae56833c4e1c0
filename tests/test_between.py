"""Between operations: who waits for claims, who has children, who preempts; and what an operation owns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from interlock import (
    Actions,
    Children,
    Claim,
    ClaimTaken,
    Fail,
    Final,
    Interlock,
    Machine,
    NotPossible,
    Operation,
    Refused,
    State,
)
from interlock.interpreter import facts as f
from interlock.interpreter.phases import Beginning, Joining, Own, Stuck
from interlock.runtime.limits import Limits
from interlock.stores.contract import Store
from tests.deliveries import a_store, eventually


@dataclass
class Guest:
    guest: str
    host: str = "a"


class Move(Machine[Guest], version=1):
    claims = [Claim("guest:{guest}"), Claim("leaving:{host}", limit=2, on_conflict="wait")]

    moving = State(initial=True, undo=True, then="moved")
    moved = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Remove(Machine[Guest], version=1):
    claims = [Claim("guest:{guest}", on_conflict="preempt")]

    removing = State(initial=True, undo="nothing", then="removed")
    removed = Final("succeeded", hands_over=["record"])
    failed = Final("failed")
    cancelled = Final("cancelled")


@dataclass
class Host:
    host: str
    guests: list[str] = field(default_factory=list)


class Drain(Machine[Host], version=1):
    claims = [Claim("host:{host}")]

    disabling = State(initial=True, undo=True, then="emptying")
    emptying = State(
        children=Children("move", each="guests", item="guest", limit=2, on_failure="collect"), then="empty"
    )
    empty = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Hosts:
    """What was done, in order; ``gate`` holds every move, ``bad`` names the guests that cannot be moved."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.gate: asyncio.Event | None = None
        self.bad: set[str] = set()
        self.at_once = self.most = 0

    def actions(self) -> list[Actions[Any]]:
        move, remove, drain = Actions(Move), Actions(Remove), Actions(Drain)

        @move.perform(Move.moving)
        async def moving(op: Operation[Guest]) -> None:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                self.did.append(f"move {op.data.guest}")
                if self.gate is not None:
                    await self.gate.wait()
                if op.data.guest in self.bad:
                    raise Fail("it is pinned")
            finally:
                self.at_once -= 1

        @move.undo(Move.moving)
        async def back(op: Operation[Guest]) -> None:
            self.did.append(f"back {op.data.guest}")

        @remove.perform(Remove.removing)
        async def removing(op: Operation[Guest]) -> None:
            self.did.append(f"remove {op.data.guest}")

        @drain.perform(Drain.disabling)
        async def disabling(op: Operation[Host]) -> None:
            self.did.append(f"disable {op.data.host}")

        @drain.undo(Drain.disabling)
        async def enabling(op: Operation[Host]) -> None:
            self.did.append(f"enable {op.data.host}")

        return [move, remove, drain]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    one = a_store(request.param, tmp_path)
    yield one
    one.close()


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
async def interlock(store: Store, hosts: Hosts) -> AsyncIterator[Interlock]:
    async with Interlock(store, hosts.actions()) as one:
        yield one


async def phase_of(interlock: Interlock, id: str) -> Any:
    return (await interlock.show(id)).phase


# Claims


async def test_a_claim_that_is_held_is_refused_with_its_holder(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    first = await interlock.start(Move, guest="web-1")
    with pytest.raises(ClaimTaken, match=f"`guest:web-1` may be held alone, and is held by `{first.id}`") as caught:
        await interlock.start(Move, guest="web-1")
    assert caught.value.details["holders"] == [first.id] and len((await interlock.list()).snapshots) == 1
    hosts.gate.set()
    await first.finished(5)
    again = await interlock.start(Move, guest="web-1")
    assert (await again.finished(5)).status == "succeeded"


async def test_who_waits_begins_in_order_and_never_beside_another(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    ops = [await interlock.start(Move, guest="web-1", on_conflict="wait") for _ in range(5)]
    why = await ops[2].why()
    assert why.status == "queued"
    assert why.waits_for.startswith(f"claim `guest:web-1`: it is held by `{ops[0].id}`; 1 wait before it")
    hosts.gate.set()
    for op in ops:
        assert (await op.finished(10)).status == "succeeded"
    begun = sorted(ops, key=lambda op: op.snapshot.changed if op.snapshot else 0)
    assert begun == ops and hosts.most == 1


async def test_a_limit_lets_so_many_at_once(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    ops = [await interlock.start(Move, guest=f"web-{number}") for number in range(5)]
    await eventually(lambda: hosts.at_once == 2)
    assert [type(await phase_of(interlock, op.id)) is Beginning for op in ops] == [False, False, True, True, True]
    hosts.gate.set()
    assert {(await op.finished(10)).status for op in ops} == {"succeeded"} and hosts.most == 2


async def test_who_waits_can_be_cancelled_and_paused(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    first, second, third = [await interlock.start(Move, guest="web-1", on_conflict="wait") for _ in range(3)]
    await second.pause("lunch")
    await third.cancel("not needed")
    assert (await third.finished(5)).status == "cancelled"
    hosts.gate.set()
    await first.finished(5)
    assert (await second.show()).status == "paused"
    await second.resume()
    assert (await second.finished(5)).status == "succeeded" and hosts.did == ["move web-1"] * 2


async def test_preempting_cancels_who_holds_it(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    move = await interlock.start(Move, guest="web-1")
    waiting = await interlock.start(Move, guest="web-1", on_conflict="wait")
    await eventually(lambda: "move web-1" in hosts.did)
    remove = await interlock.start(Remove, guest="web-1")
    assert (await remove.finished(10)).status == "succeeded"
    assert {(await op.finished(5)).status for op in (move, waiting)} == {"cancelled"}
    assert hosts.did == ["move web-1", "back web-1", "remove web-1"], "it begins when what it preempted is undone"
    accepted = [fact for record in await move.history() for fact in record.facts if isinstance(fact, f.CancelAccepted)]
    assert f"operation `{remove.id}` of `remove` preempts it" in accepted[0].reason


async def test_a_start_begins_later(interlock: Interlock, hosts: Hosts) -> None:
    op = await interlock.start(Move, guest="web-1", delay=0.4)
    why = await op.why()
    assert why.status == "queued" and "begins at" in why.waits_for and hosts.did == []
    now = await interlock.start(Move, guest="web-1")
    assert (await now.finished(5)).status == "succeeded", "its claims are taken when it begins"
    assert (await op.finished(5)).status == "succeeded" and hosts.did == ["move web-1"] * 2
    assert op.snapshot is not None and op.snapshot.changed >= op.snapshot.started + 0.4
    late = await interlock.start(Move, guest="web-2", at=datetime.now(UTC) + timedelta(hours=1))
    await late.cancel()
    assert (await late.finished(5)).status == "cancelled"


async def test_what_is_no_time_and_no_policy_is_refused(interlock: Interlock) -> None:
    for wrong in (
        {"delay": "soon"},
        {"at": datetime(2030, 1, 1)},
        {"delay": 1, "at": datetime.now(UTC)},
        {"on_conflict": "shove"},
    ):
        with pytest.raises(Refused):
            await interlock.start(Move, guest="web-1", **wrong)
    assert (await interlock.list()).snapshots == ()


# Children


async def test_children_are_started_so_many_at_a_time_and_joined(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    op = await interlock.start(Drain, host="a", guests=[f"web-{number}" for number in range(6)])
    await eventually(lambda: hosts.at_once == 2)
    why = await op.why()
    assert f"`{op.id}." in why.waits_for and "0 of 6 are over" in why.waits_for
    hosts.gate.set()
    assert (await op.finished(10)).status == "succeeded" and hosts.most == 2
    children = (await interlock.list(Move)).snapshots
    assert len(children) == 6 and all(one.parent == f.Parent(op.id, one.parent.index) for one in children if one.parent)
    assert all(one.parent for one in children) and {one.data["host"] for one in children} == {"a"}


async def test_failures_are_collected_and_told(interlock: Interlock, hosts: Hosts) -> None:
    hosts.bad = {"web-1", "web-3"}
    op = await interlock.start(Drain, host="a", guests=[f"web-{number}" for number in range(5)])
    snapshot = await op.finished(10)
    assert (
        snapshot.status == "failed"
        and hosts.did[-1] == "enable a"
        and len([one for one in hosts.did if "move" in one]) == 5
    )
    (began,) = [fact for record in await op.history() for fact in record.facts if isinstance(fact, f.RollbackBegan)]
    assert "2 of 5 children did not succeed" in began.cause and "it is pinned" in began.cause


async def test_no_guest_to_move_is_done_at_once(interlock: Interlock, hosts: Hosts) -> None:
    op = await interlock.start(Drain, host="a")
    assert (await op.finished(5)).status == "succeeded" and hosts.did == ["disable a"]


async def test_a_cancel_reaches_the_children_and_is_done_when_they_are(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    op = await interlock.start(Drain, host="a", guests=[f"web-{number}" for number in range(6)])
    await eventually(lambda: hosts.at_once == 2)
    await op.cancel("changed our mind")
    assert (await op.finished(10)).status == "cancelled"
    children = (await interlock.list(Move)).snapshots
    assert len(children) == 2 and {one.status for one in children} == {"cancelled"}
    assert sorted(hosts.did) == sorted(
        ["disable a", "move web-0", "move web-1", "back web-0", "back web-1", "enable a"]
    )
    assert hosts.did[-1] == "enable a"


async def test_a_child_waits_for_what_others_hold(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    other = await interlock.start(Move, guest="web-1", host="elsewhere")
    await eventually(lambda: hosts.at_once == 1)
    op = await interlock.start(Drain, host="a", guests=["web-1"])
    await eventually(lambda: hosts.did == ["move web-1", "disable a"])
    hosts.gate.set()
    assert (await op.finished(10)).status == "succeeded" and (await other.finished(5)).status == "succeeded"
    assert hosts.did == ["move web-1", "disable a", "move web-1"] and hosts.most == 1


async def test_a_child_that_cannot_be_started_has_failed(store: Store) -> None:
    class Away(Machine[Host], version=1):
        sending = State(initial=True, children=Children("unheard-of", each="guests", item="guest"), then="sent")
        sent = Final("succeeded")
        failed = Final("failed")
        cancelled = Final("cancelled")

    async with Interlock(store, [Actions(Away)]) as interlock:
        op = await interlock.start(Away, host="a", guests=["web-1"])
        snapshot = await op.finished(10)
        (began,) = [fact for record in await op.history() for fact in record.facts if isinstance(fact, f.RollbackBegan)]
        assert snapshot.status == "failed" and "unheard-of" in began.cause


async def test_another_worker_finishes_what_children_were_begun(store: Store, hosts: Hosts) -> None:
    """What follows from a commit is lost with its process; the store says it again."""
    hosts.gate = asyncio.Event()
    async with Interlock(store, hosts.actions()) as first:
        op = await first.start(Drain, host="a", guests=[f"web-{number}" for number in range(4)])
        await eventually(lambda: hosts.at_once == 2)
        worker = first._worker
        assert worker is not None
        worker.ledger.carry_out = None  # deaf from here on: it commits and carries nothing out
        worker._rounds.cancel() if worker._rounds else None
        hosts.gate.set()
        async with Interlock(store, hosts.actions()) as second:
            assert (await second.operation(op.id).finished(20)).status == "succeeded"


# What it owns


class Bind(Machine[Guest], version=1):
    binding = State(initial=True, undo=True, then="bound")
    bound = State(cancel="refuse", undo="nothing", then="end")
    end = Final("succeeded", hands_over=["record"])
    failed = Final("failed")
    cancelled = Final("cancelled")


def binder(bind: Any, settle: Any = lambda op: None, undo: Any = lambda op: None) -> Actions[Any]:
    actions = Actions(Bind)
    actions.perform(Bind.binding)(bind)
    actions.perform(Bind.bound)(settle)
    actions.undo(Bind.binding)(undo)
    return actions


async def test_what_is_owned_is_recorded_before_it_is_made_and_listed(store: Store) -> None:
    gate = asyncio.Event()
    seen: list[Any] = []

    async def bind(op: Operation[Guest]) -> None:
        await op.owns("port", "p-1")
        seen.append((await engine.owned())[0].owned)
        op.owns("record", "r-1")  # nobody waits: it is recorded before the outcome all the same
        await gate.wait()

    def settle(op: Operation[Guest]) -> None:
        seen.append(op.owned)
        op.disowns("port", "p-1").wait()

    async with Interlock(store, [binder(bind, settle)]) as engine:
        op = await engine.start(Bind, guest="web-1")
        gate.set()
        assert (await op.finished(5)).status == "succeeded"
        assert seen == [(Own("port", "p-1"),), (Own("port", "p-1"), Own("record", "r-1"))]
        assert await engine.owned() == ()


async def test_an_end_with_something_owned_is_stuck_until_it_is_given_back(store: Store) -> None:
    async def bind(op: Operation[Guest]) -> None:
        await op.owns("port", "p-1")

    async with Interlock(store, [binder(bind)]) as interlock:
        op = await interlock.start(Bind, guest="web-1")
        snapshot = await op.finished(5)
        assert isinstance(snapshot.phase, Stuck) and snapshot.phase.code == "still-owned"
        assert "port `p-1`" in snapshot.phase.reason and [one.id for one in await interlock.owned()] == [op.id]
        await op.skip("unbound by hand")
        assert (await op.finished(5)).status == "succeeded"


async def test_an_undo_knows_what_was_owned(store: Store) -> None:
    async def bind(op: Operation[Guest]) -> None:
        await op.owns("port", "p-1")
        raise Fail("no such network")

    async def unbind(op: Operation[Guest]) -> None:
        for own in op.owned:
            await op.disowns(own.kind, own.id)

    async with Interlock(store, [binder(bind, undo=unbind)]) as interlock:
        op = await interlock.start(Bind, guest="web-1")
        snapshot = await op.finished(5)
        assert (snapshot.status, snapshot.owned) == ("failed", ())


async def test_a_name_over_the_limit_is_refused_where_it_is_said(store: Store) -> None:
    async def bind(op: Operation[Guest]) -> None:
        await op.owns("port", "p" * 30)

    async with Interlock(store, [binder(bind)], limits=Limits(own_characters=20)) as interlock:
        op = await interlock.start(Bind, guest="web-1", retries={"binding": 1})
        snapshot = await op.finished(5)
        assert snapshot.status == "failed" and "own_characters" in (
            snapshot.failure.message if snapshot.failure else ""
        )


async def test_what_may_not_be_asked_of_a_parent(interlock: Interlock, hosts: Hosts) -> None:
    hosts.gate = asyncio.Event()
    op = await interlock.start(Drain, host="a", guests=["web-1"])
    await eventually(lambda: hosts.at_once == 1)
    assert isinstance(await phase_of(interlock, op.id), Joining)
    with pytest.raises(NotPossible):
        await op.skip("no")
    hosts.gate.set()
    await op.finished(10)
