"""What SQLite itself reaches on the device: the engine's own statements and rows on the engine's own file, in a bare loop.

Everything that is not SQLite is left out: the rows are there before the clock starts.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from interlock.bench.machines import Five, some_data
from interlock.interpreter.decide import decide
from interlock.interpreter.inputs import Done, Offer, Start
from interlock.interpreter.snapshot import Running
from interlock.stores.contract import Entry
from interlock.stores.sqlite import MOVE, RECORD, SqliteStore
from interlock.stores.stored import encode

__all__ = ["RawLimit", "raw_limit"]


@dataclass(frozen=True)
class RawLimit:
    """``per_second`` transitions, ``group`` of them in each transaction."""

    group: int
    per_second: float
    transactions: int


def raw_limit(directory: Path, group: int, seconds: float) -> RawLimit:
    """Return how many transitions a second a bare loop commits: WAL, synchronous=FULL, ``group`` transitions in a transaction.

    A transition is what a step of the engine writes: the compare-and-set of an operation's row, and a row of journal.

    Args:
        directory: on the device to measure; a file is made in it and removed.
        group: transitions in one transaction.
        seconds: how long to measure, at least.
    """
    path = directory / f"raw-{group}.db"
    ids = [f"raw-{number:032}" for number in range(group)]
    move, record, seq = _step_of(path, ids)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        transactions, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(MOVE, [(seq + 3, *move, id, seq) for id in ids])
            connection.executemany(RECORD, [(id, seq + 3, *record) for id in ids])
            connection.execute("COMMIT")
            seq += 3
            transactions += 1
        passed = time.perf_counter() - began
    finally:
        connection.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    return RawLimit(group, transactions * group / passed, transactions)


def _step_of(path: Path, ids: list[str]) -> tuple[tuple[object, ...], tuple[object, ...], int]:
    """Start operations in a new store, and return what a step of one of them writes, and the sequence number they are at."""
    store, offer = SqliteStore(path), Offer("raw-worker-0001", frozenset({""}))
    started = [decide(Five.definition, None, Start(id, some_data(), offer=offer), 1.0) for id in ids]
    store.commit([Entry(one.snapshot, 0, one.facts, 1.0) for one in started])
    store.close()
    before = started[0].snapshot
    assert isinstance(before.phase, Running)
    step = decide(Five.definition, before, Done(before.phase.token, "done", {"step": 1}, {}, offer), 2.0)
    after = step.snapshot
    move = (after.state, after.status, offer.worker, None, None, None, None, encode(after))
    return move, (2.0, encode(step.facts)), before.seq
