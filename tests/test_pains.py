"""What hurts operators of today's clouds, each as a regression test: on real QEMU hosts where that can be, else on simulated ones.

The docstrings name the pain as those who have it describe it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interlock import Actions, ClaimTaken
from interlock.compute.boot import Boot, boot
from interlock.compute.cold_migration import ColdMigration, cold_migration
from interlock.compute.delete import Delete, delete
from interlock.compute.evacuation import Evacuation, HostReturn, evacuation, host_return
from interlock.compute.every_move import MOVES
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.host_drain import HostDrain, host_drain
from interlock.compute.hypervisor import Guest, Permit, RunState, StaleToken, Unsuitable
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.compute.resize import Resize, resize
from interlock.exploring.explore import explore, replay
from interlock.interpreter.facts import AttemptFailed
from interlock.testing import Kit
from tests.explored_fleet import preempted, resized, returned_meanwhile
from tests.explored_moves import moves
from tests.moving import GUEST, RUNS_AT_A, RUNS_AT_B, VM, A, B, C, Faulty, ended, engine, fleet, in_state, says, undone

__all__ = ["fleet"]

BIG = {"instance": VM, "host": A, "memory_mib": 48, "cpus": 2}


class Yard:
    """Simulated hosts in virtual time, a guest on the first, and one kind of move."""

    def __init__(self, make: Callable[[FakeFleet], Actions[Any]], guest: Guest | None = GUEST) -> None:
        self.world = FakeWorld()
        self.fleet = FakeFleet(self.world, (A, B, C), clock=lambda: self.kit.now)
        self.kit = Kit(make(self.fleet))
        if guest is not None:
            asyncio.run(self.fleet.boot(guest, A))

    def there(self) -> dict[str, str]:
        return {host: str(process.state) for host, process in self.world.living(VM).items()}

    def left(self) -> list[str]:
        """Whatever only an operation under way may have."""
        saves = [name for disk in self.world.disks.values() for name in disk.saves]
        return saves + [name for name, image in self.world.images.items() if not image.ready] + [*self.world.disabled]


def test_1_stuck_in_confirming_because_the_host_died() -> None:
    """A confirmed resize hangs in "confirming" for ever when the host misses the message, with no way out."""
    yard = Yard(resize)
    move = yard.kit.start(BIG)
    move.expect(state="verifying")
    asyncio.run(yard.fleet.cut_off(A))
    move.signal("confirm")
    yard.kit.advance("1h")
    move.expect(state="confirming")
    assert move.attempts("confirming") > 10, "it is tried again for as long as it takes, and everybody can see that"
    asyncio.run(yard.fleet.cut_off(A, reachable=True))
    yard.kit.finish(move, within="10m")
    move.expect(status="succeeded", state="completed")
    assert yard.left() == [] and yard.world.guests[VM]["memory_mib"] == 48


async def test_2_a_restart_in_the_middle_leaves_a_copy_that_nobody_watches(fleet: Faulty, tmp_path: Path) -> None:
    """The compute service restarts during a live migration; the copy goes on unmanaged."""
    data = {"instance": VM, "source": A, "destination": B, "bytes_per_second": 4 << 20}
    first = engine(tmp_path, live_migration(fleet), grace_seconds=0)
    async with first as interlock:
        move = await interlock.start(LiveMigration, data)
        while (progress := await move.progress()) is None or not progress.done:
            await asyncio.sleep(0.01)
    async with engine(tmp_path, live_migration(fleet)) as interlock:
        await ended(interlock.operation(move.id), "succeeded")
    assert await fleet.where(VM) == RUNS_AT_B


@pytest.mark.slow
def test_3_and_4_a_failed_look_is_taken_for_a_failed_move() -> None:
    """A hiccup while watching: the guest runs at its destination and the database says source, or the other way round."""
    report = explore(moves, depth=1, runs=400)
    assert report.finding is None and report.singles[0] == report.singles[1], str(report)
    assert all(report.mishaps[kind] for kind in ("fail", "lost", "hang", "crash"))


async def test_5_a_failure_after_the_move_leaves_it_migrating_for_ever(fleet: Faulty, tmp_path: Path) -> None:
    """The clean-up after a successful move fails; the guest stays in "migrating" and needs its row edited by hand."""
    async with engine(tmp_path, live_migration(fleet)) as interlock:
        move = await interlock.start(LiveMigration, instance=VM, source=A, destination=B, breakpoints=["cleaning"])
        while (await move.show()).status != "paused":
            await asyncio.sleep(0.02)
        await fleet.cut_off(A)
        await move.resume()
        while not [one for record in await move.history() for one in record.facts if isinstance(one, AttemptFailed)]:
            await asyncio.sleep(0.02)
        await fleet.cut_off(A, reachable=True)
        await ended(move, "succeeded", "completed")
    assert await fleet.where(VM) == RUNS_AT_B


async def test_6_an_abort_of_a_queued_move_leaks(fleet: Faulty, tmp_path: Path) -> None:
    """A migration that still waits is aborted; its allocations and port bindings stay."""
    async with engine(tmp_path, cold_migration(fleet), resize(fleet)) as interlock:
        holder = await interlock.start(Resize, BIG)
        queued = await interlock.start(ColdMigration, instance=VM, source=A, destination=B, on_conflict="wait")
        assert (await queued.show()).status == "queued"
        await queued.cancel("no longer")
        await ended(queued, "cancelled")
        assert await undone(queued) == []
        await in_state(holder, "verifying")
        await holder.signal("confirm")
        await ended(holder, "succeeded")
        after = await interlock.start(ColdMigration, instance=VM, source=A, destination=B)
        await ended(after, "succeeded")


async def test_7_a_returning_host_destroys_the_only_copy(fleet: Faulty, tmp_path: Path) -> None:
    """An evacuation fails and its record says accepted; the host comes back and deletes a guest that is nowhere else."""
    await fleet.cut_off(A)
    async with engine(tmp_path, evacuation(fleet), host_return(fleet), boot(fleet)) as interlock:
        flight = await interlock.start(Evacuation, instance=VM, source=A, destination=B, breakpoints=["starting"])
        while (await flight.show()).status != "paused":
            await asyncio.sleep(0.02)
        await flight.cancel("the host is coming back")
        await flight.resume() if (await flight.show()).status == "paused" else None
        await ended(flight, "cancelled")
        await fleet.cut_off(A, reachable=True)
        back = await ended(await interlock.start(HostReturn, host=A), "succeeded")
        assert back.data["deleted"] == []
        size = {"memory_mib": 32, "filled_mib": 8, "dirtied_pages": 4}
        await ended(await interlock.start(Boot, {"instance": VM, "host": A, **size}), "succeeded")
    assert await fleet.where(VM) == RUNS_AT_A


@pytest.mark.slow
def test_8_the_source_returns_while_an_evacuation_runs() -> None:
    """The dead host is back before the evacuation is over; both sides believe that the guest is theirs."""
    report = explore(returned_meanwhile, depth=1, runs=250)
    assert report.finding is None, str(report)


async def test_9_a_host_is_forced_up_with_unfinished_evacuations(fleet: Faulty, tmp_path: Path) -> None:
    """An operator enables a host although evacuations from it are still under way."""
    await fleet.cut_off(A)
    async with engine(tmp_path, evacuation(fleet), host_return(fleet)) as interlock:
        flight = await interlock.start(Evacuation, instance=VM, source=A, destination=B, breakpoints=["starting"])
        while (await flight.show()).status != "paused":
            await asyncio.sleep(0.02)
        await fleet.cut_off(A, reachable=True)
        back = await interlock.start(HostReturn, host=A)
        assert "vm-1 is being evacuated" in (await ended(back, "failed", "refused")).data["reason"]
        await flight.resume()
        await ended(flight, "succeeded")
        assert (await ended(await interlock.start(HostReturn, host=A), "succeeded")).data["deleted"] == [VM]
    assert await fleet.where(VM) == RUNS_AT_B


@pytest.mark.slow
def test_11_a_rollback_recreates_what_a_delete_removed() -> None:
    """A guest is deleted while it moves; the move's rollback brings its allocation back, for nobody."""
    report = explore(preempted, depth=1, runs=250)
    assert report.finding is None, str(report)


