"""The SQLite store: one file, durable at every commit.

The file is in WAL mode. With ``synchronous="FULL"`` (the default) a commit is flushed before it is acknowledged: an acknowledged transition
survives the loss of power. ``"NORMAL"`` flushes only at checkpoints: much faster alone, and a crash of the process still loses nothing, but
the loss of power can take back the last acknowledged transitions.

Layout (schema 1), see `_SCHEMA`:

- ``operation``: one row each, the snapshot as JSON, and what is searched for as columns. ``ready_at`` is set only for what waits in a queue
  and is not paused; ``timer_at`` only for what nobody performs; ``worker`` only while an attempt runs.
- ``journal``: one row for each decision, its facts as JSON.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from interlock.errors import Refused, StoreFailed, StoreNewer
from interlock.interpreter.facts import Fact
from interlock.interpreter.snapshot import Queued, Running, Snapshot, timer_at
from interlock.stores.contract import Entry, Lease, Page, Progress, Record

__all__ = ["SqliteStore"]

T = TypeVar("T")
_APPLICATION = 0x1E71_0C4B
_FACTS = msgspec.json.Decoder(tuple[Fact, ...])
_SNAPSHOT = msgspec.json.Decoder(Snapshot)
_PROGRESS = msgspec.json.Decoder(Progress)
_encode = msgspec.json.Encoder().encode

_SCHEMA = """
CREATE TABLE operation (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL, machine TEXT NOT NULL, state TEXT NOT NULL, status TEXT NOT NULL,
    worker TEXT, queue TEXT, ready_at REAL, timer_at REAL, snapshot BLOB NOT NULL);
