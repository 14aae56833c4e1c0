"""The SQLite schema, its versions, and the way from each to the next.

| table | holds |
|---|---|
| ``operation`` | one row each: the snapshot as JSON, and what is searched for as columns |
| ``journal`` | one row for each decision: its facts as JSON |
| ``machine`` | definitions, as documents |
| ``lease``, ``progress`` | what workers last said |
| ``schedule`` | what starts again and again, as JSON |
| ``claim`` | who holds what, or waits for it; ``place`` is the order of asking, ``share`` how many may hold it, ``kin``: a child |

Of an operation's columns ``worker`` is set only while an attempt runs; ``queue`` and ``ready_at`` only for what waits in a queue and is
not paused; ``timer_at`` only for what nobody performs. ``marks`` is set for who waits for children, or for whom it preempts (1), or owns
something (2). So the partial indexes hold what can move, and nothing of what has ended.

The file says whose it is (``application_id``) and what its schema is (``user_version``). A schema that was released is never edited: a
change is one more step in `STEPS`, carried out together with the change of number, in one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from interlock.errors import StoreFailed, StoreNewer

__all__ = ["APPLICATION", "STEPS", "bring_up_to_date"]

APPLICATION = 0x1E71_0C4B
_TRIES = 50
_FIRST = (
    """CREATE TABLE operation (
        key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL,
        machine TEXT NOT NULL, state TEXT NOT NULL, status TEXT NOT NULL,
        worker TEXT, queue TEXT, ready_at REAL, timer_at REAL, snapshot BLOB NOT NULL)""",
    "CREATE INDEX operation_ready ON operation (queue, ready_at) WHERE ready_at IS NOT NULL",
    "CREATE INDEX operation_timer ON operation (timer_at) WHERE timer_at IS NOT NULL",
    "CREATE INDEX operation_worker ON operation (worker) WHERE worker IS NOT NULL",
    "CREATE INDEX operation_status ON operation (status)",
    """CREATE TABLE journal (
        position INTEGER PRIMARY KEY, operation INTEGER NOT NULL REFERENCES operation, seq INTEGER NOT NULL,
        at REAL NOT NULL, facts BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX journal_operation ON journal (operation, seq)",
    """CREATE TABLE machine (
        name TEXT NOT NULL, version INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (name, version)) WITHOUT ROWID""",
    """CREATE TABLE lease (
        worker TEXT NOT NULL PRIMARY KEY, until REAL NOT NULL, process TEXT NOT NULL, queues TEXT NOT NULL,
        machines TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE progress (operation TEXT NOT NULL PRIMARY KEY, token INTEGER NOT NULL, report BLOB NOT NULL) WITHOUT ROWID",
)
_SECOND = ("ALTER TABLE lease ADD COLUMN max_running INTEGER NOT NULL DEFAULT 500",)
_THIRD = (
    """CREATE TABLE claim (
        place INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, operation TEXT NOT NULL, held INTEGER NOT NULL,
        share INTEGER NOT NULL, kin INTEGER NOT NULL)""",
    "CREATE INDEX claim_name ON claim (name, held DESC, place)",
    "CREATE INDEX claim_operation ON claim (operation)",
    "CREATE INDEX claim_waiting ON claim (name, place) WHERE held = 0",
    "ALTER TABLE operation ADD COLUMN marks INTEGER",
    "CREATE INDEX operation_marks ON operation (id) WHERE marks IS NOT NULL",
)
_FOURTH = ("ALTER TABLE lease ADD COLUMN versions TEXT NOT NULL DEFAULT '[]'",)
_FIFTH = ("CREATE TABLE schedule (name TEXT NOT NULL PRIMARY KEY, schedule BLOB NOT NULL) WITHOUT ROWID",)
STEPS: tuple[Sequence[str], ...] = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)
"""The statements that lead from schema n to schema n + 1, for each n from 0 (an empty file)."""


def bring_up_to_date(
    db: sqlite3.Connection, path: str, steps: Sequence[Sequence[str]] = STEPS, *, shared: bool = False
) -> None:
    """Make an empty file a store, or bring an older one to the newest schema; in WAL mode from then on.

    Args:
        db: a connection in autocommit mode.
        path: for messages.
        steps: see `STEPS`.
        shared: the file may hold other tables already: the store is made beside them.

    Raises:
        StoreNewer: its schema is newer; nothing was changed.
        StoreFailed: it is another application's, or has no write-ahead log there; nothing was changed.
        sqlite3.Error: nothing was changed.
    """
    db.execute("BEGIN")
    try:
        version = _version(db, path, len(steps), shared)
    finally:
        db.execute("ROLLBACK")
    if not _uses_wal(db):
        raise StoreFailed(
            f"`{path}`: SQLite keeps no write-ahead log there; name a file on a local file system", path=path
        )
    if version == len(steps):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for statements in steps[_version(db, path, len(steps), shared) :]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA application_id={APPLICATION}")
        db.execute(f"PRAGMA user_version={len(steps)}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _uses_wal(db: sqlite3.Connection) -> bool:
    """Turn the write-ahead log on, unless it is; return whether it is.

    SQLite does not wait where several processes do this at once, it fails in all but one. So here each waits for its turn to write, and
    looks again.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            (mode,) = db.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
            return bool(mode == "wal")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not tries_left:
                raise
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
    raise AssertionError("unreachable")


def _version(db: sqlite3.Connection, path: str, newest: int, shared: bool) -> int:
    """Return the schema's number; in a transaction, so that another process that makes the store is seen whole or not at all."""
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION and (application or version or (tables and not shared)):
        raise StoreFailed(
            f"`{path}` is a database of another application: name another file, or none to make one", path=path
        )
    if version > newest:
        raise StoreNewer(
            f"`{path}` has schema {version}, this Interlock knows schemas up to {newest}: use the newer Interlock; nothing was changed",
            path=path,
            schema=version,
            newest=newest,
        )
    return version
