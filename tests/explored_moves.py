"""Live migration over the simulated hypervisor, as a scenario for the explorer.

interlock explore tests.explored_moves:moves
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any

from interlock import Actions
from interlock.compute.fake_hypervisor import FakeHypervisor, FakeWorld
from interlock.compute.hypervisor import Guest, HostUnreachable, Permit, Phase, Progress, RunState
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.exploring.scenario import Exploration, Start
from interlock.interpreter.snapshot import Snapshot

A, B = "host-a", "host-b"
GUEST = Guest("vm-1", memory_mib=32, filled_mib=16)
RATE = 24 << 20


class Hosts:
    """What a run moves guests about in: the plain world, and the hypervisor that every process shares."""

    def __init__(self, hypervisor: FakeHypervisor, world: FakeWorld, clock: Callable[[], float]) -> None:
        self.hypervisor, self.world, self.clock = hypervisor, world, clock


async def hosts(clock: Callable[[], float]) -> Hosts:
    world = FakeWorld()
    hypervisor = FakeHypervisor(world, (A, B), clock=clock)
    await hypervisor.boot(GUEST, A)
    return Hosts(hypervisor, world, clock)


def holding(hosts: Hosts) -> dict[str, str]:
    """The hosts where the guest itself is, not a place made ready for it nor an empty shell that it left."""
    there = hosts.world.living("vm-1").items()
    return {host: str(process.state) for host, process in there if process.state in (RunState.RUNNING, RunState.PAUSED)}


def never_on_two_hosts(hosts: Hosts) -> str | None:
    there = holding(hosts)
    return f"vm-1 is {there}" if len(there) > 1 else None


def never_lost(hosts: Hosts) -> str | None:
    return None if holding(hosts) else "vm-1 is nowhere"


def as_it_was_when_given_up(hosts: Hosts, operations: Sequence[Snapshot]) -> str | None:
    """Failed and cancelled mean clean: it runs at its source, and nothing is left at the destination."""
    there = {host: str(process.state) for host, process in hosts.world.living("vm-1").items()}
    for move in operations:
        if move.status in ("failed", "cancelled") and there != {A: "running"}:
            return f"the move is {move.status}, and vm-1 is {there}"
    return None


def moved_when_done(hosts: Hosts, operations: Sequence[Snapshot]) -> str | None:
    there = {host: str(process.state) for host, process in hosts.world.living("vm-1").items()}
    for move in operations:
        if move.status == "succeeded" and there != {B: "running"}:
            return f"the move has succeeded, and vm-1 is {there}"
    return None


def unreachable(text: str) -> Exception:
    return HostUnreachable(text, host="any", instance="vm-1", mend="try again")


def exploring(actions: Callable[[Hosts], Actions[Any]]) -> Exploration[Hosts]:
    return Exploration(
        world=hosts,
        actions=actions,
        operations=[Start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=RATE)],
        invariants=[never_on_two_hosts, never_lost, as_it_was_when_given_up, moved_when_done],
        failure=unreachable,
    )


def pulling(actions: Callable[[Hosts], Actions[Any]]) -> Exploration[Hosts]:
    one = exploring(actions)
    return replace(
        one,
        operations=[
            Start(LiveMigration, instance="vm-1", source=A, destination=B, bytes_per_second=RATE, postcopy=True)
        ],
        signals=["postcopy"],
    )


async def with_local_disks(clock: Callable[[], float]) -> Hosts:
    world = FakeWorld()
    hypervisor = FakeHypervisor(world, (A, B), clock=clock)
    await hypervisor.boot(replace(GUEST, storage="local"), A)
    return Hosts(hypervisor, world, clock)


def one_whole_disk_where_it_is(hosts: Hosts, operations: Sequence[Snapshot]) -> str | None:
    """When all is over there is one disk, with the guest, and no half of one anywhere."""
    there = {f"{host}/vm-1" for host in holding(hosts)}
    halves = [key for key, disk in hosts.world.disks.items() if disk.part]
    if all(move.ended for move in operations) and (halves or {*hosts.world.disks} != there):
        return f"vm-1 is {there}, its disks are {[*hosts.world.disks]}, of which {halves} are not whole"
    return None


def carrying(actions: Callable[[Hosts], Actions[Any]]) -> Exploration[Hosts]:
    one = exploring(actions)
    return replace(one, world=with_local_disks, invariants=[*one.invariants, one_whole_disk_where_it_is])


carried = carrying(lambda hosts: live_migration(hosts.hypervisor))


def one_after_the_other(hosts: Hosts, operations: Sequence[Snapshot]) -> str | None:
    """The second move waits for its time, and for the guest; it never begins before the first is over."""
    begun = [one for one in operations if any(claim.held and claim.name == "instance:vm-1" for claim in one.claims)]
    return f"{[move.id for move in begun]} move vm-1 at once" if len(begun) > 1 else None


def there_and_back(actions: Callable[[Hosts], Actions[Any]]) -> Exploration[Hosts]:
    one = exploring(actions)
    back = {"instance": "vm-1", "source": B, "destination": A, "bytes_per_second": RATE}
    later = Start(LiveMigration, {"delay": "1s", "on_conflict": "wait"}, **back)
    invariants: list[Callable[..., str | None]] = [never_on_two_hosts, never_lost, one_after_the_other]
    return replace(one, operations=[*one.operations, later], invariants=invariants)


back_later = there_and_back(lambda hosts: live_migration(hosts.hypervisor))
pulled = pulling(lambda hosts: live_migration(hosts.hypervisor))
moves = exploring(lambda hosts: live_migration(hosts.hypervisor))


class Forgetful(FakeHypervisor):
    """Tears no destination down."""

    async def tear_down(self, instance: str, host: str, permit: Permit) -> bool:
        return False


class Hasty(FakeHypervisor):
    """Copies a disk slowly, and lets the guest go before it is there."""

    def mirror(
        self, instance: str, source: str, disk: str, permit: Permit, *, bytes_per_second: int | None = None
    ) -> AsyncGenerator[Progress, None]:
        return super().mirror(instance, source, disk, permit, bytes_per_second=1 << 10)

    def _mirrored(self, world: FakeWorld, source: str, instance: str, wanted: Phase = Phase.COPYING) -> Progress:
        super()._mirrored(world, source, instance)
        return Progress(Phase.READY)


class Trusting(FakeHypervisor):
    """Believes everybody: looks at no token."""

    def _admit(self, world: FakeWorld, host: str, instance: str, permit: Permit, out_of_band: bool = False) -> None:
        self._reach(world, host, instance, out_of_band)
