"""The ledger: one input after the other, lost races, stale snapshots, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from interlock import Conflict, NotPossible, StaleToken, Unknown
from interlock.interpreter import inputs as i
from interlock.interpreter.inputs import Cut, Effect, Offer, Perform
from interlock.interpreter.snapshot import Running, Snapshot
from interlock.runtime.clock import SystemClock
from interlock.runtime.committer import Committer
from interlock.runtime.ledger import TRIES, Ledger
from interlock.stores.memory import MemoryStore
from tests.deliveries import Delivery, eventually

MACHINE = Delivery.definition
OFFER = Offer("me")


class Counting(MemoryStore):
    """Counts its reads."""

    loads = 0
    forgetful = False

    def definition(self, machine: str, version: int) -> dict[str, Any] | None:
        return None if self.forgetful else super().definition(machine, version)

    def load(self, operations: Any) -> list[Snapshot]:
        self.loads += 1
        return super().load(operations)


class Side:
    """A ledger over a shared store, with the effects that it carried out."""

    def __init__(self, store: MemoryStore, holder: str = "") -> None:
        self.effects: list[Effect] = []
        self.committer = Committer(lambda: store, "inline")
        self.ledger = Ledger(self.committer, SystemClock())
        self.ledger.holder = holder
        self.ledger.carry_out = lambda snapshot, effects: self.effects.extend(effects)

    async def open(self) -> Ledger:
        await self.committer.open()
        await self.ledger.define(MACHINE)
        return self.ledger


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
async def mine(store: Counting) -> AsyncIterator[Side]:
    side = Side(store, "me")
    await side.open()
    yield side


async def start(ledger: Ledger, id: str = "op", offer: Offer | None = OFFER) -> Snapshot:
    return await ledger.submit(id, i.Start(id, {"name": "web"}, offer=offer), MACHINE)


def token(snapshot: Snapshot) -> int:
    assert isinstance(snapshot.phase, Running)
    return snapshot.phase.token


async def test_nothing_is_read_between_the_steps_of_what_is_held(mine: Side, store: Counting) -> None:
    snapshot = await start(mine.ledger)
    for _ in range(3):
        snapshot = await mine.ledger.submit("op", i.Done(token(snapshot), offer=OFFER))
    assert snapshot.status == "succeeded" and store.loads == 0 and mine.committer.won == 4
    assert [type(effect) for effect in mine.effects] == [Perform] * 3
    assert mine.ledger._cells == {}, "an operation that is over is not kept"


async def test_inputs_to_one_operation_are_decided_in_order(mine: Side) -> None:
    snapshot = await start(mine.ledger)
    done, paused, again = await asyncio.gather(
        mine.ledger.submit("op", i.Done(token(snapshot), offer=OFFER)),
        mine.ledger.submit("op", i.Pause()),
        mine.ledger.submit("op", i.Done(token(snapshot))),
        return_exceptions=True,
    )
    assert isinstance(done, Snapshot) and done.state == "driving" and done.paused is None
    assert isinstance(paused, Snapshot) and paused.paused is not None
    assert isinstance(again, StaleToken)


async def test_a_lost_race_is_decided_anew_and_the_other_s_effects_are_carried_out(mine: Side, store: Counting) -> None:
    other = Side(store)
    await other.open()
    snapshot = await start(mine.ledger)
    mine.effects.clear()
    await other.ledger.submit("op", i.Cancel("ann"))
    assert [type(effect) for effect in mine.effects] == []
    snapshot = await mine.ledger.submit("op", i.Pause())
    assert snapshot.pending is not None and snapshot.paused is not None
    assert [type(effect) for effect in mine.effects][:2] == [Perform, Cut]
    assert token(snapshot) == 3


async def test_nobody_is_refused_on_a_stale_snapshot(mine: Side, store: Counting) -> None:
    other = Side(store)
    await other.open()
    await start(mine.ledger)
    await other.ledger.submit("op", i.Pause())
    assert (await mine.ledger.submit("op", i.Resume())).paused is None, "the kept snapshot was not paused"
    with pytest.raises(NotPossible, match="is not paused"):
        await mine.ledger.submit("op", i.Resume())


async def test_losing_again_and_again_ends_in_a_conflict(store: Counting) -> None:
    class Unlucky(Counting):
        def commit(self, entries: Any) -> list[bool]:
            return [entry.expected == 0 and super(Unlucky, self).commit([entry])[0] for entry in entries]

    side = Side(Unlucky(), "me")
    await side.open()
    await start(side.ledger)
    with pytest.raises(Conflict, match=f"{TRIES} times"):
        await side.ledger.submit("op", i.Pause())
    assert side.ledger._cells == {}


async def test_a_second_start_of_the_same_id_is_a_conflict(mine: Side) -> None:
    await start(mine.ledger)
    with pytest.raises(Conflict, match="exists already"):
        await start(mine.ledger)
    assert (await mine.ledger.submit("op", i.Pause())).paused is not None


async def test_a_caller_that_is_cancelled_does_not_stop_the_effects(mine: Side) -> None:
    starting = asyncio.create_task(start(mine.ledger))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    await eventually(lambda: mine.effects)
    assert isinstance(mine.effects[0], Perform)


async def test_unknown_operations_and_machines(mine: Side, store: Counting) -> None:
    for asking in (mine.ledger.submit("nope", i.Pause()), mine.ledger.load("nope"), mine.ledger.rest("nope")):
        with pytest.raises(Unknown, match="no operation `nope`"):
            await asking
    assert mine.ledger.awaited == {} and mine.ledger._cells == {}
    with pytest.raises(Unknown, match=r"machine `delivery` in version 7; it knows delivery"):
        await mine.ledger.definition("delivery", 7)


async def test_a_definition_is_learnt_from_the_store(mine: Side, store: Counting) -> None:
    await start(mine.ledger, offer=None)
    other = Side(store)
    await other.committer.open()
    assert (await other.ledger.submit("op", i.Pause())).status == "paused"
    assert other.ledger.machines["delivery", 1] == MACHINE
    store.forgetful = True
    stranger = Side(store)
    await stranger.committer.open()
    with pytest.raises(Unknown, match="which this store does not know"):
        await stranger.ledger.submit("op", i.Resume())


async def test_rest_is_told_wherever_the_end_was_noticed(mine: Side, store: Counting) -> None:
    other = Side(store)
    await other.open()
    snapshot = await start(mine.ledger)
    waiting = [asyncio.create_task(side.ledger.rest("op")) for side in (mine, other)]
    await eventually(lambda: mine.ledger.awaited and other.ledger.awaited)
    for _ in range(3):
        snapshot = await mine.ledger.submit("op", i.Done(token(snapshot), offer=OFFER))
    assert (await waiting[0]).status == "succeeded"
    other.ledger.refresh(store.load(["op"]))
    assert (await waiting[1]).status == "succeeded"
    assert (await other.ledger.rest("op")).status == "succeeded"


async def test_what_others_moved_is_taken_note_of(mine: Side, store: Counting) -> None:
    other = Side(store)
    await other.open()
    await start(mine.ledger)
    mine.effects.clear()
    stale = store.load(["op"])
    await other.ledger.submit("op", i.Cancel())
    mine.ledger.refresh(store.load(["op"]))
    assert [type(effect) for effect in mine.effects] == [Perform, Cut]
    mine.ledger.refresh(stale)
    assert len(mine.effects) == 2, "an older snapshot says nothing"
    loads = store.loads
    await mine.ledger.submit("op", i.Pause())
    assert store.loads == loads, "it was decided on what was taken note of"
