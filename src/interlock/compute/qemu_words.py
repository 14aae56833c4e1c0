"""What QEMU says of a guest and of its copy, in the words of `Hypervisor`."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Mapping
from typing import Any

from interlock.compute.hypervisor import Phase, Progress, RunState, Unsuitable
from interlock.compute.qemu_process import Place
from interlock.compute.qmp_link import Link, QmpRefusal

__all__ = [
    "allowed",
    "disk_size",
    "go_on",
    "is_whole",
    "listens_at",
    "mend_link",
    "progress",
    "run_state",
    "set_capabilities",
    "set_limits",
    "start_pulling",
]

_PHASES = {
    "none": Phase.NONE,
    "setup": Phase.COPYING,
    "active": Phase.COPYING,
    "wait-unplug": Phase.COPYING,
    "pre-switchover": Phase.READY,
    "device": Phase.SWITCHING,
    "postcopy-active": Phase.PULLING,
    "postcopy-paused": Phase.PULLING,
    "postcopy-recover": Phase.PULLING,
    "completed": Phase.COMPLETED,
    "cancelling": Phase.CANCELLING,
    "cancelled": Phase.CANCELLED,
    "failed": Phase.FAILED,
}
_RUN_STATES = {"running": RunState.RUNNING, "inmigrate": RunState.INCOMING, "postmigrate": RunState.LEFT}


async def set_limits(link: Link, bytes_per_second: int, hold_milliseconds: int) -> None:
    """Bound a copy's rate, and how long its guest may be held at the end."""
    wanted = {"max-bandwidth": bytes_per_second, "max-postcopy-bandwidth": bytes_per_second}
    await link.ask("migrate-set-parameters", {**wanted, "downtime-limit": hold_milliseconds})


async def set_capabilities(link: Link, **wanted: bool) -> None:
    """Switch capabilities of migrations on and off; they are named with ``_`` for ``-``. Raises `QmpRefusal`."""
    states = [{"capability": name.replace("_", "-"), "state": state} for name, state in wanted.items()]
    await link.ask("migrate-set-capabilities", {"capabilities": states})


async def go_on(link: Link) -> None:
    """Let a copy that is held at its end go over."""
    # A refusal means that it went on in between; the next look tells.
    with contextlib.suppress(QmpRefusal):
        await link.ask("migrate-continue", {"state": "pre-switchover"})


async def start_pulling(link: Link) -> None:
    """Let the guest go to its destination now. Raises `QmpRefusal` if its copy was not started for that."""
    try:
        await link.ask("migrate-start-postcopy")
    except QmpRefusal:
        # It may have gone on in between; the next look tells.
        if (await progress(link)).phase is Phase.COPYING:
            raise


async def allowed(place: Place, asked: Awaitable[None]) -> None:
    """Wait for something that post-copy needs; raise `Unsuitable` where it is refused."""
    try:
        await asked
    except QmpRefusal as error:
        mend = "let it use userfaultfd (root, or sysctl vm.unprivileged_userfaultfd=1), or move without post-copy"
        what = f"it cannot do post-copy: {error}"
        raise Unsuitable(what, host=place.host, instance=place.instance, mend=mend) from error


async def mend_link(source: Link, destination: Link) -> None:
    """Where the link of a guest that is pulled is broken, let the destination listen again and the source go on."""
    if await _status(source) != "postcopy-paused" or await _status(destination) != "postcopy-paused":
        return
    with contextlib.suppress(QmpRefusal):
        # Refused where it listens again already, and who asked it to has died since.
        await destination.ask("migrate-recover", {"uri": "tcp:127.0.0.1:0"})
    await source.ask("migrate", {"uri": await listens_at(destination), "resume": True})


async def listens_at(link: Link) -> str:
    """Return the URI at which a destination listens."""
    address = (await link.ask("query-migrate"))["socket-address"][0]
    return f"tcp:{address['host']}:{address['port']}"


async def disk_size(link: Link) -> int:
    """Return the bytes that a guest sees of its disk."""
    nodes: Any = await link.ask("query-named-block-nodes", {"flat": True})
    return next(int(node["image"]["virtual-size"]) for node in nodes if node.get("node-name") == "d0")


async def is_whole(link: Link) -> bool:
    """Whether a guest runs here with all of its memory."""
    return await _status(link) == "completed" and await run_state(link) is RunState.RUNNING


async def _status(link: Link) -> str:
    return str((await link.ask("query-migrate")).get("status", "none"))


async def run_state(link: Link) -> RunState:
    """Return what a QEMU does with its guest."""
    state = _RUN_STATES.get((await link.ask("query-status"))["status"], RunState.PAUSED)
    if state is RunState.PAUSED and (await progress(link)).phase is Phase.PULLING:
        return RunState.FEEDING
    return state


async def progress(link: Link) -> Progress:
    """Return how far the copy is that leaves from here."""
    answer = await link.ask("query-migrate")
    ram: Mapping[str, Any] = answer.get("ram", {})
    if answer.get("status") == "completed" and not ram:
        # It tells of the copy by which the guest came here; there was none from here yet.
        return Progress(Phase.NONE)
    # A status of another QEMU that is not known here is a copy under way as long as it has not ended.
    phase = _PHASES.get(answer.get("status", "none"), Phase.COPYING)
    transferred, remaining, total = (int(ram.get(key, 0)) for key in ("transferred", "remaining", "total"))
    return Progress(phase, transferred, remaining, total, answer.get("error-desc", ""))
