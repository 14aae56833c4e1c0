"""The simulated fleet: all that any fleet promises, live migration's verbs included; and a storage without room."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.fleet import DiskFull
from tests.fleet_contract import FIRST, SMALL, VM, A, B, C, FleetContract, Yard
from tests.hypervisor_contract import HypervisorContract, Rig
from tests.local_disks_contract import LocalDisksContract
from tests.test_fake_hypervisor import Clock


def fleet(world: FakeWorld | Path, clock: Clock) -> FakeFleet:
    return FakeFleet(world, (A, B, C), clock=clock, sleep=clock.sleep)


class TestInMemory(FleetContract):
    @pytest.fixture
    def yard(self) -> Yard:
        clock = Clock()
        one = fleet(FakeWorld(), clock)
        return Yard(one, clock.sleep, one.damage)


class TestInAFile(FleetContract):
    @pytest.fixture
    def yard(self, tmp_path: Path) -> Yard:
        clock = Clock()
        one = fleet(tmp_path / "world.json", clock)
        return Yard(one, clock.sleep, one.damage)


class TestLocalDisks(LocalDisksContract):
    @pytest.fixture
    def yard(self) -> Yard:
        clock = Clock()
        one = fleet(FakeWorld(), clock)
        return Yard(one, clock.sleep, one.damage)


class TestLocalDisksInAFile(LocalDisksContract):
    @pytest.fixture
    def yard(self, tmp_path: Path) -> Yard:
        clock = Clock()
        one = fleet(tmp_path / "world.json", clock)
        return Yard(one, clock.sleep, one.damage)


class TestLiveMigration(HypervisorContract):
    @pytest.fixture
    def rig(self) -> Rig:
        clock, world = Clock(), FakeWorld()

        def open_() -> FakeFleet:
            return FakeFleet(world, clock=clock, sleep=clock.sleep)

        return Rig(open_(), open_, clock.sleep)


async def test_a_full_storage_is_said_and_nothing_is_left() -> None:
    one = fleet(FakeWorld(), Clock())
    await one.boot(SMALL, A)
    await one.stop(VM, A, FIRST)
    await one.fill()
    with pytest.raises(DiskFull, match="no room"):
        await one.save(VM, A, "before", FIRST)
    with pytest.raises(DiskFull):
        await one.capture(VM, A, "golden", FIRST)
    await one.fill(False)
    assert await one.saved(VM) == [] and await one.images() == {}
    await one.save(VM, A, "before", FIRST)
