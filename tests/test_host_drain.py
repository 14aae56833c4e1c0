"""Draining a host: its guests go elsewhere while they run, and it takes no new ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.compute.evacuation import HostReturn, host_return
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.guest import prove
from interlock.compute.host_drain import HostDrain, host_drain
from interlock.compute.hypervisor import Permit, RunState, Unsuitable
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.testing import Kit
from tests.explored_fleet import drained
from tests.moving import (
    GUEST,
    RUNS_AT_A,
    VM,
    A,
    B,
    C,
    Faulty,
    ended,
    engine,
    finds_nothing,
    fleet,
    in_state,
    is_clean,
    undone,
)

__all__ = ["fleet"]

NAMES = [VM, "vm-2", "vm-3", "vm-4"]

ENDS = ("succeeded", "failed", "cancelled", "stuck")


def test_the_machine_is_clean() -> None:
    is_clean(HostDrain)


@pytest.mark.slow
def test_no_mishap_harms_a_guest() -> None:
    finds_nothing(drained, "succeeded", "failed", "cancelled", runs=700)


async def test_its_guests_go_elsewhere_without_a_break(fleet: Faulty, tmp_path: Path) -> None:
    for name in NAMES[1:]:
        await fleet.boot(replace(GUEST, instance=name), A)
    async with engine(tmp_path, host_drain(fleet), live_migration(fleet), host_return(fleet)) as interlock:
        drain = await interlock.start(HostDrain, host=A)
        await ended(drain, "succeeded", "completed")
        assert await fleet.guests_on(A) == []
        for name in NAMES:
            (state,) = (await fleet.where(name)).values()
            assert state is RunState.RUNNING
            assert not prove([console.text for console in await fleet.consoles(name)]).faults(missing_allowed=3)
        assert len(await fleet.guests_on(B)) == len(await fleet.guests_on(C)) == 2
        with pytest.raises(Unsuitable, match=f"{drain.id} disabled it"):
            await fleet.welcome(VM, A)
        await ended(await interlock.start(HostReturn, host=A), "succeeded")
    await fleet.welcome(VM, A)


def test_one_at_a_time_if_so_it_is_wanted_and_less_than_one_is_refused() -> None:
    fake = FakeFleet(FakeWorld(), (A, B, C), clock=lambda: kit.now)
    kit = Kit(host_drain(fake), children=[live_migration(fake)])
    for name in NAMES:
        asyncio.run(fake.boot(replace(GUEST, instance=name), A))
    none = kit.start(host=A, at_a_time=0)
    none.expect(status="failed", state="refused")
    assert "at least one guest must leave at a time" in none.data["reason"]
    drain, together = kit.start(host=A, at_a_time=1), set[int]()
    while drain.status not in ENDS:
        together.add(len(getattr(drain.snapshot.phase, "live", ())))
        kit.advance("10ms")
    drain.expect(status="succeeded")
    assert together == {1}, "one, and never two"


async def test_no_host_to_go_to_is_said_and_it_takes_guests_again(fleet: Faulty, tmp_path: Path) -> None:
    for host in (B, C):
        await fleet.cut_off(host)
    async with engine(tmp_path, host_drain(fleet), live_migration(fleet)) as interlock:
        drain = await interlock.start(HostDrain, host=A)
        after = await ended(drain, "failed", "failed")
        assert "no other host takes guests: vm-1 cannot leave host-a" in after.data["reason"]
        assert await undone(drain) == ["disabling"]
        unknown = await interlock.start(HostDrain, host="host-x")
        assert "choose one of host-a" in (await ended(unknown, "failed", "refused")).data["reason"]
    await fleet.welcome(VM, A)
    assert await fleet.where(VM) == RUNS_AT_A


async def test_a_cancel_reaches_the_moves_and_undoes_the_disabling(fleet: Faulty, tmp_path: Path) -> None:
    async with engine(tmp_path, host_drain(fleet), live_migration(fleet)) as interlock:
        drain = await interlock.start(HostDrain, host=A, breakpoints=["emptying"])
        while (await drain.show()).status != "paused":
            await in_state(drain, "emptying")
        await drain.cancel("not today")
        await drain.resume() if (await drain.show()).status == "paused" else None
        await ended(drain, "cancelled", "cancelled")
        assert all(one.ended for one in (await interlock.list(LiveMigration)).snapshots)
    await fleet.welcome(VM, A)
    (state,) = (await fleet.where(VM)).values()
    assert state is RunState.RUNNING


@pytest.mark.parametrize("coming", [True, False])
def test_a_guest_on_its_way_is_waited_for(coming: bool) -> None:
    """Who empties a host means to switch it off: that would be the end of a guest that is half there."""
    world = FakeWorld()
    fake = FakeFleet(world, (A, B, C), clock=lambda: kit.now)
    kit = Kit(host_drain(fake), children=[live_migration(fake)])
    permit, (source, destination) = Permit("before", 1), (B, A) if coming else (A, B)

    async def half_moved() -> None:
        await fake.boot(GUEST, source)
        uri = (await fake.prepare(VM, destination, permit, postcopy=True)).uri
        await fake.start_copy(VM, source, uri, permit, bytes_per_second=1 << 16, postcopy=True)
        if not coming:
            await anext(fake.pull(VM, source, destination, permit))

    asyncio.run(half_moved())
    drain = kit.start(host=A)
    kit.advance("1m")
    drain.expect(status="waiting", state="awaiting")
    if coming:
        asyncio.run(fake.cancel_copy(VM, B, permit))
        asyncio.run(fake.tear_down(VM, A, permit))
    kit.advance("3m")
    drain.expect(status="succeeded", state="completed")
    assert asyncio.run(fake.where(VM))[B] is RunState.RUNNING


def test_what_never_arrives_is_not_waited_for_for_ever() -> None:
    fake = FakeFleet(FakeWorld(), (A, B, C), clock=lambda: kit.now)
    kit = Kit(host_drain(fake), children=[live_migration(fake)])
    asyncio.run(fake.boot(GUEST, B))
    asyncio.run(fake.prepare(VM, A, Permit("before", 1)))
    drain = kit.start(host=A)
    kit.finish(drain, within="2h")
    drain.expect(status="failed", undone=["disabling"])
    assert "vm-1 is still on its way to host-a or from it" in drain.data["reason"]
