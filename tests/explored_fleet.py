"""Every move of a guest over the simulated fleet, as scenarios for the explorer.

interlock explore tests.explored_fleet:resized
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from interlock import Actions
from interlock.compute.cold_migration import ColdMigration, cold_migration
from interlock.compute.evacuation import Evacuation, HostReturn, evacuation, host_return
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.hypervisor import Guest, HostUnreachable
from interlock.compute.resize import Resize, resize
from interlock.exploring.scenario import Exploration, Start
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
        invariants=[never_on_two_hosts, nothing_left, *invariants],
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
