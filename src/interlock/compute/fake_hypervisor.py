"""A hypervisor that only says so: for machines without QEMU, for tests, and for looking at every crash.

Its world outlives the object that drives it: a `FakeWorld` in memory that several drivers share, or a JSON file that
another process can take up. Nothing happens in the background; how far a copy is, and what a guest has printed, is
computed from when it began and what the clock says now. So a copy goes on while no driver lives, as a real one does.

Every verb sleeps once before its effect and once after it, by the given ``sleep``: the points where a driver can die.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from interlock.compute.fake_world import TORN, Copy, Disk, FakeWorld, Mirror, Process
from interlock.compute.fleet import WHOLE_HOST, DiskFull, Fleet
from interlock.compute.guest import DISK_BYTES, PAGE_BYTES, TICKS_PER_SECOND
from interlock.compute.hypervisor import (
    Console,
    CopyFailed,
    Guest,
    GuestLost,
    HostUnreachable,
    Hypervisor,
    HypervisorError,
    Incoming,
    Permit,
    Phase,
    Progress,
    RunState,
    Unsafe,
    Unsuitable,
    checked_name,
    settled,
)
from interlock.compute.records import admit, locked, read_record, write_record

__all__ = ["FakeHypervisor", "FakeWorld"]

_UNLIMITED_BYTES_PER_SECOND = 1 << 30
_POLL_SECONDS = 0.05
_WATCH_SECONDS = 0.2
_LOCK_SECONDS = 20.0
_ROUNDS_LIMIT = 1000
_FIRST_PORT, _DISK_PORTS = 40000, 10000
_VERBS = {*dir(Hypervisor), *dir(Fleet)}


class FakeHypervisor:
    """Hosts that exist only in a `FakeWorld`, or in a JSON file at that path. Speaks `Hypervisor`.

    ``clock`` gives the time in seconds and must go on across processes that share a file; ``sleep`` waits that long.
    """

    simulated = True

    def __init__(
        self,
        world: FakeWorld | Path,
        hosts: Iterable[str] = ("host-a", "host-b"),
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        latency_seconds: float = 0.0,
    ) -> None:
        self._world, self._clock, self._sleep = world, clock, sleep
        self._hosts = tuple(checked_name("host", host) for host in hosts)
        self._latency_seconds = latency_seconds

    @property
    def hosts(self) -> Sequence[str]:
        return self._hosts

    # -- faults -----------------------------------------------------------------------------------------------------

    async def inject(self, verb: str, *, moment: Literal["before", "after"] = "before", times: int = 1) -> None:
        """Let the next calls of a verb raise `HostUnreachable`: before its effect, or after it (the answer is lost)."""
        if verb.startswith("_") or verb not in _VERBS:
            raise ValueError(f"there is no verb {verb!r}")
        async with self._open() as world:
            world.faults.append({"verb": verb, "moment": moment, "times": times})

    async def cut_off(self, host: str, *, reachable: bool = False) -> None:
        """Let a host no longer be reached by any verb, or be reached again; its guests go on."""
        async with self._open() as world:
            world.unreachable = [name for name in world.unreachable if name != host] + ([] if reachable else [host])

    # -- the verbs --------------------------------------------------------------------------------------------------

    async def boot(self, guest: Guest, host: str) -> None:
        instance = guest.instance
        async with self._verb("boot", host, instance) as world:
            living = world.living(instance)
            if host in living and living[host].state == RunState.RUNNING:
                return
            if living:
                there = ", ".join(f"{process.state} on {name}" for name, process in living.items())
                raise _error(Unsafe, host, instance, f"it is already {there}", "use that one, or stop it first")
            if world.guests.setdefault(instance, asdict(guest)) != asdict(guest):
                what = f"it was made as {world.guests[instance]}"
                raise _error(Unsuitable, host, instance, what, "boot it as it was made, or give it another name")
            world.past = [process for process in world.past if process.instance != instance]
            world.processes = [process for process in world.processes if process.instance != instance]
            world.copies.pop(instance, None)
            self._only_here(world, host, instance)
            world.begin(instance, host, self._clock())

    async def check(self, instance: str, source: str, destination: str) -> None:
        async with self._verb("check", source, instance) as world:
            self._reach(world, destination, instance)
            if source == destination:
                what = "source and destination are the same host"
                raise _error(Unsuitable, source, instance, what, "choose another destination")
            living = world.living(instance)
            if source not in living or living[source].state != RunState.RUNNING:
                raise _error(Unsuitable, source, instance, "it does not run there", "name the host it runs on")
            if destination in living and living[destination].state != RunState.INCOMING:
                what = f"it has a process there that is {living[destination].state}"
                raise _error(Unsuitable, destination, instance, what, "remove that one first")

    async def prepare(self, instance: str, host: str, permit: Permit, *, postcopy: bool = False) -> Incoming:
        async with self._verb("prepare", host, instance, permit) as world:
            if instance not in world.guests:
                raise _error(Unsuitable, host, instance, "no guest of this name was ever booted", "boot it first")
            process = world.find(instance, host)
            if process is not None and not process.dead and process.state != RunState.INCOMING:
                what = f"a process of it is there already and {process.state}"
                raise _error(Unsuitable, host, instance, what, "choose another host")
            if process is not None and (process.dead or process.migration != permit.migration):
                world.lose(process, self._clock())
                world.forget(process)
                process = None
            local = world.guests[instance]["storage"] == "local"
            if process is None:
                if local:
                    self._copied_from(world, host, instance)
                    world.disks[world.disk_key(instance, host)] = Disk(part=True)
                world.ports += 1
                process = Process(host, instance, RunState.INCOMING, permit.migration, _FIRST_PORT + world.ports)
                world.processes.append(process)
            disk = f"127.0.0.1:{process.port + _DISK_PORTS}" if local else ""
            return Incoming(f"tcp:127.0.0.1:{process.port}", process.port, disk)

    async def tear_down(self, instance: str, host: str, permit: Permit) -> bool:
        async with self._verb("tear_down", host, instance, permit) as world:
            process = world.find(instance, host)
            if process is None or process.migration != permit.migration:
                return False
            if not process.dead and process.state != RunState.INCOMING:
                what = f"this destination holds the guest, which is {process.state}"
                raise _error(Unsafe, host, instance, what, "leave it there")
            world.lose(process, self._clock())
            world.forget(process)
            copy = world.disks.get(key := world.disk_key(instance, host))
            if copy is not None and copy.part:
                del world.disks[key]
            return True

    async def mirror(
        self, instance: str, source: str, disk: str, permit: Permit, *, bytes_per_second: int | None = None
    ) -> AsyncGenerator[Progress, None]:
        async with self._verb("mirror", source, instance, permit) as world:
            self._holder(world, source, instance)
            target = self._listening(world, instance, int(disk.rpartition(":")[2]) - _DISK_PORTS)
            if target is None:
                what = f"its disk was not copied: Failed to connect to {disk}: Connection refused"
                raise _error(CopyFailed, source, instance, what, "the guest goes on here; move it again")
            known = world.mirrors.get(instance)
            if known is None or (known.source, known.destination, known.error) != (source, target.host, ""):
                if world.full:
                    what, mend = "its disk was not copied: No space left", "make room at the destination"
                    raise _error(DiskFull, source, instance, what, mend)
                rate = bytes_per_second or _UNLIMITED_BYTES_PER_SECOND
                world.mirrors[instance] = Mirror(source, target.host, self._clock(), DISK_BYTES, rate)
        while True:
            async with self._verb("mirror", source, instance) as world:
                self._holder(world, source, instance)
                progress = self._mirrored(world, source, instance)
            yield progress
            if progress.phase is Phase.READY:
                return
            await self._sleep(_WATCH_SECONDS)

    async def end_mirror(self, instance: str, source: str, permit: Permit) -> None:
        async with self._verb("end_mirror", source, instance, permit) as world:
            world.mirrors.pop(instance, None)

    async def start_copy(
        self,
        instance: str,
        source: str,
        uri: str,
        permit: Permit,
        *,
        bytes_per_second: int | None = None,
        postcopy: bool = False,
    ) -> Phase:
        async with self._verb("start_copy", source, instance, permit) as world:
            self._holder(world, source, instance)
            copy = world.copies.get(instance)
            if copy is not None and copy.source == source and copy.phase not in (Phase.FAILED, Phase.CANCELLED):
                return Phase(copy.phase)
            target = self._listening(world, instance, int(uri.rpartition(":")[2]))
            guest = Guest(**world.guests[instance])
            if guest.storage == "local":
                self._mirrored(world, source, instance, Phase.READY)
            filled = guest.filled_pages * PAGE_BYTES
            copy = Copy(
                source,
                target.host if target else "",
                self._clock(),
                total=filled,
                remaining=filled,
                bytes_per_second=bytes_per_second or _UNLIMITED_BYTES_PER_SECOND,
                dirty_bytes_per_second=guest.dirtied_pages * PAGE_BYTES * TICKS_PER_SECOND,
                postcopy=postcopy,
            )
            if target is None:
                copy.phase, copy.error = Phase.FAILED.value, f"Failed to connect to {uri}: Connection refused"
            world.copies[instance] = copy
            return Phase(copy.phase)

    async def watch(self, instance: str, source: str) -> AsyncGenerator[Progress, None]:
        while True:
            async with self._verb("watch", source, instance) as world:
                self._holder(world, source, instance)
                progress = _progress(world, instance, source)
            yield progress
            if settled(progress, host=source, instance=instance):
                return
            await self._sleep(_WATCH_SECONDS)

    async def cancel_copy(self, instance: str, source: str, permit: Permit) -> None:
        async with self._verb("cancel_copy", source, instance, permit) as world:
            living = world.living(instance)
            if (source not in living and any(p.state == RunState.RUNNING for p in living.values())) or (
                source in living and living[source].state in (RunState.LEFT, RunState.FEEDING)
            ):
                raise _error(Unsafe, source, instance, "the guest has left this host", "let the migration finish")
            if (process := world.find(instance, source)) is None or not process.dead:
                self._holder(world, source, instance)
            copy = world.copies.get(instance)
            if copy is not None and copy.source == source:
                world.end_copy(instance, Phase.CANCELLED, "", self._clock())

    async def switch_over(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        for _ in range(_ROUNDS_LIMIT):
            async with self._verb("switch_over", source, instance, permit) as world:
                self._admit(world, destination, instance, permit)
                if (arrived := world.living(instance).get(destination)) and arrived.state == RunState.RUNNING:
                    return
                holder = self._holder(world, source, instance)
                progress = _progress(world, instance, source)
                if progress.phase is Phase.COMPLETED:
                    what = "its process died when it had the guest"
                    raise _error(GuestLost, destination, instance, what, "boot it again from its disk")
                settled(progress, host=source, instance=instance)
                copy = world.copies[instance]
                if progress.phase is Phase.READY and arrived is not None:
                    self._all_there(world, source, instance)
                    world.hand_over(copy, holder, arrived, Phase.COMPLETED, self._clock())
                    return
                copy.bytes_per_second, copy.dirty_bytes_per_second = _UNLIMITED_BYTES_PER_SECOND, 0.0
            await self._sleep(_POLL_SECONDS)
        raise _error(
            HostUnreachable, source, instance, "the copy does not end: the clock stands still", "move the clock"
        )

    async def pull(
        self, instance: str, source: str, destination: str, permit: Permit
    ) -> AsyncGenerator[Progress, None]:
        while True:
            async with self._verb("pull", source, instance, permit) as world:
                self._admit(world, destination, instance, permit)
                copy, arrived = world.copies.get(instance), world.living(instance).get(destination)
                if copy is not None and copy.phase in (Phase.COPYING, Phase.READY) and arrived is not None:
                    if copy.phase == Phase.COPYING and not copy.postcopy:
                        what, mend = "it cannot do post-copy: its copy was not started for it", "force it, or abort it"
                        raise _error(Unsuitable, source, instance, what, mend)
                    holder = self._holder(world, source, instance)
                    copy.dirty_bytes_per_second = 0.0
                    self._all_there(world, source, instance)
                    world.hand_over(copy, holder, arrived, Phase.PULLING, self._clock())
                seen = _progress(world, instance, source)
                if (seen.phase is Phase.COMPLETED and arrived is None) or seen.error == TORN:
                    mend = "kill what is left of it, and boot it again from its disk"
                    raise _error(GuestLost, source, instance, TORN, mend)
                if seen.phase is not Phase.COMPLETED:
                    self._holder(world, source, instance)
                    settled(seen, host=source, instance=instance)
            yield seen
            if seen.phase is Phase.COMPLETED:
                return
            await self._sleep(_POLL_SECONDS)

    async def force(self, instance: str, source: str, permit: Permit) -> None:
        async with self._verb("force", source, instance, permit) as world:
            self._holder(world, source, instance)
            copy = world.copies.get(instance)
            if copy is not None and copy.source == source and copy.phase == Phase.COPYING:
                copy.bytes_per_second, copy.dirty_bytes_per_second = _UNLIMITED_BYTES_PER_SECOND, 0.0

    async def remove_source(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        async with self._verb("remove_source", source, instance, permit) as world:
            process = world.find(instance, source)
            living = world.living(instance)
            if process is None:
                return
            if not process.dead:
                arrived = living.get(destination)
                if process.state != RunState.LEFT or arrived is None or arrived.state != RunState.RUNNING:
                    found = ", ".join(f"{p.state} on {name}" for name, p in living.items())
                    what = f"it must run on {destination} and have left {source}, but it is {found}"
                    raise _error(
                        Unsafe, source, instance, what, "find out where the guest runs before anything is removed"
                    )
            world.lose(process, self._clock())
            world.forget(process)

    async def where(self, instance: str) -> Mapping[str, RunState]:
        await self._sleep(self._latency_seconds)
        async with self._open() as world:
            for host in self._hosts:
                self._reach(world, host, instance)
            living = world.living(instance)
            return {host: RunState(living[host].state) for host in self._hosts if host in living}

    async def consoles(self, instance: str) -> Sequence[Console]:
        async with self._open() as world:
            now = self._clock()
            of_it = [process for process in world.past + world.processes if process.instance == instance]
            return [Console(p.host, p.text(now)) for p in of_it]

    async def kill(self, instance: str, host: str) -> bool:
        async with self._open() as world:
            process = world.living(instance).get(host)
            if process is not None:
                world.lose(process, self._clock())
            return process is not None

    async def stop_all(self) -> int:
        async with self._open() as world:
            living = [process for process in world.processes if not process.dead]
            for process in living:
                world.lose(process, self._clock())
            for process in list(world.processes):
                world.forget(process)
            world.fences.clear()
            return len(living)

    # -- how it is done ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[FakeWorld]:
        """Give the world as it is now, alone, and keep what is done to it."""
        if isinstance(self._world, FakeWorld):
            self._world.advance(self._clock())
            yield self._world
            return
        path = self._world
        async with locked(path.with_suffix(".lock"), host="*", instance="*", patience_seconds=_LOCK_SECONDS):
            fields = read_record(path)
            world = FakeWorld() if fields is None else FakeWorld.read(fields)
            world.advance(self._clock())
            try:
                yield world
            finally:
                write_record(path, asdict(world))

    @contextlib.asynccontextmanager
    async def _verb(
        self, verb: str, host: str, instance: str, permit: Permit | None = None, *, out_of_band: bool = False
    ) -> AsyncIterator[FakeWorld]:
        if instance != WHOLE_HOST:
            checked_name("instance", instance)
        await self._sleep(self._latency_seconds)
        async with self._open() as world:
            self._reach(world, host, instance, out_of_band)
            if _struck(world, verb, "before"):
                raise _error(HostUnreachable, host, instance, f"{verb} was not sent", "try again")
            if permit is not None:
                self._admit(world, host, instance, permit, out_of_band)
            yield world
            answer_lost = _struck(world, verb, "after")
        await self._sleep(self._latency_seconds)
        if answer_lost:
            raise _error(HostUnreachable, host, instance, f"{verb} was sent and no answer came", "try again")

    def _reach(self, world: FakeWorld, host: str, instance: str, out_of_band: bool = False) -> None:
        if host not in self._hosts:
            raise _error(Unsuitable, host, instance, "there is no such host", f"choose one of {', '.join(self._hosts)}")
        # A fenced host is off: what must be known of it is known without its answer.
        if host in world.unreachable and host not in world.evacuations and not out_of_band:
            raise _error(HostUnreachable, host, instance, "the host does not answer", "try again")

    def _admit(self, world: FakeWorld, host: str, instance: str, permit: Permit, out_of_band: bool = False) -> None:
        self._reach(world, host, instance, out_of_band)
        key = f"{host}/{instance}"
        world.fences[key] = admit(world.fences.get(key), permit, host=host, instance=instance)

    def _only_here(self, world: FakeWorld, host: str, instance: str) -> None:
        elsewhere = " and ".join(world.disks_elsewhere(instance, host))
        if elsewhere and world.disk_key(instance, host) in world.disks:
            what = f"its disk is here and on {elsewhere} too, of a move that has not ended"
            raise _error(Unsafe, host, instance, what, "let that move end, or delete the one that is not whole")
        if elsewhere:
            what, mend = f"its disk is on the own storage of {elsewhere}", "name that host, or move it while it runs"
            raise _error(Unsuitable, host, instance, what, mend)

    def _copied_from(self, world: FakeWorld, host: str, instance: str) -> None:
        living = world.living(instance)
        for other in world.disks_elsewhere(instance, host):
            if other in living and living[other].state in (RunState.RUNNING, RunState.PAUSED):
                return
        mend = "start it where its disk is, then move it"
        raise _error(Unsuitable, host, instance, "it runs nowhere that its disk could be copied from", mend)

    def _listening(self, world: FakeWorld, instance: str, port: int) -> Process | None:
        there = world.living(instance).values()
        return next((p for p in there if p.port == port and p.state == RunState.INCOMING), None)

    def _mirrored(self, world: FakeWorld, source: str, instance: str, wanted: Phase = Phase.COPYING) -> Progress:
        """Return how far the copy of its disk is; raise unless that is under way, or with ``wanted`` in step."""
        mirror = world.mirrors.get(instance)
        known = mirror is not None and mirror.source == source
        progress = mirror.progress(self._clock()) if mirror is not None and known else Progress(Phase.NONE)
        if progress.phase not in (Phase.READY, wanted):
            what = f"its disk was not copied: {progress.error or f'it is {progress.phase}'}"
            raise _error(CopyFailed, source, instance, what, "the guest goes on here; move it again")
        return progress

    def _all_there(self, world: FakeWorld, source: str, instance: str) -> None:
        """Raise, and let the guest go on at its source, unless its disk is at its destination."""
        if world.guests[instance]["storage"] == "local":
            try:
                self._mirrored(world, source, instance, Phase.READY)
            except CopyFailed:
                world.end_copy(instance, Phase.CANCELLED, "", self._clock())
                raise

    def _holder(self, world: FakeWorld, host: str, instance: str) -> Process:
        process = world.find(instance, host)
        if process is None:
            raise _error(Unsuitable, host, instance, "it has no process there", "name the host it runs on")
        if process.dead:
            raise _error(GuestLost, host, instance, "its process is gone", "boot the guest again from its disk")
        return process


def _error(kind: type[HypervisorError], host: str, instance: str, what: str, mend: str) -> HypervisorError:
    return kind(what, host=host, instance=instance, mend=mend)


def _struck(world: FakeWorld, verb: str, moment: str) -> bool:
    for fault in world.faults:
        if (fault["verb"], fault["moment"]) == (verb, moment):
            fault["times"] -= 1
            world.faults = [other for other in world.faults if other["times"] > 0]
            return True
    return False


def _progress(world: FakeWorld, instance: str, source: str) -> Progress:
    copy = world.copies.get(instance)
    if copy is None or copy.source != source:
        return Progress(Phase.NONE)
    return Progress(Phase(copy.phase), int(copy.sent), int(copy.remaining), copy.total, copy.error)
