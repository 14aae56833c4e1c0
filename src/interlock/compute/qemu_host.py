"""Hosts that really run QEMU: each guest on a host is one `qemu-system-x86_64` process, driven over QMP.

All hosts are on this machine and share one directory; what would be a shared disk in a datacentre is an image in it::

    DIRECTORY/guests/<instance>.json, .qcow2        what the guest is made of, and its disk
    DIRECTORY/hosts/<host>/<instance>/qemu.json     the process: pid, start time, sockets (see `qemu_process`)
                                      fence.json    who may change the guest here (see `records.admit`)
                                      console-N.log what the guest printed, one file per process
                                      qemu-N.log    what QEMU had to say

No connection is kept between two calls, so a driver that is stopped or dies holds nothing that another one needs. The
one exception is `watch`: it listens on a second socket, and does without when somebody else has it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic

from interlock.compute import guest as guest_image
from interlock.compute import qemu_words as qemu
from interlock.compute.hypervisor import (
    Console,
    Guest,
    GuestLost,
    HostUnreachable,
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
from interlock.compute.qemu_process import Place, QemuProcess, said, socket_directory
from interlock.compute.qmp_link import Link, LinkLost, QmpRefusal, linked
from interlock.compute.records import admit, locked, read_record, write_record

__all__ = ["QemuHosts"]

_POLL_SECONDS = 0.02
_WATCH_SECONDS = 0.2
_OBSERVER_PATIENCE_SECONDS = 1.0
_RESUME_SECONDS = 0.5
_UNLIMITED_BYTES_PER_SECOND = 1 << 40
_HOLD_MILLISECONDS, _FORCED_HOLD_MILLISECONDS = 300, 60_000


class QemuHosts:
    """A few hosts on this machine, each with real QEMU processes. Speaks `Hypervisor`.

    ``patience_seconds`` bounds every wait for a QEMU that ought to answer, start or end.
    """

    simulated = False

    def __init__(
        self,
        directory: Path | str,
        hosts: Iterable[str] | Callable[[], Sequence[str]] = ("host-a", "host-b"),
        *,
        binary: str = "qemu-system-x86_64",
        patience_seconds: float = 20.0,
    ) -> None:
        self._root = Path(directory).absolute()
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sockets = socket_directory(self._root)
        known = () if callable(hosts) else tuple(checked_name("host", host) for host in hosts)
        self._named = hosts if callable(hosts) else lambda: known
        self._binary, self._patience_seconds = binary, patience_seconds

    @property
    def hosts(self) -> Sequence[str]:
        return self._hosts

    @property
    def _hosts(self) -> Sequence[str]:
        return self._named()

    async def boot(self, guest: Guest, host: str) -> None:
        place = self._place(guest.instance, host)
        async with self._locked(place):
            states = await self.where(guest.instance)
            if states.get(host) is RunState.RUNNING:
                return
            if states:
                there = ", ".join(f"{state} on {name}" for name, state in states.items())
                raise _error(Unsafe, place, f"it is already {there}", "use that one, or stop it first")
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
            raise _error(Unsuitable, place, "source and destination are the same host", "choose another destination")
        states = await self.where(instance)
        if states.get(source) is not RunState.RUNNING:
            found = ", ".join(f"{state} on {name}" for name, state in states.items()) or "nowhere"
            raise _error(Unsuitable, place, f"it does not run there; it is {found}", "name the host it runs on")
        if states.get(destination, RunState.INCOMING) is not RunState.INCOMING:
            raise _error(
                Unsuitable, target, f"it has a process there that is {states[destination]}", "remove that one first"
            )

    async def prepare(self, instance: str, host: str, permit: Permit, *, postcopy: bool = False) -> Incoming:
        place = self._place(instance, host)
        async with self._turn(place, permit):
            process = place.living()
            if process is not None:
                state = await self._state(place, process)
                if state is not RunState.INCOMING:
                    raise _error(
                        Unsuitable, place, f"a process of it is there already and {state}", "choose another host"
                    )
                if process.migration != permit.migration:
                    await self._end(place, process)
                    process = None
            if process is None:
                process = await self._launch(place, self._guest(place), permit.migration)
            if process.uri is None:
                async with self._asking(place, process) as link:
                    await qemu.allowed(place, qemu.set_capabilities(link, postcopy_ram=postcopy))
                    process = replace(process, uri=await qemu.listens_at(link))
                place.save(process)
            assert process.uri is not None
            return Incoming(process.uri, int(process.uri.rpartition(":")[2]))

    async def tear_down(self, instance: str, host: str, permit: Permit) -> bool:
        place = self._place(instance, host)
        async with self._turn(place, permit):
            process = place.recorded()
            if process is None or process.migration != permit.migration:
                return False
            if process.alive():
                await self._settle(place, process)
            await self._end(place, process)
            return True

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
                raise _error(Unsafe, place, "the guest has left this host", "let the migration finish")
            process = process or self._holder(place)
            async with self._asking(place, process) as link:
                phase = (await qemu.progress(link)).phase
                if not phase.ended and phase is not Phase.PULLING:
                    await link.ask("migrate_cancel")
        ended_at: float | None = None
        async for _ in self._until(place, "the copy was not cancelled"):
            async with self._asking(place, process) as link:
                phase = (await qemu.progress(link)).phase
                if phase in (Phase.PULLING, Phase.COMPLETED):
                    raise _error(Unsafe, place, "the guest has left this host", "let the migration finish")
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
                return
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
                    await qemu.go_on(link)
            if seen.phase is Phase.COMPLETED and arrived is None:
                raise _error(GuestLost, target, "its process died when it had the guest", "boot it again from its disk")
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
                    yield Progress(Phase.COMPLETED)
                    return
                what = "it was in two places, and one of them is gone"
                mend = "kill what is left of it, and boot it again from its disk"
                raise _error(GuestLost, target if arrived is None else place, what, mend)
            async with self._turn(place, permit), self._asking(place, process) as link:
                seen = await qemu.progress(link)
                if seen.phase is Phase.COPYING:
                    await qemu.allowed(place, qemu.start_pulling(link))
                elif seen.phase is Phase.READY:
                    await qemu.go_on(link)
                elif seen.phase is Phase.PULLING:
                    async with self._asking(target, arrived) as other:
                        await qemu.mend_link(link, other)
            settled(seen, host=source, instance=instance)
            if seen.phase is not Phase.COMPLETED:
                yield seen
            elif await self._arrived(target, arrived):
                # The source has sent everything a moment before the destination has it.
                yield seen
                return
            await asyncio.sleep(_WATCH_SECONDS if seen.phase is Phase.PULLING else _POLL_SECONDS)

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
                    raise _error(Unsafe, place, what, "find out where the guest runs before anything is removed")
                await self._end(place, process)
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

    # -- how it is done ---------------------------------------------------------------------------------------------

    def _place(self, instance: str, host: str) -> Place:
        if host not in self._hosts:
            known = ", ".join(self._hosts)
            raise Unsuitable("there is no such host", host=host, instance=instance, mend=f"choose one of {known}")
        return Place(self._root, self._sockets, host, checked_name("instance", instance))

    def _guest(self, place: Place) -> Guest:
        fields = read_record(self._root / "guests" / f"{place.instance}.json")
        if fields is None:
            raise _error(Unsuitable, place, "no guest of this name was ever booted", "boot it first")
        return Guest(**fields)

    def _disk(self, guest: Guest) -> Path:
        return self._root / "guests" / f"{guest.instance}.{guest.disk}"

    async def _make_disk(self, place: Place, guest: Guest) -> None:
        record = self._root / "guests" / f"{guest.instance}.json"
        if (known := read_record(record)) not in (None, asdict(guest)):
            raise _error(
                Unsuitable, place, f"it was made as {known}", "boot it as it was made, or give it another name"
            )
        disk = self._disk(guest)
        if disk.exists():
            return
        write_record(record, asdict(guest))
        raw, draft = disk.with_suffix(".raw.new"), disk.with_suffix(".disk.new")
        guest_image.write_disk(raw, guest.filled_pages, guest.dirtied_pages)
        if guest.disk != "raw":
            command = ("qemu-img", "convert", "-O", guest.disk, str(raw), str(draft))
            try:
                image = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            except FileNotFoundError as error:
                mend = "install qemu-utils, or use disk='raw'"
                raise _error(Unsuitable, place, "there is no qemu-img to make its disk", mend) from error
            _, errors = await image.communicate()
            if image.returncode:
                raise _error(Unsuitable, place, f"qemu-img: {errors.decode().strip()}", "mend that, and boot it again")
            raw.unlink()
        (raw if guest.disk == "raw" else draft).replace(disk)

    async def _launch(self, place: Place, guest: Guest, migration: str | None) -> QemuProcess:
        place.drop()
        process = place.fresh(migration)
        try:
            process = process.start(self._binary, guest, self._disk(guest))
        except OSError as error:
            place.drop()
            raise _error(Unsuitable, place, f"cannot run {self._binary}: {error}", "install qemu-system-x86") from error
        place.save(process)
        async for _ in self._until(place, "QEMU started and does not answer"):
            if not process.alive():
                place.drop()
                mend = "mend what it complains of"
                raise _error(Unsuitable, place, f"QEMU did not start: {process.last_words()}", mend)
            with contextlib.suppress(LinkLost):
                async with linked(process.driver, self._patience_seconds) as link:
                    wanted = RunState.INCOMING if migration else RunState.RUNNING
                    if await qemu.run_state(link) is wanted:
                        break
        return process

    async def _settle(self, place: Place, process: QemuProcess) -> None:
        """Return once it is certain that this destination does not hold the guest, else raise `Unsafe`."""
        others = [self._place(place.instance, host) for host in self._hosts if host != place.host]
        async for _ in self._until(place, "cannot tell whether it holds the guest"):
            given_away = False
            for other in others:
                if (holder := other.living()) is not None:
                    async with self._asking(other, holder) as link:
                        if await qemu.run_state(link) is RunState.RUNNING:
                            # The guest runs there, so it cannot be here: even a process that does not answer may go.
                            return
                        given_away |= (await qemu.progress(link)).phase in (
                            Phase.SWITCHING,
                            Phase.PULLING,
                            Phase.COMPLETED,
                        )
            try:
                state = await self._state(place, process)
            except GuestLost:
                return
            if state is not RunState.INCOMING:
                raise _error(Unsafe, place, f"this destination holds the guest, which is {state}", "leave it there")
            if not given_away:
                return

    async def _end(self, place: Place, process: QemuProcess) -> None:
        await self._killed(place, process)
        place.drop()

    async def _killed(self, place: Place, process: QemuProcess) -> None:
        async for _ in self._until(place, f"process {process.pid} does not end"):
            process.kill()
            if not process.alive():
                return

    def _holder(self, place: Place) -> QemuProcess:
        process = place.recorded()
        if process is None:
            raise _error(Unsuitable, place, "it has no process there", "name the host it runs on")
        if not process.alive():
            raise _lost(place, process)
        return process

    async def _state(self, place: Place, process: QemuProcess) -> RunState:
        async with self._asking(place, process) as link:
            return await qemu.run_state(link)

    async def _arrived(self, place: Place, process: QemuProcess) -> bool:
        """Whether a guest runs here, with all of its memory."""
        async with self._asking(place, process) as link:
            return await qemu.is_whole(link)

    async def _admitted(self, permit: Permit, *places: Place) -> None:
        for place in places:
            async with self._turn(place, permit):
                pass

    def _locked(self, place: Place) -> contextlib.AbstractAsyncContextManager[None]:
        patience = self._patience_seconds
        return locked(place.lock, host=place.host, instance=place.instance, patience_seconds=patience)

    @contextlib.asynccontextmanager
    async def _turn(self, place: Place, permit: Permit) -> AsyncIterator[None]:
        """Change this place alone, and only with a permit that is not out of date."""
        async with self._locked(place):
            before = read_record(place.fence)
            fence = admit(before, permit, host=place.host, instance=place.instance)
            if fence != before:
                write_record(place.fence, fence)
            yield

    @contextlib.asynccontextmanager
    async def _asking(self, place: Place, process: QemuProcess, open_link: Link | None = None) -> AsyncIterator[Link]:
        """Talk to a process, over a link that is open or a new one; say what it means when it does not answer."""
        try:
            if open_link is not None:
                yield open_link
                return
            async with linked(process.driver, self._patience_seconds) as link:
                yield link
        except LinkLost as error:
            if not process.alive():
                raise _lost(place, process) from error
            raise _error(
                HostUnreachable, place, f"its QEMU (pid {process.pid}) is silent: {error}", "try again"
            ) from error
        except QmpRefusal as error:
            raise _error(HypervisorError, place, f"QEMU refused: {error}", "this is not expected; report it") from error

    async def _until(self, place: Place, what: str) -> AsyncIterator[None]:
        end = monotonic() + self._patience_seconds
        while monotonic() < end:
            yield
            await asyncio.sleep(_POLL_SECONDS)
        raise _error(HostUnreachable, place, f"{what} after {self._patience_seconds:g} s", "try again")


def _error(kind: type[HypervisorError], place: Place, what: str, mend: str) -> HypervisorError:
    return kind(what, host=place.host, instance=place.instance, mend=mend)


def _lost(place: Place, process: QemuProcess) -> HypervisorError:
    said = process.last_words()
    what = f"its QEMU (pid {process.pid}) is gone" + (f" and said: {said}" if said else "")
    return _error(GuestLost, place, what, "boot the guest again from its disk")
