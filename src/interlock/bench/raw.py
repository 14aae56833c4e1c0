"""What SQLite itself reaches on the device, in the shape of our writes: a compare-and-set of one row and one row of journal."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RawLimit", "raw_limit"]

SNAPSHOT = b"s" * 700
FACTS = b"f" * 250


@dataclass(frozen=True)
class RawLimit:
    """``per_second`` transitions, ``group`` of them in each transaction."""

    group: int
    per_second: float
    transactions: int


def raw_limit(directory: Path, group: int, seconds: float) -> RawLimit:
    """Return how many transitions a second a plain loop commits: WAL, synchronous=FULL, ``group`` transitions in a transaction.

    Args:
        directory: on the device to measure; a file is made in it and removed.
        group: transitions in one transaction.
        seconds: how long to measure, at least.
    """
    path = directory / f"raw-{group}.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE operation (key INTEGER PRIMARY KEY, seq INTEGER, snapshot BLOB)")
        connection.execute(
            "CREATE TABLE journal (position INTEGER PRIMARY KEY, operation INTEGER, seq INTEGER, facts BLOB)"
        )
        connection.executemany("INSERT INTO operation VALUES (?, 0, ?)", [(key, SNAPSHOT) for key in range(group)])
        seq, transactions, began = 0, 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "UPDATE operation SET seq=?, snapshot=? WHERE key=? AND seq=?",
                [(seq + 1, SNAPSHOT, key, seq) for key in range(group)],
            )
            connection.executemany(
                "INSERT INTO journal (operation, seq, facts) VALUES (?, ?, ?)",
                [(key, seq + 1, FACTS) for key in range(group)],
            )
            connection.execute("COMMIT")
            seq += 1
            transactions += 1
        passed = time.perf_counter() - began
    finally:
        connection.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    return RawLimit(group, transactions * group / passed, transactions)
