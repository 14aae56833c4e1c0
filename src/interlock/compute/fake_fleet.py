"""The simulated hosts with the verbs of every move. Beside the faults of `FakeHypervisor` it knows a full storage, and damaged disks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from interlock.compute.fake_hypervisor import FakeHypervisor
from interlock.compute.fake_world import Disk, FakeWorld, Image
from interlock.compute.fleet import WHOLE_HOST, DiskFull
from interlock.compute.hypervisor import (
    Guest,
    HostUnreachable,
    HypervisorError,
    Incoming,
    Permit,
    RunState,
    Unsafe,
    Unsuitable,
    checked_name,
)

__all__ = ["FakeFleet", "FakeWorld"]


class FakeFleet(FakeHypervisor):
    """Hosts that exist only in a `FakeWorld`, or in a JSON file. Speaks `Fleet`."""

    # -- faults ------------------------------------------------------------------------------------------------------

    async def fill(self, full: bool = True) -> None:
        """Let there be no room on the storage, or room again."""
        async with self._open() as world:
            world.full = full

    async def damage(self, instance: str) -> None:
        """Let a guest's disk be damaged: nothing starts from it any more."""
        async with self._open() as world:
            for key, disk in world.disks.items():
                if key.rpartition("/")[2] == instance:
                    disk.damaged = True

    # -- a guest's process -------------------------------------------------------------------------------------------

    async def made_as(self, instance: str) -> Guest:
        async with self._open() as world:
            return self._guest(world, instance)

    async def welcome(self, instance: str, host: str) -> None:
        async with self._verb("welcome", host, instance) as world:
            self._welcome(world, host, instance)

    async def check(self, instance: str, source: str, destination: str) -> None:
        async with self._open() as world:
            self._reach(world, destination, instance)
            self._welcome(world, destination, instance)
        await super().check(instance, source, destination)

    async def prepare(self, instance: str, host: str, permit: Permit, *, postcopy: bool = False) -> Incoming:
        async with self._open() as world:
            self._reach(world, host, instance)
            process = world.find(instance, host)
            if process is None or process.migration != permit.migration:
                self._welcome(world, host, instance)
        return await super().prepare(instance, host, permit, postcopy=postcopy)

    async def where(self, instance: str) -> Mapping[str, RunState]:
        await self._sleep(self._latency_seconds)
        async with self._open() as world:
            return self._where(world, instance)

    async def stop(self, instance: str, host: str, permit: Permit) -> None:
        async with self._verb("stop", host, instance, permit) as world:
            process = world.find(instance, host)
            if process is not None:
                world.lose(process, self._clock())
                world.forget(process)

    async def start(self, guest: Guest, host: str, permit: Permit) -> None:
        instance = guest.instance
        async with self._verb("start", host, instance, permit) as world:
            if host in world.evacuations:
                raise _error(Unsuitable, host, instance, "the host is fenced", "take the host back first")
            made = world.guests.get(instance)
            there = self._where(world, instance)
            if there == {host: RunState.RUNNING} and made == asdict(guest):
                return
            if there:
                found = ", ".join(f"{state} on {name}" for name, state in there.items())
                raise _error(Unsafe, host, instance, f"it is already {found}", "stop it there first")
            self._only_here(world, host, instance)
            disk = world.disks.get(world.disk_key(instance, host))
            if disk is None:
                raise _error(Unsuitable, host, instance, "it has no disk", "make it first")
            if disk.damaged:
                raise _error(
                    Unsuitable, host, instance, "its disk is damaged", "make a guest from an image in its place"
                )
            self._forget_dead(world, instance)
            world.copies.pop(instance, None)
            world.guests[instance] = asdict(guest)
            world.begin(instance, host, self._clock())

    # -- its disk ----------------------------------------------------------------------------------------------------

    async def sound(self, instance: str, host: str) -> None:
        async with self._verb("sound", host, instance) as world:
            if self._disk(world, instance, host).damaged:
                raise _error(
                    Unsuitable, host, instance, "its disk is damaged", "make a guest from an image in its place"
                )

    async def carry(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        async with self._verb("carry", source, instance, permit) as world:
            self._admit(world, destination, instance, permit)
            if self._guest(world, instance).storage == "shared" or source == destination:
                return
            self._off(world, destination, instance)
            here, there = (world.disk_key(instance, host) for host in (source, destination))
            if here in world.disks:
                self._only_here(world, source, instance)
                self._room(world, destination, instance)
                world.disks[there] = world.disks.pop(here)
            self._disk(world, instance, destination)
            self._forget_dead(world, instance)

    async def make(self, guest: Guest, host: str, permit: Permit, image: str = "") -> None:
        instance = guest.instance
        async with self._verb("make", host, instance, permit) as world:
            self._only_here(world, host, instance)
            if (disk := world.disks.get(world.disk_key(instance, host))) is not None:
                if disk.by == permit.migration or (world.guests.get(instance) == asdict(guest) and not image):
                    return
                what = f"it was made as {world.guests[instance]}"
                raise _error(Unsuitable, host, instance, what, "name another guest")
            source = self._image(world, image, instance, host) if image else Image({}, 0, "")
            self._room(world, host, instance)
            world.guests[instance] = asdict(guest)
            world.disks[world.disk_key(instance, host)] = Disk(source.life, by=permit.migration, damaged=source.damaged)

    async def unmake(self, instance: str, host: str, permit: Permit, *, mine: bool = False) -> None:
        async with self._verb("unmake", host, instance, permit) as world:
            disk = world.disks.get(world.disk_key(instance, host))
            if disk is None or (mine and disk.by != permit.migration):
                return
            self._off(world, host, instance)
            self._forget_dead(world, instance)
            for key in [one for one in world.disks if one.rpartition("/")[2] == instance]:
                del world.disks[key]
            world.guests.pop(instance, None)

    async def save(self, instance: str, host: str, name: str, permit: Permit) -> None:
        async with self._verb("save", host, instance, permit) as world:
            disk = self._in_hand(world, instance, host)
            if name not in disk.saves:
                self._room(world, host, instance)
                disk.saves[name] = disk.life

    async def restore(self, instance: str, host: str, name: str, permit: Permit) -> None:
        async with self._verb("restore", host, instance, permit) as world:
            if name in self._disk(world, instance, host).saves:
                disk = self._in_hand(world, instance, host)
                disk.life = disk.saves.pop(name)

    async def forget(self, instance: str, host: str, name: str, permit: Permit) -> None:
        async with self._verb("forget", host, instance, permit) as world:
            self._disk(world, instance, host).saves.pop(name, None)

    async def saved(self, instance: str) -> Sequence[str]:
        async with self._open() as world:
            found = [disk for key, disk in world.disks.items() if key.rpartition("/")[2] == instance]
            return sorted(name for disk in found for name in disk.saves)

    async def write(self, instance: str, host: str, image: str, permit: Permit) -> None:
        async with self._verb("write", host, instance, permit) as world:
            disk = self._in_hand(world, instance, host)
            source = self._image(world, image, instance, host) if image else Image({}, 0, "")
            self._room(world, host, instance)
            disk.life, disk.damaged = source.life, source.damaged

    # -- images ------------------------------------------------------------------------------------------------------

    async def capture(self, instance: str, host: str, image: str, permit: Permit) -> None:
        checked_name("image", image)
        async with self._verb("capture", host, instance, permit) as world:
            if (known := world.images.get(image)) is not None and known.by != permit.migration:
                raise _error(Unsuitable, host, instance, f"there is an image {image}", "choose another name")
            if known is not None and known.ready:
                return
            disk, process = self._disk(world, instance, host), world.living(instance).get(host)
            self._room(world, host, instance)
            life = process.life(self._clock()) if process is not None else disk.life
            world.images[image] = Image(dict(world.guests[instance]), life, permit.migration, damaged=disk.damaged)

    async def publish(self, instance: str, host: str, image: str, permit: Permit) -> None:
        async with self._verb("publish", host, instance, permit) as world:
            if (found := world.images.get(image)) is None or found.by != permit.migration:
                raise _error(Unsuitable, host, instance, f"there is no image {image} of this operation", "capture it")
            found.ready = True

    async def discard(self, instance: str, host: str, image: str, permit: Permit, *, mine: bool = False) -> None:
        async with self._verb("discard", host, instance, permit) as world:
            if (found := world.images.get(image)) is not None and (not mine or found.by == permit.migration):
                del world.images[image]

    async def images(self) -> Mapping[str, Guest]:
        async with self._open() as world:
            return {name: Guest(**image.guest) for name, image in sorted(world.images.items()) if image.ready}

    # -- a host ------------------------------------------------------------------------------------------------------

    async def guests_on(self, host: str) -> Sequence[str]:
        async with self._verb("guests_on", host, WHOLE_HOST) as world:
            self._answers(world, host)
            return sorted(process.instance for process in world.processes if process.host == host and not process.dead)

    async def had(self, instance: str, host: str) -> bool:
        async with self._open() as world:
            self._reach(world, host, instance, out_of_band=True)
            return world.find(instance, host) is not None

    async def evacuations(self, host: str) -> Mapping[str, bool]:
        async with self._open() as world:
            self._reach(world, host, WHOLE_HOST, out_of_band=True)
            return {instance: record["done"] for instance, record in world.evacuations.get(host, {}).items()}

    async def disable(self, host: str, permit: Permit) -> None:
        async with self._verb("disable", host, WHOLE_HOST, permit) as world:
            world.disabled.setdefault(host, permit.migration)

    async def enable(self, host: str, permit: Permit) -> None:
        async with self._verb("enable", host, WHOLE_HOST, permit) as world:
            if world.disabled.get(host) == permit.migration:
                del world.disabled[host]

    async def fence(self, instance: str, host: str, permit: Permit) -> None:
        async with self._verb("fence", host, instance, permit, out_of_band=True) as world:
            records = world.evacuations.setdefault(host, {})
            known = records.get(instance)
            if known is not None and known["by"] != permit.migration and not known["done"]:
                what = f"operation {known['by']} evacuates it already"
                raise _error(Unsuitable, host, instance, what, "let that one end")
            records[instance] = {"by": permit.migration, "done": bool(known and known["done"])}
            for process in world.processes:
                if process.host == host and not process.dead:
                    world.lose(process, self._clock())

    async def withdraw(self, instance: str, host: str, permit: Permit) -> None:
        async with self._verb("withdraw", host, instance, permit, out_of_band=True) as world:
            records = world.evacuations.get(host, {})
            if instance in records and records[instance]["by"] == permit.migration:
                del records[instance]
                if not records:
                    del world.evacuations[host]

    async def evacuated(self, instance: str, host: str, permit: Permit) -> None:
        async with self._verb("evacuated", host, instance, permit, out_of_band=True) as world:
            record = world.evacuations.get(host, {}).get(instance)
            # None: it was done already, and the host is back.
            if record is not None and record["by"] == permit.migration:
                record["done"] = True

    async def take_back(self, host: str, permit: Permit) -> Sequence[str]:
        async with self._verb("take_back", host, WHOLE_HOST, permit) as world:
            self._answers(world, host)
            records = world.evacuations.get(host, {})
            for instance, record in records.items():
                if not record["done"]:
                    what = f"its evacuation {record['by']} is not done"
                    raise _error(Unsafe, host, instance, what, "let it end, then take the host back")
            for instance in records:
                if (process := world.find(instance, host)) is not None:
                    world.forget(process)
            world.evacuations.pop(host, None)
            world.disabled.pop(host, None)
            return sorted(records)

    # -- how it is done ----------------------------------------------------------------------------------------------

    def _welcome(self, world: FakeWorld, host: str, instance: str) -> None:
        if host in world.evacuations:
            raise _error(Unsuitable, host, instance, "the host is fenced", "take the host back first")
        if host in world.disabled:
            what = f"the host takes no new guests: {world.disabled[host]} disabled it"
            raise _error(Unsuitable, host, instance, what, "choose another host, or enable it")

    def _where(self, world: FakeWorld, instance: str) -> dict[str, RunState]:
        living = world.living(instance)
        for host in self._hosts:
            # A host that never had it need not answer.
            if world.find(instance, host) is not None:
                self._reach(world, host, instance)
        return {host: RunState(living[host].state) for host in self._hosts if host in living}

    def _forget_dead(self, world: FakeWorld, instance: str) -> None:
        """Where it died it is no longer looked for; from a fenced host it still has to be deleted."""
        for process in [one for one in world.processes if one.instance == instance and one.dead]:
            if process.host not in world.evacuations:
                world.forget(process)

    def _guest(self, world: FakeWorld, instance: str) -> Guest:
        if instance not in world.guests:
            raise _error(Unsuitable, "any host", instance, "there is no guest of this name", "boot it first")
        return Guest(**world.guests[instance])

    def _disk(self, world: FakeWorld, instance: str, host: str) -> Disk:
        self._only_here(world, host, instance)
        key = world.disk_key(instance, host)
        if key not in world.disks:
            raise _error(Unsuitable, host, instance, "it has no disk", "boot it first")
        return world.disks[key]

    def _image(self, world: FakeWorld, image: str, instance: str, host: str) -> Image:
        if image not in world.images or not world.images[image].ready:
            raise _error(Unsuitable, host, instance, f"there is no image {image}", "name one that is ready")
        if world.images[image].damaged:
            raise _error(Unsuitable, host, instance, f"image {image} is damaged", "name another one")
        return world.images[image]

    def _off(self, world: FakeWorld, host: str, instance: str) -> None:
        if there := self._where(world, instance):
            found = ", ".join(f"{state} on {name}" for name, state in there.items())
            raise _error(Unsafe, host, instance, f"its disk is in use: it is {found}", "stop it first")

    def _in_hand(self, world: FakeWorld, instance: str, host: str) -> Disk:
        self._off(world, host, instance)
        disk = self._disk(world, instance, host)
        if world.guests[instance]["disk"] == "raw":
            what, mend = "a raw disk has no snapshots", "make its disk in the format qcow2"
            raise _error(Unsuitable, host, instance, what, mend)
        if disk.damaged:
            raise _error(Unsuitable, host, instance, "its disk is damaged", "make a guest from an image in its place")
        return disk

    def _answers(self, world: FakeWorld, host: str) -> None:
        if host in world.unreachable:
            raise _error(HostUnreachable, host, WHOLE_HOST, "the host does not answer", "try again, or fence it")

    def _room(self, world: FakeWorld, host: str, instance: str) -> None:
        if world.full:
            raise _error(DiskFull, host, instance, "there is no room on the storage", "make room, and try again")


def _error(kind: type[HypervisorError], host: str, instance: str, what: str, mend: str) -> HypervisorError:
    return kind(what, host=host, instance=instance, mend=mend)