CREATE INDEX operation_ready ON operation (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX operation_timer ON operation (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX operation_worker ON operation (worker) WHERE worker IS NOT NULL;
CREATE INDEX operation_status ON operation (status);
CREATE TABLE journal (position INTEGER PRIMARY KEY, operation INTEGER NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, facts BLOB NOT NULL);
CREATE UNIQUE INDEX journal_operation ON journal (operation, seq);
CREATE TABLE machine (name TEXT, version INTEGER, document TEXT NOT NULL, PRIMARY KEY (name, version)) WITHOUT ROWID;
CREATE TABLE lease (worker TEXT PRIMARY KEY, until REAL NOT NULL, process TEXT NOT NULL, queues TEXT NOT NULL, machines TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE progress (operation TEXT PRIMARY KEY, report BLOB NOT NULL) WITHOUT ROWID;
"""
_MIGRATIONS: tuple[str, ...] = (_SCHEMA,)

_INSERT = """INSERT INTO operation (id, seq, machine, state, status, worker, queue, ready_at, timer_at, snapshot)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
_UPDATE = """UPDATE operation SET seq=?, state=?, status=?, worker=?, queue=?, ready_at=?, timer_at=?, snapshot=? WHERE id=? AND seq=?"""
_JOURNAL = "INSERT INTO journal (operation, seq, at, facts) VALUES ((SELECT key FROM operation WHERE id=?), ?, ?, ?)"
_RECORDS = "SELECT j.position, o.id, j.seq, j.at, j.facts FROM journal j JOIN operation o ON o.key = j.operation"


class SqliteStore:
    """A store in one SQLite file.

    Args:
        path: of the file; its directory must exist. The file is made if it does not.
        synchronous: ``FULL`` (the default) or ``NORMAL``; see above for what each survives.
        busy_seconds: how long to wait for another process that is writing.

    Raises:
        StoreNewer: a newer Interlock wrote the file; nothing was changed.
        StoreFailed: the file cannot be opened, is no store, or its schema cannot be brought up to date.
    """

    def __init__(
        self, path: str | Path, *, synchronous: Literal["FULL", "NORMAL"] = "FULL", busy_seconds: float = 5.0
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise Refused(f"synchronous={synchronous!r}: a store is FULL or NORMAL")
        self.path = str(path)
        self._closed = False
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=busy_seconds, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        try:
            self._do(self._migrate)
            self._do(lambda: self._db.execute(f"PRAGMA synchronous={synchronous}"))
        except BaseException:
            self._db.close()
            raise

    def _migrate(self) -> None:
        db = self._db
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION and (tables or application):
            raise StoreFailed(f"`{self.path}` is a database of another application; name another file", path=self.path)
        if version > len(_MIGRATIONS):
            raise StoreNewer(
                f"`{self.path}` has schema {version}; this Interlock knows schemas up to {len(_MIGRATIONS)}: use the newer Interlock",
                path=self.path,
                schema=version,
            )
        (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreFailed(
                f"`{self.path}`: SQLite cannot use a write-ahead log there; put it on a local file system",
                path=self.path,
            )
        if version == len(_MIGRATIONS):
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            for script in _MIGRATIONS[version:]:
                for statement in script.split(";"):
                    if statement.strip():
                        db.execute(statement)
            db.execute(f"PRAGMA application_id={_APPLICATION}")
            db.execute(f"PRAGMA user_version={len(_MIGRATIONS)}")
            db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _do(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise StoreFailed(f"`{self.path}`: the store is closed", path=self.path)
        try:
            return work()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StoreFailed:
        said = str(error)
        mend = "look at the file and its device"
        for part, advice in _ADVICE:
            if part in said:
                mend = advice
                break
        return StoreFailed(
            f"`{self.path}`: {said}; {mend}. What was not acknowledged did not happen", path=self.path, sqlite=said
        )

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _transaction(self, work: Callable[[], T]) -> T:
        def whole() -> T:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work()
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            return result

        return self._do(whole)

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        return self._transaction(lambda: self._commit(entries))

    def _commit(self, entries: Sequence[Entry]) -> list[bool]:
        db = self._db
        inserts = [_insert_row(entry.snapshot) for entry in entries if entry.expected == 0]
        updates = [_update_row(entry) for entry in entries if entry.expected]
        db.execute("SAVEPOINT whole_group")
        changed = db.executemany(_INSERT, inserts).rowcount if inserts else 0
        changed += db.executemany(_UPDATE, updates).rowcount if updates else 0
        won = [True] * len(entries)
        if changed != len(entries):
            db.execute("ROLLBACK TO whole_group")
            for place, entry in enumerate(entries):
                if entry.expected == 0:
                    cursor = db.execute(_INSERT, _insert_row(entry.snapshot))
                else:
                    cursor = db.execute(_UPDATE, _update_row(entry))
                won[place] = cursor.rowcount == 1
        rows = [
            (entry.snapshot.id, entry.snapshot.seq, entry.at, _encode(entry.facts))
            for entry, wins in zip(entries, won, strict=True)
            if wins
        ]
        db.executemany(_JOURNAL, rows)
        db.execute("RELEASE whole_group")
        return won

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._do(lambda: self._db.execute(sql, values).fetchall())

    def _snapshots(self, sql: str, values: Sequence[Any] = ()) -> list[Snapshot]:
        return [_SNAPSHOT.decode(row[0]) for row in self._rows(sql, values)]

    def load(self, operations: Sequence[str]) -> list[Snapshot]:
        found: list[Snapshot] = []
        for one in operations:
            found += self._snapshots("SELECT snapshot FROM operation WHERE id=?", (one,))
        return found

    def due(self, machines: Collection[str], queues: Collection[str], now: float, limit: int) -> list[Snapshot]:
        of_machines, in_queues = _marks(machines), _marks(queues)
        return self._snapshots(
            f"""SELECT snapshot FROM (
            SELECT snapshot, ready_at AS at FROM operation WHERE ready_at <= ? AND queue IN ({in_queues}) AND machine IN ({of_machines})
                AND (timer_at IS NULL OR timer_at > ?)
            UNION ALL SELECT snapshot, timer_at AS at FROM operation WHERE timer_at <= ? AND machine IN ({of_machines})
            ) ORDER BY at LIMIT ?""",
            (now, *queues, *machines, now, now, *machines, limit),
        )

    def next_due(self, machines: Collection[str], queues: Collection[str]) -> float | None:
        of_machines, in_queues = _marks(machines), _marks(queues)
        rows = self._rows(
            f"""SELECT min(at) FROM (
            SELECT min(ready_at) AS at FROM operation WHERE ready_at IS NOT NULL AND queue IN ({in_queues}) AND machine IN ({of_machines})
            UNION ALL SELECT min(timer_at) FROM operation WHERE timer_at IS NOT NULL AND machine IN ({of_machines}))""",
            (*queues, *machines, *machines),
        )
        at: float | None = rows[0][0]
        return at

    def held(self, worker: str, limit: int) -> list[Snapshot]:
        return self._snapshots("SELECT snapshot FROM operation WHERE worker=? ORDER BY key LIMIT ?", (worker, limit))

    def renew(self, lease: Lease) -> None:
        row = (lease.worker, lease.until, lease.process, json.dumps(lease.queues), json.dumps(lease.machines))
        self._transaction(lambda: self._db.execute("INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?)", row))

    def leases(self) -> list[Lease]:
        rows = self._rows("SELECT worker, until, process, queues, machines FROM lease ORDER BY worker")
        return [Lease(row[0], row[1], row[2], tuple(json.loads(row[3])), tuple(json.loads(row[4]))) for row in rows]

    def retire(self, worker: str) -> None:
        self._transaction(lambda: self._db.execute("DELETE FROM lease WHERE worker=?", (worker,)))

    def define(self, machine: str, version: int, document: Mapping[str, Any]) -> None:
        text = json.dumps(document, sort_keys=True)

        def define() -> None:
            self._db.execute("INSERT OR IGNORE INTO machine VALUES (?, ?, ?)", (machine, version, text))
            (known,) = self._db.execute(
                "SELECT document FROM machine WHERE name=? AND version=?", (machine, version)
            ).fetchone()
            if known != text:
                raise Refused(
                    f"machine `{machine}` version {version} is known to this store with another content; "
                    "give the changed machine a new version",
                    machine=machine,
                    version=version,
                )

        self._transaction(define)

    def definition(self, machine: str, version: int) -> dict[str, Any] | None:
        rows = self._rows("SELECT document FROM machine WHERE name=? AND version=?", (machine, version))
        return json.loads(rows[0][0]) if rows else None

    def definitions(self) -> list[tuple[str, int]]:
        return [(row[0], row[1]) for row in self._rows("SELECT name, version FROM machine ORDER BY name, version")]

    def _records(self, sql: str, values: Sequence[Any]) -> list[Record]:
        return [Record(*row[:4], _FACTS.decode(row[4])) for row in self._rows(f"{_RECORDS} {sql}", values)]

    def journal(self, operation: str, after: int, limit: int) -> list[Record]:
        return self._records("WHERE o.id=? AND j.seq > ? ORDER BY j.seq LIMIT ?", (operation, after, limit))

    def tail(self, after: int, limit: int) -> list[Record]:
        return self._records("WHERE j.position > ? ORDER BY j.position LIMIT ?", (after, limit))

    def position(self) -> int:
        position: int = self._rows("SELECT coalesce(max(position), 0) FROM journal")[0][0]
        return position

    def search(
        self, *, machine: str | None, status: Collection[str], state: str | None, cursor: str | None, limit: int
    ) -> Page:
        where, values = ["key < ?"], [int(cursor) if cursor else 2**62]
        more: list[Any] = []
        for column, wanted in (("machine", machine), ("state", state)):
            if wanted is not None:
                where.append(f"{column} = ?")
                more.append(wanted)
        if status:
            where.append(f"status IN ({_marks(status)})")
            more += status
        rows = self._rows(
            f"SELECT key, snapshot FROM operation WHERE {' AND '.join(where)} ORDER BY key DESC LIMIT ?",
            (*values, *more, limit + 1),
        )
        cursor_after = str(rows[limit - 1][0]) if len(rows) > limit else None
        return Page(tuple(_SNAPSHOT.decode(row[1]) for row in rows[:limit]), cursor_after)

    def counts(self) -> dict[tuple[str, str, str], int]:
        rows = self._rows("SELECT machine, state, status, count(*) FROM operation GROUP BY 1, 2, 3")
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    def report(self, progress: Sequence[Progress]) -> None:
        rows = [(one.operation, _encode(one)) for one in progress]
        self._transaction(lambda: self._db.executemany("INSERT OR REPLACE INTO progress VALUES (?, ?)", rows))

    def progress(self, operation: str) -> Progress | None:
        rows = self._rows("SELECT report FROM progress WHERE operation=?", (operation,))
        return _PROGRESS.decode(rows[0][0]) if rows else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._db.close()


_ADVICE = (
    ("unable to open", "make its directory, and see that it may be written"),
    ("readonly", "see that the file and its directory may be written"),
    ("not a database", "it is no SQLite file: name another"),
    ("full", "the disk or its quota is full: make room, then try again"),
    ("locked", "another process holds it: stop it, or wait"),
    ("malformed", "the file is damaged: restore it from a backup"),
    ("I/O error", "the device failed or is full: look at its log"),
)


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))


def _columns(snapshot: Snapshot) -> tuple[str | None, str | None, float | None, float | None]:
    phase = snapshot.phase
    if isinstance(phase, Running):
        return phase.worker, None, None, None
    if isinstance(phase, Queued) and not snapshot.paused:
        return None, phase.queue, phase.ready_at, timer_at(snapshot)
    return None, None, None, timer_at(snapshot)


def _insert_row(snapshot: Snapshot) -> tuple[Any, ...]:
    return (
        snapshot.id,
        snapshot.seq,
        snapshot.machine,
        snapshot.state,
        snapshot.status,
        *_columns(snapshot),
        _encode(snapshot),
    )


def _update_row(entry: Entry) -> tuple[Any, ...]:
    snapshot = entry.snapshot
    return (
        snapshot.seq,
        snapshot.state,
        snapshot.status,
        *_columns(snapshot),
        _encode(snapshot),
        snapshot.id,
        entry.expected,
    )
