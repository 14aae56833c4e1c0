"""The fake hypervisor: all that any hypervisor promises, and what is its own: clock, faults, a world that outlives it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from interlock.compute.fake_hypervisor import FakeHypervisor, FakeWorld
from interlock.compute.hypervisor import HostUnreachable, Permit, Phase, RunState
from tests.hypervisor_contract import FIRST, RUNS_AT_A, RUNS_AT_B, SMALL, VM, A, B, HypervisorContract, Rig


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestInMemory(HypervisorContract):
    @pytest.fixture
    def rig(self, clock: Clock) -> Rig:
        world = FakeWorld()

        def open_() -> FakeHypervisor:
            return FakeHypervisor(world, clock=clock, sleep=clock.sleep)

        return Rig(open_(), open_, clock.sleep)


class TestInAFile(HypervisorContract):
    @pytest.fixture
    def rig(self, clock: Clock, tmp_path: Path) -> Rig:
        def open_() -> FakeHypervisor:
            return FakeHypervisor(tmp_path / "world.json", clock=clock, sleep=clock.sleep)

        return Rig(open_(), open_, clock.sleep)


@pytest.fixture
def fake(clock: Clock) -> Iterator[FakeHypervisor]:
    yield FakeHypervisor(FakeWorld(), clock=clock, sleep=clock.sleep)


@pytest.mark.asyncio
class TestItsOwn:
    async def test_a_copy_goes_on_while_nobody_drives(self, clock: Clock, tmp_path: Path) -> None:
        path = tmp_path / "world.json"
        driver = FakeHypervisor(path, clock=clock, sleep=clock.sleep)
        await driver.boot(SMALL, A)
        uri = (await driver.prepare(VM, B, FIRST)).uri
        await driver.start_copy(VM, A, uri, FIRST, bytes_per_second=2 << 20)
        del driver
        clock.now += 2
        successor = FakeHypervisor(path, clock=clock, sleep=clock.sleep)
        seen = [progress async for progress in successor.watch(VM, A)]
        assert seen[0].phase is Phase.COPYING
        assert 0.3 < seen[0].fraction < 0.6
        assert seen[-1].phase is Phase.READY
        fractions = [progress.fraction for progress in seen]
        assert fractions == sorted(fractions)

    async def test_a_held_guest_says_nothing(self, fake: FakeHypervisor, clock: Clock) -> None:
        await fake.boot(SMALL, A)
        await fake.start_copy(VM, A, (await fake.prepare(VM, B, FIRST)).uri, FIRST)
        clock.now += 100
        assert (await fake.where(VM))[A] is RunState.PAUSED
        before = await fake.consoles(VM)
        clock.now += 100
        assert await fake.consoles(VM) == before

    @pytest.mark.parametrize("moment", ["before", "after"])
    async def test_a_fault_before_or_after_the_effect(self, fake: FakeHypervisor, moment: str) -> None:
        await fake.boot(SMALL, A)
        await fake.inject("prepare", moment="before" if moment == "before" else "after")
        with pytest.raises(HostUnreachable) as caught:
            await fake.prepare(VM, B, FIRST)
        assert caught.value.worth_retrying
        assert (B in await fake.where(VM)) is (moment == "after")
        await fake.prepare(VM, B, FIRST)
        assert len(await fake.where(VM)) == 2

    async def test_a_host_cut_off_and_back(self, fake: FakeHypervisor) -> None:
        await fake.boot(SMALL, A)
        await fake.cut_off(B)
        with pytest.raises(HostUnreachable):
            await fake.check(VM, A, B)
        with pytest.raises(HostUnreachable):
            await fake.prepare(VM, B, FIRST)
        await fake.cut_off(B, reachable=True)
        await fake.prepare(VM, B, FIRST)
        assert await fake.tear_down(VM, B, FIRST)
        assert await fake.where(VM) == RUNS_AT_A

    async def test_unknown_verb_is_refused(self, fake: FakeHypervisor) -> None:
        with pytest.raises(ValueError, match="no verb 'prepar'"):
            await fake.inject("prepar")

    async def test_a_clock_that_stands_still_is_said_so(self, clock: Clock) -> None:
        async def stuck(seconds: float) -> None:
            return None

        fake = FakeHypervisor(FakeWorld(), clock=clock, sleep=stuck)
        await fake.boot(SMALL, A)
        await fake.start_copy(VM, A, (await fake.prepare(VM, B, FIRST)).uri, FIRST, bytes_per_second=1)
        with pytest.raises(HostUnreachable, match="clock stands still"):
            await fake.switch_over(VM, A, B, FIRST)

    async def test_a_driver_dying_at_any_point_leaves_work_that_another_finishes(self, clock: Clock) -> None:
        class Died(BaseException):
            pass

        async def migrate(hypervisor: FakeHypervisor, permit: Permit) -> None:
            if B not in await hypervisor.where(VM) or (await hypervisor.where(VM))[B] is RunState.INCOMING:
                uri = (await hypervisor.prepare(VM, B, permit)).uri
                await hypervisor.start_copy(VM, A, uri, permit, bytes_per_second=16 << 20)
                async for _ in hypervisor.watch(VM, A):
                    pass
                await hypervisor.switch_over(VM, A, B, permit)
            await hypervisor.remove_source(VM, A, B, permit)

        dies_at, died = 0, True
        while died:
            died, steps, world = False, 0, FakeWorld()
            await FakeHypervisor(world, clock=clock, sleep=clock.sleep).boot(SMALL, A)

            async def dying(seconds: float, limit: int = dies_at) -> None:
                nonlocal steps
                steps += 1
                if steps > limit:
                    raise Died
                await clock.sleep(seconds)

            try:
                await migrate(FakeHypervisor(world, clock=clock, sleep=dying), FIRST)
            except Died:
                died = True
                await migrate(FakeHypervisor(world, clock=clock, sleep=clock.sleep), Permit("m1", 2))
            successor = FakeHypervisor(world, clock=clock, sleep=clock.sleep)
            assert await successor.where(VM) == RUNS_AT_B
            await Rig(successor, partial(FakeHypervisor, world), clock.sleep).lives_on()
            dies_at += 1
        assert dies_at > 12
