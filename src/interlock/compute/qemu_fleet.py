"""Hosts that really run QEMU, with the verbs of every move. Beside the files of `QemuHosts` there are, in the same directory::

DIRECTORY/makers/<instance>.json       the operation that made the guest's disk
DIRECTORY/images/<image>.json, .qcow2  of what guest it is, who captured it, whether it is ready; and the image
DIRECTORY/hosts/<host>/disabled.json   who disabled the host
                       evacuations.json  who evacuates which guest from it, and whether that is done: the fence
                       unreachable     stands for a host that does not answer; what runs on it goes on
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from interlock.compute import guest as guest_image
from interlock.compute.fleet import WHOLE_HOST
from interlock.compute.hypervisor import (
    Console,
    Guest,
    GuestLost,
    HostUnreachable,
    HypervisorError,
    Incoming,
    Permit,
    RunState,
    Unsafe,
    Unsuitable,
    checked_name,
)
from interlock.compute.qemu_disks import carried, end_copy, live_copy, qemu_img, snapshots, virtual_size
from interlock.compute.qemu_driver import error_of
from interlock.compute.qemu_host import QemuHosts
from interlock.compute.qemu_process import Place, QemuProcess
from interlock.compute.records import read_record, write_record

__all__ = ["QemuFleet"]

_GRACE_SECONDS = 5.0


class QemuFleet(QemuHosts):
    """A few hosts on this machine, each with real QEMU processes. Speaks `Fleet`."""

    async def cut_off(self, host: str, *, reachable: bool = False) -> None:
        """Let a host no longer be reached by any verb, or be reached again; its guests go on."""
        mark = self._of_host(host) / "unreachable"
        if reachable:
            mark.unlink(missing_ok=True)
        else:
            mark.touch()

    # -- a guest's process -------------------------------------------------------------------------------------------

    async def made_as(self, instance: str) -> Guest:
        return self._guest(self._anywhere(instance))

    async def welcome(self, instance: str, host: str) -> None:
        place = self._place(instance, host)
        if self._evacuations(host):
            raise error_of(Unsuitable, place, "the host is fenced", "take the host back first")
        if (disabled := read_record(self._of_host(host) / "disabled.json")) is not None:
            what = f"the host takes no new guests: {disabled['by']} disabled it"
            raise error_of(Unsuitable, place, what, "choose another host, or enable it")

    async def check(self, instance: str, source: str, destination: str) -> None:
        await self.welcome(instance, destination)
        await super().check(instance, source, destination)

    async def prepare(self, instance: str, host: str, permit: Permit, *, postcopy: bool = False) -> Incoming:
        process = self._place(instance, host).recorded()
        if process is None or process.migration != permit.migration:
            await self.welcome(instance, host)
        return await super().prepare(instance, host, permit, postcopy=postcopy)

    async def where(self, instance: str) -> Mapping[str, RunState]:
        found: dict[str, RunState] = {}
        for host in self._hosts:
            # What is fenced is off, and a host that never had it need not answer.
            if self._evacuations(host) or self._out_of_band(instance, host).recorded() is None:
                continue
            place = self._place(instance, host)
            if (process := place.living()) is not None:
                with contextlib.suppress(GuestLost):
                    found[host] = await self._state(place, process)
        return found

    async def consoles(self, instance: str) -> Sequence[Console]:
        places = [Place(self._root, self._sockets, host, instance) for host in self._hosts]
        return [Console(p.host, path.read_text(errors="replace")) for p in places for path in p.consoles()]

    async def stop(self, instance: str, host: str, permit: Permit) -> None:
        place = self._place(instance, host)
        async with self._turn(place, permit):
            process = place.recorded()
            if process is None or self._evacuations(host):
                return
            if process.alive():
                await self._power_off(place, process)
            await self._end(place, process)

    async def start(self, guest: Guest, host: str, permit: Permit) -> None:
        place = self._place(guest.instance, host)
        async with self._turn(place, permit):
            self._not_fenced(place)
            states = await self.where(guest.instance)
            record = self._root / "guests" / f"{guest.instance}.json"
            process = place.living()
            if states != {host: RunState.RUNNING} or read_record(record) != asdict(guest) or process is None:
                self._nowhere(place, states)
                self._only_here(place, guest)
                if not self._disk(guest, place).exists():
                    raise error_of(Unsuitable, place, "it has no disk", "make it first")
                self._forget_dead(guest.instance)
                write_record(record, asdict(guest))
                process = await self._launch(place, guest, None)
            async for _ in self._until(place, "it was started and says nothing"):
                if self._evacuations(host):
                    # Fenced in between: it must not be there.
                    await self._end(place, process)
                    self._not_fenced(place)
                if not process.alive():
                    self._holder(place)
                if process.has_printed():
                    return

    # -- its disk ----------------------------------------------------------------------------------------------------

    async def sound(self, instance: str, host: str) -> None:
        place = self._place(instance, host)
        disk = self._existing(place)
        self._nowhere(place, await self.where(instance))
        if disk.suffix == ".qcow2":
            await qemu_img(place, "check", "-f", "qcow2", disk)

    async def carry(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        here, there = self._place(instance, source), self._place(instance, destination)
        guest = self._guest(here)
        if guest.storage == "shared" or source == destination:
            return
        # In one order, whichever way it goes: who holds one of them never waits for who holds the other.
        async with self._turn(min(here, there, key=_host), permit), self._turn(max(here, there, key=_host), permit):
            self._nowhere(there, await self.where(instance))
            if self._disk(guest, here).exists():
                self._only_here(here, guest)
            elif self._disks_elsewhere(there, guest):
                self._only_here(there, guest)
            self._forget_dead(instance)
            await carried(there, self._disk(guest, here), self._disk(guest, there))

    async def make(self, guest: Guest, host: str, permit: Permit, image: str = "") -> None:
        place = self._place(guest.instance, host)
        async with self._turn(place, permit):
            self._only_here(place, guest)
            disk, maker = self._disk(guest, place), self._maker(guest.instance)
            if disk.exists():
                known = read_record(self._root / "guests" / f"{guest.instance}.json")
                mine = (read_record(maker) or {}).get("by") == permit.migration
                if mine or (known == asdict(guest) and not image):
                    return
                raise error_of(Unsuitable, place, f"it was made as {known}", "name another guest")
            source = self._ready(place, image) if image else None
            write_record(maker, {"by": permit.migration})
            write_record(self._root / "guests" / f"{guest.instance}.json", asdict(guest))
            if source is None:
                return await self._make_disk(place, guest)
            disk.parent.mkdir(parents=True, exist_ok=True)
            draft = disk.with_suffix(".disk.new")
            await self._drafted(draft, place, "convert", "-f", "qcow2", "-O", guest.disk, source, draft)
            draft.replace(disk)

    async def unmake(self, instance: str, host: str, permit: Permit, *, mine: bool = False) -> None:
        place = self._place(instance, host)
        async with self._turn(place, permit):
            maker = self._maker(instance)
            if mine and (read_record(maker) or {}).get("by") != permit.migration:
                return
            self._nowhere(place, await self.where(instance))
            self._forget_dead(instance)
            for own in [path for host in self._hosts for path in self._own_disks(instance, host)]:
                own.unlink()
            for suffix in ("qcow2", "raw", "raw.new", "disk.new", "json"):
                (self._root / "guests" / f"{instance}.{suffix}").unlink(missing_ok=True)
            maker.unlink(missing_ok=True)

    async def save(self, instance: str, host: str, name: str, permit: Permit) -> None:
        async with self._disk_in_hand(instance, host, permit) as (place, disk):
            if name not in await snapshots(place, disk):
                await qemu_img(place, "snapshot", "-c", name, disk)

    async def restore(self, instance: str, host: str, name: str, permit: Permit) -> None:
        place = self._place(instance, host)
        if name not in await snapshots(place, self._existing(place)):
            async with self._turn(place, permit):
                return
        async with self._disk_in_hand(instance, host, permit) as (place, disk):
            if name in await snapshots(place, disk):
                await qemu_img(place, "snapshot", "-a", name, disk)
                await qemu_img(place, "snapshot", "-d", name, disk)

    async def forget(self, instance: str, host: str, name: str, permit: Permit) -> None:
        place = self._place(instance, host)
        async with self._turn(place, permit):
            disk = self._existing(place)
            if name not in await snapshots(place, disk):
                return
            process = place.living()
            if process is None:
                self._nowhere(place, await self.where(instance))
                await qemu_img(place, "snapshot", "-d", name, disk)
                return
            async with self._asking(place, process) as link:
                await link.ask("blockdev-snapshot-delete-internal-sync", {"device": "d0", "name": name})

    async def saved(self, instance: str) -> Sequence[str]:
        place = self._anywhere(instance)
        elsewhere = self._disks_elsewhere(place, guest := self._guest(place))
        place = elsewhere[0] if elsewhere and not self._disk(guest, place).exists() else place
        return await snapshots(place, self._existing(place))

    async def write(self, instance: str, host: str, image: str, permit: Permit) -> None:
        async with self._disk_in_hand(instance, host, permit) as (place, disk):
            guest = self._guest(place)
            if image:
                return await self._written(place, self._ready(place, image), disk, guest)
            raw = disk.with_suffix(".raw.new")
            guest_image.write_disk(raw, guest.filled_pages, guest.dirtied_pages)
            try:
                await self._written(place, raw, disk, guest)
            finally:
                raw.unlink()

    # -- images ------------------------------------------------------------------------------------------------------

    async def capture(self, instance: str, host: str, image: str, permit: Permit) -> None:
        place = self._place(instance, host)
        record, target = self._image(image)
        async with self._turn(place, permit):
            known = read_record(record)
            if known is not None and known["by"] != permit.migration:
                raise error_of(Unsuitable, place, f"there is an image {image}", "choose another name")
            if known is not None and known["ready"]:
                return
            guest, disk = self._guest(place), self._existing(place)
            write_record(record, {"by": permit.migration, "ready": False, "guest": asdict(guest)})
            process = place.living()
            if process is None:
                self._nowhere(place, await self.where(instance))
                return await self._drafted(target, place, "convert", "-f", guest.disk, "-O", "qcow2", disk, target)
            size = await virtual_size(place, disk)
            async with self._asking(place, process) as link:
                await end_copy(link, target)
                await self._drafted(target, place, "create", "-q", "-f", "qcow2", target, str(size))
                await live_copy(place, link, target)

    async def publish(self, instance: str, host: str, image: str, permit: Permit) -> None:
        place = self._place(instance, host)
        record, target = self._image(image)
        async with self._turn(place, permit):
            known = read_record(record)
            if known is None or known["by"] != permit.migration or not target.exists():
                raise error_of(Unsuitable, place, f"there is no image {image} of this operation", "capture it first")
            write_record(record, {**known, "ready": True})

    async def discard(self, instance: str, host: str, image: str, permit: Permit, *, mine: bool = False) -> None:
        place = self._place(instance, host)
        record, target = self._image(image)
        async with self._turn(place, permit):
            known = read_record(record)
            if known is None or (mine and known["by"] != permit.migration):
                return
            if (process := place.living()) is not None:
                async with self._asking(place, process) as link:
                    await end_copy(link, target)
            target.unlink(missing_ok=True)
            record.unlink()

    async def images(self) -> Mapping[str, Guest]:
        found = {path.stem: read_record(path) for path in sorted((self._root / "images").glob("*.json"))}
        return {name: Guest(**record["guest"]) for name, record in found.items() if record and record["ready"]}

    # -- a host ------------------------------------------------------------------------------------------------------

    async def guests_on(self, host: str) -> Sequence[str]:
        found = sorted(self._whole(host, reached=True).directory.parent.glob("*/qemu.json"))
        places = [self._out_of_band(record.parent.name, host) for record in found]
        return [place.instance for place in places if place.living() is not None]

    async def had(self, instance: str, host: str) -> bool:
        return self._out_of_band(instance, host).recorded() is not None

    async def evacuations(self, host: str) -> Mapping[str, bool]:
        self._of_host(host)
        return {instance: record["done"] for instance, record in self._evacuations(host).items()}

    async def disable(self, host: str, permit: Permit) -> None:
        async with self._turn(self._whole(host, reached=True), permit):
            if read_record(mark := self._of_host(host) / "disabled.json") is None:
                write_record(mark, {"by": permit.migration})

    async def enable(self, host: str, permit: Permit) -> None:
        async with self._turn(self._whole(host, reached=True), permit):
            mark = self._of_host(host) / "disabled.json"
            if (read_record(mark) or {}).get("by") == permit.migration:
                mark.unlink()

    async def fence(self, instance: str, host: str, permit: Permit) -> None:
        place = self._whole(host)
        async with self._turn(self._out_of_band(instance, host), permit), self._locked(place):
            records = self._evacuations(host)
            known = records.get(instance)
            if known is not None and known["by"] != permit.migration and not known["done"]:
                what = f"operation {known['by']} evacuates it already"
                raise error_of(Unsuitable, place, what, "let that one end")
            records[instance] = {"by": permit.migration, "done": bool(known and known["done"])}
            write_record(self._of_host(host) / "evacuations.json", records)
            for record in sorted(self._of_host(host).glob("*/qemu.json")):
                one = self._out_of_band(record.parent.name, host)
                if (process := one.recorded()) is not None:
                    await self._killed(one, process)

    async def withdraw(self, instance: str, host: str, permit: Permit) -> None:
        async with self._turn(self._out_of_band(instance, host), permit), self._locked(self._whole(host)):
            records = self._evacuations(host)
            if records.get(instance, {}).get("by") == permit.migration:
                del records[instance]
                self._record_evacuations(host, records)

    async def evacuated(self, instance: str, host: str, permit: Permit) -> None:
        async with self._turn(self._out_of_band(instance, host), permit), self._locked(self._whole(host)):
            records = self._evacuations(host)
            # None: it was done already, and the host is back.
            if records.get(instance, {}).get("by") == permit.migration:
                records[instance]["done"] = True
                self._record_evacuations(host, records)

    async def take_back(self, host: str, permit: Permit) -> Sequence[str]:
        place = self._whole(host, reached=True)
        async with self._turn(place, permit):
            records = self._evacuations(host)
            for instance, record in records.items():
                if not record["done"]:
                    what, mend = f"its evacuation {record['by']} is not done", "let it end, then take the host back"
                    raise error_of(Unsafe, self._out_of_band(instance, host), what, mend)
            for instance in records:
                left = self._out_of_band(instance, host)
                if (process := left.recorded()) is not None:
                    await self._end(left, process)
            self._record_evacuations(host, {})
            (self._of_host(host) / "disabled.json").unlink(missing_ok=True)
            return sorted(records)

    # -- how it is done ----------------------------------------------------------------------------------------------

    def _place(self, instance: str, host: str) -> Place:
        place = super()._place(instance, host)
        # A fenced host is off: what must be known of it is known without its answer.
        if (self._of_host(host) / "unreachable").exists() and not self._evacuations(host):
            raise error_of(HostUnreachable, place, "the host does not answer", "try again, or fence it")
        return place

    def _out_of_band(self, instance: str, host: str) -> Place:
        return super()._place(instance, host)

    def _whole(self, host: str, *, reached: bool = False) -> Place:
        """The place of what is recorded of a host as a whole; ``reached``: the host must answer, fenced or not."""
        directory = self._of_host(host)
        place = Place(self._root, self._sockets, host, WHOLE_HOST)
        if reached and (directory / "unreachable").exists():
            raise error_of(HostUnreachable, place, "the host does not answer", "try again, or fence it")
        return place

    def _of_host(self, host: str) -> Path:
        directory = super()._place("any", host).directory.parent
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _anywhere(self, instance: str) -> Place:
        return super()._place(instance, self._hosts[0])

    def _maker(self, instance: str) -> Path:
        return self._root / "makers" / f"{instance}.json"

    def _image(self, image: str) -> tuple[Path, Path]:
        directory = self._root / "images"
        directory.mkdir(exist_ok=True)
        checked_name("image", image)
        return directory / f"{image}.json", directory / f"{image}.qcow2"

    def _ready(self, place: Place, image: str) -> Path:
        record, target = self._image(image)
        if not (read_record(record) or {}).get("ready"):
            raise error_of(Unsuitable, place, f"there is no image {image}", "name one that is ready")
        return target

    def _existing(self, place: Place) -> Path:
        self._only_here(place, guest := self._guest(place))
        disk = self._disk(guest, place)
        if not disk.exists():
            raise error_of(Unsuitable, place, "it has no disk", "make it first")
        return disk

    def _own_disks(self, instance: str, host: str) -> list[Path]:
        """Return what a host has on its own storage of a guest's disk; raises if there is something and it does not answer."""
        found = sorted(self._out_of_band(instance, host).directory.glob("disk.*"))
        if found:
            self._place(instance, host)
        return found

    def _evacuations(self, host: str) -> dict[str, dict[str, Any]]:
        return read_record(self._root / "hosts" / host / "evacuations.json") or {}

    def _record_evacuations(self, host: str, records: Mapping[str, Any]) -> None:
        path = self._of_host(host) / "evacuations.json"
        if records:
            write_record(path, records)
        else:
            path.unlink(missing_ok=True)

    def _not_fenced(self, place: Place) -> None:
        if self._evacuations(place.host):
            raise error_of(Unsuitable, place, "the host is fenced", "take the host back first")

    def _forget_dead(self, instance: str) -> None:
        """Where it died it is no longer looked for; from a fenced host it still has to be deleted."""
        for place in (self._out_of_band(instance, host) for host in self._hosts if not self._evacuations(host)):
            if place.living() is None:
                place.drop()

    def _nowhere(self, place: Place, states: Mapping[str, RunState]) -> None:
        if states:
            found = ", ".join(f"{state} on {name}" for name, state in states.items())
            raise error_of(Unsafe, place, f"it is already {found}", "stop it there first")

    @contextlib.asynccontextmanager
    async def _disk_in_hand(self, instance: str, host: str, permit: Permit) -> AsyncIterator[tuple[Place, Path]]:
        place = self._place(instance, host)
        async with self._turn(place, permit):
            disk = self._existing(place)
            if disk.suffix == ".raw":
                what, mend = "a raw disk has no snapshots", "make its disk in the format qcow2"
                raise error_of(Unsuitable, place, what, mend)
            self._nowhere(place, await self.where(instance))
            yield place, disk

    async def _drafted(self, draft: Path, place: Place, *arguments: str | Path) -> None:
        """Write a file by `qemu-img`; half a file is not left."""
        with _no_half(draft):
            await qemu_img(place, *arguments)

    async def _written(self, place: Place, source: Path, disk: Path, guest: Guest) -> None:
        form = "raw" if source.suffix == ".new" else "qcow2"
        await qemu_img(place, "convert", "-n", "-f", form, "-O", guest.disk, source, disk)

    async def _power_off(self, place: Place, process: QemuProcess) -> None:
        """Ask the guest to switch itself off, and wait a little; whoever does not is killed afterwards."""
        with contextlib.suppress(GuestLost, HostUnreachable):
            async with self._asking(place, process) as link:
                await link.ask("system_powerdown")
        end = monotonic() + _GRACE_SECONDS
        async for _ in self._until(place, "it does not end"):
            if not process.alive() or monotonic() > end:
                return


def _host(place: Place) -> str:
    return place.host


@contextlib.contextmanager
def _no_half(draft: Path) -> Iterator[None]:
    try:
        yield
    except HypervisorError:
        draft.unlink(missing_ok=True)
        raise
