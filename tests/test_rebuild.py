"""Rebuilding a guest: from an image, from nothing, and back when it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.hypervisor import Permit
from interlock.compute.rebuild import Rebuild, rebuild
from interlock.compute.resize import Resize, resize
from tests.explored_fleet import rebuilt
from tests.moving import GUEST, RUNS_AT_A, VM, A, B, Faulty, ended, engine, finds_nothing, fleet, is_clean, says, undone

__all__ = ["fleet"]


def test_the_machine_is_clean() -> None:
    is_clean(Rebuild)


async def test_a_guest_of_which_there_are_no_snapshots_is_not_stopped_for_nothing(
    fleet: Faulty, tmp_path: Path
) -> None:
    await fleet.boot(replace(GUEST, instance="vm-raw", disk="raw"), A)
    async with engine(tmp_path, rebuild(fleet), resize(fleet)) as interlock:
        for machine, size in ((Rebuild, {}), (Resize, {"memory_mib": 48, "cpus": 2})):
            move = await interlock.start(machine, {"instance": "vm-raw", "host": A, **size})
            assert "a raw disk has no snapshots" in (await ended(move, "failed", "refused")).data["reason"]
            assert await undone(move) == []
    assert len([console for console in await fleet.consoles("vm-raw") if console.text]) == 1, "it was started once"


@pytest.mark.slow
def test_no_mishap_harms_a_guest() -> None:
    finds_nothing(rebuilt, "succeeded", "failed", "cancelled")


async def test_its_disk_is_new_and_nothing_of_the_old_one_is_left(fleet: Faulty, tmp_path: Path) -> None:
    nonce = (await says(fleet, A, lambda line: line.disk >= 2)).nonce
    async with engine(tmp_path, rebuild(fleet)) as interlock:
        await ended(await interlock.start(Rebuild, instance=VM, host=A), "succeeded", "completed")
    line = await says(fleet, A, lambda line: line.nonce != nonce)
    assert line.disk < 2 and await fleet.saved(VM) == [] and await fleet.where(VM) == RUNS_AT_A


async def test_an_image_that_is_damaged_brings_its_old_disk_back(fleet: Faulty, tmp_path: Path) -> None:
    life = (await says(fleet, A, lambda line: line.disk >= 2)).disk
    permit = Permit("somebody", 1)
    await fleet.capture(VM, A, "golden", permit)
    await fleet.publish(VM, A, "golden", permit)
    if isinstance(fleet, FakeFleet):
        async with fleet._open() as world:
            world.images["golden"].damaged = True
    else:
        (tmp_path / "images" / "golden.qcow2").write_bytes(b"no image")
    async with engine(tmp_path, rebuild(fleet)) as interlock:
        move = await interlock.start(Rebuild, instance=VM, host=A, image="golden")
        after = await ended(move, "failed", "failed")
        assert after.failure is not None and after.failure.kind == "Unsuitable"
        assert (await undone(move))[-2:] == ["saving", "stopping"]
        for host, image, said in ((B, "golden", "it does not run there"), (A, "none", "there is no image none")):
            wrong = await interlock.start(Rebuild, instance=VM, host=host, image=image)
            assert said in (await ended(wrong, "failed", "refused")).data["reason"]
    assert (await says(fleet, A)).disk >= life and await fleet.saved(VM) == []
    assert await fleet.where(VM) == RUNS_AT_A
