"""What every other move of a guest needs from its hosts, beside the verbs of a live migration.

Three things are moved about: a guest's **process** on a host, its **disk** on the storage that all hosts share, and **images** of disks.
The rules are those of `Hypervisor`: every verb may be repeated after a crash at any point, looks at what is, does only what is missing,
and takes a `Permit` when it changes something. Two classes speak this protocol: `QemuFleet` and `FakeFleet`.

A host is fenced as long as an evacuation from it is recorded: it is powered off, and nothing can be begun on it. When it comes back,
`take_back` reads these records, and nothing else, to know what is to be deleted there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from interlock.compute.hypervisor import Guest, Hypervisor, HypervisorError, Permit

__all__ = ["WHOLE_HOST", "DiskFull", "Fleet"]

WHOLE_HOST = "_host"
"""Stands for the guest in what is recorded of a host as a whole."""


class DiskFull(HypervisorError):
    """There is no room on the storage. What was begun there is removed."""

    code = "disk-full"


class Fleet(Hypervisor, Protocol):
    """The verbs of every move. Any may raise `HostUnreachable`; those with a permit, `StaleToken`; those that write disks, `DiskFull`."""

    # -- a guest's process -------------------------------------------------------------------------------------------

    async def made_as(self, instance: str) -> Guest:
        """Return what a guest is made of. Raises `Unsuitable` if there is none of that name."""
        ...

    async def welcome(self, instance: str, host: str) -> None:
        """Raise `Unsuitable` unless the host exists, is not fenced, and takes new guests. Changes nothing."""
        ...

    async def stop(self, instance: str, host: str, permit: Permit) -> None:
        """Switch a guest off and return when its process is gone. On a fenced host nothing runs."""
        ...

    async def start(self, guest: Guest, host: str, permit: Permit) -> None:
        """Start a guest from its disk, made as given, and return when it has said something.

        Where it runs there like that already, nothing happens. `Unsafe` if a process of it lives elsewhere, `HostUnreachable` if that
        cannot be known because a host neither answers nor is fenced.
        """
        ...

    # -- its disk ----------------------------------------------------------------------------------------------------

    async def sound(self, instance: str, host: str) -> None:
        """Raise `Unsuitable` unless the disk of a guest that runs nowhere is whole. Changes nothing."""
        ...

    async def carry(self, instance: str, source: str, destination: str, permit: Permit) -> None:
        """Bring the local disk of a guest that is off from one host to another; afterwards it is there alone.

        At no moment is there none that is whole, and never can two be started. Where it is there already, nothing happens.
        """
        ...

    async def make(self, guest: Guest, host: str, permit: Permit, image: str = "") -> None:
        """Make a guest's disk, empty but for its boot code or from an image. `Unsuitable` if another operation made one."""
        ...

    async def unmake(self, instance: str, host: str, permit: Permit, *, mine: bool = False) -> None:
        """Delete a guest's disk and all that is known of it. With ``mine``, only if this operation made it."""
        ...

    async def save(self, instance: str, host: str, name: str, permit: Permit) -> None:
        """Take a snapshot of the disk of a guest that is off; one of this name is kept as it is."""
        ...

    async def restore(self, instance: str, host: str, name: str, permit: Permit) -> None:
        """Bring the disk of a guest that is off back to a snapshot, and delete that. Without one, nothing happens."""
        ...

    async def forget(self, instance: str, host: str, name: str, permit: Permit) -> None:
        """Delete a snapshot of a disk."""
        ...

    async def saved(self, instance: str) -> Sequence[str]:
        """Return the names of a disk's snapshots; of a running guest, those that are recorded."""
        ...

    async def write(self, instance: str, host: str, image: str, permit: Permit) -> None:
        """Write an image onto the disk of a guest that is off. An empty name stands for its boot code alone."""
        ...

    # -- images ------------------------------------------------------------------------------------------------------

    async def capture(self, instance: str, host: str, image: str, permit: Permit) -> None:
        """Copy a guest's disk to an image that is not ready yet; a guest that runs goes on. `Unsuitable` if the name is another's."""
        ...

    async def publish(self, instance: str, host: str, image: str, permit: Permit) -> None:
        """Make an image ready."""
        ...

    async def discard(self, instance: str, host: str, image: str, permit: Permit, *, mine: bool = False) -> None:
        """Delete an image. With ``mine``, only if this operation captured it."""
        ...

    async def images(self) -> Mapping[str, Guest]:
        """Return the images that are ready: by name, what guest each is of."""
        ...

    # -- a host ------------------------------------------------------------------------------------------------------

    async def guests_on(self, host: str) -> Sequence[str]:
        """Return the guests that have a process on a host, by name. Asks the host itself, so it must answer, fenced or not."""
        ...

    async def had(self, instance: str, host: str) -> bool:
        """Whether a host is the last that is known to have had a process of a guest, dead or alive. The host need not answer."""
        ...

    async def evacuations(self, host: str) -> Mapping[str, bool]:
        """Return the guests whose evacuation from a host is recorded, and whether it is done. Empty: the host is not fenced."""
        ...

    async def disable(self, host: str, permit: Permit) -> None:
        """Let a host take no new guests."""
        ...

    async def enable(self, host: str, permit: Permit) -> None:
        """Let a host take guests again, if it was this operation that disabled it."""
        ...

    async def fence(self, instance: str, host: str, permit: Permit) -> None:
        """Record that a guest is evacuated from a host, and power the host off: by a way that does not need the host's answer."""
        ...

    async def withdraw(self, instance: str, host: str, permit: Permit) -> None:
        """Take back what `fence` recorded, if this operation did: the guest still belongs to the host."""
        ...

    async def evacuated(self, instance: str, host: str, permit: Permit) -> None:
        """Record that the evacuation is done: what the host has of the guest is to be deleted when it comes back."""
        ...

    async def take_back(self, host: str, permit: Permit) -> Sequence[str]:
        """Delete from a host that is back what the records of evacuations name, and let it take guests; return those guests.

        Raises `Unsafe` while an evacuation from it is not done.
        """
        ...
