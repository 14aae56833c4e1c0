"""What every fleet promises beside the verbs of a live migration, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from interlock.compute import fleet
from interlock.compute.guest import Line, read
from interlock.compute.hypervisor import Guest, HostUnreachable, Permit, RunState, StaleToken, Unsafe, Unsuitable

A, B, C, VM = "host-a", "host-b", "host-c", "vm-1"
SMALL = Guest(VM, memory_mib=32, filled_mib=8, dirtied_pages=4)
LARGER = replace(SMALL, memory_mib=48, cpus=2)
FIRST, SECOND = Permit("m1", 1), Permit("m2", 1)


class Faulty(fleet.Fleet, Protocol):
    """A fleet whose hosts can be cut off."""

    async def cut_off(self, host: str, *, reachable: bool = False) -> None: ...


@dataclass
class Yard:
    """A fleet to be tested, and its ways to pass time and to damage a disk."""

    fleet: Faulty
    sleep: Callable[[float], Awaitable[object]]
    damage: Callable[[str], Awaitable[None]]

    async def lines(self, host: str = A, instance: str = VM) -> list[Line]:
        """Wait until the youngest process on a host has said three lines more; return what it has said."""
        had = len(await self._last(host, instance))
        for _ in range(1000):
            if len(lines := await self._last(host, instance)) >= had + 3:
                return lines
            await self.sleep(0.02)
        raise AssertionError("it says nothing")

    async def _last(self, host: str, instance: str) -> list[Line]:
        texts = [console.text for console in await self.fleet.consoles(instance) if console.host == host]
        return list(read(texts[-1]).lines) if texts else []

    async def aged(self, life: int, host: str = A) -> None:
        """Wait until the counter on the disk is so high."""
        while (await self.lines(host))[-1].disk < life:
            await self.sleep(0.05)


@pytest.mark.asyncio
class FleetContract:
    """Subclasses give a fixture ``yard``."""

    async def test_stopped_and_started_with_another_size_its_disk_lives_on(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await yard.aged(2)
        for _ in range(2):
            await one.stop(VM, A, FIRST)
        assert await one.where(VM) == {} and await one.guests_on(A) == []
        for _ in range(2):
            await one.start(LARGER, B, FIRST)
        assert await one.made_as(VM) == LARGER and await one.guests_on(B) == [VM]
        line = (await yard.lines(B))[0]
        assert (line.ram, line.cpus) == (48, 2) and line.disk >= 2
        with pytest.raises(Unsafe, match="already running on host-b"):
            await one.start(LARGER, A, FIRST)
        with pytest.raises(Unsafe, match="already running on host-b"):
            await one.start(SMALL, B, FIRST)

    async def test_a_disk_goes_back_to_what_was_saved(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await yard.aged(1)
        with pytest.raises(Unsafe, match="running on host-a"):
            await one.save(VM, A, "before", FIRST)
        await one.stop(VM, A, FIRST)
        for _ in range(2):
            await one.save(VM, A, "before", FIRST)
        await one.start(SMALL, A, FIRST)
        first = (await yard.lines())[0].disk
        await yard.aged(first + 2)
        assert await one.saved(VM) == ["before"]
        await one.stop(VM, A, FIRST)
        for _ in range(2):
            await one.restore(VM, A, "before", FIRST)
        assert await one.saved(VM) == []
        await one.start(SMALL, A, FIRST)
        assert (await yard.lines())[0].disk == first

    async def test_what_was_saved_is_forgotten_while_it_runs(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await one.stop(VM, A, FIRST)
        await one.save(VM, A, "before", FIRST)
        await one.start(SMALL, A, FIRST)
        for _ in range(2):
            await one.forget(VM, A, "before", FIRST)
        assert await one.saved(VM) == [] and await one.where(VM) == {A: RunState.RUNNING}
        await yard.lines()

    async def test_only_who_made_a_disk_unmakes_it_as_his(self, yard: Yard) -> None:
        one = yard.fleet
        for _ in range(2):
            await one.make(SMALL, A, FIRST)
        await one.make(SMALL, A, SECOND)
        with pytest.raises(Unsuitable, match="it was made as"):
            await one.make(LARGER, A, SECOND)
        await one.unmake(VM, A, SECOND, mine=True)
        assert await one.made_as(VM) == SMALL
        await one.start(SMALL, A, SECOND)
        with pytest.raises(Unsafe):
            await one.unmake(VM, A, SECOND)
        await one.stop(VM, A, SECOND)
        for _ in range(2):
            await one.unmake(VM, A, SECOND)
        with pytest.raises(Unsuitable, match="no guest of this name"):
            await one.made_as(VM)
        with pytest.raises(Unsuitable, match="no disk"):
            await one.start(SMALL, A, SECOND)

    @pytest.mark.parametrize("runs", [True, False])
    async def test_an_image_of_a_guest_makes_another(self, yard: Yard, runs: bool) -> None:
        one, other = yard.fleet, replace(SMALL, instance="vm-2")
        await one.boot(SMALL, A)
        await yard.aged(2)
        if not runs:
            await one.stop(VM, A, FIRST)
        for _ in range(2):
            await one.capture(VM, A, "golden", FIRST)
        assert await one.images() == {}
        with pytest.raises(Unsuitable, match="there is no image golden"):
            await one.make(other, A, FIRST, "golden")
        for _ in range(2):
            await one.publish(VM, A, "golden", FIRST)
        assert await one.images() == {"golden": SMALL}
        with pytest.raises(Unsuitable, match="there is an image golden"):
            await one.capture(VM, A, "golden", SECOND)
        await one.discard(VM, A, "golden", SECOND, mine=True)
        assert await one.where(VM) == ({A: RunState.RUNNING} if runs else {})
        for _ in range(2):
            await one.make(other, B, SECOND, "golden")
        for _ in range(2):
            await one.discard(VM, A, "golden", SECOND)
        assert await one.images() == {}
        await one.start(other, B, SECOND)
        assert (await yard.lines(B, "vm-2"))[0].disk >= 1

    async def test_a_capture_that_was_begun_is_discarded(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await one.capture(VM, A, "golden", FIRST)
        for _ in range(2):
            await one.discard(VM, A, "golden", FIRST, mine=True)
        await one.capture(VM, A, "golden", SECOND)
        await yard.lines()

    async def test_a_disk_is_written_anew_and_what_was_saved_stays(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await yard.aged(2)
        await one.stop(VM, A, FIRST)
        await one.save(VM, A, "before", FIRST)
        for _ in range(2):
            await one.write(VM, A, "", FIRST)
        await one.start(SMALL, A, FIRST)
        assert (await yard.lines())[0].disk == 0
        await one.stop(VM, A, FIRST)
        await one.restore(VM, A, "before", FIRST)
        await one.start(SMALL, A, FIRST)
        assert (await yard.lines())[0].disk >= 1
        with pytest.raises(Unsafe):
            await one.write(VM, A, "", FIRST)

    async def test_a_host_is_fenced_and_comes_back(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await yard.aged(1)
        await one.cut_off(A)
        with pytest.raises(HostUnreachable):
            await one.start(SMALL, B, FIRST)
        for _ in range(2):
            await one.fence(VM, A, FIRST)
        assert await one.where(VM) == {}, "what is fenced is known to be off"
        await one.sound(VM, B)
        assert await one.evacuations(A) == {VM: False}
        for unanswered in (one.guests_on(A), one.take_back(A, FIRST)):
            with pytest.raises(HostUnreachable):
                await unanswered
        with pytest.raises(Unsuitable, match="host is fenced"):
            await one.welcome(VM, A)
        await one.start(SMALL, B, FIRST)
        assert (await yard.lines(B))[0].disk >= 1
        await one.cut_off(A, reachable=True)
        with pytest.raises(Unsafe, match="evacuation m1 is not done"):
            await one.take_back(A, FIRST)
        with pytest.raises(Unsuitable, match="host is fenced"):
            await one.start(SMALL, A, FIRST)
        for _ in range(2):
            await one.evacuated(VM, A, FIRST)
        assert await one.evacuations(A) == {VM: True}
        assert await one.take_back(A, FIRST) == [VM] and await one.take_back(A, FIRST) == []
        await one.evacuated(VM, A, FIRST)
        assert await one.evacuations(A) == {}, "said again, it fences nothing"
        await one.welcome(VM, A)
        assert await one.where(VM) == {B: RunState.RUNNING}

    async def test_a_dead_host_that_never_had_it_is_no_obstacle(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await one.cut_off(C)
        assert await one.where(VM) == {A: RunState.RUNNING}
        await one.stop(VM, A, FIRST)
        await one.start(SMALL, B, FIRST)
        with pytest.raises(HostUnreachable):
            await one.welcome(VM, C)

    @pytest.mark.parametrize("deleted", [True, False])
    async def test_a_host_where_it_died_has_it_no_longer_once_it_lives_elsewhere(
        self, yard: Yard, deleted: bool
    ) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await one.kill(VM, A)
        assert await one.had(VM, A) and not await one.had(VM, B)
        if deleted:
            await one.unmake(VM, B, FIRST)
            await one.make(SMALL, B, FIRST)
        await one.start(SMALL, B, FIRST)
        assert await one.had(VM, B) and not await one.had(VM, A)
        await one.cut_off(A)
        assert await one.where(VM) == {B: RunState.RUNNING}
        await one.stop(VM, B, FIRST)

    async def test_an_evacuation_withdrawn_leaves_the_guest_to_its_host(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await one.fence(VM, A, FIRST)
        await one.withdraw(VM, A, FIRST)
        assert await one.take_back(A, FIRST) == []
        await one.start(SMALL, A, FIRST)
        await yard.lines()

    async def test_a_host_takes_no_guests_until_who_disabled_it_enables_it(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        for permit in (FIRST, SECOND):
            await one.disable(B, permit)
        with pytest.raises(Unsuitable, match="m1 disabled it"):
            await one.check(VM, A, B)
        with pytest.raises(Unsuitable, match="takes no new guests"):
            await one.prepare(VM, B, SECOND)
        await one.enable(B, SECOND)
        with pytest.raises(Unsuitable):
            await one.welcome(VM, B)
        await one.check(VM, A, C)
        assert await one.take_back(B, Permit("m3", 1)) == []
        await one.check(VM, A, B)

    async def test_a_damaged_disk_is_said(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        await one.stop(VM, A, FIRST)
        await one.sound(VM, A)
        await yard.damage(VM)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: one.sound(VM, A),
            lambda: one.save(VM, A, "before", FIRST),
            lambda: one.start(SMALL, A, FIRST),
        ]
        for call in calls:
            with pytest.raises(Unsuitable):
                await call()
        assert await one.where(VM) == {}

    async def test_a_late_driver_is_refused(self, yard: Yard) -> None:
        one, second = yard.fleet, Permit("m1", 2)
        await one.boot(SMALL, A)
        await one.stop(VM, A, second)
        await one.disable(A, second)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: one.stop(VM, A, FIRST),
            lambda: one.start(SMALL, A, FIRST),
            lambda: one.make(SMALL, A, FIRST),
            lambda: one.unmake(VM, A, FIRST),
            lambda: one.save(VM, A, "s", FIRST),
            lambda: one.restore(VM, A, "s", FIRST),
            lambda: one.forget(VM, A, "s", FIRST),
            lambda: one.write(VM, A, "", FIRST),
            lambda: one.capture(VM, A, "i", FIRST),
            lambda: one.publish(VM, A, "i", FIRST),
            lambda: one.discard(VM, A, "i", FIRST),
            lambda: one.fence(VM, A, FIRST),
            lambda: one.withdraw(VM, A, FIRST),
            lambda: one.evacuated(VM, A, FIRST),
            lambda: one.disable(A, FIRST),
            lambda: one.enable(A, FIRST),
            lambda: one.take_back(A, FIRST),
        ]
        for call in calls:
            with pytest.raises(StaleToken, match="token 1 of migration m1 is older than 2"):
                await call()
        assert await one.where(VM) == {} and await one.made_as(VM) == SMALL

    async def test_an_unknown_host_is_named(self, yard: Yard) -> None:
        one = yard.fleet
        await one.boot(SMALL, A)
        for call in (
            one.welcome(VM, "host-x"),
            one.stop(VM, "host-x", FIRST),
            one.fence(VM, "host-x", FIRST),
            one.disable("host-x", FIRST),
            one.take_back("host-x", FIRST),
        ):
            with pytest.raises(Unsuitable, match="choose one of host-a, host-b, host-c"):
                await call


def overwrite(directory: Path, instance: str) -> None:
    """Spoil the beginning of a guest's disk."""
    with (directory / "guests" / f"{instance}.qcow2").open("r+b") as file:
        file.write(b"\0" * 4096)
