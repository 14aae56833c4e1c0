"""The world of the simulated hosts: plain data that outlives whoever drives it, and what happens in it while time passes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from interlock.compute.guest import TICKS_PER_SECOND, Line, render
from interlock.compute.hypervisor import Phase, Progress, RunState
from interlock.compute.records import Fence

__all__ = ["TORN", "Copy", "Disk", "FakeWorld", "Image", "Mirror", "Process"]

TORN = "it was in two places, and one of them is gone"
"""Why the copy of a guest that was pulled has failed."""


@dataclass
class Process:
    """A process that holds a guest, or once did. ``counter`` is the last line it printed, as of ``since`` if it runs."""

    host: str
    instance: str
    state: str
    migration: str | None = None
    port: int = 0
    first: int = 1
    counter: int = 0
    since: float | None = None
    nonce: int = 0
    disk: int = 0
    ram: int = 0
    cpus: int = 0

    def hold(self, at: float, state: str) -> None:
        self.counter, self.since, self.state = self.printed(at), None, state

    def run(self, at: float) -> None:
        self.state, self.since = RunState.RUNNING.value, at

    def printed(self, now: float) -> int:
        return self.counter + (int((now - self.since) * TICKS_PER_SECOND) if self.since is not None else 0)

    def life(self, now: float) -> int:
        """Return the counter that the guest keeps on its disk."""
        return self.disk + self.printed(now) // 16

    def text(self, now: float) -> str:
        """Return all that it printed."""
        counters = range(self.first, self.printed(now) + 1)
        return "".join(render(Line(self.nonce, n, 0, self.disk + n // 16, self.ram, self.cpus)) for n in counters)

    @property
    def dead(self) -> bool:
        return self.state == "dead"


@dataclass
class Copy:
    """A copy, as of ``since``: bytes sent and to send, and the rates at which they are sent and written again."""

    source: str
    destination: str
    since: float
    total: int
    remaining: float
    bytes_per_second: float
    dirty_bytes_per_second: float
    sent: float = 0.0
    phase: str = Phase.COPYING.value
    error: str = ""
    postcopy: bool = False

    def move_to(self, now: float) -> float | None:
        """Advance to ``now``; return the moment at which it became ready, if that is past."""
        if self.phase == Phase.PULLING:
            going = min(self.remaining, self.bytes_per_second * (now - self.since))
            self.since, self.sent, self.remaining = now, self.sent + going, self.remaining - going
            if not self.remaining:
                self.phase = Phase.COMPLETED.value
        if self.phase != Phase.COPYING:
            return None
        seconds = now - self.since
        net = self.bytes_per_second - self.dirty_bytes_per_second
        ready_at = self.since + self.remaining / net if net > 0 else None
        if ready_at is not None and ready_at <= now:
            self.phase, self.sent = Phase.READY.value, self.sent + self.bytes_per_second * (ready_at - self.since)
            self.since, self.remaining = ready_at, 0.0
            return ready_at
        self.since, self.sent = now, self.sent + self.bytes_per_second * seconds
        if net > 0:
            self.remaining -= net * seconds
        else:
            # It does not converge: what is written again in a second is always left to send.
            left = self.remaining - self.bytes_per_second * seconds
            self.remaining = max(left, min(self.dirty_bytes_per_second, self.total))
        return None


@dataclass
class Mirror:
    """The copy of a local disk from when it began; ready once the two are in step."""

    source: str
    destination: str
    began: float
    total: int
    bytes_per_second: float
    phase: str = Phase.COPYING.value
    error: str = ""

    def progress(self, now: float) -> Progress:
        sent = min(self.total, int(self.bytes_per_second * (now - self.began)))
        done = self.phase == Phase.COPYING and sent == self.total
        return Progress(Phase.READY if done else Phase(self.phase), sent, self.total - sent, self.total, self.error)


@dataclass
class Disk:
    """A guest's disk, shared by all hosts or local to one: the counter that the guest keeps on it, and what was saved of it.

    ``part``: a copy that is not whole.
    """

    life: int = 0
    saves: dict[str, int] = field(default_factory=dict)
    by: str = ""
    damaged: bool = False
    part: bool = False


@dataclass
class Image:
    """An image of a disk, and of what guest it is; not to be used before it is ready."""

    guest: dict[str, Any]
    life: int
    by: str
    ready: bool = False
    damaged: bool = False


@dataclass
class FakeWorld:
    """All hosts and guests of a `FakeHypervisor`: plain data, and the same after a crash of whoever drives it."""

    guests: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    past: list[Process] = field(default_factory=list)
    copies: dict[str, Copy] = field(default_factory=dict)
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    fences: dict[str, Fence] = field(default_factory=dict)
    boots: dict[str, int] = field(default_factory=dict)
    ports: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    disks: dict[str, Disk] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    evacuations: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    disabled: dict[str, str] = field(default_factory=dict)
    full: bool = False

    @classmethod
    def read(cls, fields: dict[str, Any]) -> FakeWorld:
        world = cls(**fields)
        world.processes = [Process(**process) for process in fields["processes"]]
        world.past = [Process(**process) for process in fields["past"]]
        world.copies = {key: Copy(**copy) for key, copy in fields["copies"].items()}
        world.mirrors = {key: Mirror(**mirror) for key, mirror in fields["mirrors"].items()}
        world.disks = {key: Disk(**disk) for key, disk in fields["disks"].items()}
        world.images = {key: Image(**image) for key, image in fields["images"].items()}
        return world

    def begin(self, instance: str, host: str, now: float) -> Process:
        """Let a guest begin a life on a host, from its disk."""
        guest, disk = self.guests[instance], self.disks.setdefault(self.disk_key(instance, host), Disk())
        self.boots[instance] = self.boots.get(instance, 0) + 1
        process = Process(host, instance, RunState.RUNNING.value, counter=1, since=now)
        process.nonce = zlib.crc32(f"{instance}:{self.boots[instance]}".encode())
        process.disk, process.ram, process.cpus = disk.life, guest["memory_mib"], guest["cpus"]
        self.processes.append(process)
        return process

    def disk_key(self, instance: str, host: str) -> str:
        """Return under which name the disk is kept that a guest has on a host."""
        local = self.guests.get(instance, {}).get("storage") == "local"
        return f"{host}/{instance}" if local else instance

    def disks_elsewhere(self, instance: str, host: str) -> list[str]:
        """Return the other hosts that have a local disk of a guest."""
        found = [key.partition("/") for key in self.disks if key.endswith(f"/{instance}")]
        return [other for other, _, _ in found if other != host]

    def find(self, instance: str, host: str) -> Process | None:
        """Return the process for a guest on a host, dead or alive."""
        return next((p for p in self.processes if (p.instance, p.host) == (instance, host)), None)

    def living(self, instance: str) -> dict[str, Process]:
        """Return the living processes for a guest by host."""
        return {p.host: p for p in self.processes if p.instance == instance and not p.dead}

    def forget(self, process: Process) -> None:
        """Remove a process; what it printed stays."""
        self.processes.remove(process)
        self.past.append(process)

    def advance(self, now: float) -> None:
        """Let happen what happened until now."""
        for instance, copy in self.copies.items():
            ready_at = copy.move_to(now)
            source = self.find(instance, copy.source)
            if ready_at is not None and source is not None:
                source.hold(ready_at, RunState.PAUSED)
            if copy.phase == Phase.COMPLETED and source is not None and source.state == RunState.FEEDING:
                source.state = RunState.LEFT.value

    def hand_over(self, copy: Copy, source: Process, destination: Process, phase: Phase, now: float) -> None:
        """Let a guest go on at its destination; its source keeps an empty shell, or memory that is still to be sent."""
        copy.phase = phase.value
        if (mirror := self.mirrors.pop(source.instance, None)) is not None:
            here, there = (self.disk_key(process.instance, process.host) for process in (source, destination))
            half = mirror.progress(now).phase is not Phase.READY
            self.disks[there] = replace(self.disks.pop(here), life=source.life(now), part=half)
        source.hold(now, RunState.FEEDING if phase is Phase.PULLING else RunState.LEFT)
        destination.first, destination.counter = source.counter + 1, source.counter
        destination.nonce, destination.disk = source.nonce, source.disk
        destination.ram, destination.cpus = source.ram, source.cpus
        destination.run(now)

    def end_copy(self, instance: str, phase: Phase, error: str, now: float) -> None:
        """End a copy under way without success: the guest runs on at its source, the destination ends."""
        copy = self.copies.get(instance)
        if copy is None or Phase(copy.phase).ended:
            return
        copy.phase, copy.error = phase.value, error
        source, destination = self.find(instance, copy.source), self.find(instance, copy.destination)
        if destination is not None:
            destination.hold(now, "dead")
        if source is not None and source.state == RunState.PAUSED:
            source.run(now)

    def lose(self, process: Process, now: float) -> None:
        """Let a process die."""
        copy = self.copies.get(process.instance)
        key = self.disk_key(process.instance, process.host)
        if process.state in (RunState.RUNNING, RunState.PAUSED) and key in self.disks:
            self.disks[key].life = process.life(now)
        process.hold(now, "dead")
        mirror = self.mirrors.get(process.instance)
        if mirror is not None and process.host in (mirror.source, mirror.destination):
            mirror.phase, mirror.error = Phase.FAILED.value, f"{process.host} is gone"
        if copy is not None and copy.phase == Phase.PULLING and process.host in (copy.source, copy.destination):
            # Torn in two. What is at the destination says that it runs, and stands still.
            copy.phase, copy.error = Phase.FAILED.value, TORN
            other = self.find(process.instance, copy.destination)
            if other is not None and not other.dead:
                other.hold(now, RunState.RUNNING)
        elif copy is not None and copy.destination == process.host:
            self.end_copy(process.instance, Phase.FAILED, "Unable to write to socket: Broken pipe", now)
        elif copy is not None and copy.source == process.host and not Phase(copy.phase).ended:
            destination = self.find(process.instance, copy.destination)
            if destination is not None:
                destination.hold(now, "dead")
            copy.phase, copy.error = Phase.FAILED.value, "the source died"
