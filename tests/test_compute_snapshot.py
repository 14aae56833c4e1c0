"""Snapshots of guests that run and that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.compute.hypervisor import Permit
from interlock.compute.snapshot import Snapshot, snapshot
from tests.explored_fleet import pictured, pictured_nightly
from tests.moving import GUEST, RUNS_AT_A, VM, A, B, Faulty, ended, engine, finds_nothing, fleet, is_clean, says

__all__ = ["fleet"]


def test_the_machine_is_clean() -> None:
    is_clean(Snapshot)


@pytest.mark.slow
def test_no_mishap_leaves_half_an_image() -> None:
    finds_nothing(pictured, "succeeded", "failed", "cancelled")


@pytest.mark.slow
def test_images_by_the_clock_wait_for_what_else_is_done_to_the_guest() -> None:
    finds_nothing(pictured_nightly, "succeeded", "failed", "cancelled", runs=280)


async def test_a_guest_goes_on_while_its_disk_is_copied(fleet: Faulty, tmp_path: Path) -> None:
    before = await says(fleet, A, lambda line: line.disk >= 1)
    async with engine(tmp_path, snapshot(fleet)) as interlock:
        await ended(await interlock.start(Snapshot, instance=VM, host=A, image="golden"), "succeeded", "completed")
        for fields, said in (
            ({"host": A, "image": "golden"}, "there is an image golden"),
            ({"host": B, "image": "other"}, "it does not run there"),
            ({"host": A, "image": "../etc"}, "must be 1 to 63"),
        ):
            wrong = await interlock.start(Snapshot, {"instance": VM, **fields})
            assert said in (await ended(wrong, "failed", "refused")).data["reason"]
    after = await says(fleet, A, lambda line: line.counter > before.counter)
    assert after.nonce == before.nonce and await fleet.images() == {"golden": GUEST}
    assert await fleet.where(VM) == RUNS_AT_A


async def test_a_guest_that_is_off(fleet: Faulty, tmp_path: Path) -> None:
    await fleet.stop(VM, A, Permit("somebody", 1))
    async with engine(tmp_path, snapshot(fleet)) as interlock:
        await ended(await interlock.start(Snapshot, instance=VM, host=B, image="golden"), "succeeded", "completed")
    assert await fleet.where(VM) == {} and list(await fleet.images()) == ["golden"]
