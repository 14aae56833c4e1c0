"""The memory store: the reference that the others are held to. Simple, and gone with the process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import msgspec

from interlock.errors import Refused
from interlock.interpreter.facts import Fact
from interlock.interpreter.snapshot import Queued, Running, Snapshot, timer_at
from interlock.stores.contract import Entry, Lease, Page, Progress, Record

__all__ = ["MemoryStore"]

_FACTS = msgspec.json.Decoder(tuple[Fact, ...])
_SNAPSHOT = msgspec.json.Decoder(Snapshot)
_encode = msgspec.json.Encoder().encode


class MemoryStore:
    """Keeps everything in dictionaries. Facts and snapshots pass through their stored form, so what would not survive storage fails here too."""

    def __init__(self) -> None:
        self._operations: dict[str, bytes] = {}
        self._seq: dict[str, int] = {}
        self._journal: list[Record] = []
        self._machines: dict[tuple[str, int], dict[str, Any]] = {}
        self._leases: dict[str, Lease] = {}
        self._progress: dict[str, Progress] = {}

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        stored = [(_encode(entry.snapshot), _FACTS.decode(_encode(entry.facts))) for entry in entries]
        won = []
        for entry, (snapshot, facts) in zip(entries, stored, strict=True):
            one = entry.snapshot.id
            wins = self._seq.get(one, 0) == entry.expected
            won.append(wins)
            if wins:
                self._operations[one] = snapshot
                self._seq[one] = entry.snapshot.seq
                self._journal.append(Record(len(self._journal) + 1, one, entry.snapshot.seq, entry.at, facts))
        return won

    def load(self, operations: Sequence[str]) -> list[Snapshot]:
        return [_SNAPSHOT.decode(self._operations[one]) for one in operations if one in self._operations]

    def _all(self) -> list[Snapshot]:
        return self.load(list(self._operations))

    def _due_at(self, snapshot: Snapshot, machines: Collection[str], queues: Collection[str]) -> float | None:
        phase = snapshot.phase
        if snapshot.machine not in machines or isinstance(phase, Running):
            return None
        times = [timer_at(snapshot)]
        if isinstance(phase, Queued) and not snapshot.paused and phase.queue in queues:
            times.append(phase.ready_at)
        known = [time for time in times if time is not None]
        return min(known) if known else None

    def due(self, machines: Collection[str], queues: Collection[str], now: float, limit: int) -> list[Snapshot]:
        found = [(self._due_at(snapshot, machines, queues), snapshot) for snapshot in self._all()]
        ripe = [(at, snapshot) for at, snapshot in found if at is not None and at <= now]
        ripe.sort(key=lambda pair: pair[0])
        return [snapshot for _, snapshot in ripe[:limit]]

    def next_due(self, machines: Collection[str], queues: Collection[str]) -> float | None:
        times = [self._due_at(snapshot, machines, queues) for snapshot in self._all()]
        return min((time for time in times if time is not None), default=None)

    def held(self, worker: str, limit: int) -> list[Snapshot]:
        return [one for one in self._all() if isinstance(one.phase, Running) and one.phase.worker == worker][:limit]

    def renew(self, lease: Lease) -> None:
        self._leases[lease.worker] = lease

    def leases(self) -> list[Lease]:
        return list(self._leases.values())

    def retire(self, worker: str) -> None:
        self._leases.pop(worker, None)

    def define(self, machine: str, version: int, document: Mapping[str, Any]) -> None:
        known = self._machines.setdefault((machine, version), deepcopy(dict(document)))
        if known != document:
            raise Refused(
                f"machine `{machine}` version {version} is known to this store with another content; give the changed machine a new version",
                machine=machine,
                version=version,
            )

    def definition(self, machine: str, version: int) -> dict[str, Any] | None:
        return deepcopy(self._machines.get((machine, version)))

    def definitions(self) -> list[tuple[str, int]]:
        return sorted(self._machines)

    def journal(self, operation: str, after: int, limit: int) -> list[Record]:
        return [record for record in self._journal if record.operation == operation and record.seq > after][:limit]

    def tail(self, after: int, limit: int) -> list[Record]:
        return self._journal[after : after + limit]

    def position(self) -> int:
        return len(self._journal)

    def search(
        self, *, machine: str | None, status: Collection[str], state: str | None, cursor: str | None, limit: int
    ) -> Page:
        order = list(self._operations)
        places = range(len(order) if cursor is None else int(cursor), 0, -1)
        found: list[tuple[int, Snapshot]] = []
        for place in places:
            (snapshot,) = self.load([order[place - 1]])
            if machine not in (None, snapshot.machine) or state not in (None, snapshot.state):
                continue
            if status and snapshot.status not in status:
                continue
            if len(found) == limit:
                return Page(tuple(one for _, one in found), str(found[-1][0] - 1))
            found.append((place, snapshot))
        return Page(tuple(one for _, one in found), None)

    def counts(self) -> dict[tuple[str, str, str], int]:
        counted: dict[tuple[str, str, str], int] = {}
        for snapshot in self._all():
            key = (snapshot.machine, snapshot.state, snapshot.status)
            counted[key] = counted.get(key, 0) + 1
        return counted

    def report(self, progress: Sequence[Progress]) -> None:
        for one in progress:
            self._progress[one.operation] = one

    def progress(self, operation: str) -> Progress | None:
        return self._progress.get(operation)

    def close(self) -> None:
        return None
