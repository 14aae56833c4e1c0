"""Live migration: move a running guest to another host without stopping it. The machine, and its actions over any `Hypervisor`.

| state | performs | undo |
|---|---|---|
| checking | the guest runs at its source, and the destination would take it | nothing |
| preparing | a destination process that listens for the guest | tear it down |
| mirroring | its disk goes over while it runs, and is kept in step; only where storage is local to hosts | end that |
| copying | its memory goes over while it runs; held when only the last instant is left | cancel the copy; it runs at its source |
| forcing | the same without a limit on its rate, and with as long a hold as it takes | nothing more than for copying |
| switching | the guest goes on at the destination: the point of no return | - |
| pulling | the same by post-copy: it goes on there first, and its memory follows | - |
| cleaning | what is left at the source is removed | - |

A copy goes on inside the hypervisor when whoever watched it is stopped or dies. So a worker that is stopped hands it over at once, and
copying's `recover` does not begin again: it looks, and attaches to what it finds. Every action may be repeated after a crash at any point,
and hands its token to the hypervisor, which refuses older ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from interlock import Actions, Claim, Event, Final, Group, Machine, Operation, Retry, Rollback, State, When
from interlock.compute.hypervisor import Hypervisor, NoCopy, Permit, Progress, Unsuitable

__all__ = ["LiveMigration", "Move", "live_migration"]


@dataclass
class Move:
    """The data of a move.

    Attributes:
        instance, source, destination: names of the guest and of the two hosts.
        bytes_per_second: limit of the copy's rate; None: as fast as it goes.
        postcopy: whether the signal `postcopy` may let the guest go on at the destination before its memory is there. Then it cannot be
            undone, and the loss of either host is that of the guest. Where it may not, the signal does what `force` does.
        port, uri: where the destination listens, once it does.
        disk: where it takes the guest's disk, where that is local to hosts; else empty.
        reason: why the guest cannot go there, if it cannot.
    """

    instance: str
    source: str
    destination: str
    bytes_per_second: int | None = None
    postcopy: bool = False
    port: int | None = None
    uri: str | None = None
    disk: str = ""
    reason: str = ""


class LiveMigration(Machine[Move], version=1):
    """Move a running guest to another host without stopping it."""

    claims = [Claim("instance:{instance}"), Claim("host:{source}:outgoing", limit=2)]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="preparing",
        description="the guest runs at its source, and the destination would take it",
    )
    preparing = State(
        queue="host:{destination}",
        undo=True,
        retry=Retry(3, errors={"Unsuitable": Retry(1), "Unsafe": Retry(1)}),
        timeout="1m",
        then=[When("disk_is_shared", "copying"), "mirroring"],
        description="a process at the destination listens for the guest",
    )
    mirroring = State(
        queue="host:{source}",
        undo=True,
        heartbeat="10s",
        on_stop="handover",
        timeout="6h",
        then="copying",
        description="its disk goes over while the guest runs, and is kept in step",
    )
    copying = State(
        queue="host:{source}",
        undo=True,
        heartbeat="10s",
        on_stop="handover",
        timeout="30m",
        then="switching",
        on={"force": "forcing", "postcopy": [When("postcopy_allowed", "pulling"), "forcing"]},
        description="memory goes over while the guest runs",
    )
    forcing = State(
        queue="host:{source}",
        undo="nothing",
        heartbeat="10s",
        on_stop="handover",
        timeout="30m",
        then="switching",
        description="what is left goes over as fast as it can, and the guest is held for it",
    )
    switching = State(
        queue="host:{source}",
        pivot=True,
        retry=Retry(10, errors={"GuestLost": Retry(1), "Unsafe": Retry(1)}),
        timeout="5m",
        then="cleaning",
        description="the guest goes on at the destination",
    )
    pulling = State(
        queue="host:{source}",
        pivot=True,
        retry=Retry(10, errors={"GuestLost": Retry(1), "Unsafe": Retry(1)}),
        heartbeat="10s",
        on_stop="handover",
        timeout="30m",
        then="cleaning",
        description="the guest goes on at the destination, and its memory follows",
    )
    cleaning = State(
        queue="host:{source}",
        retry=Retry.forever(),
        timeout="1m",
        then="completed",
        description="what is left at the source is removed",
    )

    moving = Group("checking", "preparing", "mirroring", "copying", "forcing", on={"abort": Rollback("cancelled")})

    completed = Final("succeeded")
    refused = Final("failed", description="the guest cannot go there; nothing was begun")
    failed = Final("failed", description="the guest is where it was, and nothing is left at the destination")
    cancelled = Final("cancelled", description="the guest is where it was, and nothing is left at the destination")

    accepts = {
        "stuck-after-pivot:switching": "where the guest runs after ten attempts, or whether it was lost, is for a person to see",
        "stuck-after-pivot:pulling": "where the guest runs after ten attempts, or whether it was lost, is for a person to see",
    }
    views = {"v1": {"ACTIVE": ["completed", "refused", "failed", "cancelled"], "MIGRATING": ...}}


def live_migration(hypervisor: Hypervisor) -> Actions[Move]:
    """Return the actions of `LiveMigration` over a hypervisor."""
    actions = Actions(LiveMigration)
    _with_its_disk(actions, hypervisor)
    _handed_over(actions, hypervisor)

    @actions.perform(LiveMigration.checking)
    async def check(op: Operation[Move]) -> Event | None:
        move = op.data
        try:
            await hypervisor.check(move.instance, move.source, move.destination)
        except Unsuitable as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return None

    @actions.perform(LiveMigration.preparing)
    async def prepare_destination(op: Operation[Move]) -> dict[str, Any]:
        incoming = await hypervisor.prepare(
            op.data.instance, op.data.destination, permit(op), postcopy=op.data.postcopy
        )
        return {"uri": incoming.uri, "port": incoming.port, "disk": incoming.disk}

    @actions.undo(LiveMigration.preparing)
    async def tear_destination_down(op: Operation[Move]) -> None:
        await hypervisor.tear_down(op.data.instance, op.data.destination, permit(op))

    @actions.perform(LiveMigration.copying)
    async def copy(op: Operation[Move]) -> None:
        move = op.data
        assert move.uri is not None, "preparing says where the destination listens"
        await hypervisor.start_copy(
            move.instance,
            move.source,
            move.uri,
            permit(op),
            bytes_per_second=move.bytes_per_second,
            postcopy=move.postcopy,
        )
        await followed(op, hypervisor.watch(move.instance, move.source))

    # The hypervisor starts no second copy beside one that is under way or done: so looking and attaching again is the action itself.
    actions.recover(LiveMigration.copying)(copy)

    @actions.perform(LiveMigration.forcing)
    async def hurry(op: Operation[Move]) -> None:
        move = op.data
        assert move.uri is not None, "preparing says where the destination listens"
        # The signal may have come before the copy had begun.
        await hypervisor.start_copy(move.instance, move.source, move.uri, permit(op), postcopy=move.postcopy)
        await hypervisor.force(move.instance, move.source, permit(op))
        await followed(op, hypervisor.watch(move.instance, move.source))

    @actions.undo(LiveMigration.copying)
    async def cancel_copy(op: Operation[Move]) -> None:
        await hypervisor.cancel_copy(op.data.instance, op.data.source, permit(op))

    @actions.perform(LiveMigration.cleaning)
    async def remove_source(op: Operation[Move]) -> None:
        await hypervisor.remove_source(op.data.instance, op.data.source, op.data.destination, permit(op))

    return actions


def _handed_over(actions: Actions[Move], hypervisor: Hypervisor) -> None:
    """Bind what happens from the point of no return on."""

    @actions.perform(LiveMigration.switching)
    async def switch_over(op: Operation[Move]) -> None:
        await hypervisor.switch_over(op.data.instance, op.data.source, op.data.destination, permit(op))

    @actions.when("postcopy_allowed")
    def postcopy_allowed(op: Operation[Move]) -> bool:
        return op.data.postcopy

    @actions.perform(LiveMigration.pulling)
    async def pull(op: Operation[Move]) -> None:
        move = op.data
        try:
            await followed(op, hypervisor.pull(move.instance, move.source, move.destination, permit(op)))
        except NoCopy:
            # The signal came before the copy had begun.
            assert move.uri is not None, "preparing says where the destination listens"
            await hypervisor.start_copy(move.instance, move.source, move.uri, permit(op), postcopy=True)
            await followed(op, hypervisor.pull(move.instance, move.source, move.destination, permit(op)))


def _with_its_disk(actions: Actions[Move], hypervisor: Hypervisor) -> None:
    """Bind what happens to a disk that is local to hosts."""

    @actions.when("disk_is_shared")
    def disk_is_shared(op: Operation[Move]) -> bool:
        return not op.data.disk

    @actions.perform(LiveMigration.mirroring)
    async def mirror(op: Operation[Move]) -> None:
        move = op.data
        copy = hypervisor.mirror(
            move.instance, move.source, move.disk, permit(op), bytes_per_second=move.bytes_per_second
        )
        await followed(op, copy, "disk ")

    # It joins a copy that is under way.
    actions.recover(LiveMigration.mirroring)(mirror)

    @actions.undo(LiveMigration.mirroring)
    async def end_mirror(op: Operation[Move]) -> None:
        await hypervisor.end_mirror(op.data.instance, op.data.source, permit(op))


async def followed(op: Operation[Move], copy: AsyncGenerator[Progress, None], what: str = "") -> None:
    """Follow a copy as far as it goes by itself, and tell how far it is."""
    async for progress in copy:
        op.progress(progress.fraction * progress.total, progress.total, "bytes", f"{what}{progress.phase}")


def permit(op: Operation[Move]) -> Permit:
    """Return the right that an attempt shows to the hypervisor."""
    return Permit(op.id, op.token)
