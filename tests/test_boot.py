"""Booting a guest: a new one, one from an image, one that is off; and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.compute.boot import Boot, boot
from interlock.compute.delete import delete
from interlock.compute.hypervisor import Permit, Unsuitable
from tests.explored_fleet import booted, booted_again
from tests.moving import RUNS_AT_A, RUNS_AT_B, VM, A, B, Faulty, ended, engine, finds_nothing, fleet, is_clean, says

__all__ = ["fleet"]


def test_the_machine_is_clean() -> None:
    is_clean(Boot)


@pytest.mark.slow
def test_no_mishap_leaves_half_a_guest_or_deletes_one_that_was_there() -> None:
    finds_nothing(booted, "succeeded", "failed", "cancelled")
    finds_nothing(booted_again, "succeeded", "failed", "cancelled")


async def test_a_guest_is_made_and_one_that_is_off_is_switched_on(fleet: Faulty, tmp_path: Path) -> None:
    async with engine(tmp_path, boot(fleet), delete(fleet)) as interlock:
        new = await interlock.start(Boot, instance="vm-2", host=B, memory_mib=24, filled_mib=4, dirtied_pages=2)
        await ended(new, "succeeded", "completed")
        assert (await says(fleet, B, vm="vm-2")).ram == 24 and await fleet.where("vm-2") == RUNS_AT_B
        life = (await says(fleet, A, lambda line: line.disk >= 1)).disk
        await fleet.stop(VM, A, Permit("somebody", 1))
        again = await interlock.start(Boot, instance=VM, host=B, memory_mib=32, filled_mib=8, dirtied_pages=4)
        await ended(again, "succeeded", "completed")
        assert (await says(fleet, B)).disk >= life


async def test_a_guest_from_an_image(fleet: Faulty, tmp_path: Path) -> None:
    life = (await says(fleet, A, lambda line: line.disk >= 1)).disk
    permit = Permit("somebody", 1)
    await fleet.capture(VM, A, "golden", permit)
    await fleet.publish(VM, A, "golden", permit)
    size = {"memory_mib": 32, "filled_mib": 8, "dirtied_pages": 4}
    async with engine(tmp_path, boot(fleet)) as interlock:
        await ended(
            await interlock.start(Boot, {"instance": "vm-2", "host": B, "image": "golden", **size}), "succeeded"
        )
    assert (await says(fleet, B, vm="vm-2")).disk >= life - 1


async def test_what_cannot_be_is_refused_and_nothing_is_begun(fleet: Faulty, tmp_path: Path) -> None:
    wrong = (
        ({"instance": VM, "host": B}, "already running on host-a"),
        ({"instance": "vm-2", "host": "host-x"}, "choose one of host-a"),
        ({"instance": "vm-2", "host": A, "memory_mib": 4}, "memory_mib is 4"),
        ({"instance": "vm-2", "host": A, "image": "none"}, "there is no image none"),
        ({"instance": "../vm", "host": A}, "must be 1 to 63"),
    )
    async with engine(tmp_path, boot(fleet)) as interlock:
        for fields, said in wrong:
            move = await interlock.start(Boot, fields)
            assert said in (await ended(move, "failed", "refused")).data["reason"]
    with pytest.raises(Unsuitable):
        await fleet.made_as("vm-2")
    assert await fleet.where(VM) == RUNS_AT_A