async def test_11_what_comes_late_for_a_deleted_guest_makes_nothing(fleet: Faulty, tmp_path: Path) -> None:
    """The same, when the worker of the move wakes up after the guest is gone."""
    late = Permit("a-move", 1)
    await fleet.prepare(VM, B, late)
    await fleet.tear_down(VM, B, Permit("a-move", 2))
    async with engine(tmp_path, delete(fleet)) as interlock:
        await ended(await interlock.start(Delete, instance=VM), "succeeded")
    with pytest.raises((StaleToken, Unsuitable)):
        await fleet.prepare(VM, B, late)
    assert await fleet.guests_on(A) == await fleet.guests_on(B) == []


def test_12_a_resize_that_fails_at_its_end_leaks_one_side() -> None:
    """Starting with the new size fails, and what was taken for it stays."""
    yard = Yard(resize)
    yard.kit.stub("starting", raises=Unsuitable("no memory", host=A, instance=VM, mend="choose another host"))
    move = yard.kit.start(BIG)
    yard.kit.finish(move)
    move.expect(status="failed", undone=["starting", "saving", "stopping"])
    assert yard.there() == {A: "running"} and yard.left() == [] and yard.world.guests[VM]["memory_mib"] == 32


async def test_13_and_14_two_moves_of_one_guest_at_the_same_time(fleet: Faulty, tmp_path: Path) -> None:
    """The claim comes after the status, or the other way round, and something else comes in between."""
    async with engine(tmp_path, resize(fleet), cold_migration(fleet), live_migration(fleet)) as interlock:
        holder = await interlock.start(Resize, BIG)
        for machine in (ColdMigration, LiveMigration):
            with pytest.raises(ClaimTaken) as caught:
                await interlock.start(machine, {"instance": VM, "source": A, "destination": B})
            assert caught.value.details["holders"] == [holder.id]
        await in_state(holder, "verifying")
        await holder.signal("revert")
        await ended(holder, "cancelled")


