"""What a live migration needs from a hypervisor: its verbs, its words, and its errors.

    HypervisorError
    ├── HostUnreachable     did not answer in time, or is locked by another driver: try again
    ├── Unsuitable          this guest cannot go there, or is not where it was said to be: do not
    ├── CopyFailed          the copy ended without success; the guest runs where it was
    │   └── NoCopy          there was none
    ├── CopyCancelled       somebody cancelled the copy; the guest runs where it was
    ├── GuestLost           the process that held the guest died: a person must boot it again from its disk
    ├── Unsafe              would lose the guest or run it twice: refused, nothing was changed
    └── StaleToken          a newer attempt has the guest in hand: refused, nothing was changed

Two classes speak this protocol: `QemuHosts` runs real QEMU processes, `FakeHypervisor` only says so. Every verb may be
repeated after a crash at any point: each first looks at what is, and does only what is missing. No state lives in the
driving process, so any other process may go on where one died.

Verbs that change something take a `Permit`. A host remembers, per guest, the migration and the highest token it has
seen. It refuses a lower token of the same migration, and every token of a migration that a newer one has followed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol

from interlock import errors
from interlock.compute.guest import PAGE_BYTES

__all__ = [
    "Console",
    "CopyCancelled",
    "CopyFailed",
    "Guest",
    "GuestLost",
    "HostUnreachable",
    "Hypervisor",
    "HypervisorError",
    "Incoming",
    "NoCopy",
    "Permit",
    "Phase",
    "Progress",
    "RunState",
    "StaleToken",
    "Unsafe",
    "Unsuitable",
    "checked_name",
    "settled",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class HypervisorError(errors.InterlockError):
    """Base of what goes wrong on a host; carries ``host`` and ``instance``, and says what happened and what to do next.

    ``worth_retrying`` belongs to the class: whether the same call can succeed later without anybody doing anything.
    """

    code = "hypervisor"
    worth_retrying: ClassVar[bool] = False

    def __init__(self, what: str, *, host: str, instance: str, mend: str, **details: Any) -> None:
        super().__init__(f"{instance} on {host}: {what}; {mend}", host=host, instance=instance, mend=mend, **details)
        self.host, self.instance, self.what, self.mend = host, instance, what, mend


class HostUnreachable(HypervisorError):
    """The host or its QEMU did not answer in time. What was asked may or may not have happened; ask again."""

    code = "host-unreachable"
    worth_retrying = True


class Unsuitable(HypervisorError):
    """This guest cannot be moved like that: unknown host, not running at the source, the destination will not have it."""

    code = "unsuitable"


class CopyFailed(HypervisorError):
    """The copy ended without success. The guest runs at its source; the destination is spent and must be prepared anew."""

    code = "copy-failed"


class NoCopy(CopyFailed):
    """No copy was ever started. The guest runs at its source."""

    code = "no-copy"


class CopyCancelled(HypervisorError):
    """The copy was cancelled. The guest runs at its source; the destination is spent and must be prepared anew."""

    code = "copy-cancelled"


class GuestLost(HypervisorError):
    """The process that held the guest is gone, and with it the guest's memory."""

    code = "guest-lost"


class Unsafe(HypervisorError):
    """Would lose the guest or let it run twice. Nothing was changed."""

    code = "unsafe"


class StaleToken(HypervisorError, errors.StaleToken):
    """A newer attempt, or a newer migration, has this guest in hand on this host. Nothing was changed."""

    code = "stale-token"


class Permit(NamedTuple):
    """The right to change a guest: the migration it is for, and the token of the attempt that asks."""

    migration: str
    token: int


