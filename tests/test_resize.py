"""Resize: confirmed, reverted, unanswered, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.resize import Resize, resize
from interlock.testing import Kit
from tests.explored_fleet import resized
from tests.moving import (
    GUEST,
    RUNS_AT_A,
    VM,
    A,
    B,
    Faulty,
    ended,
    engine,
    finds_nothing,
    fleet,
    in_state,
    is_clean,
    says,
    undone,
)

__all__ = ["fleet"]


def test_the_machine_is_clean() -> None:
    is_clean(Resize)


@pytest.mark.slow
def test_no_mishap_harms_a_guest() -> None:
    finds_nothing(resized, "succeeded", "failed", "cancelled")


async def test_confirmed_it_keeps_its_size_and_its_disk(fleet: Faulty, tmp_path: Path) -> None:
    await says(fleet, A, lambda line: line.disk >= 1)
    async with engine(tmp_path, resize(fleet)) as interlock:
        move = await interlock.start(Resize, instance=VM, host=A, memory_mib=48, cpus=2)
        await in_state(move, "verifying")
        line = await says(fleet, A, lambda line: line.ram == 48)
        assert line.cpus == 2 and line.disk >= 1 and await fleet.saved(VM) == [move.id]
        await move.signal("confirm")
        await ended(move, "succeeded", "completed")
    assert await fleet.saved(VM) == [] and await fleet.where(VM) == RUNS_AT_A


async def test_reverted_it_has_its_old_size_and_its_old_disk(fleet: Faulty, tmp_path: Path) -> None:
    async with engine(tmp_path, resize(fleet)) as interlock:
        move = await interlock.start(Resize, instance=VM, host=A, memory_mib=48, cpus=2)
        await in_state(move, "verifying")
        began = (await says(fleet, A, lambda line: line.ram == 48)).disk
        await says(fleet, A, lambda line: line.disk >= began + 2)
        await move.signal("revert")
        await ended(move, "cancelled", "cancelled")
        assert await undone(move) == ["starting", "saving", "stopping"]
    line = await says(fleet, A, lambda line: line.ram == 32)
    assert line.disk <= began + 1 and await fleet.saved(VM) == [] and await fleet.where(VM) == RUNS_AT_A


async def test_what_cannot_be_is_refused_and_nothing_is_begun(fleet: Faulty, tmp_path: Path) -> None:
    async with engine(tmp_path, resize(fleet)) as interlock:
        for host, memory_mib, said in ((A, 4, "memory_mib is 4"), (B, 48, "it does not run there")):
            move = await interlock.start(Resize, instance=VM, host=host, memory_mib=memory_mib, cpus=1)
            after = await ended(move, "failed", "refused")
            assert said in after.data["reason"] and await undone(move) == []
    assert await fleet.where(VM) == RUNS_AT_A


@pytest.mark.parametrize(("unanswered", "size"), [("confirm", 64), ("revert", 32)])
def test_unanswered_for_a_day_it_is_answered_as_the_request_said(unanswered: str, size: int) -> None:
    world = FakeWorld()
    fake = FakeFleet(world, (A, B), clock=lambda: kit.now)
    kit = Kit(resize(fake))
    asyncio.run(fake.boot(GUEST, A))
    move = kit.start(instance=VM, host=A, memory_mib=64, cpus=1, unanswered=unanswered)
    kit.advance("23h")
    move.expect(state="verifying")
    kit.finish(move, within="48h")
    assert move.status == ("succeeded" if unanswered == "confirm" else "cancelled")
    assert world.guests[VM]["memory_mib"] == size and world.disks[VM].saves == {}