async def test_15_a_healthy_guest_is_put_in_error_by_a_failed_request(fleet: Faulty, tmp_path: Path) -> None:
    """A request about a guest fails, and the guest is marked broken although it runs."""
    before = await says(fleet, A)
    async with engine(tmp_path, *(MOVES[name](fleet) for name in ("resize", "cold_migration"))) as interlock:
        await ended(await interlock.start(Resize, {**BIG, "memory_mib": 1}), "failed", "refused")
        nowhere = await interlock.start(ColdMigration, instance=VM, source=A, destination="host-x")
        assert (await ended(nowhere, "failed", "refused")).data["reason"]
    after = await says(fleet, A, lambda line: line.counter > before.counter)
    assert after.nonce == before.nonce and await fleet.where(VM) == RUNS_AT_A


async def test_16_what_never_ran_is_undone(fleet: Faulty, tmp_path: Path) -> None:
    """The rollback detaches what was never attached, and deletes what was there before."""
    await fleet.disable(B, Permit("an-operator", 1))
    await fleet.boot(replace(GUEST, instance="vm-2"), B)
    for host in (A, C):
        await fleet.disable(host, Permit("an-operator", 1))
    async with engine(tmp_path, host_drain(fleet), live_migration(fleet)) as interlock:
        await ended(await interlock.start(HostDrain, host=B), "failed")
    for host in (A, B, C):
        with pytest.raises(Unsuitable, match="an-operator disabled it"):
            await fleet.welcome(VM, host)


def test_16_the_boot_of_a_guest_that_was_there_deletes_its_disk() -> None:
    """The same: an operation that fails deletes the disk that another one made."""
    yard = Yard(boot)
    asyncio.run(yard.fleet.stop(VM, A, Permit("somebody", 1)))
    yard.kit.stub("starting", raises=Unsuitable("no memory", host=A, instance=VM, mend="choose another host"))
    move = yard.kit.start(instance=VM, host=A, memory_mib=32, filled_mib=8, dirtied_pages=4)
    yard.kit.finish(move)
    move.expect(status="failed", undone=["starting", "creating"])
    assert VM in yard.world.disks and yard.there() == {}


@pytest.mark.parametrize("seed", ["freeze-late@starting.1", "freeze@starting.2", "freeze-late@stopping.1"])
def test_17_a_first_attempt_that_wakes_up_races_the_second(seed: str) -> None:
    """The first attempt is reverted while the second is under way, and takes away what that one made."""
    assert replay(resized, seed) is None


