"""Hosts that really run QEMU: each guest on a host is one `qemu-system-x86_64` process, driven over QMP.

All hosts are on this machine and share one directory; what would be a shared disk in a datacentre is an image in it::

    DIRECTORY/guests/<instance>.json, .qcow2        what the guest is made of, and its disk
    DIRECTORY/hosts/<host>/<instance>/qemu.json     the process: pid, start time, sockets (see `qemu_process`)
                                      disk.qcow2    its disk, if its storage is the host's own
                                      fence.json    who may change the guest here (see `records.admit`)
                                      console-N.log what the guest printed, one file per process
                                      qemu-N.log    what QEMU had to say

No connection is kept between two calls, so a driver that is stopped or dies holds nothing that another one needs. The
one exception is `watch`: it listens on a second socket, and does without when somebody else has it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from time import monotonic

from interlock.compute import qemu_mirror
from interlock.compute import qemu_words as qemu
from interlock.compute.hypervisor import (
    Console,
    CopyFailed,
    Guest,
    GuestLost,
    Incoming,
    Permit,
    Phase,
    Progress,
    RunState,
    Unsafe,
    Unsuitable,
    settled,
)
from interlock.compute.qemu_disks import left_of
from interlock.compute.qemu_driver import POLL_SECONDS, QemuDriver, error_of
from interlock.compute.qemu_process import Place, QemuProcess, said
from interlock.compute.qmp_link import Link, LinkLost, linked

__all__ = ["QemuHosts"]

_WATCH_SECONDS = 0.2
_OBSERVER_PATIENCE_SECONDS = 1.0
_RESUME_SECONDS = 0.5
_UNLIMITED_BYTES_PER_SECOND = 1 << 40
_HOLD_MILLISECONDS, _FORCED_HOLD_MILLISECONDS = 300, 60_000


class QemuHosts(QemuDriver):
    """A few hosts on this machine, each with real QEMU processes. Speaks `Hypervisor`.

    ``patience_seconds`` bounds every wait for a QEMU that ought to answer, start or end.
    """

    simulated = False

    @property
    def hosts(self) -> Sequence[str]:
        return self._hosts

    async def boot(self, guest: Guest, host: str) -> None:
        place = self._place(guest.instance, host)
        async with self._locked(place):
            states = await self.where(guest.instance)
            if states.get(host) is RunState.RUNNING:
                return
            if states:
                there = ", ".join(f"{state} on {name}" for name, state in states.items())
                raise error_of(Unsafe, place, f"it is already {there}", "use that one, or stop it first")
            self._only_here(place, guest)
            await self._make_disk(place, guest)
            for name in self._hosts:
                for old in self._place(guest.instance, name).consoles():
                    old.unlink()
            process = await self._launch(place, guest, None)
            # Its first line comes when its memory is filled; before that a copy would send everything twice.
            async for _ in self._until(place, "it was booted and says nothing"):
                if process.has_printed():
                    return

    async def check(self, instance: str, source: str, destination: str) -> None:
        place = self._place(instance, source)
        target = self._place(instance, destination)
        if source == destination:
            raise error_of(Unsuitable, place, "source and destination are the same host", "choose another destination")
        states = await self.where(instance)
        if states.get(source) is not RunState.RUNNING:
            found = ", ".join(f"{state} on {name}" for name, state in states.items()) or "nowhere"
            raise error_of(Unsuitable, place, f"it does not run there; it is {found}", "name the host it runs on")
        if states.get(destination, RunState.INCOMING) is not RunState.INCOMING:
            raise error_of(
                Unsuitable, target, f"it has a process there that is {states[destination]}", "remove that one first"
            )

    async def prepare(self, instance: str, host: str, permit: Permit, *, postcopy: bool = False) -> Incoming:
        place = self._place(instance, host)
        async with self._turn(place, permit):
            process = place.living()
            if process is not None:
                state = await self._state(place, process)
                if state is not RunState.INCOMING:
                    raise error_of(
                        Unsuitable, place, f"a process of it is there already and {state}", "choose another host"
                    )
                if process.migration != permit.migration:
                    await self._end(place, process)
                    process = None
            guest = self._guest(place)
            if process is None:
                process = await self._launch(place, guest, permit.migration)
            if process.uri is None:
                async with self._asking(place, process) as link:
                    await qemu.allowed(place, qemu.set_capabilities(link, postcopy_ram=postcopy))
                    taken_at = await qemu_mirror.offer(link) if guest.storage == "local" else ""
                    process = replace(process, uri=await qemu.listens_at(link), disk=taken_at)
                place.save(process)
            assert process.uri is not None
            return Incoming(process.uri, int(process.uri.rpartition(":")[2]), process.disk)

    async def tear_down(self, instance: str, host: str, permit: Permit) -> bool:
        place = self._place(instance, host)
        async with self._turn(place, permit):
            process = place.recorded()
            if process is None or process.migration != permit.migration:
                return False
            if process.alive():
                await self._settle(place, process)
            await self._end(place, process)
            self._drop_copy(place)
            return True

    async def mirror(
        self, instance: str, source: str, disk: str, permit: Permit, *, bytes_per_second: int | None = None
    ) -> AsyncGenerator[Progress, None]:
        place = self._place(instance, source)
        async with self._turn(place, permit), self._asking(place, self._holder(place)) as link:
            await qemu_mirror.begin(place, link, disk, bytes_per_second or 0)
        while True:
            async with self._asking(place, self._holder(place)) as link:
                seen = await qemu_mirror.progress(link)
            qemu_mirror.in_step(place, seen)
            yield seen
            if seen.phase is Phase.READY:
                return
            await asyncio.sleep(_WATCH_SECONDS)

    async def end_mirror(self, instance: str, source: str, permit: Permit) -> None:
        place = self._place(instance, source)
        async with self._turn(place, permit):
            if (process := place.living()) is not None:
                async with self._asking(place, process) as link:
                    await qemu_mirror.end(link)

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
        place = self._place(instance, source)
        async with self._turn(place, permit):
            process = self._holder(place)
            async with self._asking(place, process) as link:
                phase = (await qemu.progress(link)).phase
                if phase in (Phase.NONE, Phase.FAILED, Phase.CANCELLED):
                    if self._guest(place).storage == "local":
                        qemu_mirror.in_step(place, await qemu_mirror.progress(link), Phase.READY)
                    # Said even where it is not wanted: whoever came here by post-copy still has it switched on.
                    await qemu.set_capabilities(link, events=True, pause_before_switchover=True, postcopy_ram=postcopy)
                    await qemu.set_limits(link, bytes_per_second or _UNLIMITED_BYTES_PER_SECOND, _HOLD_MILLISECONDS)
                    await link.ask("migrate", {"uri": uri})
                    phase = (await qemu.progress(link)).phase
                return phase

    async def watch(self, instance: str, source: str) -> AsyncGenerator[Progress, None]:
        place = self._place(instance, source)
        process = self._holder(place)
        async with contextlib.AsyncExitStack() as stack:
            observer: Link | None = None
            # Another watcher may have the socket, even one that was stopped: then it is polling alone.
            with contextlib.suppress(LinkLost):
                observer = await stack.enter_async_context(linked(process.observer, _OBSERVER_PATIENCE_SECONDS))
            while True:
                async with self._asking(place, process, observer) as link:
                    seen = await qemu.progress(link)
                if seen.phase is Phase.FAILED:
                    # A host that does not take a guest tells the guest's source nothing but that the line is dead.
                    others = [
                        Place(self._root, self._sockets, host, instance) for host in self._hosts if host != source
                    ]
                    seen = replace(seen, error="; ".join([seen.error, *said(others)]))
                yield seen
                if settled(seen, host=source, instance=instance):
                    return
                await (observer.changed(_WATCH_SECONDS) if observer else asyncio.sleep(_WATCH_SECONDS))

    async def cancel_copy(self, instance: str, source: str, permit: Permit) -> None:
        place = self._place(instance, source)
        async with self._turn(place, permit):
            process = place.living()
            if process is None and RunState.RUNNING in (await self.where(instance)).values():
                raise error_of(Unsafe, place, "the guest has left this host", "let the migration finish")
            if process is None:
                if place.recorded() is None:
                    self._holder(place)
                # Its process is gone, and what it copied with it.
                return
            async with self._asking(place, process) as link:
                phase = (await qemu.progress(link)).phase
                if not phase.ended and phase is not Phase.PULLING:
                    await link.ask("migrate_cancel")
        with contextlib.suppress(GuestLost):
            await self._goes_on(place, process)

    async def _goes_on(self, place: Place, process: QemuProcess) -> None:
        """Return when a guest whose copy was cancelled runs again."""
        ended_at: float | None = None
        async for _ in self._until(place, "the copy was not cancelled"):
            async with self._asking(place, process) as link:
                phase = (await qemu.progress(link)).phase
                if phase in (Phase.PULLING, Phase.COMPLETED):
                    raise error_of(Unsafe, place, "the guest has left this host", "let the migration finish")
                if not phase.ended:
                    continue
                if (state := await qemu.run_state(link)) is RunState.RUNNING:
                    return
                ended_at = ended_at or monotonic()
                if state is RunState.PAUSED and monotonic() - ended_at > _RESUME_SECONDS:
                    await link.ask("cont")

    async def switch_over(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        place, target = self._place(instance, source), self._place(instance, destination)
        await self._admitted(permit, place, target)
        async for _ in self._until(target, "the guest was handed over and does not run"):
            arrived = target.living()
            if arrived is not None and await self._state(target, arrived) is RunState.RUNNING:
                return self._leave_copy(place, target)
            process = place.living()
            if process is None:
                if arrived is None:
                    self._holder(place)
                continue
            async with self._turn(place, permit), self._asking(place, process) as link:
                seen = await qemu.progress(link)
                if seen.phase is Phase.COPYING:
                    await qemu.set_limits(link, _UNLIMITED_BYTES_PER_SECOND, _FORCED_HOLD_MILLISECONDS)
                elif seen.phase is Phase.READY:
                    await self._let_go(place, target, link)
            if seen.phase is Phase.COMPLETED and arrived is None:
                raise error_of(
                    GuestLost, target, "its process died when it had the guest", "boot it again from its disk"
                )
            settled(seen, host=source, instance=instance)

    async def pull(
        self, instance: str, source: str, destination: str, permit: Permit
    ) -> AsyncGenerator[Progress, None]:
        place, target = self._place(instance, source), self._place(instance, destination)
        await self._admitted(permit, place, target)
        while True:
            arrived, process = target.living(), place.living()
            if process is None or arrived is None:
                if arrived is not None and await self._arrived(target, arrived):
                    self._leave_copy(place, target)
                    yield Progress(Phase.COMPLETED)
                    return
                what = "it was in two places, and one of them is gone"
                mend = "kill what is left of it, and boot it again from its disk"
                raise error_of(GuestLost, target if arrived is None else place, what, mend)
            async with self._turn(place, permit), self._asking(place, process) as link:
                seen = await qemu.progress(link)
                if seen.phase is Phase.COPYING:
                    await qemu.allowed(place, qemu.start_pulling(link))
                elif seen.phase is Phase.READY:
                    await self._let_go(place, target, link)
                elif seen.phase is Phase.PULLING:
                    async with self._asking(target, arrived) as other:
                        await qemu.mend_link(link, other)
            settled(seen, host=source, instance=instance)
            if seen.phase is not Phase.COMPLETED:
                yield seen
            elif await self._arrived(target, arrived):
                # The source has sent everything a moment before the destination has it.
                self._leave_copy(place, target)
                yield seen
                return
            await asyncio.sleep(_WATCH_SECONDS if seen.phase is Phase.PULLING else POLL_SECONDS)

    async def force(self, instance: str, source: str, permit: Permit) -> None:
        place = self._place(instance, source)
        async with self._turn(place, permit), self._asking(place, self._holder(place)) as link:
            if (await qemu.progress(link)).phase is Phase.COPYING:
                await qemu.set_limits(link, _UNLIMITED_BYTES_PER_SECOND, _FORCED_HOLD_MILLISECONDS)

    async def remove_source(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        place = self._place(instance, source)
        async with self._turn(place, permit):
            process = place.living()
            if process is not None:
                states = await self.where(instance)
                if states.get(destination) is not RunState.RUNNING or states.get(source) is not RunState.LEFT:
                    found = ", ".join(f"{state} on {name}" for name, state in states.items())
                    what = f"it must run on {destination} and have left {source}, but it is {found}"
                    raise error_of(Unsafe, place, what, "find out where the guest runs before anything is removed")
                await self._end(place, process)
                self._leave_copy(place, self._place(instance, destination))
            self._drop_left(place)
            place.drop()

    async def where(self, instance: str) -> Mapping[str, RunState]:
        found: dict[str, RunState] = {}
        for host in self._hosts:
            place = self._place(instance, host)
            if (process := place.living()) is not None:
                with contextlib.suppress(GuestLost):
                    found[host] = await self._state(place, process)
        return found

    async def consoles(self, instance: str) -> Sequence[Console]:
        places = [self._place(instance, host) for host in self._hosts]
        return [Console(p.host, path.read_text(errors="replace")) for p in places for path in p.consoles()]

    async def kill(self, instance: str, host: str) -> bool:
        place = self._place(instance, host)
        process = place.living()
        if process is not None:
            await self._killed(place, process)
        return process is not None

    async def stop_all(self) -> int:
        stopped = 0
        for record in sorted(self._root.glob("hosts/*/*/qemu.json")):
            place = Place(self._root, self._sockets, record.parent.parent.name, record.parent.name)
            stopped += place.living() is not None
            if (process := place.recorded()) is not None:
                await self._killed(place, process)
            place.drop()
        for fence in self._root.glob("hosts/*/*/fence.json"):
            fence.unlink()
        if self._sockets.parent != self._root:
            with contextlib.suppress(OSError):
                self._sockets.rmdir()
        return stopped

    # -- a disk of the host's own ------------------------------------------------------------------------------------

    async def _let_go(self, place: Place, target: Place, link: Link) -> None:
        """Let a guest that is held at its source go over; where its disk goes too, only when all of that is there."""
        if self._guest(place).storage == "local":
            seen = await qemu_mirror.finish(link)
            if seen.phase is not Phase.COMPLETED:
                await link.ask("migrate_cancel")
                what = f"its disk is not all there: {seen.error or seen.phase}"
                raise error_of(CopyFailed, place, what, "the guest goes on here; find out why, and move it again")
            if (arriving := target.living()) is not None:
                # Else the guest could not write to what somebody else may write to.
                async with self._asking(target, arriving) as other:
                    await qemu_mirror.withdraw(other)
        await qemu.go_on(link)

    def _leave_copy(self, place: Place, target: Place) -> None:
        """The guest runs elsewhere with its disk: from now on the one that it had here counts no more."""
        guest = self._guest(place)
        here, there = self._disk(guest, place), self._disk(guest, target)
        if guest.storage == "local" and here.exists() and there.exists():
            here.replace(left_of(here))

    def _drop_left(self, place: Place) -> None:
        left_of(self._disk(self._guest(place), place)).unlink(missing_ok=True)

    def _drop_copy(self, place: Place) -> None:
        """Delete the copy of a disk that was to come here, never the only one."""
        guest = self._guest(place)
        if guest.storage == "local" and self._disks_elsewhere(place, guest):
            self._disk(guest, place).unlink(missing_ok=True)
