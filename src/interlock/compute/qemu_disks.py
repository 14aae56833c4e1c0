"""Disks and images by `qemu-img`, and a copy of the disk of a guest that runs by its QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.compute.fleet import DiskFull
from interlock.compute.hypervisor import HostUnreachable, HypervisorError, Unsuitable
from interlock.compute.qemu_process import Place
from interlock.compute.qmp_link import Link

__all__ = ["carried", "end_copy", "left_of", "live_copy", "qemu_img", "snapshots", "virtual_size"]

_POLL_SECONDS = 0.02


async def qemu_img(place: Place, *arguments: str | Path) -> str:
    """Run `qemu-img` to its end and return what it said; it does not outlive whoever waits for it.

    Raises:
        DiskFull: there is no room.
        HostUnreachable: another process has the image in hand; try again.
        Unsuitable: it refused, or there is no `qemu-img`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "qemu-img", *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise _error(Unsuitable, place, "there is no qemu-img", "install qemu-utils") from error
    try:
        said, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        text = " ".join((complaint or said).decode(errors="replace").split())
        if "No space left" in text or "File too large" in text:
            raise _error(DiskFull, place, f"qemu-img: {text}", "make room, and try again")
        if "lock" in text and "Failed to get" in text:
            raise _error(HostUnreachable, place, f"qemu-img: {text}", "try again")
        raise _error(Unsuitable, place, f"qemu-img {arguments[0]}: {text}", "mend that, or rebuild it from an image")
    return said.decode(errors="replace")


async def snapshots(place: Place, disk: Path) -> list[str]:
    """Return the names of an image's snapshots."""
    said = json.loads(await _info(place, disk))
    return sorted(one["name"] for one in said.get("snapshots", ()))


async def virtual_size(place: Place, disk: Path) -> int:
    """Return the bytes that a guest sees of an image."""
    return int(json.loads(await _info(place, disk))["virtual-size"])


async def _info(place: Place, disk: Path) -> str:
    # The format is told, never guessed: what a guest writes to a raw disk may look like an image that refers to other files.
    return await qemu_img(place, "info", "-U", "-f", disk.suffix.removeprefix("."), "--output=json", disk)


def left_of(disk: Path) -> Path:
    """Return how a disk is called from when another host has it: it counts no more, and is about to be deleted."""
    return disk.with_name(disk.name + ".left")


async def carried(place: Place, here: Path, there: Path) -> None:
    """Bring a disk that nobody uses from ``here`` to ``there``, at a place. What names a disk is whole at every moment.

    It is drafted there; then what is here counts no more; then the draft does. So whoever goes on sees from the names how far it came.
    """
    if await asyncio.to_thread(here.exists):
        await asyncio.to_thread(_readied, there)
        form = here.suffix.removeprefix(".")
        await qemu_img(place, "convert", "-f", form, "-O", form, here, _draft_of(there))
        await asyncio.to_thread(_flushed, _draft_of(there))
        await asyncio.to_thread(here.replace, left_of(here))
    if not await asyncio.to_thread(_counts, here, there):
        raise _error(Unsuitable, place, "it has no disk that could be carried there", "name the host that has it")


def _draft_of(disk: Path) -> Path:
    return disk.with_name(disk.name + ".carried")


def _readied(there: Path) -> None:
    there.parent.mkdir(parents=True, exist_ok=True)
    _draft_of(there).unlink(missing_ok=True)


def _flushed(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _counts(here: Path, there: Path) -> bool:
    """Let a disk count ``there``, if there is one or a whole draft of one; say whether it does. What is left of the way is removed."""
    if not there.exists():
        if _draft_of(there).exists() and left_of(here).exists():
            _draft_of(there).replace(there)
        elif left_of(there).exists() and not here.exists():
            # It was on its way from there, and never counted here.
            left_of(there).replace(there)
        else:
            return False
    for rest in (_draft_of(there), _draft_of(here), left_of(here), left_of(there)):
        rest.unlink(missing_ok=True)
    return True


async def live_copy(place: Place, link: Link, target: Path) -> None:
    """Copy the disk of the guest behind ``link``, as it is at this moment, to the empty qcow2 image ``target``."""
    node = _node(target)
    await end_copy(link, target)
    file = {"driver": "file", "filename": str(target)}
    await link.ask("blockdev-add", {"driver": "qcow2", "node-name": node, "file": file})
    how: Mapping[str, Any] = {"job-id": node, "device": "d0", "target": node, "sync": "full", "auto-dismiss": False}
    await link.ask("blockdev-backup", how)
    while True:
        found = await _copying(link, node)
        if found is None or found["status"] == "concluded":
            break
        await asyncio.sleep(_POLL_SECONDS)
    await end_copy(link, target)
    if found is not None and "error" in found:
        kind = DiskFull if "No space left" in found["error"] else Unsuitable
        raise _error(kind, place, f"its disk was not copied: {found['error']}", "make room, and try again")


async def end_copy(link: Link, target: Path) -> None:
    """End a copy to ``target``, done or not, and let go of the image."""
    node = _node(target)
    cancelled = False
    while (found := await _copying(link, node)) is not None:
        if found["status"] == "concluded":
            await link.ask("job-dismiss", {"id": node})
        elif not cancelled:
            cancelled = True
            await link.ask("job-cancel", {"id": node})
        await asyncio.sleep(_POLL_SECONDS)
    nodes: Any = await link.ask("query-named-block-nodes", {"flat": True})
    if any(one.get("node-name") == node for one in nodes):
        await link.ask("blockdev-del", {"node-name": node})


async def _copying(link: Link, node: str) -> dict[str, Any] | None:
    found: Any = await link.ask("query-jobs")
    return next((one for one in found if one["id"] == node), None)


def _node(target: Path) -> str:
    return f"image-{hashlib.sha256(str(target).encode()).hexdigest()[:16]}"


def _error(kind: type[HypervisorError], place: Place, what: str, mend: str) -> HypervisorError:
    return kind(what, host=place.host, instance=place.instance, mend=mend)
