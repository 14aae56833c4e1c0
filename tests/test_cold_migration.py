"""Cold migration, and a destination that vanishes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from interlock.compute.cold_migration import ColdMigration, cold_migration
from interlock.compute.qemu_fleet import QemuFleet
from tests.explored_fleet import moved_cold, moved_cold_with_its_disk
from tests.moving import (
    GUEST,
    RUNS_AT_A,
    RUNS_AT_B,
    VM,
    A,
    B,
    Faulty,
    ended,
    engine,
    finds_nothing,
    fleet,
    is_clean,
    says,
    undone,
)

__all__ = ["fleet"]

LOCAL = replace(GUEST, instance="vm-2", storage="local")


def test_the_machine_is_clean() -> None:
    is_clean(ColdMigration)


@pytest.mark.slow
def test_no_mishap_harms_a_guest() -> None:
    finds_nothing(moved_cold, "succeeded", "failed", "cancelled")


async def test_it_is_started_at_the_destination_from_its_disk(fleet: Faulty, tmp_path: Path) -> None:
    life = (await says(fleet, A, lambda line: line.disk >= 1)).disk
    async with engine(tmp_path, cold_migration(fleet)) as interlock:
        move = await interlock.start(ColdMigration, instance=VM, source=A, destination=B)
        await ended(move, "succeeded", "completed")
    assert (await says(fleet, B)).disk >= life and await fleet.where(VM) == RUNS_AT_B


async def test_its_disk_goes_along_where_it_is_local(fleet: Faulty, tmp_path: Path) -> None:
    await fleet.boot(LOCAL, A)
    life = (await says(fleet, A, lambda line: line.disk >= 1, vm="vm-2")).disk
    async with engine(tmp_path, cold_migration(fleet)) as interlock:
        move = await interlock.start(ColdMigration, instance="vm-2", source=A, destination=B)
        await ended(move, "succeeded", "completed")
        there = await says(fleet, B, lambda line: line.disk > life, vm="vm-2")
        back = {"instance": "vm-2", "source": B, "destination": A}
        given_up = await interlock.start(ColdMigration, back, breakpoints=["starting"])
        while (await given_up.show()).status != "paused":
            await says(fleet, B, vm="vm-2")
        await given_up.cancel()
        await ended(given_up, "cancelled", "cancelled")
        assert await undone(given_up) == ["carrying", "stopping"]
    assert await fleet.where("vm-2") == RUNS_AT_B
    assert (await says(fleet, B, lambda line: line.disk >= there.disk, vm="vm-2")).disk >= there.disk, "with its disk"
    if isinstance(fleet, QemuFleet):
        assert [path.parent.parent.name for path in tmp_path.rglob("disk.*")] == [B], "and no other is left"


@pytest.mark.slow
def test_no_mishap_harms_a_guest_whose_disk_is_local() -> None:
    finds_nothing(moved_cold_with_its_disk, "succeeded", "failed", "cancelled")


async def test_a_destination_that_vanishes_brings_it_back(fleet: Faulty, tmp_path: Path) -> None:
    """The destination goes when the guest is off already; that it does not answer keeps its undo waiting until it does, or is fenced."""
    async with engine(tmp_path, cold_migration(fleet)) as interlock:
        move = await interlock.start(
            ColdMigration, instance=VM, source=A, destination=B, breakpoints=["starting"], retries={"starting": 1}
        )
        while (await move.show()).status != "paused":
            await says(fleet, A)
        assert await fleet.where(VM) == {}
        await fleet.cut_off(B)
        await move.resume()
        while "reverting" not in (await move.show()).status:
            await says(fleet, A)
        await fleet.cut_off(B, reachable=True)
        await ended(move, "failed", "failed")
        assert await undone(move) == ["starting", "stopping"]
    await says(fleet, A)
    assert await fleet.where(VM) == RUNS_AT_A


async def test_a_host_that_does_not_take_it_is_named(fleet: Faulty, tmp_path: Path) -> None:
    async with engine(tmp_path, cold_migration(fleet)) as interlock:
        for source, destination, said in ((B, A, "it does not run there"), (A, "host-x", "choose one of host-a")):
            move = await interlock.start(ColdMigration, instance=VM, source=source, destination=destination)
            assert said in (await ended(move, "failed", "refused")).data["reason"]
    assert await fleet.where(VM) == RUNS_AT_A
