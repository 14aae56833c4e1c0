"""How busy the workers are that could perform what an operation waits for: what `why` says of a full queue."""

from __future__ import annotations

from interlock.interpreter.snapshot import Queued, Snapshot
from interlock.interpreter.why import Load
from interlock.stores.contract import Lease, Store

__all__ = ["COUNTED", "load_before"]

COUNTED = 1_000
"""Operations that are counted in a queue before one; `why` says "or more" beyond."""


def load_before(store: Store, snapshot: Snapshot, now: float) -> tuple[list[Lease], Load]:
    """Return all leases, and for an operation that is queued how busy those workers are that could perform its next attempt."""
    leases, phase = store.leases(), snapshot.phase
    if not isinstance(phase, Queued):
        return leases, Load()
    serving = [one for one in leases if phase.queue in one.queues and snapshot.machine in one.machines]
    running = {one.worker: len(store.held(one.worker, one.max_running)) for one in serving if one.until >= now}
    machines = {machine for one in serving for machine in one.machines}
    due = [one.id for one in store.due(machines, {phase.queue}, now, COUNTED)] if machines else []
    before = due.index(snapshot.id) if snapshot.id in due else len(due)
    return leases, Load(running, before, snapshot.id not in due and len(due) == COUNTED)
