"""The store contract: a few verbs and no opinions.

A store keeps snapshots, journals, definitions and workers' leases. It never interprets them: what a snapshot means is decided above it. Its
verbs are synchronous; whoever calls them owns the thread. Every store passes the same suite (`tests/store_contract.py`); `MemoryStore` is
the reference.

What a store promises:

1. `commit` is one transaction. Each entry is a compare-and-set on the operation's sequence number; an entry that loses changes nothing and
   does not disturb the others. When `commit` has returned, the winners survive the loss of power.
2. A `commit` that raises changed nothing. The world's faults are `StoreFailed`, which names the store and the mend.
3. An entry with ``claims`` makes the operation's claims those of its snapshot. It loses, as if its number were wrong, if one that it is to
   hold has as many others in its way as may hold it (`interlock.interpreter.claims.in_the_way`, which every store asks).
4. Journal positions grow with commits; a reader of the tail misses nothing.
5. Reads see every commit that returned before them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from interlock.interpreter.facts import Fact
from interlock.interpreter.inputs import Claimant, Standing
from interlock.interpreter.snapshot import Snapshot

__all__ = ["Entry", "Lease", "Page", "Progress", "Record", "Schedule", "Store", "Waiter"]


class Entry(msgspec.Struct, frozen=True):
    """One decision to commit: ``facts`` led from sequence number ``expected`` (0: the operation is new) to ``snapshot``, at ``at``.

    ``claims``: its claims changed. ``fires``: a schedule as it is, and as it is once it has started this operation; the decision loses if
    the schedule is another one by now.
    """

    snapshot: Snapshot
    expected: int
    facts: tuple[Fact, ...]
    at: float
    claims: bool = False
    fires: tuple[Schedule, Schedule] | None = None


class Waiter(msgspec.Struct, frozen=True):
    """An operation that waits for claims, its place in the line of all that wait, and what stands at its claims."""

    place: int
    snapshot: Snapshot
    standing: Standing


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When operations of a machine start again and again.

    Attributes:
        name: of the schedule.
        machine: of which an operation is started, in its newest version.
        cron, timezone: at which times.
        data: what each is started with.
        by: who set it up.
        on_conflict: what to do about claims that others hold; ``""``: what the machine says.
        next_at: when it is due next, in seconds since the epoch.
        last_at, last: when it was last due, and the operation's id then, or why it was refused.
        missed: so many times were left out, because nobody was there.
    """

    name: str
    machine: str
    cron: str
    timezone: str = "UTC"
    data: dict[str, Any] = {}
    by: str = ""
    on_conflict: str = ""
    next_at: float
    last_at: float | None = None
    last: str = ""
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One decision in the journal. ``seq`` is that of its last fact; ``position`` orders all records of a store."""

    position: int
    operation: str
    seq: int
    at: float
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to perform what was issued to it, until ``until`` (seconds since the epoch).

    Attributes:
        worker: unique for each start of a worker.
        until: when it lapses unless renewed.
        process: identity of its process on its machine, ``""`` if unknown: ``boot id/pid/start time``. Lets a neighbour on
            the same machine see that the process is gone before the lease lapses.
        queues, machines: what it serves, for people who ask who could.
        max_running: how many attempts it performs at the same time.
        versions: of each of ``machines``, which its actions were written for; empty if unknown.
    """

    worker: str
    until: float
    process: str = ""
    queues: tuple[str, ...] = ("",)
    machines: tuple[str, ...] = ()
    max_running: int = 500
    versions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """What an attempt last said of itself. Not a fact: it may be lost."""

    operation: str
    token: int
    at: float
    done: float
    total: float | None = None
    unit: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list, and the cursor that continues it; None at its end."""

    snapshots: tuple[Snapshot, ...]
    cursor: str | None


class Store(Protocol):
    """Verbs every store has. Times are seconds since the epoch, given by the caller: a store has no clock."""

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        """Commit decisions in one transaction; return for each whether it won its compare-and-set.

        An entry with ``expected`` 0 wins if no operation of that id exists. Entries of one operation may follow each other in a group. Each
        snapshot is that of ``expected`` with all of ``facts`` folded into it: anything else is a fault of the caller's, and asserted.
        """
        ...

    def load(self, operations: Sequence[str]) -> list[Snapshot]:
        """Return the snapshots of those of ``operations`` that exist, in the order asked for."""
        ...

    def due(
        self, machines: Collection[str], queues: Collection[str], now: float, limit: int, skip: int = 0
    ) -> list[Snapshot]:
        """Return operations of ``machines`` that nobody performs and that can move at ``now``, longest due first:

        queued (not paused) for one of ``queues`` with ``ready_at`` reached, or with `timer_at` reached. The first ``skip`` are left out.
        """
        ...

    def next_due(self, machines: Collection[str], queues: Collection[str]) -> float | None:
        """Return the earliest time at which `due` would find something, or None."""
        ...

    def held(self, worker: str, limit: int) -> list[Snapshot]:
        """Return operations with an attempt issued to ``worker``."""
        ...

    def standing(self, names: Collection[str], limit: int) -> dict[str, list[Claimant]]:
        """Return what stands at claims: of each name who holds it, then who waits for it in order, ``limit`` at most."""
        ...

    def waiters(self, after: int, limit: int) -> list[Waiter]:
        """Return operations that wait for claims and may find them free, by their places in the line, above ``after``.

        Left out are those that cannot: of each of its claims as many as may hold it hold it, or have waited longer. A child waits for no
        place in a line, so it is never left out.
        """
        ...

    def awaiting(self, after: str, limit: int) -> list[Snapshot]:
        """Return operations that wait for others, by id, above ``after``: for children, or for whom they preempt."""
        ...

    def owning(self, after: str, limit: int) -> list[Snapshot]:
        """Return operations that own something and have not ended, by id, above ``after``."""
        ...

    def schedules(self) -> list[Schedule]:
        """Return all schedules, by name."""
        ...

    def set_schedule(self, schedule: Schedule, before: Schedule | None) -> bool:
        """Write a schedule if the one of its name is ``before`` (None: there is none); return whether it was."""
        ...

    def drop_schedule(self, name: str) -> bool:
        """Forget a schedule; return whether there was one."""
        ...

    def renew(self, lease: Lease) -> None:
        """Record a lease, or renew it. Like progress, it may be lost with the power."""
        ...

    def leases(self) -> list[Lease]:
        """Return all leases, lapsed ones included."""
        ...

    def retire(self, worker: str) -> None:
        """Forget a worker's lease."""
        ...

    def define(self, machine: str, version: int, document: Mapping[str, Any]) -> None:
        """Keep a definition for ever; the same again is a no-op. Raises `Refused` if that version is known with another content."""
        ...

    def definition(self, machine: str, version: int) -> dict[str, Any] | None:
        """Return a definition's document."""
        ...

    def definitions(self) -> list[tuple[str, int]]:
        """Return the names and versions of all definitions."""
        ...

    def journal(self, operation: str, after: int, limit: int) -> list[Record]:
        """Return an operation's records whose ``seq`` is above ``after``, in order."""
        ...

    def tail(self, after: int, limit: int) -> list[Record]:
        """Return all operations' records whose ``position`` is above ``after``, in order."""
        ...

    def position(self) -> int:
        """Return the position of the last record; 0 for an empty journal."""
        ...

    def search(
        self, *, machine: str | None, status: Collection[str], state: str | None, cursor: str | None, limit: int
    ) -> Page:
        """Return operations, newest first, that match everything given (an empty ``status`` matches all).

        ``cursor`` is that of the page before; operations that were started meanwhile do not shift what follows. Raises `Refused` if no
        page gave it.
        """
        ...

    def counts(self) -> dict[tuple[str, str, str], int]:
        """Return the number of operations by (machine, state, status)."""
        ...

    def report(self, progress: Sequence[Progress]) -> None:
        """Keep each operation's newest progress; that of an older attempt (a lower token) is ignored.

        Not durable: it may be lost with the power, never with a clean close. Others who read the store see it at once.
        """
        ...

    def progress(self, operation: str) -> Progress | None:
        """Return an operation's newest progress."""
        ...

    def close(self) -> None:
        """Release what the store holds. Safe to call twice."""
        ...
