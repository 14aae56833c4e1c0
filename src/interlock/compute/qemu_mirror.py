"""The disk of a guest that runs, copied to another host in step with it: a mirror by its QEMU, over NBD.

The destination offers its empty disk; the source copies to it, and from when all is copied writes everything to both. When the guest is
held for its hand-over the mirror is finished: only then are the two the same, and only then may the guest go on at the destination.
"""

from __future__ import annotations

import contextlib
import socket
from asyncio import sleep
from typing import Any

from interlock.compute.fleet import DiskFull
from interlock.compute.hypervisor import CopyFailed, Phase, Progress
from interlock.compute.qemu_process import Place
from interlock.compute.qmp_link import Link, QmpRefusal

__all__ = ["begin", "end", "finish", "free_port", "in_step", "offer", "progress", "withdraw"]

_MIRROR, _EXPORT = "mirror", "disk"
_AWAY = "away-"
_LOOPBACK = "127.0.0.1"
_PORTS = 20
_POLL_SECONDS = 0.005


def free_port() -> int:
    """Return a TCP port of the loopback device that nobody has at this moment."""
    with socket.socket() as one:
        one.bind((_LOOPBACK, 0))
        return int(one.getsockname()[1])


async def offer(link: Link) -> str:
    """Let the disk of a destination be written to from outside; return where, as ``host:port``."""
    await withdraw(link)
    port = await _listening(link)
    await link.ask(
        "block-export-add", {"type": "nbd", "id": _EXPORT, "node-name": "d0", "name": _EXPORT, "writable": True}
    )
    return f"{_LOOPBACK}:{port}"


async def _listening(link: Link) -> int:
    """Let a QEMU listen for those who write to its disk; return its port."""
    attempts = 0
    while True:
        port, attempts = free_port(), attempts + 1
        address = {"type": "inet", "data": {"host": _LOOPBACK, "port": str(port)}}
        try:
            await link.ask("nbd-server-start", {"addr": address})
        except QmpRefusal as error:
            # QEMU does not choose a port by itself: somebody else may have taken this one in between.
            if "in use" not in str(error) or attempts == _PORTS:
                raise
        else:
            return port


async def withdraw(link: Link) -> None:
    """Let a destination's disk be its guest's alone again."""
    # Refused where it was not offered.
    with contextlib.suppress(QmpRefusal):
        await link.ask("nbd-server-stop")


async def begin(place: Place, link: Link, disk: str, bytes_per_second: int) -> None:
    """Copy the guest's disk to where it is offered, or leave the copy alone that is under way to there."""
    node = _AWAY + disk.rpartition(":")[2]
    found = await _found(link)
    if found is not None and found["status"] != "concluded" and node in await _away(link):
        return
    await end(link)
    host, _, port = disk.rpartition(":")
    try:
        server = {"type": "inet", "host": host, "port": port}
        await link.ask("blockdev-add", {"driver": "nbd", "node-name": node, "server": server, "export": _EXPORT})
    except QmpRefusal as error:
        raise _failed(place, str(error)) from error
    how = {"sync": "full", "copy-mode": "write-blocking", "speed": bytes_per_second, "auto-dismiss": False}
    await link.ask("blockdev-mirror", {"job-id": _MIRROR, "device": "d0", "target": node, **how})


async def progress(link: Link) -> Progress:
    """Return how far the copy is: ready when the two are in step, completed when it was finished."""
    found = await _found(link)
    if found is None:
        return Progress(Phase.NONE)
    done, total = int(found["current-progress"]), int(found["total-progress"])
    error = str(found.get("error", ""))
    if found["status"] == "concluded":
        phase = Phase.FAILED if error else Phase.COMPLETED
    else:
        phase = Phase.READY if found["status"] == "ready" else Phase.COPYING
    return Progress(phase, done, total - done, total, error)


def in_step(place: Place, seen: Progress, wanted: Phase = Phase.COPYING) -> None:
    """Raise unless the copy is under way, or with ``wanted`` ready: unless it is in step with the disk."""
    if seen.phase is not Phase.READY and seen.phase is not wanted:
        raise _failed(place, seen.error or f"it is {seen.phase}")


async def finish(link: Link) -> Progress:
    """Finish a copy that is in step, of a guest that is held; return what became of it."""
    asked = False
    while (seen := await progress(link)).phase in (Phase.COPYING, Phase.READY):
        if seen.phase is Phase.READY and not asked:
            asked = True
            await link.ask("block-job-cancel", {"device": _MIRROR})
        await sleep(_POLL_SECONDS)
    return seen


async def end(link: Link) -> None:
    """End a copy, done or not, and let go of where it went."""
    asked = False
    while (found := await _found(link)) is not None:
        if found["status"] == "concluded":
            await link.ask("job-dismiss", {"id": _MIRROR})
        elif not asked:
            asked = True
            await link.ask("block-job-cancel", {"device": _MIRROR, "force": True})
        await sleep(_POLL_SECONDS)
    for node in await _away(link):
        await link.ask("blockdev-del", {"node-name": node})


async def _found(link: Link) -> dict[str, Any] | None:
    found: Any = await link.ask("query-jobs")
    return next((one for one in found if one["id"] == _MIRROR), None)


async def _away(link: Link) -> list[str]:
    nodes: Any = await link.ask("query-named-block-nodes", {"flat": True})
    return [name for node in nodes if (name := str(node.get("node-name", ""))).startswith(_AWAY)]


def _failed(place: Place, said: str) -> CopyFailed | DiskFull:
    kind = DiskFull if "No space left" in said or "File too large" in said else CopyFailed
    mend = (
        "make room at the destination, and move it again"
        if kind is DiskFull
        else "the guest goes on here; move it again"
    )
    return kind(f"its disk was not copied: {said}", host=place.host, instance=place.instance, mend=mend)
