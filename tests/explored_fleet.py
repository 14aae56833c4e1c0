"""Every move of a guest over the simulated fleet, as scenarios for the explorer.

interlock explore tests.explored_fleet:resized
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from interlock import Actions
from interlock.compute import snapshot as pictures
from interlock.compute.boot import Boot, boot
from interlock.compute.cold_migration import ColdMigration, cold_migration
from interlock.compute.delete import Delete, delete
from interlock.compute.evacuation import Evacuation, HostReturn, evacuation, host_return
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.host_drain import HostDrain, host_drain
from interlock.compute.hypervisor import Guest, HostUnreachable, Permit
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.compute.rebuild import Rebuild, rebuild
from interlock.compute.resize import Resize, resize
from interlock.compute.shelving import Shelve, Unshelve, shelve, unshelve
from interlock.exploring.scenario import Exploration, Scheduled, Start
from interlock.interpreter.snapshot import Snapshot

A, B, C, VM = "host-a", "host-b", "host-c", "vm-1"
GUEST = Guest(VM, memory_mib=32, filled_mib=16)
CLEAN = ("failed", "cancelled")


class Fleet:
    """What a run moves guests about in: the plain world, and the fleet that every process shares."""

    def __init__(self, fleet: FakeFleet, world: FakeWorld) -> None:
        self.fleet, self.world = fleet, world

    def there(self, instance: str = VM) -> dict[str, str]:
        return {host: str(process.state) for host, process in self.world.living(instance).items()}

    def size(self) -> int:
        return int(self.world.guests[VM]["memory_mib"])

    def left(self) -> str | None:
        """Say what only an operation under way may have: snapshots, images not ready, hosts fenced for what is not done."""
        saves = {name for disk in self.world.disks.values() for name in disk.saves}
        drafts = {name for name, image in self.world.images.items() if not image.ready}
        fenced = {
            f"{one} from {host}"
            for host, records in self.world.evacuations.items()
            for one in records
            if not records[one]["done"]
        }
        found = saves | drafts | fenced
        return f"left behind: {', '.join(sorted(found))}" if found else None


async def fleet(clock: Callable[[], float]) -> Fleet:
    world = FakeWorld()
    one = FakeFleet(world, (A, B, C), clock=clock)
    await one.boot(GUEST, A)
    return Fleet(one, world)


def never_on_two_hosts(fleet: Fleet) -> str | None:
    for instance in fleet.world.guests:
        running = {host: state for host, state in fleet.there(instance).items() if state in ("running", "paused")}
        if len(running) > 1:
            return f"{instance} is {running}"
    return None


def nothing_left(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    if any(one.status not in (*CLEAN, "succeeded") for one in operations):
        return None
    return fleet.left()


def nothing_of_nobody(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    """An operation that is over holds nothing; when all are, hosts have guests that run, and are closed by a drain that is over alone."""
    for one in operations:
        held = [claim.name for claim in one.claims] + [f"{own.kind} {own.id}" for own in one.owned]
        held += list(one.steps) if one.status in CLEAN else []
        if one.ended and held:
            return f"{one.machine} is {one.status}, and still has {', '.join(held)}"
    if not all(one.ended for one in operations):
        return None
    half = [f"{p.instance} {p.state} on {p.host}" for p in fleet.world.processes if p.state not in ("running", "dead")]
    drains = {one.id for one in operations if one.machine == "host-drain" and one.status == "succeeded"}
    closed = [f"{host} disabled by {by}" for host, by in fleet.world.disabled.items() if by not in drains]
    return f"nobody's: {', '.join(half + closed)}" if half or closed else None


def as_it_was(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    """Failed and cancelled mean clean: it runs where it was, made as it was."""
    for one in operations:
        if one.status in CLEAN and (fleet.there() != {A: "running"} or fleet.size() != 32):
            return f"it is {one.status}, and vm-1 is {fleet.there()} with {fleet.world.guests.get(VM)}"
    return None


def unreachable(text: str) -> Exception:
    return HostUnreachable(text, host="any", instance=VM, mend="try again")


def exploring(
    actions: Callable[[FakeFleet], Actions[Any] | list[Actions[Any]]],
    start: Start,
    *invariants: Callable[..., str | None],
    world: Callable[..., Any] = fleet,
    more: Sequence[Start] = (),
    lease_seconds: float = 60,
    **rest: Any,
) -> Exploration[Fleet]:
    return Exploration(
        world=world,
        actions=lambda world: actions(world.fleet),
        operations=[start, *more],
        invariants=[never_on_two_hosts, nothing_left, nothing_of_nobody, *invariants],
        failure=unreachable,
        lease_seconds=lease_seconds,
        **rest,
    )


def resized_when_done(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    if operations[0].status == "succeeded" and (fleet.there() != {A: "running"} or fleet.size() != 64):
        return f"it has succeeded, and vm-1 is {fleet.there()} with {fleet.size()} MiB"
    return None


resizing = Start(Resize, instance=VM, host=A, memory_mib=64, cpus=2)
resized = exploring(resize, resizing, as_it_was, resized_when_done, lease_seconds=3600)


async def dead_host(clock: Callable[[], float]) -> Fleet:
    """A host that does not answer, and goes on: what runs there runs."""
    one = await fleet(clock)
    await one.fleet.cut_off(A)
    return one


async def returned_host(clock: Callable[[], float]) -> Fleet:
    """A host that died with its guest, and is back already."""
    one = await fleet(clock)
    await one.fleet.kill(VM, A)
    return one


def evacuated_when_done(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    move = operations[0]
    if move.status == "succeeded" and fleet.there() != {B: "running"}:
        return f"it has succeeded, and vm-1 is {fleet.there()}"
    return None


def belongs_to_its_host_when_not(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    """Failed and cancelled: it is not elsewhere, and nothing says that its old host should delete it."""
    move = operations[0]
    if move.status in CLEAN and (set(fleet.there()) - {A} or fleet.world.evacuations):
        return f"it is {move.status}, vm-1 is {fleet.there()}, and there is recorded {fleet.world.evacuations}"
    return None


def disk_is_there(fleet: Fleet) -> str | None:
    return None if VM in fleet.world.disks else "the only copy is gone"


fleeing = Start(Evacuation, instance=VM, source=A, destination=B)
evacuated = exploring(
    evacuation, fleeing, evacuated_when_done, belongs_to_its_host_when_not, disk_is_there, world=dead_host
)
returned_meanwhile = exploring(
    lambda fleet: [evacuation(fleet), host_return(fleet)],
    fleeing,
    evacuated_when_done,
    belongs_to_its_host_when_not,
    disk_is_there,
    world=returned_host,
    more=[Start(HostReturn, host=A)],
)


def moved_when_done(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    if operations[0].status == "succeeded" and fleet.there() != {B: "running"}:
        return f"it has succeeded, and vm-1 is {fleet.there()}"
    return None


moved_cold = exploring(
    cold_migration, Start(ColdMigration, instance=VM, source=A, destination=B), as_it_was, moved_when_done
)


async def fleet_with_local_disks(clock: Callable[[], float]) -> Fleet:
    world = FakeWorld()
    fake = FakeFleet(world, (A, B, C), clock=clock)
    await fake.boot(replace(GUEST, storage="local"), A)
    return Fleet(fake, world)


def one_disk_with_the_guest(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    there = [f"{host}/{VM}" for host in fleet.there()]
    if operations[0].ended and [*fleet.world.disks] != there:
        return f"it is {operations[0].status}, on {there}, and its disks are {[*fleet.world.disks]}"
    return None


moved_cold_with_its_disk = exploring(
    cold_migration,
    Start(ColdMigration, instance=VM, source=A, destination=B),
    as_it_was,
    moved_when_done,
    one_disk_with_the_guest,
    world=fleet_with_local_disks,
)


async def empty(clock: Callable[[], float]) -> Fleet:
    world = FakeWorld()
    return Fleet(FakeFleet(world, (A, B, C), clock=clock), world)


def nothing_when_not_born(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    one = operations[0]
    if one.status in CLEAN and (fleet.there() or fleet.world.disks or fleet.world.guests):
        return f"it is {one.status}, vm-1 is {fleet.there()}, with disks {fleet.world.disks}"
    if one.status == "succeeded" and fleet.there() != {A: "running"}:
        return f"it has succeeded, and vm-1 is {fleet.there()}"
    return None


booted = exploring(
    boot, Start(Boot, instance=VM, host=A, memory_mib=32, filled_mib=16), nothing_when_not_born, world=empty
)


async def switched_off(clock: Callable[[], float]) -> Fleet:
    one = await fleet(clock)
    await one.fleet.stop(VM, A, Permit("before", 1))
    return one


def keeps_the_disk_it_found(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    one = operations[0]
    if VM not in fleet.world.disks:
        return "the boot of a guest that was there has deleted its disk"
    return f"it is {one.status}, and vm-1 is {fleet.there()}" if one.status in CLEAN and fleet.there() else None


booted_again = exploring(
    boot, Start(Boot, instance=VM, host=B, memory_mib=32, filled_mib=16), keeps_the_disk_it_found, world=switched_off
)


def gone_when_deleted(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    deletion = next((one for one in operations if one.machine == "delete"), None)
    if deletion is None:
        return None
    if deletion.status == "succeeded" and (fleet.there() or fleet.world.disks or fleet.left()):
        return f"it is deleted, and vm-1 is {fleet.there()}, with {fleet.world.disks}"
    if deletion.status in CLEAN and VM not in fleet.world.disks:
        return f"its deletion is {deletion.status}, and its disk is gone"
    return None


deleting = Start(Delete, instance=VM)
ALL = ("", f"host:{A}", f"host:{B}", f"host:{C}")
deleted = exploring(delete, deleting, gone_when_deleted, as_it_was, queues=ALL)
preempted = exploring(
    lambda fleet: [live_migration(fleet), delete(fleet)],
    Start(LiveMigration, instance=VM, source=A, destination=B, bytes_per_second=24 << 20),
    gone_when_deleted,
    more=[deleting],
    queues=ALL,
)


def imaged_when_done(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    ready = [name for name, image in fleet.world.images.items() if image.ready]
    one = operations[0]
    if (one.status == "succeeded" and ready != ["golden"]) or (one.status in CLEAN and fleet.world.images):
        return f"it is {one.status}, and there are {fleet.world.images}"
    return None


def runs_on(fleet: Fleet) -> str | None:
    return None if fleet.there() == {A: "running"} else f"vm-1 is {fleet.there()}"


pictured = exploring(
    pictures.snapshot, Start(pictures.Snapshot, instance=VM, host=A, image="golden"), imaged_when_done, runs_on
)


def imaged_between_moves(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    """There is one image if any of the times made it; and a copy was made only while nothing else was done to the guest."""
    done = [one.id for one in operations if one.machine == "snapshot" and one.status == "succeeded"]
    ready = [name for name, image in fleet.world.images.items() if image.ready]
    if all(one.ended for one in operations) and len(ready) != min(len(done), 1):
        return f"{', '.join(done) or 'none'} succeeded, and there are {fleet.world.images}"
    busy = [one.id for one in operations if any(claim.held for claim in one.claims) and not one.ended]
    return f"{', '.join(busy)} are at vm-1 at once" if len(busy) > 1 else None


nightly = Scheduled(pictures.Snapshot, "* * * * *", 2, {"on_conflict": "wait"}, instance=VM, host=A, image="nightly")
pictured_nightly = exploring(
    lambda fleet: [pictures.snapshot(fleet), rebuild(fleet)],
    nightly,
    imaged_between_moves,
    more=[Start(Rebuild, {"delay": "19s", "on_conflict": "wait"}, instance=VM, host=A)],
)

rebuilt = exploring(rebuild, Start(Rebuild, instance=VM, host=A), as_it_was)


def shelved_when_done(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    one, world = operations[0], fleet.world
    if one.status == "succeeded" and (fleet.there() or world.disks or list(world.images) != ["shelved-vm-1"]):
        return f"it is shelved, and there are {fleet.there()}, {world.disks}, {world.images}"
    return f"it is {one.status}, and there are {world.images}" if one.status in CLEAN and world.images else None


def never_without_a_copy(fleet: Fleet) -> str | None:
    there = VM in fleet.world.disks or any(image.ready for image in fleet.world.images.values())
    return None if there else "neither its disk nor its image is there"


shelving = Start(Shelve, instance=VM, host=A)
shelved = exploring(shelve, shelving, as_it_was, shelved_when_done, never_without_a_copy)


async def on_the_shelf(clock: Callable[[], float]) -> Fleet:
    one = await fleet(clock)
    permit = Permit("before", 1)
    await one.fleet.stop(VM, A, permit)
    await one.fleet.capture(VM, A, "shelved-vm-1", permit)
    await one.fleet.publish(VM, A, "shelved-vm-1", permit)
    await one.fleet.unmake(VM, A, permit)
    return one


def unshelved_when_done(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    one, world = operations[0], fleet.world
    if one.status == "succeeded" and (fleet.there() != {B: "running"} or world.images):
        return f"it has succeeded, and there are {fleet.there()}, {world.images}"
    if one.status in CLEAN and (fleet.there() or world.disks or not world.images):
        return f"it is {one.status}, and there are {fleet.there()}, {world.disks}, {world.images}"
    return None


unshelved = exploring(
    unshelve, Start(Unshelve, instance=VM, host=B), unshelved_when_done, never_without_a_copy, world=on_the_shelf
)


async def two_guests(clock: Callable[[], float]) -> Fleet:
    one = await fleet(clock)
    await one.fleet.boot(Guest("vm-2", memory_mib=32, filled_mib=8), A)
    return one


def drained_when_done(fleet: Fleet, operations: Sequence[Snapshot]) -> str | None:
    one = operations[0]
    here = [name for name in fleet.world.guests if A in fleet.there(name)]
    if one.status == "succeeded" and (here or A not in fleet.world.disabled):
        return f"it is drained, and has {here}, disabled: {fleet.world.disabled}"
    return f"it is {one.status}, and still disabled" if one.status in CLEAN and fleet.world.disabled else None


def none_lost(fleet: Fleet) -> str | None:
    lost = [name for name in fleet.world.guests if not fleet.there(name)]
    return f"lost: {lost}" if lost else None


drained = exploring(
    lambda fleet: [host_drain(fleet), live_migration(fleet)],
    Start(HostDrain, host=A),
    drained_when_done,
    none_lost,
    world=two_guests,
    queues=ALL,
)