async def test_18_a_failed_request_poisons_the_next_one(fleet: Faulty, tmp_path: Path) -> None:
    """What a failed operation was asked for is found again in the next one."""
    async with engine(tmp_path, resize(fleet), live_migration(fleet)) as interlock:
        reverted = await interlock.start(Resize, BIG)
        await in_state(reverted, "verifying")
        await reverted.signal("revert")
        await ended(reverted, "cancelled")
        await ended(await interlock.start(LiveMigration, instance=VM, source=A, destination=C), "succeeded")
    assert await fleet.made_as(VM) == GUEST and await fleet.where(VM) == {C: RunState.RUNNING}
    assert (await says(fleet, C)).ram == 32


async def test_19_a_host_is_taken_away_with_moves_in_flight(fleet: Faulty, tmp_path: Path) -> None:
    """A host is drained, or given back, while somebody else does so already."""
    async with engine(tmp_path, host_drain(fleet), live_migration(fleet), host_return(fleet)) as interlock:
        drain = await interlock.start(HostDrain, host=A, breakpoints=["emptying"])
        with pytest.raises(ClaimTaken) as caught:
            await interlock.start(HostReturn, host=A)
        assert caught.value.details["holders"] == [drain.id]
        while (await drain.show()).status != "paused":
            await asyncio.sleep(0.02)
        await drain.resume()
        await ended(drain, "succeeded")


async def test_20_a_copy_that_never_ends(fleet: Faulty, tmp_path: Path) -> None:
    """A guest writes faster than its memory is copied, and the migration runs for ever."""
    stubborn = Guest("vm-2", memory_mib=64, filled_mib=32, dirtied_pages=2048)
    await fleet.boot(stubborn, A)
    async with engine(tmp_path, live_migration(fleet)) as interlock:
        data = {"instance": "vm-2", "source": A, "destination": B, "bytes_per_second": 4 << 20}
        move = await interlock.start(LiveMigration, data, timeouts={"copying": "1s"}, retries={"copying": 1})
        await ended(move, "failed", "failed")
        assert await undone(move) == ["copying", "preparing"]
    assert await fleet.where("vm-2") == RUNS_AT_A


CANCELLED = {
    "resize": ("stopping", "saving", "starting"),
    "cold_migration": ("stopping", "starting"),
    "shelve": ("stopping", "storing"),
    "snapshot": ("copying",),
    "rebuild": ("stopping", "saving", "writing", "starting"),
}


@pytest.mark.parametrize(("name", "state"), [(name, state) for name, states in CANCELLED.items() for state in states])
def test_21_no_abort_for_resize_cold_migration_shelving_snapshots(name: str, state: str) -> None:
    """Of all the moves only a live migration can be aborted."""
    yard = Yard(MOVES[name])
    yard.kit.stub(state, hangs=True)
    fields: dict[str, dict[str, Any]] = {
        "cold_migration": {"instance": VM, "source": A, "destination": B},
        "resize": BIG,
        "snapshot": {"instance": VM, "host": A, "image": "golden"},
    }
    move = yard.kit.start(fields.get(name, {"instance": VM, "host": A}))
    yard.kit.advance("1s")
    move.expect(state=state)
    move.cancel()
    yard.kit.finish(move, within="1h")
    assert (move.status, move.state) == ("cancelled", "cancelled"), move.journal
    assert yard.there() == {A: "running"} and yard.left() == []


async def test_22_a_request_in_the_queue_looks_like_one_that_died(fleet: Faulty, tmp_path: Path) -> None:
    """After a restart nobody can tell what was never begun from what was begun and died."""
    async with engine(tmp_path, cold_migration(fleet)) as interlock:
        begun = await interlock.start(ColdMigration, instance=VM, source=A, destination=B, delay="1h")
        assert (await begun.show()).status == "queued" and "begins at" in (await begun.why()).waits_for
        await begun.cancel()
        await ended(begun, "cancelled")
        assert await undone(begun) == []
    assert await fleet.where(VM) == RUNS_AT_A


def test_23_no_operation_has_a_deadline_of_its_own() -> None:
    """A request may take as long as it likes, and nobody can say where it stands."""
    yard = Yard(cold_migration)
    yard.kit.stub("starting", hangs=True)
    move = yard.kit.start({"instance": VM, "source": A, "destination": B})
    yard.kit.advance("1s")
    move.expect(state="starting")
    yard.kit.finish(move, within="1h")
    move.expect(status="failed", undone=["starting", "stopping"])
    assert yard.there() == {A: "running"}