@dataclass(frozen=True, slots=True)
class Guest:
    """What a guest is made of.

    ``filled_mib`` of its memory hold data that a copy must move, and ``dirtied_pages`` pages of 4 KiB of it are written
    again 18.2 times a second. ``disk`` is the format of its disk's image: "qcow2" or "raw". ``storage`` says where that is: "shared" by all
    hosts, or "local" to the host it is on; then it goes along when the guest is moved, and nothing is left of it where the host is lost.

    >>> Guest("vm-1", memory_mib=64, filled_mib=64)
    Traceback (most recent call last):
    ValueError: guest `vm-1`: filled_mib is 64, must be between 1 and 62 (memory_mib less 2)
    """

    instance: str
    memory_mib: int = 128
    cpus: int = 1
    filled_mib: int = 64
    dirtied_pages: int = 16
    disk: str = "qcow2"
    storage: str = "shared"

    def __post_init__(self) -> None:
        checked_name("instance", self.instance)
        limits = (
            ("memory_mib", 8, 2048, ""),
            ("cpus", 1, 16, ""),
            ("filled_mib", 1, self.memory_mib - 2, " (memory_mib less 2)"),
            ("dirtied_pages", 1, self.filled_pages, " (the pages of filled_mib)"),
        )
        for name, low, high, why in limits:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"guest `{self.instance}`: {name} is {value}, must be between {low} and {high}{why}")
        if self.disk not in ("qcow2", "raw"):
            raise ValueError(f"guest `{self.instance}`: disk is {self.disk!r}, must be 'qcow2' or 'raw'")
        if self.storage not in ("shared", "local"):
            raise ValueError(f"guest `{self.instance}`: storage is {self.storage!r}, must be 'shared' or 'local'")

    @property
    def filled_pages(self) -> int:
        """The pages of 4 KiB that it fills."""
        return self.filled_mib * (1 << 20) // PAGE_BYTES


class RunState(StrEnum):
    """What a process that holds a guest is doing with it."""

    RUNNING = "running"
    PAUSED = "paused"
    INCOMING = "incoming"
    FEEDING = "feeding"
    """The guest runs elsewhere, and some of its memory is still here."""
    LEFT = "left"
    """The guest went elsewhere; what remains is an empty shell."""


class Phase(StrEnum):
    """How far a copy is."""

    NONE = "none"
    COPYING = "copying"
    READY = "ready"
    """All is copied but what changes in the last instant: the guest is held and waits for the switch."""
    SWITCHING = "switching"
    PULLING = "pulling"
    """The guest runs at its destination, and gets the rest of its memory from its source as it needs it."""
    COMPLETED = "completed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether no copy is under way."""
        return self in (Phase.NONE, Phase.COMPLETED, Phase.CANCELLED, Phase.FAILED)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a copy is, in bytes. ``remaining`` may grow while the guest writes; ``error`` says why it failed."""

    phase: Phase
    transferred: int = 0
    remaining: int = 0
    total: int = 0
    error: str = ""

    @property
    def fraction(self) -> float:
        """The share that need not be sent any more, from 0 to 1.

        >>> Progress(Phase.COPYING, transferred=10, remaining=25, total=100).fraction
        0.75
        """
        if self.phase in (Phase.READY, Phase.SWITCHING, Phase.COMPLETED):
            return 1.0
        return (self.total - self.remaining) / self.total if self.total else 0.0


class Incoming(NamedTuple):
    """Where a prepared destination listens: ``uri`` for the source, and its TCP ``port`` on the loopback device.

    ``disk`` is where it takes the disk of a guest whose storage is local, else empty.
    """

    uri: str
    port: int
    disk: str = ""


class Console(NamedTuple):
    """What one process wrote to the guest's serial port, and on which host that was."""

    host: str
    text: str


