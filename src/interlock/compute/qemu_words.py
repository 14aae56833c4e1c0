"""What QEMU says of a guest and of its copy, in the words of `Hypervisor`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.compute.hypervisor import Phase, Progress, RunState
from interlock.compute.qmp_link import Link

__all__ = ["progress", "run_state", "set_capabilities", "set_limits"]

_PHASES = {
    "none": Phase.NONE,
    "setup": Phase.COPYING,
    "active": Phase.COPYING,
    "wait-unplug": Phase.COPYING,
    "pre-switchover": Phase.READY,
    "device": Phase.SWITCHING,
    "postcopy-active": Phase.PULLING,
    "postcopy-paused": Phase.PULLING,
    "completed": Phase.COMPLETED,
    "cancelling": Phase.CANCELLING,
    "cancelled": Phase.CANCELLED,
    "failed": Phase.FAILED,
}
_RUN_STATES = {"running": RunState.RUNNING, "inmigrate": RunState.INCOMING, "postmigrate": RunState.LEFT}


async def set_limits(link: Link, bytes_per_second: int, hold_milliseconds: int) -> None:
    """Bound a copy's rate, and how long its guest may be held at the end."""
    await link.ask("migrate-set-parameters", {"max-bandwidth": bytes_per_second, "downtime-limit": hold_milliseconds})


async def set_capabilities(link: Link, *names: str) -> None:
    """Switch capabilities of migrations on."""
    wanted = [{"capability": name, "state": True} for name in names]
    await link.ask("migrate-set-capabilities", {"capabilities": wanted})


async def run_state(link: Link) -> RunState:
    """Return what a QEMU does with its guest."""
    return _RUN_STATES.get((await link.ask("query-status"))["status"], RunState.PAUSED)


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
