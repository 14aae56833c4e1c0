"""How a driver reaches real QEMU processes: places, turns, links, and how a process is begun and ended. The verbs are in `QemuHosts`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from interlock.compute import guest as guest_image
from interlock.compute import qemu_words as qemu
from interlock.compute.hypervisor import (
    Guest,
    GuestLost,
    HostUnreachable,
    HypervisorError,
    Permit,
    Phase,
    RunState,
    Unsafe,
    Unsuitable,
    checked_name,
)
from interlock.compute.qemu_disks import qemu_img
from interlock.compute.qemu_process import Place, QemuProcess, socket_directory
from interlock.compute.qmp_link import Link, LinkLost, QmpRefusal, linked
from interlock.compute.records import admit, locked, read_record, write_record

__all__ = ["POLL_SECONDS", "QemuDriver", "error_of", "lost"]

POLL_SECONDS = 0.02
_ENDING_SECONDS = 1.0
"""How long a process may take to end once it has hung up: more than a tenth of a second was seen on a busy machine."""


class QemuDriver:
    """What every verb of `QemuHosts` stands on."""

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
    def _hosts(self) -> Sequence[str]:
        return self._named()

    def _place(self, instance: str, host: str) -> Place:
        if host not in self._hosts:
            known = ", ".join(self._hosts)
            raise Unsuitable("there is no such host", host=host, instance=instance, mend=f"choose one of {known}")
        return Place(self._root, self._sockets, host, checked_name("instance", instance))

    def _guest(self, place: Place) -> Guest:
        fields = read_record(self._root / "guests" / f"{place.instance}.json")
        if fields is None:
            raise error_of(Unsuitable, place, "no guest of this name was ever booted", "boot it first")
        return Guest(**fields)

    def _disk(self, guest: Guest, place: Place) -> Path:
        """Return where a guest's disk is, or would be, for a process at a place."""
        if guest.storage == "local":
            return place.directory / f"disk.{guest.disk}"
        return self._root / "guests" / f"{guest.instance}.{guest.disk}"

    def _disks_elsewhere(self, place: Place, guest: Guest) -> list[Place]:
        """Return the other places that have a disk of a guest, where the storage of each host is its own."""
        if guest.storage == "shared":
            return []
        others = [Place(self._root, self._sockets, host, guest.instance) for host in self._hosts if host != place.host]
        return [other for other in others if self._disk(guest, other).exists()]

    def _only_here(self, place: Place, guest: Guest) -> None:
        """Raise unless nobody else has a disk of this guest: a copy of it is no second guest, and half a copy is none at all."""
        elsewhere = " and ".join(other.host for other in self._disks_elsewhere(place, guest))
        if elsewhere and self._disk(guest, place).exists():
            what = f"its disk is here and on {elsewhere} too, of a move that has not ended"
            raise error_of(Unsafe, place, what, "let that move end, or delete the one that is not whole")
        if elsewhere:
            what, mend = f"its disk is on the own storage of {elsewhere}", "name that host, or move it while it runs"
            raise error_of(Unsuitable, place, what, mend)

    async def _make_disk(self, place: Place, guest: Guest) -> None:
        record = self._root / "guests" / f"{guest.instance}.json"
        if (known := read_record(record)) not in (None, asdict(guest)):
            raise error_of(
                Unsuitable, place, f"it was made as {known}", "boot it as it was made, or give it another name"
            )
        disk = self._disk(guest, place)
        if disk.exists():
            return
        disk.parent.mkdir(parents=True, exist_ok=True)
        write_record(record, asdict(guest))
        raw, draft = disk.with_suffix(".raw.new"), disk.with_suffix(".disk.new")
        guest_image.write_disk(raw, guest.filled_pages, guest.dirtied_pages)
        if guest.disk != "raw":
            command = ("qemu-img", "convert", "-O", guest.disk, str(raw), str(draft))
            try:
                image = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            except FileNotFoundError as error:
                mend = "install qemu-utils, or use disk='raw'"
                raise error_of(Unsuitable, place, "there is no qemu-img to make its disk", mend) from error
            _, errors = await image.communicate()
            if image.returncode:
                raise error_of(
                    Unsuitable, place, f"qemu-img: {errors.decode().strip()}", "mend that, and boot it again"
                )
            raw.unlink()
        (raw if guest.disk == "raw" else draft).replace(disk)

    async def _launch(self, place: Place, guest: Guest, migration: str | None) -> QemuProcess:
        size = await self._size_elsewhere(place, guest) if migration and guest.storage == "local" else None
        place.drop()
        process = place.fresh(migration)
        disk = self._disk(guest, place)
        if size is not None:
            disk.unlink(missing_ok=True)
            await qemu_img(place, "create", "-q", "-f", guest.disk, disk, str(size))
        try:
            process = process.start(self._binary, guest, disk)
        except OSError as error:
            place.drop()
            raise error_of(
                Unsuitable, place, f"cannot run {self._binary}: {error}", "install qemu-system-x86"
            ) from error
        place.save(process)
        async for _ in self._until(place, "QEMU started and does not answer"):
            if not process.alive():
                place.drop()
                mend = "mend what it complains of"
                raise error_of(Unsuitable, place, f"QEMU did not start: {process.last_words()}", mend)
            with contextlib.suppress(LinkLost):
                async with linked(process.driver, self._patience_seconds) as link:
                    wanted = RunState.INCOMING if migration else RunState.RUNNING
                    if await qemu.run_state(link) is wanted:
                        break
        return process

    async def _size_elsewhere(self, place: Place, guest: Guest) -> int:
        """Return the bytes of the disk of a guest that runs elsewhere, and raise unless it does: what is here is overwritten."""
        for other in self._disks_elsewhere(place, guest):
            if (process := other.living()) is not None:
                async with self._asking(other, process) as link:
                    if await qemu.run_state(link) in (RunState.RUNNING, RunState.PAUSED):
                        return await qemu.disk_size(link)
        mend = "start it where its disk is, then move it"
        raise error_of(Unsuitable, place, "it runs nowhere that its disk could be copied from", mend)

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
                raise error_of(Unsafe, place, f"this destination holds the guest, which is {state}", "leave it there")
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
            raise error_of(Unsuitable, place, "it has no process there", "name the host it runs on")
        if not process.alive():
            raise lost(place, process)
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
            if await _has_ended(process):
                raise lost(place, process) from error
            raise error_of(
                HostUnreachable, place, f"its QEMU (pid {process.pid}) is silent: {error}", "try again"
            ) from error
        except QmpRefusal as error:
            raise error_of(
                HypervisorError, place, f"QEMU refused: {error}", "this is not expected; report it"
            ) from error

    async def _until(self, place: Place, what: str) -> AsyncIterator[None]:
        end = monotonic() + self._patience_seconds
        while monotonic() < end:
            yield
            await asyncio.sleep(POLL_SECONDS)
        raise error_of(HostUnreachable, place, f"{what} after {self._patience_seconds:g} s", "try again")


async def _has_ended(process: QemuProcess) -> bool:
    """Whether a process that did not answer is gone. One that dies hangs up first, and is gone only then."""
    end = monotonic() + _ENDING_SECONDS
    while process.alive():
        if monotonic() > end:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def error_of(kind: type[HypervisorError], place: Place, what: str, mend: str) -> HypervisorError:
    return kind(what, host=place.host, instance=place.instance, mend=mend)


def lost(place: Place, process: QemuProcess) -> HypervisorError:
    said = process.last_words()
    what = f"its QEMU (pid {process.pid}) is gone" + (f" and said: {said}" if said else "")
    return error_of(GuestLost, place, what, "boot the guest again from its disk")
