"""Whom an operation waits for: busy workers, holders of its claims, its children; and what led to its end. What `why` says of them."""

from __future__ import annotations

from interlock.interpreter.children import child_id
from interlock.interpreter.snapshot import Beginning, Ended, Joining, Queued, Snapshot
from interlock.interpreter.why import Load
from interlock.stores.contract import Lease, Store
from interlock.stores.stored import standing_of

__all__ = ["COUNTED", "load_before"]

COUNTED = 1_000
"""Operations that are counted in a queue before one; `why` says "or more" beyond."""
TOLD = 200
"""Facts before the end that are looked through for its cause."""


def load_before(store: Store, snapshot: Snapshot, now: float) -> tuple[list[Lease], Load]:
    """Return all leases, and whom an operation waits for; of one that is queued, how busy those are who could perform its attempt."""
    leases, phase = store.leases(), snapshot.phase
    if isinstance(phase, Beginning) and snapshot.claims:
        return leases, Load(standing=standing_of(store, snapshot))
    if isinstance(phase, Joining):
        ids = [child_id(snapshot, index) for index in phase.live]
        found = {one.id: one.status for one in store.load(ids)}
        return leases, Load(children={id: found.get(id) for id in ids})
    if isinstance(phase, Ended):
        records = store.journal(snapshot.id, max(0, snapshot.seq - TOLD), TOLD)
        return leases, Load(last=tuple(fact for record in records for fact in record.facts))
    if not isinstance(phase, Queued):
        return leases, Load()
    serving = [one for one in leases if phase.queue in one.queues and snapshot.machine in one.machines]
    running = {one.worker: len(store.held(one.worker, one.max_running)) for one in serving if one.until >= now}
    machines = {machine for one in serving for machine in one.machines}
    due = [one.id for one in store.due(machines, {phase.queue}, now, COUNTED)] if machines else []
    before = due.index(snapshot.id) if snapshot.id in due else len(due)
    return leases, Load(running, before, snapshot.id not in due and len(due) == COUNTED)
