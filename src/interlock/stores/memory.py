"""The memory store: the reference that the others are held to. Simple, and gone with the process."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from interlock.interpreter.claims import blocked, family
from interlock.interpreter.inputs import Claimant
from interlock.interpreter.snapshot import Queued, Running, Snapshot, timer_at
from interlock.stores.contract import Entry, Lease, Page, Progress, Record, Schedule, Waiter
from interlock.stores.stored import (
    awaits,
    document_text,
    encode,
    owns,
    place_of,
    read_facts,
    read_schedule,
    read_snapshot,
    same_document,
    standing_of,
)

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps everything in dictionaries, for one owner thread.

    Facts and snapshots pass through their stored form on the way in and out, so what would not survive storage does not survive here, and
    nobody's later change to a value reaches what is kept.

    >>> MemoryStore().position()
    0
    """

    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._journal: list[tuple[str, int, float, bytes]] = []
        self._documents: dict[tuple[str, int], str] = {}
        self._leases: dict[str, Lease] = {}
        self._progress: dict[str, Progress] = {}
        self._claims: dict[str, dict[str, tuple[int, bool]]] = {}  # by name, by operation: place and whether it is held
        self._places = 0
        self._schedules: dict[str, bytes] = {}

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        stored = []
        for entry in entries:
            assert entry.snapshot.seq == entry.expected + len(entry.facts), f"{entry.snapshot.id}: facts are missing"
            snapshot, facts = encode(entry.snapshot), encode(entry.facts)
            read_facts(facts)
            stored.append((snapshot, read_snapshot(snapshot), facts))
        won = []
        for entry, (snapshot, looked_at, facts) in zip(entries, stored, strict=True):
            one = entry.snapshot.id
            before = self._snapshots.get(one)
            wins = (before.seq if before else 0) == entry.expected and (not entry.claims or self._free(looked_at))
            wins = wins and (entry.fires is None or self.set_schedule(entry.fires[1], entry.fires[0]))
            won.append(wins)
            if wins:
                if entry.claims:
                    self._claim(looked_at)
                self._stored[one] = snapshot
                self._snapshots[one] = looked_at
                self._journal.append((one, looked_at.seq, entry.at, facts))
        return won

    def _free(self, snapshot: Snapshot) -> bool:
        held = [claim for claim in snapshot.claims if claim.held]
        standing = self.standing([claim.name for claim in held], len(self._snapshots) + 1)
        return not blocked(held, standing, snapshot.id, family(snapshot))

    def _claim(self, snapshot: Snapshot) -> None:
        wanted = {claim.name: claim.held for claim in snapshot.claims}
        for name in [name for name, line in self._claims.items() if snapshot.id in line and name not in wanted]:
            del self._claims[name][snapshot.id]
            if not self._claims[name]:
                del self._claims[name]
        for name, held in wanted.items():
            line = self._claims.setdefault(name, {})
            if snapshot.id not in line:
                self._places += 1
            place, _ = line.get(snapshot.id, (self._places, held))
            line[snapshot.id] = place, held

    def standing(self, names: Collection[str], limit: int) -> dict[str, list[Claimant]]:
        found = {}
        for name in names:
            line = sorted(self._claims.get(name, {}).items(), key=lambda one: (not one[1][1], one[1][0]))
            found[name] = [Claimant(operation, held) for operation, (_, held) in line[:limit]]
        return found

    def waiters(self, after: int, limit: int) -> list[Waiter]:
        first: dict[str, int] = {}
        for name, line in self._claims.items():
            waiting = sorted((place, operation) for operation, (place, held) in line.items() if not held)
            for rank, (place, operation) in enumerate(waiting, start=len(line) - len(waiting)):
                snapshot = self._snapshots[operation]
                share = next(claim.limit for claim in snapshot.claims if claim.name == name)
                if snapshot.parent is not None or rank < share:
                    first[operation] = min(place, first.get(operation, place))
        found = []
        for operation, place in sorted(first.items(), key=lambda one: one[1]):
            if place > after:
                (snapshot,) = self.load([operation])
                found.append(Waiter(place, snapshot, standing_of(self, snapshot)))
        return found[:limit]

    def awaiting(self, after: str, limit: int) -> list[Snapshot]:
        found = [one for one, snapshot in self._snapshots.items() if one > after and awaits(snapshot)]
        return self.load(sorted(found)[:limit])

    def owning(self, after: str, limit: int) -> list[Snapshot]:
        found = [one for one, snapshot in self._snapshots.items() if one > after and owns(snapshot)]
        return self.load(sorted(found)[:limit])

    def load(self, operations: Sequence[str]) -> list[Snapshot]:
        return [read_snapshot(self._stored[one]) for one in operations if one in self._stored]

    def _due_at(self, snapshot: Snapshot, machines: Collection[str], queues: Collection[str]) -> float | None:
        phase = snapshot.phase
        if snapshot.machine not in machines or isinstance(phase, Running):
            return None
        times = [timer_at(snapshot)]
        if isinstance(phase, Queued) and not snapshot.paused and phase.queue in queues:
            times.append(phase.ready_at)
        known = [time for time in times if time is not None]
        return min(known) if known else None

    def due(
        self, machines: Collection[str], queues: Collection[str], now: float, limit: int, skip: int = 0
    ) -> list[Snapshot]:
        found = [(self._due_at(snapshot, machines, queues), one) for one, snapshot in self._snapshots.items()]
        ripe = [(at, one) for at, one in found if at is not None and at <= now]
        ripe.sort(key=lambda pair: pair[0])
        return self.load([one for _, one in ripe[skip : skip + limit]])

    def next_due(self, machines: Collection[str], queues: Collection[str]) -> float | None:
        times = [self._due_at(snapshot, machines, queues) for snapshot in self._snapshots.values()]
        return min((time for time in times if time is not None), default=None)

    def held(self, worker: str, limit: int) -> list[Snapshot]:
        found = [
            one
            for one, snapshot in self._snapshots.items()
            if isinstance(snapshot.phase, Running) and snapshot.phase.worker == worker
        ]
        return self.load(found[:limit])

    def schedules(self) -> list[Schedule]:
        return [read_schedule(self._schedules[name]) for name in sorted(self._schedules)]

    def set_schedule(self, schedule: Schedule, before: Schedule | None) -> bool:
        encoded = encode(schedule)
        if self._schedules.get(schedule.name) != (None if before is None else encode(before)):
            return False
        self._schedules[schedule.name] = encoded
        return True

    def drop_schedule(self, name: str) -> bool:
        return self._schedules.pop(name, None) is not None

    def renew(self, lease: Lease) -> None:
        self._leases[lease.worker] = lease

    def leases(self) -> list[Lease]:
        return sorted(self._leases.values(), key=lambda lease: lease.worker)

    def retire(self, worker: str) -> None:
        self._leases.pop(worker, None)

    def define(self, machine: str, version: int, document: Mapping[str, Any]) -> None:
        text = document_text(document)
        same_document(machine, version, self._documents.setdefault((machine, version), text), text)

    def definition(self, machine: str, version: int) -> dict[str, Any] | None:
        text = self._documents.get((machine, version))
        return None if text is None else json.loads(text)

    def definitions(self) -> list[tuple[str, int]]:
        return sorted(self._documents)

    def _record(self, position: int) -> Record:
        operation, seq, at, facts = self._journal[position - 1]
        return Record(position, operation, seq, at, read_facts(facts))

    def journal(self, operation: str, after: int, limit: int) -> list[Record]:
        found = [
            position for position, row in enumerate(self._journal, start=1) if row[0] == operation and row[1] > after
        ]
        return [self._record(position) for position in found[:limit]]

    def tail(self, after: int, limit: int) -> list[Record]:
        begin = max(after, 0)
        return [self._record(position) for position in range(begin + 1, min(begin + limit, self.position()) + 1)]

    def position(self) -> int:
        return len(self._journal)

    def search(
        self, *, machine: str | None, status: Collection[str], state: str | None, cursor: str | None, limit: int
    ) -> Page:
        below = len(self._snapshots) + 1 if cursor is None else place_of(cursor)
        found = [
            (place, one.id)
            for place, one in enumerate(self._snapshots.values(), start=1)
            if place < below
            and machine in (None, one.machine)
            and state in (None, one.state)
            and (not status or one.status in status)
        ]
        found.reverse()
        more = str(found[limit - 1][0]) if len(found) > limit else None
        return Page(tuple(self.load([one for _, one in found[:limit]])), more)

    def counts(self) -> dict[tuple[str, str, str], int]:
        counted: dict[tuple[str, str, str], int] = {}
        for snapshot in self._snapshots.values():
            key = (snapshot.machine, snapshot.state, snapshot.status)
            counted[key] = counted.get(key, 0) + 1
        return counted

    def report(self, progress: Sequence[Progress]) -> None:
        for one in progress:
            known = self._progress.get(one.operation)
            if known is None or one.token >= known.token:
                self._progress[one.operation] = one

    def progress(self, operation: str) -> Progress | None:
        return self._progress.get(operation)

    def close(self) -> None:
        return None
