"""What a request may get wrong about guests, hosts and images: a clear answer, and nothing lost, doubled, or begun unasked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from interlock import Actions, ClaimTaken
from interlock.compute.boot import Boot, boot
from interlock.compute.every_move import MOVES
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.compute.qemu_fleet import QemuFleet
from interlock.compute.rebuild import Rebuild, rebuild
from interlock.compute.shelving import Shelve, Unshelve, shelve, unshelve
from interlock.compute.snapshot import Snapshot, snapshot
from interlock.testing import Kit
from tests.moving import GUEST, RUNS_AT_A, VM, A, B, C, Faulty, ended, engine, fleet, says
from tests.test_pains_left import FIELDS

__all__ = ["fleet"]

UNKNOWN = [
    (name, field) for name, fields in FIELDS.items() for field in ("host", "source", "destination") if field in fields
]
OF_A_GUEST = [name for name, fields in FIELDS.items() if fields.get("instance") == VM]


@pytest.mark.parametrize(("name", "field"), UNKNOWN)
def test_an_unknown_host_is_refused_by_every_move_and_the_known_ones_are_named(name: str, field: str) -> None:
    world = FakeWorld()
    yard = FakeFleet(world, (A, B, C), clock=lambda: kit.now)
    kit = Kit(MOVES[name](yard), children=[live_migration(yard)] if name == "host_drain" else ())
    asyncio.run(yard.boot(GUEST, A))
    if name == "evacuation" and field != "source":
        asyncio.run(yard.cut_off(A))
    before = repr(world.processes), repr(world.disks), dict(world.guests)
    move = kit.start({**FIELDS[name], field: "host-x"})
    move.expect(status="failed", state="refused", undone=[])
    known = ("choose one of host-a, host-b, host-c", "it is running on host-a; name the host it runs on")
    assert "host-x" in move.data["reason"] and any(words in move.data["reason"] for words in known)
    assert before == (repr(world.processes), repr(world.disks), dict(world.guests)), "nothing was changed"


@pytest.mark.parametrize("name", [name for name in OF_A_GUEST if name != "delete"])
async def test_a_guest_that_is_moving_already_is_refused_by_every_move_which_names_the_holder(
    name: str, tmp_path: Path
) -> None:
    yard = FakeFleet(tmp_path / "world.json", (A, B, C))
    await yard.boot(GUEST, A)
    async with engine(tmp_path, *[one(yard) for one in MOVES.values()]) as interlock:
        slow: dict[str, Any] = {"instance": VM, "source": A, "destination": B, "bytes_per_second": 1 << 18}
        first = await interlock.start(LiveMigration, slow)
        with pytest.raises(ClaimTaken, match=f"`instance:vm-1` may be held alone, and is held by `{first.id}`"):
            await interlock.start(name.replace("_", "-"), FIELDS[name])
        assert len((await interlock.list()).snapshots) == 1, "nothing was recorded of the second"
        await first.cancel()
        await ended(first, "cancelled")
    assert await yard.where(VM) == RUNS_AT_A


async def damaged_image(fleet: Faulty, tmp_path: Path, image: str) -> None:
    """Spoil an image that is ready."""
    if isinstance(fleet, QemuFleet):
        with (tmp_path / "images" / f"{image}.qcow2").open("r+b") as file:
            file.write(b"\0" * 4096)
    else:
        assert isinstance(fleet, FakeFleet)
        async with fleet._open() as world:
            world.images[image].damaged = True


async def test_a_guest_is_neither_made_nor_rebuilt_from_a_damaged_image(fleet: Faulty, tmp_path: Path) -> None:
    actions: list[Actions[Any]] = [snapshot(fleet), boot(fleet), rebuild(fleet)]
    async with engine(tmp_path, *actions) as interlock:
        before = await says(fleet, A, lambda line: line.disk >= 1)
        await ended(await interlock.start(Snapshot, instance=VM, host=A, image="golden"), "succeeded")
        await damaged_image(fleet, tmp_path, "golden")
        other = {"instance": "vm-2", "host": A, "memory_mib": 32, "filled_mib": 8, "image": "golden"}
        booted = await interlock.start(Boot, other)
        await ended(booted, "failed", "failed")
        assert "golden" in (await booted.why()).waits_for
        assert await fleet.where("vm-2") == {}
        rebuilt = await interlock.start(Rebuild, instance=VM, host=A, image="golden")
        await ended(rebuilt, "failed", "failed")
        assert "golden" in (await rebuilt.why()).waits_for
        await ended(await interlock.start(Boot, {**other, "image": ""}), "succeeded")
    assert await fleet.where(VM) == RUNS_AT_A
    assert (await says(fleet, A, lambda line: line.disk >= before.disk)).disk >= before.disk, (
        "with the disk that it had"
    )
    assert await fleet.saved(VM) == []


async def test_a_shelved_guest_whose_image_is_damaged_stays_shelved(fleet: Faulty, tmp_path: Path) -> None:
    async with engine(tmp_path, shelve(fleet), unshelve(fleet)) as interlock:
        await ended(await interlock.start(Shelve, instance=VM, host=A), "succeeded")
        await damaged_image(fleet, tmp_path, f"shelved-{VM}")
        back = await interlock.start(Unshelve, instance=VM, host=B)
        await ended(back, "failed", "failed")
        assert f"shelved-{VM}" in (await back.why()).waits_for
    assert await fleet.where(VM) == {} and [*await fleet.images()] == [f"shelved-{VM}"], (
        "nobody deleted what is left of it"
    )
