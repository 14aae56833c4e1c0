"""What every hypervisor promises, whatever stands behind it: each implementation's tests run all of this."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from interlock.compute.guest import Proof, prove
from interlock.compute.hypervisor import (
    CopyCancelled,
    CopyFailed,
    Guest,
    GuestLost,
    Hypervisor,
    Permit,
    Phase,
    Progress,
    RunState,
    StaleToken,
    Unsafe,
    Unsuitable,
)

A, B, VM = "host-a", "host-b", "vm-1"
SMALL = Guest(VM, memory_mib=32, filled_mib=8, dirtied_pages=4)
STUBBORN = Guest(VM, memory_mib=64, filled_mib=32, dirtied_pages=2048)
SLOW, STUBBORN_RATE = 1 << 20, 4 << 20
"""Bytes per second: the small guest needs eight seconds, the stubborn one never gets there."""
FIRST = Permit("m1", 1)
RUNS_AT_A: Mapping[str, RunState] = {A: RunState.RUNNING}
RUNS_AT_B: Mapping[str, RunState] = {B: RunState.RUNNING}


@dataclass
class Rig:
    """A hypervisor to be tested, a way to get another driver for the same hosts, and its way to pass time."""

    hypervisor: Hypervisor
    reopen: Callable[[], Hypervisor]
    sleep: Callable[[float], Awaitable[object]]

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(1000):
            if await condition():
                return
            await self.sleep(0.02)
        raise AssertionError("it never came true")

    async def proof(self) -> Proof:
        return prove([console.text for console in await self.hypervisor.consoles(VM)])

    async def lives_on(self) -> None:
        """Wait for three more lines of the guest, and for the proof that it is still its first life."""
        before = (await self.proof()).last

        async def has_said_more() -> bool:
            return (await self.proof()).last >= before + 3

        await self.until(has_said_more)
        proof = await self.proof()
        assert proof.faults() == [], proof

    async def copying(
        self, guest: Guest = SMALL, rate: int = SLOW, permit: Permit = FIRST, postcopy: bool = False
    ) -> str:
        """Boot a guest, prepare B, start a copy, and wait until it is under way; return the URI."""
        hypervisor = self.hypervisor
        await hypervisor.boot(guest, A)
        uri = (await hypervisor.prepare(VM, B, permit, postcopy=postcopy)).uri
        phase = await hypervisor.start_copy(VM, A, uri, permit, bytes_per_second=rate, postcopy=postcopy)
        assert phase is Phase.COPYING
        async with contextlib.aclosing(self.hypervisor.watch(VM, A)) as watch:
            async for progress in watch:
                assert progress.phase is Phase.COPYING
                if progress.transferred:
                    return uri
        raise AssertionError("the copy ended")

    async def pulling(self, rate: int = 2 << 20) -> None:
        """Boot a guest, and let it go on at B while its memory still follows."""
        await self.copying(rate=rate, postcopy=True)
        async with contextlib.aclosing(self.hypervisor.pull(VM, A, B, FIRST)) as pull:
            async for progress in pull:
                if progress.phase is Phase.PULLING:
                    return
        raise AssertionError("all of its memory was there at once")

    async def pulled(self, permit: Permit = FIRST, hypervisor: Hypervisor | None = None) -> list[Progress]:
        return [progress async for progress in (hypervisor or self.hypervisor).pull(VM, A, B, permit)]

    async def watched(self, hypervisor: Hypervisor | None = None) -> list[Progress]:
        return [progress async for progress in (hypervisor or self.hypervisor).watch(VM, A)]

    async def moved(self, permit: Permit = FIRST) -> None:
        """Boot a guest and move it to B; its empty shell is still on A."""
        await self.hypervisor.boot(SMALL, A)
        uri = (await self.hypervisor.prepare(VM, B, permit)).uri
        await self.hypervisor.start_copy(VM, A, uri, permit)
        await self.watched()
        await self.hypervisor.switch_over(VM, A, B, permit)


@pytest.mark.asyncio
class HypervisorContract:
    """Subclasses give a fixture ``rig``."""

    async def test_moves_a_guest(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await hypervisor.boot(SMALL, A)
        await hypervisor.check(VM, A, B)
        incoming = await hypervisor.prepare(VM, B, FIRST)
        assert incoming.uri.endswith(f":{incoming.port}")
        assert await hypervisor.where(VM) == {A: RunState.RUNNING, B: RunState.INCOMING}
        assert await hypervisor.start_copy(VM, A, incoming.uri, FIRST, bytes_per_second=16 << 20) is Phase.COPYING
        seen = await rig.watched()
        assert seen[-1].phase is Phase.READY
        assert seen[-1].fraction == 1.0
        assert seen[-1].transferred >= SMALL.filled_mib << 20
        assert await hypervisor.where(VM) == {A: RunState.PAUSED, B: RunState.INCOMING}
        await hypervisor.switch_over(VM, A, B, FIRST)
        assert await hypervisor.where(VM) == {A: RunState.LEFT, B: RunState.RUNNING}
        await hypervisor.remove_source(VM, A, B, FIRST)
        assert await hypervisor.where(VM) == RUNS_AT_B
        await rig.lives_on()
        assert {console.host for console in await hypervisor.consoles(VM) if console.text} == {A, B}

    async def test_every_verb_may_be_repeated(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        assert await hypervisor.tear_down(VM, B, FIRST) is False
        await hypervisor.boot(SMALL, A)
        await hypervisor.boot(SMALL, A)
        await hypervisor.cancel_copy(VM, A, FIRST)
        incoming = await hypervisor.prepare(VM, B, FIRST)
        assert await hypervisor.prepare(VM, B, FIRST) == incoming
        await hypervisor.start_copy(VM, A, incoming.uri, FIRST)
        assert await hypervisor.start_copy(VM, A, incoming.uri, FIRST) in (Phase.COPYING, Phase.READY)
        await rig.watched()
        assert [progress.phase for progress in await rig.watched()] == [Phase.READY]
        assert await hypervisor.start_copy(VM, A, incoming.uri, FIRST) is Phase.READY
        for _ in range(2):
            await hypervisor.switch_over(VM, A, B, FIRST)
        assert await hypervisor.start_copy(VM, A, incoming.uri, FIRST) is Phase.COMPLETED
        assert [progress.phase for progress in await rig.watched()] == [Phase.COMPLETED]
        for _ in range(2):
            await hypervisor.remove_source(VM, A, B, FIRST)
        await hypervisor.switch_over(VM, A, B, FIRST)
        assert await hypervisor.where(VM) == RUNS_AT_B
        await rig.lives_on()

    async def test_cancelled_half_way_then_tried_again(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        spent = await rig.copying()
        for _ in range(2):
            await hypervisor.cancel_copy(VM, A, FIRST)
        with pytest.raises(CopyCancelled, match="vm-1 on host-a: the copy was cancelled"):
            await rig.watched()
        assert await hypervisor.tear_down(VM, B, FIRST)
        assert await hypervisor.tear_down(VM, B, FIRST) is False
        assert await hypervisor.where(VM) == RUNS_AT_A
        await rig.lives_on()
        again = Permit("m2", 1)
        uri = (await hypervisor.prepare(VM, B, again)).uri
        assert uri != spent
        await hypervisor.start_copy(VM, A, uri, again)
        assert (await rig.watched())[-1].phase is Phase.READY
        await hypervisor.switch_over(VM, A, B, again)
        await hypervisor.remove_source(VM, A, B, again)
        assert await hypervisor.where(VM) == RUNS_AT_B
        await rig.lives_on()

    async def test_cancelled_when_ready_the_guest_runs_again(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await hypervisor.boot(SMALL, A)
        await hypervisor.start_copy(VM, A, (await hypervisor.prepare(VM, B, FIRST)).uri, FIRST)
        await rig.watched()
        assert (await hypervisor.where(VM))[A] is RunState.PAUSED
        await hypervisor.cancel_copy(VM, A, FIRST)
        assert (await hypervisor.where(VM))[A] is RunState.RUNNING
        await hypervisor.tear_down(VM, B, FIRST)
        assert await hypervisor.where(VM) == RUNS_AT_A
        await rig.lives_on()

    async def test_destination_killed_half_way(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await rig.copying()
        assert await hypervisor.kill(VM, B)
        assert await hypervisor.kill(VM, B) is False
        with pytest.raises(CopyFailed, match="Unable to write to socket") as caught:
            await rig.watched()
        assert not caught.value.worth_retrying
        await hypervisor.cancel_copy(VM, A, FIRST)
        await hypervisor.tear_down(VM, B, FIRST)
        assert await hypervisor.where(VM) == RUNS_AT_A
        await rig.lives_on()

    async def test_source_killed_half_way(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await rig.copying()
        await hypervisor.kill(VM, A)
        with pytest.raises(GuestLost, match="gone"):
            await rig.watched()
        for _ in range(2):
            await hypervisor.cancel_copy(VM, A, FIRST)
        await hypervisor.tear_down(VM, B, FIRST)
        assert await hypervisor.where(VM) == {}

    async def test_another_driver_takes_over(self, rig: Rig) -> None:
        incoming = await rig.copying(rate=4 << 20)
        other, second = rig.reopen(), Permit("m1", 2)
        assert (await other.prepare(VM, B, second)).uri == incoming
        assert await other.start_copy(VM, A, incoming, second) is Phase.COPYING
        seen = await rig.watched(other)
        assert seen[0].phase is Phase.COPYING
        assert seen[-1].phase is Phase.READY
        await other.switch_over(VM, A, B, second)
        await other.remove_source(VM, A, B, second)
        assert await other.where(VM) == RUNS_AT_B
        await rig.lives_on()

    async def test_a_late_driver_is_refused(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        uri = await rig.copying(permit=Permit("m1", 2))
        before = await hypervisor.where(VM)
        calls: list[Callable[[Permit], Awaitable[Any]]] = [
            lambda permit: hypervisor.prepare(VM, B, permit),
            lambda permit: hypervisor.tear_down(VM, B, permit),
            lambda permit: hypervisor.start_copy(VM, A, uri, permit),
            lambda permit: hypervisor.cancel_copy(VM, A, permit),
            lambda permit: hypervisor.switch_over(VM, A, B, permit),
            lambda permit: hypervisor.force(VM, A, permit),
            lambda permit: anext(hypervisor.pull(VM, A, B, permit)),
            lambda permit: hypervisor.remove_source(VM, A, B, permit),
        ]
        for call in calls:
            with pytest.raises(StaleToken, match="token 1 of migration m1 is older than 2"):
                await call(FIRST)
        assert await hypervisor.where(VM) == before
        assert await hypervisor.start_copy(VM, A, uri, Permit("m1", 2)) is Phase.COPYING
        await hypervisor.cancel_copy(VM, A, Permit("m2", 1))
        with pytest.raises(StaleToken, match="migration m1 was followed by m2"):
            await hypervisor.start_copy(VM, A, uri, Permit("m1", 99))
        with pytest.raises(StaleToken):
            await rig.reopen().cancel_copy(VM, A, Permit("m1", 99))

    async def test_never_loses_or_doubles_a_guest(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await hypervisor.boot(SMALL, A)
        with pytest.raises(Unsafe, match="already running on host-a"):
            await hypervisor.boot(SMALL, B)
        with pytest.raises(Unsafe, match="it must run on host-b and have left host-a"):
            await hypervisor.remove_source(VM, A, B, FIRST)
        await hypervisor.start_copy(VM, A, (await hypervisor.prepare(VM, B, FIRST)).uri, FIRST)
        await rig.watched()
        with pytest.raises(Unsafe):
            await hypervisor.remove_source(VM, A, B, FIRST)
        await hypervisor.switch_over(VM, A, B, FIRST)
        with pytest.raises(Unsafe, match="this destination holds the guest"):
            await hypervisor.tear_down(VM, B, FIRST)
        with pytest.raises(Unsafe, match="has left"):
            await hypervisor.cancel_copy(VM, A, FIRST)
        with pytest.raises(Unsuitable, match="there already"):
            await hypervisor.prepare(VM, B, FIRST)
        await hypervisor.remove_source(VM, A, B, FIRST)
        with pytest.raises(Unsafe, match="has left"):
            await hypervisor.cancel_copy(VM, A, FIRST)
        assert await hypervisor.where(VM) == RUNS_AT_B
        await rig.lives_on()

    async def test_arrived_guest_lost_before_the_source_is_removed(self, rig: Rig) -> None:
        await rig.moved()
        await rig.hypervisor.kill(VM, B)
        with pytest.raises(Unsafe):
            await rig.hypervisor.remove_source(VM, A, B, FIRST)
        with pytest.raises(GuestLost):
            await rig.hypervisor.switch_over(VM, A, B, FIRST)
        assert await rig.hypervisor.where(VM) == {A: RunState.LEFT}

    async def test_force_ends_a_copy_that_does_not_converge(self, rig: Rig) -> None:
        await rig.copying(STUBBORN, STUBBORN_RATE)
        await rig.hypervisor.force(VM, A, FIRST)
        assert (await rig.watched())[-1].phase is Phase.READY
        await rig.hypervisor.switch_over(VM, A, B, FIRST)
        assert (await rig.hypervisor.where(VM))[B] is RunState.RUNNING
        await rig.lives_on()

    async def test_switching_over_forces_a_copy_under_way(self, rig: Rig) -> None:
        await rig.copying(STUBBORN, STUBBORN_RATE)
        await rig.hypervisor.switch_over(VM, A, B, FIRST)
        assert await rig.hypervisor.where(VM) == {A: RunState.LEFT, B: RunState.RUNNING}
        await rig.lives_on()

    async def test_pulled_it_goes_on_before_its_memory_is_there(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await rig.copying(STUBBORN, STUBBORN_RATE, postcopy=True)
        seen = await rig.pulled()
        assert seen[-1].phase is Phase.COMPLETED and Phase.PULLING in {progress.phase for progress in seen}
        assert await hypervisor.where(VM) == {A: RunState.LEFT, B: RunState.RUNNING}
        with pytest.raises(Unsafe, match="has left"):
            await hypervisor.cancel_copy(VM, A, FIRST)
        for _ in range(2):
            await hypervisor.remove_source(VM, A, B, FIRST)
        assert [progress.phase for progress in await rig.pulled()] == [Phase.COMPLETED]
        assert await hypervisor.where(VM) == RUNS_AT_B
        await rig.lives_on()

    async def test_once_pulled_it_may_move_on_without(self, rig: Rig) -> None:
        hypervisor, back = rig.hypervisor, Permit("m2", 1)
        await rig.copying(rate=16 << 20, postcopy=True)
        await rig.pulled()
        await hypervisor.remove_source(VM, A, B, FIRST)
        await hypervisor.start_copy(VM, B, (await hypervisor.prepare(VM, A, back)).uri, back)
        await hypervisor.switch_over(VM, B, A, back)
        await hypervisor.remove_source(VM, B, A, back)
        assert await hypervisor.where(VM) == RUNS_AT_A
        await rig.lives_on()

    async def test_while_it_is_pulled_nothing_may_be_removed(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await rig.pulling()
        assert await hypervisor.where(VM) == {A: RunState.FEEDING, B: RunState.RUNNING}
        with pytest.raises(Unsafe, match="has left"):
            await hypervisor.cancel_copy(VM, A, FIRST)
        with pytest.raises(Unsafe, match="this destination holds the guest"):
            await hypervisor.tear_down(VM, B, FIRST)
        with pytest.raises(Unsafe, match="it must run on host-b and have left host-a, but it is feeding on host-a"):
            await hypervisor.remove_source(VM, A, B, FIRST)
        other, second = rig.reopen(), Permit("m1", 2)
        assert (await rig.pulled(second, other))[-1].phase is Phase.COMPLETED
        await other.remove_source(VM, A, B, second)
        await rig.lives_on()

    @pytest.mark.parametrize("host", [A, B])
    async def test_a_guest_torn_in_two_is_said_to_be_lost(self, rig: Rig, host: str) -> None:
        hypervisor = rig.hypervisor
        await rig.pulling()
        await hypervisor.kill(VM, host)
        with pytest.raises(GuestLost, match=r"one of them is gone; kill what is left of it, and boot it again"):
            await rig.pulled()
        await hypervisor.kill(VM, A)
        await hypervisor.kill(VM, B)
        await hypervisor.boot(SMALL, A)
        await rig.lives_on()

    async def test_a_copy_not_started_for_post_copy_is_not_pulled(self, rig: Rig) -> None:
        await rig.copying()
        with pytest.raises(Unsuitable, match="it cannot do post-copy"):
            await rig.pulled()
        assert (await rig.hypervisor.where(VM))[A] is RunState.RUNNING
        await rig.hypervisor.cancel_copy(VM, A, FIRST)
        await rig.hypervisor.tear_down(VM, B, FIRST)
        await rig.lives_on()

    async def test_started_for_post_copy_it_may_go_without(self, rig: Rig) -> None:
        await rig.copying(rate=16 << 20, postcopy=True)
        assert (await rig.watched())[-1].phase is Phase.READY
        await rig.hypervisor.switch_over(VM, A, B, FIRST)
        await rig.hypervisor.remove_source(VM, A, B, FIRST)
        await rig.lives_on()

    async def test_nothing_is_pulled_without_a_copy(self, rig: Rig) -> None:
        await rig.hypervisor.boot(SMALL, A)
        await rig.hypervisor.prepare(VM, B, FIRST, postcopy=True)
        with pytest.raises(CopyFailed, match="no copy was ever started"):
            await rig.pulled()
        assert (await rig.hypervisor.where(VM))[A] is RunState.RUNNING

    async def test_unsuitable(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        with pytest.raises(Unsuitable, match="it does not run there"):
            await hypervisor.check(VM, A, B)
        with pytest.raises(Unsuitable, match="no guest of this name was ever booted"):
            await hypervisor.prepare(VM, B, FIRST)
        with pytest.raises(Unsuitable, match="no process"):
            await hypervisor.start_copy(VM, A, "tcp:127.0.0.1:1", FIRST)
        await hypervisor.boot(SMALL, A)
        with pytest.raises(Unsuitable, match="source and destination are the same host"):
            await hypervisor.check(VM, A, A)
        with pytest.raises(Unsuitable, match="choose one of host-a, host-b") as caught:
            await hypervisor.check(VM, A, "host-x")
        assert caught.value.details["host"] == "host-x"
        with pytest.raises(Unsuitable, match="it does not run there"):
            await hypervisor.check(VM, B, A)
        with pytest.raises(CopyFailed, match="no copy was ever started"):
            await rig.watched()
        with pytest.raises(CopyFailed, match="no copy was ever started"):
            await hypervisor.switch_over(VM, A, B, FIRST)
        with pytest.raises(ValueError, match="must be 1 to 63"):
            await hypervisor.prepare("../vm", B, FIRST)
        assert await hypervisor.where(VM) == RUNS_AT_A

    async def test_nobody_listens(self, rig: Rig) -> None:
        await rig.hypervisor.boot(SMALL, A)
        await rig.hypervisor.start_copy(VM, A, "tcp:127.0.0.1:1", FIRST)
        with pytest.raises(CopyFailed, match="Connection refused"):
            await rig.watched()
        assert await rig.hypervisor.where(VM) == RUNS_AT_A
        await rig.lives_on()

    async def test_prepare_replaces_a_spent_and_a_foreign_destination(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await hypervisor.boot(SMALL, A)
        first = await hypervisor.prepare(VM, B, FIRST)
        await hypervisor.kill(VM, B)
        second = await hypervisor.prepare(VM, B, FIRST)
        other = await hypervisor.prepare(VM, B, Permit("m2", 1))
        assert len({first.uri, second.uri, other.uri}) == 3
        assert await hypervisor.where(VM) == {A: RunState.RUNNING, B: RunState.INCOMING}
        assert await hypervisor.tear_down(VM, B, Permit("m2", 1))
        assert await hypervisor.where(VM) == RUNS_AT_A

    async def test_a_second_boot_is_another_life(self, rig: Rig) -> None:
        hypervisor = rig.hypervisor
        await hypervisor.boot(SMALL, A)
        await rig.lives_on()
        nonce = (await rig.proof()).nonces
        assert await hypervisor.stop_all() == 1
        assert await hypervisor.stop_all() == 0
        assert await hypervisor.where(VM) == {}
        await hypervisor.boot(SMALL, B)
        assert (await rig.proof()).nonces != nonce
        await rig.lives_on()
        with pytest.raises(Unsuitable, match="it was made as"):
            await hypervisor.stop_all()
            await hypervisor.boot(STUBBORN, B)

    async def test_where_it_came_from_it_may_go_back(self, rig: Rig) -> None:
        hypervisor, back = rig.hypervisor, Permit("m2", 1)
        await rig.moved()
        await hypervisor.remove_source(VM, A, B, FIRST)
        await rig.lives_on()
        uri = (await hypervisor.prepare(VM, A, back)).uri
        await hypervisor.start_copy(VM, B, uri, back)
        assert [progress async for progress in hypervisor.watch(VM, B)][-1].phase is Phase.READY
        await hypervisor.switch_over(VM, B, A, back)
        await hypervisor.remove_source(VM, B, A, back)
        assert await hypervisor.where(VM) == RUNS_AT_A
        await rig.lives_on()
        assert len([console for console in await hypervisor.consoles(VM) if console.text]) == 3
