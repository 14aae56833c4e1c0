"""Live migration by the engine: on the simulated hypervisor everywhere, on real QEMU where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interlock import Interlock, NotPossible
from interlock.compute.fake_hypervisor import FakeHypervisor, FakeWorld
from interlock.compute.guest import prove
from interlock.compute.hypervisor import Guest, GuestLost, Hypervisor, RunState
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.compute.qemu_host import QemuHosts
from interlock.interpreter.facts import AttemptLost, Entered, Issued, Undone
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime.engine import Handle
from interlock.testing import Kit, KitOperation, Way, collecting

A, B = "host-a", "host-b"
GUEST = Guest("vm-1", memory_mib=32, filled_mib=16)
LOCAL = replace(GUEST, storage="local")
SLOW = 8 << 20
QUEUES = ("", f"host:{A}", f"host:{B}")


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.qemu)])
async def hypervisor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hypervisor]:
    made: Hypervisor = FakeHypervisor(tmp_path / "world.json") if request.param == "fake" else QemuHosts(tmp_path)
    try:
        await made.boot(GUEST, A)
        yield made
    finally:
        await made.stop_all()


async def until(move: Handle[Any], true: Callable[[Snapshot], bool]) -> Snapshot:
    async for _ in move.watch():
        snapshot = await move.show()
        if true(snapshot):
            return snapshot
    return await move.show()


async def copying(move: Handle[Any], hypervisor: Hypervisor) -> None:
    """Return when the copy is under way."""
    await until(move, lambda snapshot: snapshot.state == "copying")
    while (progress := await move.progress()) is None or progress.done == 0:
        await asyncio.sleep(0.01)


async def undone(move: Handle[Any]) -> list[str]:
    return [fact.state for record in await move.history() for fact in record.facts if isinstance(fact, Undone)]


async def alive(hypervisor: Hypervisor) -> None:
    """The guest was booted once, its counter never went back, and it goes on."""
    before = prove([console.text for console in await hypervisor.consoles("vm-1")])
    assert not before.faults(missing_allowed=3)
    while prove([console.text for console in await hypervisor.consoles("vm-1")]).last <= before.last:
        await asyncio.sleep(0.02)


def engine(tmp_path: Path, hypervisor: Hypervisor) -> Interlock:
    return Interlock(
        f"sqlite:///{tmp_path}/ops.db", actions=[live_migration(hypervisor)], queues=QUEUES, poll_seconds=0.05
    )


async def test_a_guest_is_moved(hypervisor: Hypervisor, tmp_path: Path) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B)
        after = await move.finished(timeout=60)
    assert (after.status, after.state) == ("succeeded", "completed")
    assert await hypervisor.where("vm-1") == {B: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_guest_that_is_not_there_is_refused_and_nothing_is_begun(
    hypervisor: Hypervisor, tmp_path: Path
) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=B, destination=A)
        after = await move.finished(timeout=60)
        assert (after.status, after.state) == ("failed", "refused")
        assert "name the host it runs on" in after.data["reason"] and await undone(move) == []
    assert await hypervisor.where("vm-1") == {A: RunState.RUNNING}


async def test_a_cancel_in_the_copy_leaves_the_guest_at_its_source(hypervisor: Hypervisor, tmp_path: Path) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=SLOW)
        await copying(move, hypervisor)
        await move.cancel("changed my mind")
        after = await move.finished(timeout=60)
        assert after.status == "cancelled" and await undone(move) == ["copying", "preparing"]
    assert await hypervisor.where("vm-1") == {A: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_destination_that_dies_in_the_copy_is_rolled_back(hypervisor: Hypervisor, tmp_path: Path) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=SLOW)
        await copying(move, hypervisor)
        assert await hypervisor.kill("vm-1", B)
        after = await move.finished(timeout=60)
        assert after.status == "failed" and await undone(move) == ["copying", "preparing"]
    assert await hypervisor.where("vm-1") == {A: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_guest_that_dies_in_the_copy_is_said_and_nothing_is_held(
    hypervisor: Hypervisor, tmp_path: Path
) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=SLOW)
        await copying(move, hypervisor)
        assert await hypervisor.kill("vm-1", A)
        after = await move.finished(timeout=60)
        assert after.status == "failed" and await undone(move) == ["copying", "preparing"]
        assert after.failure is not None and "boot the guest again from its disk" in after.failure.message
        assert await hypervisor.where("vm-1") == {}
        await hypervisor.boot(GUEST, B)
        again = await interlock.start(LiveMigration, instance="vm-1", source=B, destination=A)
        assert (await again.finished(timeout=60)).status == "succeeded"


async def test_force_ends_a_slow_copy_at_once(hypervisor: Hypervisor, tmp_path: Path) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=1 << 20)
        await copying(move, hypervisor)
        await move.signal("force")
        after = await move.finished(timeout=60)
    assert after.status == "succeeded" and after.since - after.started < 16
    assert await hypervisor.where("vm-1") == {B: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_guest_that_is_pulled_goes_on_before_its_memory_is_there(
    hypervisor: Hypervisor, tmp_path: Path
) -> None:
    async with engine(tmp_path, hypervisor) as interlock:
        data = {"instance": "vm-1", "source": A, "destination": B, "bytes_per_second": 4 << 20, "postcopy": True}
        move = await interlock.start(LiveMigration, data)
        await copying(move, hypervisor)
        await move.signal("postcopy")
        await until(move, lambda snapshot: snapshot.state != "copying")
        with pytest.raises(NotPossible):
            await move.cancel("too late")
        after = await move.finished(timeout=60)
        entered = [fact.state for record in await move.history() for fact in record.facts if isinstance(fact, Entered)]
    assert after.status == "succeeded" and "pulling" in entered and "switching" not in entered
    assert await hypervisor.where("vm-1") == {B: RunState.RUNNING}
    await alive(hypervisor)


async def test_a_disk_that_is_local_goes_along(hypervisor: Hypervisor, tmp_path: Path) -> None:
    guest = replace(LOCAL, instance="vm-2")
    await hypervisor.boot(guest, A)
    async with engine(tmp_path, hypervisor) as interlock:
        for source, destination in ((A, B), (B, A)):
            move = await interlock.start(LiveMigration, instance="vm-2", source=source, destination=destination)
            after = await move.finished(timeout=60)
            facts = [fact for record in await move.history() for fact in record.facts]
            assert after.status == "succeeded" and "mirroring" in [f.state for f in facts if isinstance(f, Entered)]
            assert await hypervisor.where("vm-2") == {destination: RunState.RUNNING}
    proof = prove([console.text for console in await hypervisor.consoles("vm-2")])
    assert not proof.faults(missing_allowed=3), proof


async def test_a_cancel_while_its_disk_goes_over_leaves_it_where_it_was(hypervisor: Hypervisor, tmp_path: Path) -> None:
    guest = replace(LOCAL, instance="vm-2")
    await hypervisor.boot(guest, A)
    slow = {"instance": "vm-2", "source": A, "destination": B, "bytes_per_second": 128 << 10}
    async with engine(tmp_path, hypervisor) as interlock:
        move = await interlock.start(LiveMigration, slow)
        await until(move, lambda snapshot: snapshot.state == "mirroring" and snapshot.status == "running")
        while (progress := await move.progress()) is None or progress.done == 0:
            await asyncio.sleep(0.01)
        assert (progress.unit, progress.message) == ("bytes", "disk copying")
        await move.cancel("changed my mind")
        after = await move.finished(timeout=60)
        assert after.status == "cancelled" and await undone(move) == ["mirroring", "preparing"]
        assert await hypervisor.where("vm-2") == {A: RunState.RUNNING}
        again = await interlock.start(LiveMigration, {**slow, "bytes_per_second": None})
        assert (await again.finished(timeout=60)).status == "succeeded"


async def test_a_handed_over_copy_goes_on_under_another_worker(hypervisor: Hypervisor, tmp_path: Path) -> None:
    """The first engine gives up in the middle, as a stopped worker does when its grace is over; the copy itself goes on."""
    first = Interlock(
        f"sqlite:///{tmp_path}/ops.db",
        actions=[live_migration(hypervisor)],
        queues=QUEUES,
        poll_seconds=0.05,
        grace_seconds=0,
    )
    async with first as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=SLOW)
        await copying(move, hypervisor)
    async with engine(tmp_path, hypervisor) as interlock:
        again = interlock.operation(move.id)
        after = await again.finished(timeout=60)
        facts = [fact for record in await again.history() for fact in record.facts]
    assert after.status == "succeeded"
    assert sum(isinstance(fact, AttemptLost) for fact in facts) == 1
    assert [fact.recover for fact in facts if isinstance(fact, Issued)].count(True) == 1
    assert await hypervisor.where("vm-1") == {B: RunState.RUNNING}
    await alive(hypervisor)


@pytest.mark.parametrize("verb", ["check", "prepare", "start_copy", "switch_over", "remove_source"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_host_that_cannot_be_reached_for_a_moment_loses_nothing(verb: str, moment: str, tmp_path: Path) -> None:
    fake = FakeHypervisor(tmp_path / "world.json")
    await fake.boot(GUEST, A)
    await fake.inject(verb, moment="before" if moment == "before" else "after")
    async with engine(tmp_path, fake) as interlock:
        move = await interlock.start(LiveMigration, instance="vm-1", source=A, destination=B)
        after = await move.finished(timeout=60)
    where = await fake.where("vm-1")
    if after.status == "succeeded":
        assert where == {B: RunState.RUNNING}
    else:
        assert after.status == "failed" and where == {A: RunState.RUNNING}
        assert verb == "start_copy", "everything else has attempts left"


# Every way of the machine, on the simulated hypervisor in virtual time


class Hosts:
    """A guest on the first of two simulated hosts, and a kit that moves it with the real actions."""

    def __init__(self, guest: Guest = GUEST) -> None:
        self.world = FakeWorld()
        self.fake = FakeHypervisor(self.world, (A, B), clock=lambda: self.kit.now)
        self.kit = Kit(live_migration(self.fake))
        asyncio.run(self.fake.boot(guest, A))

    def move(
        self, bytes_per_second: int | None = None, source: str = A, destination: str = B, postcopy: bool = False
    ) -> KitOperation:
        data = {
            "source": source,
            "destination": destination,
            "bytes_per_second": bytes_per_second,
            "postcopy": postcopy,
        }
        return self.kit.start(instance="vm-1", **data)

    def slowly(self) -> KitOperation:
        """Begin a move, and return in the middle of its copy."""
        move = self.move(SLOW)
        self.kit.advance("500ms")
        move.expect(status="running", state="copying")
        return move

    def inject(self, verb: str, times: int) -> None:
        asyncio.run(self.fake.inject(verb, times=times))

    def ended(self, move: KitOperation, status: str, state: str, undone: Sequence[str], host: str = A) -> None:
        """Assert how a move has ended, and that the guest runs on one host and nothing of it is on the other."""
        self.kit.finish(move, within="2h")
        assert (move.status, move.state, move.undone) == (status, state, undone), move.journal
        there = {name: process.state for name, process in self.world.living("vm-1").items()}
        assert there == {host: RunState.RUNNING}, move.journal


def moved(hosts: Hosts) -> None:
    hosts.ended(hosts.move(), "succeeded", "completed", [], B)


def not_there(hosts: Hosts) -> None:
    hosts.ended(hosts.move(source=B, destination=A), "failed", "refused", [])


def forced(hosts: Hosts) -> None:
    move = hosts.move(1 << 20)
    hosts.kit.advance("1s")
    move.signal("force")
    hosts.ended(move, "succeeded", "completed", [], B)


def pulled(hosts: Hosts) -> None:
    move = hosts.move(1 << 20, postcopy=True)
    hosts.kit.advance("1s")
    move.signal("postcopy")
    move.expect(status="running", state="pulling")
    assert hosts.world.living("vm-1")[A].state == RunState.FEEDING
    hosts.ended(move, "succeeded", "completed", [], B)
    assert move.attempts("pulling") == 1


def pulled_where_it_may_not(hosts: Hosts) -> None:
    move = hosts.move(1 << 20)
    hosts.kit.advance("1s")
    move.signal("postcopy")
    hosts.ended(move, "succeeded", "completed", [], B)
    assert move.attempts("pulling") == 0


def aborted_when_checked(hosts: Hosts) -> None:
    hosts.kit.stub("checking", hangs=True)
    move = hosts.move()
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", [])


def aborted_when_prepared(hosts: Hosts) -> None:
    hosts.kit.stub("preparing", hangs=True)
    move = hosts.move()
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", ["preparing"])


def aborted(hosts: Hosts) -> None:
    move = hosts.slowly()
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", ["copying", "preparing"])


def unreachable_when_checked(hosts: Hosts) -> None:
    hosts.inject("check", 3)
    hosts.ended(hosts.move(), "failed", "failed", [])


def unreachable_when_prepared(hosts: Hosts) -> None:
    hosts.inject("prepare", 3)
    hosts.ended(hosts.move(), "failed", "failed", ["preparing"])


def destination_dies(hosts: Hosts) -> None:
    move = hosts.slowly()
    assert asyncio.run(hosts.fake.kill("vm-1", B))
    hosts.ended(move, "failed", "failed", ["copying", "preparing"])


def check_takes_too_long(hosts: Hosts) -> None:
    hosts.kit.stub("checking", hangs=True)
    hosts.ended(hosts.move(), "failed", "failed", [])


def preparing_takes_too_long(hosts: Hosts) -> None:
    hosts.kit.stub("preparing", hangs=True)
    hosts.ended(hosts.move(), "failed", "failed", ["preparing"])


def copy_falls_silent(hosts: Hosts) -> None:
    hosts.kit.stub("copying", hangs=True)
    hosts.ended(hosts.move(), "failed", "failed", ["copying", "preparing"])


def cancelled_when_checked(hosts: Hosts) -> None:
    hosts.kit.stub("checking", hangs=True)
    move = hosts.move()
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", [])


def cancelled_when_prepared(hosts: Hosts) -> None:
    hosts.kit.stub("preparing", hangs=True)
    move = hosts.move()
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", ["preparing"])


def cancelled_in_the_copy(hosts: Hosts) -> None:
    move = hosts.slowly()
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", ["copying", "preparing"])


def carried(hosts: Hosts) -> None:
    hosts = Hosts(LOCAL)
    hosts.ended(hosts.move(), "succeeded", "completed", [], B)
    assert [*hosts.world.disks] == ["host-b/vm-1"]


def mirror_breaks(hosts: Hosts) -> None:
    hosts, move = mirroring()
    assert asyncio.run(hosts.fake.kill("vm-1", B))
    hosts.ended(move, "failed", "failed", ["mirroring", "preparing"])
    assert [*hosts.world.disks] == ["host-a/vm-1"]


def mirror_falls_silent(hosts: Hosts) -> None:
    hosts = Hosts(LOCAL)
    hosts.kit.stub("mirroring", hangs=True)
    hosts.ended(hosts.move(), "failed", "failed", ["mirroring", "preparing"])


def aborted_when_mirrored(hosts: Hosts) -> None:
    hosts, move = mirroring()
    move.signal("abort")
    hosts.ended(move, "cancelled", "cancelled", ["mirroring", "preparing"])
    assert [*hosts.world.disks] == ["host-a/vm-1"]


def cancelled_when_mirrored(hosts: Hosts) -> None:
    hosts, move = mirroring()
    move.cancel()
    hosts.ended(move, "cancelled", "cancelled", ["mirroring", "preparing"])


def mirroring() -> tuple[Hosts, KitOperation]:
    """Begin to move a guest whose disk is local, and return in the middle of its copy."""
    hosts = Hosts(LOCAL)
    move = hosts.move(128 << 10)
    hosts.kit.advance("1s")
    move.expect(status="running", state="mirroring")
    return hosts, move


STORIES = [
    moved, not_there, forced, pulled, pulled_where_it_may_not, aborted_when_checked, aborted_when_prepared, aborted,
    unreachable_when_checked,
    unreachable_when_prepared, destination_dies, check_takes_too_long, preparing_takes_too_long, copy_falls_silent,
    cancelled_when_checked, cancelled_when_prepared, cancelled_in_the_copy,
    carried, mirror_breaks, mirror_falls_silent, aborted_when_mirrored, cancelled_when_mirrored,
]  # fmt: skip


def told(stories: Sequence[Callable[[Hosts], None]]) -> tuple[Way, ...]:
    """Play stories; return the ways of the machine that none of them took."""
    with collecting() as coverage:
        for story in stories:
            story(Hosts())
    return coverage.missing(LiveMigration)


def test_every_way_of_the_machine_is_taken() -> None:
    """The gate: outcomes, timeouts, rollbacks and cancels. Who adds a way to the machine adds its story here."""
    missing = told(STORIES)
    assert not missing, "no story takes " + ", ".join(map(str, missing))


@pytest.mark.parametrize(
    ("left_out", "way"),
    [
        (forced, "copying -> switching (force)"),
        (copy_falls_silent, "copying -> failed (timeout)"),
        (cancelled_when_prepared, "preparing -> cancelled (cancel)"),
    ],
)
def test_the_gate_names_a_way_that_is_not_taken(left_out: Callable[[Hosts], None], way: str) -> None:
    assert [str(one) for one in told([one for one in STORIES if one is not left_out])] == [way]


def test_past_the_pivot_nothing_is_undone_and_no_cancel_is_taken() -> None:
    """What leads nowhere is no way: a switch that lost the guest is for a person, and what is left behind is removed in the end."""
    hosts = Hosts()
    hosts.kit.stub("switching", raises=GuestLost("it is gone", host=B, instance="vm-1", mend="boot it again"))
    move = hosts.move()
    hosts.kit.finish(move)
    move.expect(status="stuck", state="switching", undone=[])
    with pytest.raises(NotPossible, match="point of no return"):
        move.cancel()

    hosts = Hosts()
    hosts.inject("remove_source", 20)
    move = hosts.move()
    hosts.ended(move, "succeeded", "completed", [], B)
    assert move.attempts("cleaning") == 21