class Hypervisor(Protocol):
    """The verbs of a live migration. Any of them may raise `HostUnreachable`; those with a permit, `StaleToken`."""

    @property
    def simulated(self) -> bool:
        """Whether nothing of this is real."""
        ...

    @property
    def hosts(self) -> Sequence[str]:
        """The hosts it knows, by name."""
        ...

    async def boot(self, guest: Guest, host: str) -> None:
        """Boot a guest from its disk, and return when it has said something. Its consoles begin anew.

        Where it already runs there, nothing happens; where it has a process elsewhere, `Unsafe`.
        """
        ...

    async def check(self, instance: str, source: str, destination: str) -> None:
        """Raise `Unsuitable` unless the guest runs at the source and could go to the destination. Changes nothing."""
        ...

    async def prepare(self, instance: str, host: str, permit: Permit, *, postcopy: bool = False) -> Incoming:
        """Start a destination that listens for the guest, or find the one that this migration has already started.

        A spent or foreign one that does not hold the guest is replaced. `Unsuitable` if the guest is there already, or the host cannot
        do what ``postcopy`` asks for: see `pull`. For a disk that is local to hosts it makes an empty one.
        """
        ...

    async def tear_down(self, instance: str, host: str, permit: Permit) -> bool:
        """Remove this migration's destination, and the copy of a local disk; say whether there was one. `Unsafe` if it holds the guest."""
        ...

    def mirror(
        self, instance: str, source: str, disk: str, permit: Permit, *, bytes_per_second: int | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Copy a local disk to where a destination takes it, ``disk``; yield how far that is, until the two are in step (ready).

        From then on they stay so, while the guest writes, until it is handed over or `end_mirror`. A copy under way to there is joined.
        Raises `CopyFailed`, `DiskFull` or `GuestLost`. Leave it early only from inside `contextlib.aclosing`.
        """
        ...

    async def end_mirror(self, instance: str, source: str, permit: Permit) -> None:
        """End the copy of a disk, if there is one. The guest goes on with the disk that it has."""
        ...

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
        """Start to copy the guest to ``uri`` and return the phase it is in: a copy under way or done is left alone.

        The guest is held when all is copied, until `switch_over`. Without ``bytes_per_second`` nothing slows the copy. `CopyFailed` if
        the guest's disk is local, and not mirrored.
        """
        ...

    def watch(self, instance: str, source: str) -> AsyncGenerator[Progress, None]:
        """Yield where the copy is, now and at least every quarter of a second, until it is ready or completed.

        Raises `CopyFailed`, `CopyCancelled` or `GuestLost` after the last one. Needs no earlier call in this process.
        Leave it early only from inside `contextlib.aclosing`.
        """
        ...

    async def cancel_copy(self, instance: str, source: str, permit: Permit) -> None:
        """Cancel the copy, if there is one, and return when the guest runs at the source, or its process is gone.

        `Unsafe` if it has left.
        """
        ...

    async def switch_over(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        """Hand the guest over, and return when it runs at the destination. A copy still under way is forced to its end."""
        ...

    def pull(self, instance: str, source: str, destination: str, permit: Permit) -> AsyncGenerator[Progress, None]:
        """Let the guest go on at the destination before its memory is there; yield how far that is, until all of it is there.

        Until then the guest is in two places: it does not survive the loss of either (`GuestLost`), and neither is removed. A link between
        them that breaks is mended. `Unsuitable` if source and destination were not told of ``postcopy``; then the guest stays. Leave it
        early only from inside `contextlib.aclosing`; another call goes on.
        """
        ...

    async def force(self, instance: str, source: str, permit: Permit) -> None:
        """Make a copy that does not converge end soon: no limit on its rate, and a longer hold of the guest allowed."""
        ...

    async def remove_source(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        """Remove what the guest left behind. `Unsafe` unless it runs at the destination and not at the source."""
        ...

    async def where(self, instance: str) -> Mapping[str, RunState]:
        """Return every host that has a living process for the guest, and what that does. Reads only reality."""
        ...

    async def consoles(self, instance: str) -> Sequence[Console]:
        """Return all that the guest ever printed, one entry for each process that held it: what `guest.prove` reads."""
        ...

    async def kill(self, instance: str, host: str) -> bool:
        """Kill the process for the guest on a host without any care, to see what happens. Say whether there was one."""
        ...

    async def stop_all(self) -> int:
        """Kill all guests on all hosts and forget who was allowed what; return how many there were."""
        ...


def checked_name(kind: str, name: str) -> str:
    """Return a host's or guest's name, fit for a file name, or raise ValueError.

    >>> checked_name("host", "../etc")
    Traceback (most recent call last):
    ValueError: host name '../etc': must be 1 to 63 of a-z, 0-9, '.', '_', '-', and begin with a letter or digit
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{kind} name {name!r}: must be 1 to 63 of a-z, 0-9, '.', '_', '-', and begin with a letter or digit"
        )
    return name


def settled(progress: Progress, *, host: str, instance: str) -> bool:
    """Return whether a copy is as far as it goes by itself; raise if it ended without success.

    >>> settled(Progress(Phase.COPYING), host="host-a", instance="vm-1")
    False
    """
    mend = "the guest still runs here; prepare a destination and copy again, or leave it"
    if progress.phase is Phase.CANCELLED:
        raise CopyCancelled("the copy was cancelled", host=host, instance=instance, mend=mend)
    if progress.phase is Phase.FAILED:
        raise CopyFailed(f"the copy failed: {progress.error}", host=host, instance=instance, mend=mend)
    if progress.phase is Phase.NONE:
        raise NoCopy("no copy was ever started", host=host, instance=instance, mend=mend)
    return progress.phase in (Phase.READY, Phase.COMPLETED)
