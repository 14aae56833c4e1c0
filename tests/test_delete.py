"""Deleting a guest: it preempts what runs on it, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.compute.delete import Delete, delete
from interlock.compute.hypervisor import Permit, Unsuitable
from interlock.compute.live_migration import LiveMigration, live_migration
from tests.explored_fleet import deleted, preempted
from tests.moving import RUNS_AT_A, VM, A, B, Faulty, ended, engine, finds_nothing, fleet, in_state, is_clean, undone

__all__ = ["fleet"]


def test_the_machine_is_clean() -> None:
    is_clean(Delete)


@pytest.mark.slow
def test_no_mishap_leaves_half_a_guest() -> None:
    finds_nothing(deleted, "succeeded", "failed", "cancelled")
    finds_nothing(preempted, "succeeded", "failed", "cancelled")


async def test_a_live_migration_is_preempted_and_nothing_is_left(fleet: Faulty, tmp_path: Path) -> None:
    async with engine(tmp_path, delete(fleet), live_migration(fleet)) as interlock:
        move = await interlock.start(LiveMigration, instance=VM, source=A, destination=B, bytes_per_second=1 << 20)
        await in_state(move, "copying")
        await ended(await interlock.start(Delete, instance=VM), "succeeded", "completed")
        await ended(move, "cancelled")
        assert await undone(move) == ["copying", "preparing"]
    assert await fleet.where(VM) == {} and await fleet.guests_on(A) == await fleet.guests_on(B) == []
    with pytest.raises(Unsuitable):
        await fleet.made_as(VM)


async def test_one_that_is_off_and_one_that_is_not_there(fleet: Faulty, tmp_path: Path) -> None:
    await fleet.stop(VM, A, Permit("somebody", 1))
    await fleet.cut_off(B)
    async with engine(tmp_path, delete(fleet)) as interlock:
        await ended(await interlock.start(Delete, instance=VM), "succeeded", "completed")
        again = await interlock.start(Delete, instance=VM)
        assert "no guest of this name" in (await ended(again, "failed", "refused")).data["reason"]


async def test_a_guest_on_a_host_that_does_not_answer_stays(fleet: Faulty, tmp_path: Path) -> None:
    await fleet.cut_off(A)
    async with engine(tmp_path, delete(fleet)) as interlock:
        after = await ended(await interlock.start(Delete, instance=VM, retries={"checking": 1}), "failed", "failed")
        assert after.failure is not None and after.failure.kind == "HostUnreachable"
    await fleet.cut_off(A, reachable=True)
    assert await fleet.where(VM) == RUNS_AT_A
