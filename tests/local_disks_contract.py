"""What every fleet promises of guests whose disks are local to their hosts: each implementation's tests run all of this."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import (
    CopyFailed,
    GuestLost,
    Incoming,
    Permit,
    Phase,
    Progress,
    RunState,
    StaleToken,
    Unsafe,
    Unsuitable,
)
from tests.fleet_contract import FIRST, SMALL, VM, A, B, C, Yard

LOCAL = replace(SMALL, storage="local")
SLOW = 192 << 10
"""Bytes per second: its disk of 1 MiB needs more than five seconds."""
RUNS_AT_A, RUNS_AT_B = {A: RunState.RUNNING}, {B: RunState.RUNNING}


async def mirrored(fleet: Fleet, disk: str, permit: Permit = FIRST, source: str = A) -> list[Progress]:
    return [progress async for progress in fleet.mirror(VM, source, disk, permit)]


async def moved(yard: Yard, source: str, destination: str, permit: Permit) -> None:
    fleet = yard.fleet
    incoming = await fleet.prepare(VM, destination, permit)
    seen = await mirrored(fleet, incoming.disk, permit, source)
    assert seen[-1].phase is Phase.READY and seen[-1].total >= 1 << 20
    await fleet.start_copy(VM, source, incoming.uri, permit)
    async for _ in fleet.watch(VM, source):
        pass
    await fleet.switch_over(VM, source, destination, permit)
    await fleet.remove_source(VM, source, destination, permit)
    assert await fleet.where(VM) == {destination: RunState.RUNNING}
    await yard.lines(destination)


async def mirroring(yard: Yard) -> Incoming:
    """Boot the guest, prepare B, and return in the middle of the copy of its disk."""
    fleet = yard.fleet
    await fleet.boot(LOCAL, A)
    incoming = await fleet.prepare(VM, B, FIRST)
    async with contextlib.aclosing(fleet.mirror(VM, A, incoming.disk, FIRST, bytes_per_second=SLOW)) as copy:
        async for progress in copy:
            assert progress.phase is Phase.COPYING
            if progress.transferred:
                return incoming
    raise AssertionError("the copy ended")


async def its_disk_is_only(fleet: Fleet, here: str, *others: str) -> None:
    """Assert that a guest that runs nowhere can be started on one host, with the life that it had, and on no other."""
    for host in others:
        with pytest.raises(Unsuitable, match=f"its disk is on the own storage of {here}; name that host"):
            await fleet.start(LOCAL, host, Permit("m9", 1))
    await fleet.sound(VM, here)
    await fleet.start(LOCAL, here, Permit("m9", 1))


@pytest.mark.asyncio
class LocalDisksContract:
    """Subclasses give a fixture ``yard``."""

    async def test_its_disk_goes_along(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.boot(LOCAL, A)
        await yard.aged(2)
        await fleet.check(VM, A, B)
        await moved(yard, A, B, FIRST)
        before = (await yard.lines(B))[-1]
        await fleet.stop(VM, B, Permit("m2", 1))
        await its_disk_is_only(fleet, B, A, C)
        after = (await yard.lines(B))[0]
        assert after.nonce != before.nonce and after.disk >= before.disk >= 2

    async def test_it_goes_on_and_comes_back(self, yard: Yard) -> None:
        await yard.fleet.boot(LOCAL, A)
        for number, (source, destination) in enumerate([(A, B), (B, C), (C, B), (B, A)]):
            await moved(yard, source, destination, Permit(f"m{number}", 1))
        await yard.fleet.stop(VM, A, Permit("m5", 1))
        await its_disk_is_only(yard.fleet, A, B, C)

    async def test_without_its_disk_it_does_not_go(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.boot(LOCAL, A)
        incoming = await fleet.prepare(VM, B, FIRST)
        assert incoming.disk and incoming.disk != incoming.uri.removeprefix("tcp:")
        with pytest.raises(CopyFailed, match="its disk was not copied: it is none"):
            await fleet.start_copy(VM, A, incoming.uri, FIRST)
        await fleet.tear_down(VM, B, FIRST)
        assert await fleet.where(VM) == RUNS_AT_A
        await yard.lines()

    async def test_a_shared_disk_is_not_offered(self, yard: Yard) -> None:
        await yard.fleet.boot(SMALL, A)
        assert (await yard.fleet.prepare(VM, B, FIRST)).disk == ""

    async def test_ended_half_way_then_tried_again(self, yard: Yard) -> None:
        fleet = yard.fleet
        await mirroring(yard)
        for _ in range(2):
            await fleet.end_mirror(VM, A, FIRST)
        assert await fleet.tear_down(VM, B, FIRST)
        assert await fleet.where(VM) == RUNS_AT_A
        await moved(yard, A, B, Permit("m2", 1))

    async def test_nobody_takes_it(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.boot(LOCAL, A)
        incoming = await fleet.prepare(VM, B, FIRST)
        await fleet.tear_down(VM, B, FIRST)
        with pytest.raises(CopyFailed, match="Connection refused"):
            await mirrored(fleet, incoming.disk)
        await fleet.end_mirror(VM, A, FIRST)
        await yard.lines()

    async def test_its_destination_is_killed_half_way(self, yard: Yard) -> None:
        fleet = yard.fleet
        incoming = await mirroring(yard)
        assert await fleet.kill(VM, B)
        with pytest.raises(CopyFailed, match="its disk was not copied"):
            await mirrored(fleet, incoming.disk)
        await fleet.end_mirror(VM, A, FIRST)
        assert await fleet.tear_down(VM, B, FIRST)
        await yard.lines()
        await fleet.stop(VM, A, Permit("m2", 1))
        await its_disk_is_only(fleet, A, B)

    async def test_its_source_is_killed_half_way(self, yard: Yard) -> None:
        fleet = yard.fleet
        incoming = await mirroring(yard)
        await fleet.kill(VM, A)
        with pytest.raises(GuestLost, match="gone"):
            await mirrored(fleet, incoming.disk)
        await fleet.end_mirror(VM, A, FIRST)
        await fleet.tear_down(VM, B, FIRST)
        await its_disk_is_only(fleet, A, B)
        await yard.lines()

    async def test_half_a_disk_is_never_started(self, yard: Yard) -> None:
        fleet = yard.fleet
        await mirroring(yard)
        for host in (A, B):
            await fleet.kill(VM, host)
        for host in (A, B):
            with pytest.raises(Unsafe, match=r"its disk is here and on host-[ab] too, of a move that has not ended"):
                await fleet.start(LOCAL, host, Permit("m9", 1))
        assert await fleet.where(VM) == {}

    async def test_a_copy_under_way_is_joined(self, yard: Yard) -> None:
        fleet, second = yard.fleet, Permit("m1", 2)
        incoming = await mirroring(yard)
        seen = await mirrored(fleet, incoming.disk, second)
        assert seen[0].transferred and seen[-1].phase is Phase.READY
        with pytest.raises(StaleToken):
            await mirrored(fleet, incoming.disk, FIRST)
        with pytest.raises(StaleToken):
            await fleet.end_mirror(VM, A, FIRST)
        assert [progress.phase for progress in await mirrored(fleet, incoming.disk, second)] == [Phase.READY]

    async def test_a_mirror_that_breaks_at_the_last_moment_lets_it_stay(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.boot(LOCAL, A)
        incoming = await fleet.prepare(VM, B, FIRST)
        await mirrored(fleet, incoming.disk)
        await fleet.start_copy(VM, A, incoming.uri, FIRST)
        async for _ in fleet.watch(VM, A):
            pass
        await fleet.end_mirror(VM, A, FIRST)
        with pytest.raises(CopyFailed, match="its disk"):
            await fleet.switch_over(VM, A, B, FIRST)
        await fleet.cancel_copy(VM, A, FIRST)
        await fleet.tear_down(VM, B, FIRST)
        assert await fleet.where(VM) == RUNS_AT_A
        await yard.lines()

    async def test_pulled_its_disk_is_there_before_it_is(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.boot(LOCAL, A)
        incoming = await fleet.prepare(VM, B, FIRST, postcopy=True)
        await mirrored(fleet, incoming.disk)
        await fleet.start_copy(VM, A, incoming.uri, FIRST, bytes_per_second=4 << 20, postcopy=True)
        assert [progress async for progress in fleet.pull(VM, A, B, FIRST)][-1].phase is Phase.COMPLETED
        await fleet.remove_source(VM, A, B, FIRST)
        assert await fleet.where(VM) == RUNS_AT_B
        await yard.lines(B)
        await fleet.stop(VM, B, Permit("m2", 1))
        await its_disk_is_only(fleet, B, A)

    async def test_there_is_nothing_to_copy_of_a_guest_that_is_off(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.boot(LOCAL, A)
        await fleet.stop(VM, A, FIRST)
        with pytest.raises(
            Unsuitable, match="it runs nowhere that its disk could be copied from; start it where its disk is"
        ):
            await fleet.prepare(VM, B, Permit("m2", 1))
        await its_disk_is_only(fleet, A, B)

    async def test_its_disk_is_worked_with_where_it_is(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.make(LOCAL, B, FIRST)
        with pytest.raises(Unsuitable, match="its disk is on the own storage of host-b"):
            await fleet.make(LOCAL, A, FIRST)
        with pytest.raises(Unsuitable, match="its disk is on the own storage of host-b"):
            await fleet.save(VM, A, "one", FIRST)
        await fleet.save(VM, B, "one", FIRST)
        assert await fleet.saved(VM) == ["one"]
        await fleet.restore(VM, B, "one", FIRST)
        await fleet.unmake(VM, B, FIRST)
        with pytest.raises(Unsuitable):
            await fleet.made_as(VM)
        await fleet.make(LOCAL, A, FIRST)

    async def test_the_disk_of_a_guest_that_is_off_is_carried(self, yard: Yard) -> None:
        fleet, move = yard.fleet, Permit("m2", 1)
        await fleet.boot(LOCAL, A)
        await yard.aged(2)
        with pytest.raises(Unsafe, match="running on host-a"):
            await fleet.carry(VM, A, B, FIRST)
        await fleet.stop(VM, A, FIRST)
        for source, destination in ((A, B), (A, B), (B, A), (A, C)):
            await fleet.carry(VM, source, destination, move)
        with pytest.raises(StaleToken):
            await fleet.carry(VM, A, C, FIRST)
        await its_disk_is_only(fleet, C, A, B)
        assert (await yard.lines(C))[0].disk >= 2
        with pytest.raises(Unsafe, match="running on host-c"):
            await fleet.carry(VM, C, A, Permit("m10", 1))

    async def test_what_cannot_be_carried_is_said(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.make(LOCAL, B, FIRST)
        with pytest.raises(Unsuitable, match="own storage of host-b"):
            await fleet.carry(VM, A, C, FIRST)
        await fleet.carry(VM, B, B, FIRST)
        await fleet.carry(VM, B, A, FIRST)
        await its_disk_is_only(fleet, A, B, C)

    async def test_half_a_disk_that_a_move_left_is_never_carried_over(self, yard: Yard) -> None:
        fleet = yard.fleet
        await mirroring(yard)
        for host in (A, B):
            await fleet.kill(VM, host)
        for source, destination in ((A, B), (B, A), (B, C), (A, C)):
            with pytest.raises(Unsafe, match="of a move that has not ended"):
                await fleet.carry(VM, source, destination, FIRST)
        await fleet.tear_down(VM, B, FIRST)
        await its_disk_is_only(fleet, A, B)

    async def test_a_shared_disk_is_not_carried(self, yard: Yard) -> None:
        fleet = yard.fleet
        await fleet.make(SMALL, A, FIRST)
        await fleet.carry(VM, A, B, FIRST)
        await fleet.start(SMALL, B, FIRST)
