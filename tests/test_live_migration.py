"""Live migration by the engine: on the simulated hypervisor everywhere, on real QEMU where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interlock import Interlock, NotPossible
from interlock.compute.fake_hypervisor import FakeHypervisor
from interlock.compute.guest import prove
from interlock.compute.hypervisor import Guest, Hypervisor, RunState
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.compute.qemu_host import QemuHosts
from interlock.interpreter.facts import AttemptLost, Entered, Issued, Undone
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime.engine import Handle

A, B = "host-a", "host-b"
GUEST = Guest("vm-1", memory_mib=32, filled_mib=16)
LOCAL = replace(GUEST, storage="local")
SLOW = 8 << 20
QUEUES = ("", f"host:{A}", f"host:{B}")


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.qemu)])
async def hypervisor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hypervisor]:
    made: Hypervisor = FakeHypervisor(tmp_path / "world.json") if request.param == "fake" else QemuHosts(tmp_path)
    try:
        await made.boot(GUEST, A)
        yield made
    finally:
        await made.stop_all()


async def until(move: Handle[Any], true: Callable[[Snapshot], bool]) -> Snapshot:
    async for _ in move.watch():
        snapshot = await move.show()
        if true(snapshot):
            return snapshot
    return await move.show()


async def copying(move: Handle[Any], hypervisor: Hypervisor) -> None:
    """Return when the copy is under way."""
    await until(move, lambda snapshot: snapshot.state == "copying")
    while (progress := await move.progress()) is None or progress.done == 0:
        await asyncio.sleep(0.01)


async def undone(move: Handle[Any]) -> list[str]:
    return [fact.state for record in await move.history() for fact in record.facts if isinstance(fact, Undone)]


async def alive(hypervisor: Hypervisor) -> None:
    """The guest was booted once, its counter never went back, and it goes on."""
    before = prove([console.text for console in await hypervisor.consoles("vm-1")])
    assert not before.faults(missing_allowed=3)
    while prove([console.text for console in await hypervisor.consoles("vm-1")]).last <= before.last:
        await asyncio.sleep(0.02)


def engine(tmp_path: Path, hypervisor: Hypervisor) -> Interlock:
    return Interlock(
        f"sqlite:///{tmp_path}/ops.db", actions=[live_migration(hypervisor)], queues=QUEUES, poll_seconds=0.05
    )


async def test_a_guest_is_moved(hypervisor: Hypervisor, tmp_path: Path) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B)
        after = await move.finished(timeout=60)
    assert (after.status, after.state) == ("succeeded", "completed")
    assert await hypervisor.where("vm-1") == {B: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_guest_that_is_not_there_is_refused_and_nothing_is_begun(
    hypervisor: Hypervisor, tmp_path: Path
) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=B, destination=A)
        after = await move.finished(timeout=60)
        assert (after.status, after.state) == ("failed", "refused")
        assert "name the host it runs on" in after.data["reason"] and await undone(move) == []
    assert await hypervisor.where("vm-1") == {A: RunState.RUNNING}


async def test_a_cancel_in_the_copy_leaves_the_guest_at_its_source(hypervisor: Hypervisor, tmp_path: Path) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=SLOW)
        await copying(move, hypervisor)
        await move.cancel("changed my mind")
        after = await move.finished(timeout=60)
        assert after.status == "cancelled" and await undone(move) == ["copying", "preparing"]
    assert await hypervisor.where("vm-1") == {A: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_destination_that_dies_in_the_copy_is_rolled_back(hypervisor: Hypervisor, tmp_path: Path) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=SLOW)
        await copying(move, hypervisor)
        assert await hypervisor.kill("vm-1", B)
        after = await move.finished(timeout=60)
        assert after.status == "failed" and await undone(move) == ["copying", "preparing"]
    assert await hypervisor.where("vm-1") == {A: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_guest_that_dies_in_the_copy_is_said_and_nothing_is_held(
    hypervisor: Hypervisor, tmp_path: Path
) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=SLOW)
        await copying(move, hypervisor)
        assert await hypervisor.kill("vm-1", A)
        after = await move.finished(timeout=60)
        assert after.status == "failed" and await undone(move) == ["copying", "preparing"]
        assert after.failure is not None and "boot the guest again from its disk" in after.failure.message
        assert await hypervisor.where("vm-1") == {}
        await hypervisor.boot(GUEST, B)
        again = await interlock.start(LiveMigration, instance="vm-1", source=B, destination=A)
        assert (await again.finished(timeout=60)).status == "succeeded"


async def test_force_ends_a_slow_copy_at_once(hypervisor: Hypervisor, tmp_path: Path) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=1 << 20)
        await copying(move, hypervisor)
        await move.signal("force")
        after = await move.finished(timeout=60)
    assert after.status == "succeeded" and after.since - after.started < 16
    assert await hypervisor.where("vm-1") == {B: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_guest_that_is_pulled_goes_on_before_its_memory_is_there(
    hypervisor: Hypervisor, tmp_path: Path
) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        data = {"instance": "vm-1", "source": A, "destination": B, "bytes_per_second": 4 << 20, "postcopy": True}
        move = await interlock.start(LiveMigration, data)
        await copying(move, hypervisor)
        await move.signal("postcopy")
        await until(move, lambda snapshot: snapshot.state != "copying")
        with pytest.raises(NotPossible):
            await move.cancel("too late")
        after = await move.finished(timeout=60)
        entered = [fact.state for record in await move.history() for fact in record.facts if isinstance(fact, Entered)]
    assert after.status == "succeeded" and "pulling" in entered and "switching" not in entered
    assert await hypervisor.where("vm-1") == {B: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_disk_that_is_local_goes_along(hypervisor: Hypervisor, tmp_path: Path) -> None:
    guest = replace(LOCAL, instance="vm-2")
    await hypervisor.boot(guest, A)
    async with engine(tmp_path, hypervisor) as interlock:
        for source, destination in ((A, B), (B, A)):
            move = await interlock.start(LiveMigration, instance="vm-2", source=source, destination=destination)
            after = await move.finished(timeout=60)
            facts = [fact for record in await move.history() for fact in record.facts]
            assert after.status == "succeeded" and "mirroring" in [f.state for f in facts if isinstance(f, Entered)]
            assert await hypervisor.where("vm-2") == {destination: RunState.RUNNING}
    proof = prove([console.text for console in await hypervisor.consoles("vm-2")])
    assert not proof.faults(missing_allowed=3), proof


async def test_a_cancel_while_its_disk_goes_over_leaves_it_where_it_was(hypervisor: Hypervisor, tmp_path: Path) -> None:
    guest = replace(LOCAL, instance="vm-2")
    await hypervisor.boot(guest, A)
    slow = {"instance": "vm-2", "source": A, "destination": B, "bytes_per_second": 128 << 10}
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, slow)
        await until(move, lambda snapshot: snapshot.state == "mirroring" and snapshot.status == "running")
        while (progress := await move.progress()) is None or progress.done == 0:
            await asyncio.sleep(0.01)
        assert (progress.unit, progress.message) == ("bytes", "disk copying")
        await move.cancel("changed my mind")
        after = await move.finished(timeout=60)
        assert after.status == "cancelled" and await undone(move) == ["mirroring", "preparing"]
        assert await hypervisor.where("vm-2") == {A: RunState.RUNNING}
        again = await interlock.start(LiveMigration, {**slow, "bytes_per_second": None})
        assert (await again.finished(timeout=60)).status == "succeeded"


async def test_a_handed_over_copy_goes_on_under_another_worker(hypervisor: Hypervisor, tmp_path: Path) -> None:
    """The first engine gives up in the middle, as a stopped worker does when its grace is over; the copy itself goes on."""
    first = Interlock(
        f"sqlite:///{tmp_path}/ops.db",
        actions=[live_migration(hypervisor)],
        queues=QUEUES,
        poll_seconds=0.05,
        grace_seconds=0,
    )
    async with first as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=SLOW)
        await copying(move, hypervisor)
    async with engine(tmp_path, hypervisor) as interlock:
        again = interlock.operation(move.id)
        after = await again.finished(timeout=60)
        facts = [fact for record in await again.history() for fact in record.facts]
    assert after.status == "succeeded"
    assert sum(isinstance(fact, AttemptLost) for fact in facts) == 1
    assert [fact.recover for fact in facts if isinstance(fact, Issued)].count(True) == 1
    assert await hypervisor.where("vm-1") == {B: RunState.RUNNING}
    await alive(hypervisor)


@pytest.mark.parametrize("verb", ["check", "prepare", "start_copy", "switch_over", "remove_source"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_host_that_cannot_be_reached_for_a_moment_loses_nothing(verb: str, moment: str, tmp_path: Path) -> None:
    fake = FakeHypervisor(tmp_path / "world.json")
    await fake.boot(GUEST, A)
    await fake.inject(verb, moment="before" if moment == "before" else "after")
    async with engine(tmp_path, fake) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B)
        after = await move.finished(timeout=60)
    where = await fake.where("vm-1")
    if after.status == "succeeded":
        assert where == {B: RunState.RUNNING}
    else:
        assert after.status == "failed" and where == {A: RunState.RUNNING}
        assert verb == "start_copy", "everything else has attempts left"
