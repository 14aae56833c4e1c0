"""Evacuation of a dead host's guest, and the host's return."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from interlock.compute.evacuation import Evacuation, HostReturn, evacuation, host_return
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.hypervisor import Permit, Unsuitable
from tests.explored_fleet import evacuated, returned_meanwhile
from tests.fleet_contract import overwrite
from tests.moving import (
    GUEST,
    RUNS_AT_A,
    RUNS_AT_B,
    VM,
    A,
    B,
    C,
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


def test_the_machines_are_clean() -> None:
    is_clean(Evacuation)
    is_clean(HostReturn)


@pytest.mark.slow
def test_no_mishap_harms_a_guest() -> None:
    finds_nothing(evacuated, "succeeded", "failed", "cancelled")
    finds_nothing(returned_meanwhile, "succeeded", "failed", "cancelled")


async def test_a_guest_of_a_dead_host_goes_on_from_its_disk(fleet: Faulty, tmp_path: Path) -> None:
    """Its host does not answer, and the guest still runs there: it is powered off before the guest starts elsewhere."""
    life = (await says(fleet, A, lambda line: line.disk >= 1)).disk
    await fleet.cut_off(A)
    async with engine(tmp_path, evacuation(fleet), host_return(fleet)) as interlock:
        move = await interlock.start(Evacuation, instance=VM, source=A, destination=B)
        await ended(move, "succeeded", "completed")
        assert (await says(fleet, B)).disk >= life and await fleet.where(VM) == RUNS_AT_B
        early = await interlock.start(HostReturn, host=A, retries={"checking": 1})
        await ended(early, "failed", "failed")
        await fleet.cut_off(A, reachable=True)
        with pytest.raises(Unsuitable, match="fenced"):
            await fleet.start(GUEST, A, Permit("somebody", 1))
        back = await interlock.start(HostReturn, host=A)
        assert (await ended(back, "succeeded")).data["deleted"] == [VM]
    assert await fleet.where(VM) == RUNS_AT_B and await fleet.evacuations(A) == {}
    await fleet.welcome("another", A)


async def test_a_damaged_disk_is_found_before_anything_starts_and_the_host_keeps_its_guest(
    fleet: Faulty, tmp_path: Path
) -> None:
    await fleet.kill(VM, A)
    if isinstance(fleet, FakeFleet):
        await fleet.damage(VM)
    else:
        overwrite(tmp_path, VM)
    await fleet.cut_off(A)
    async with engine(tmp_path, evacuation(fleet)) as interlock:
        move = await interlock.start(Evacuation, instance=VM, source=A, destination=B)
        after = await ended(move, "failed", "failed")
        assert after.failure is not None and after.failure.kind == "Unsuitable"
        assert await undone(move) == ["fencing"]
    assert await fleet.evacuations(A) == {}, "nothing says that its host should delete it"


async def test_a_host_that_is_alive_is_not_evacuated(fleet: Faulty, tmp_path: Path) -> None:
    async with engine(tmp_path, evacuation(fleet)) as interlock:
        for source, destination, said in (
            (A, B, "the host is alive, and runs vm-1"),
            (A, "host-x", "choose one of host-a, host-b, host-c"),
            (A, A, "the same host"),
        ):
            move = await interlock.start(Evacuation, instance=VM, source=source, destination=destination)
            assert said in (await ended(move, "failed", "refused")).data["reason"]
    assert await fleet.where(VM) == RUNS_AT_A and await fleet.evacuations(A) == {}


async def test_no_host_is_powered_off_for_a_guest_that_was_not_there(fleet: Faulty, tmp_path: Path) -> None:
    """A request that names the wrong dead host would kill whoever runs there, cut off and in good health."""
    await fleet.boot(replace(GUEST, instance="vm-2"), C)
    await fleet.boot(replace(GUEST, instance="vm-3"), B)
    await fleet.stop("vm-3", B, Permit("before", 1))
    await fleet.cut_off(A)
    async with engine(tmp_path, evacuation(fleet)) as interlock:
        for instance, said in (("vm-2", "it was not there; it is running on host-c"), ("vm-3", "not there; it is off")):
            move = await interlock.start(Evacuation, instance=instance, source=A, destination=B)
            assert said in (await ended(move, "failed", "refused")).data["reason"]
    await fleet.cut_off(A, reachable=True)
    assert await fleet.where(VM) == RUNS_AT_A and await fleet.evacuations(A) == {}


async def test_every_guest_of_a_dead_host_is_evacuated_whatever_its_disk(fleet: Faulty, tmp_path: Path) -> None:
    """The first one fences the host; it is the host of the second one all the same."""
    await fleet.boot(replace(GUEST, instance="vm-raw", disk="raw"), A)
    await fleet.cut_off(A)
    async with engine(tmp_path, evacuation(fleet), host_return(fleet)) as interlock:
        for instance in (VM, "vm-raw"):
            move = await interlock.start(Evacuation, instance=instance, source=A, destination=B)
            await ended(move, "succeeded", "completed")
            assert await fleet.where(instance) == RUNS_AT_B
        await fleet.cut_off(A, reachable=True)
        back = await interlock.start(HostReturn, host=A)
        assert (await ended(back, "succeeded")).data["deleted"] == [VM, "vm-raw"]
