"""Shelving a guest, and making it again from its image."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.compute.hypervisor import Unsuitable
from interlock.compute.shelving import Shelve, Unshelve, shelve, unshelve
from tests.explored_fleet import shelved, unshelved
from tests.moving import GUEST, RUNS_AT_B, VM, A, B, Faulty, ended, engine, finds_nothing, fleet, is_clean, says

__all__ = ["fleet"]


def test_the_machines_are_clean() -> None:
    is_clean(Shelve)
    is_clean(Unshelve)


@pytest.mark.slow
def test_no_mishap_loses_a_guest() -> None:
    finds_nothing(shelved, "succeeded", "failed", "cancelled")
    finds_nothing(unshelved, "succeeded", "failed", "cancelled")


async def test_shelved_and_unshelved_elsewhere_its_disk_lives_on(fleet: Faulty, tmp_path: Path) -> None:
    life = (await says(fleet, A, lambda line: line.disk >= 1)).disk
    async with engine(tmp_path, shelve(fleet), unshelve(fleet)) as interlock:
        await ended(await interlock.start(Shelve, instance=VM, host=A), "succeeded", "completed")
        assert await fleet.where(VM) == {} and await fleet.images() == {"shelved-vm-1": GUEST}
        with pytest.raises(Unsuitable):
            await fleet.made_as(VM)
        again = await interlock.start(Shelve, instance=VM, host=A)
        assert "it does not run there" in (await ended(again, "failed", "refused")).data["reason"]
        await ended(await interlock.start(Unshelve, instance=VM, host=B), "succeeded", "completed")
        assert await fleet.images() == {} and await fleet.where(VM) == RUNS_AT_B
        assert (await says(fleet, B)).disk >= life
        again = await interlock.start(Unshelve, instance=VM, host=A)
        assert "there is no image shelved-vm-1" in (await ended(again, "failed", "refused")).data["reason"]
