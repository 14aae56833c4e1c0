"""The SQLite store: one file, durable at every commit.

The file is in WAL mode. With ``synchronous="FULL"`` (the default) a commit is flushed before it is acknowledged: an acknowledged transition
survives the loss of power. ``"NORMAL"`` flushes only at checkpoints: much faster alone, and a crash of the process still loses nothing, but
the loss of power can take back the last acknowledged transitions. Leases and progress are never flushed on their own account: who reads the
file sees them at once, and after a loss of power no worker is left whose lease could matter.

Any number of processes may use one file on one machine; each waits for its turn to write. The tables are in
`interlock.stores.sqlite_schema`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from interlock.errors import Refused, StoreFailed
from interlock.interpreter.inputs import Claimant
from interlock.interpreter.snapshot import Queued, Running, Snapshot, timer_at
from interlock.stores import sqlite_claims as claims
from interlock.stores.contract import Entry, Lease, Page, Progress, Record, Schedule, Waiter
from interlock.stores.sqlite_schema import bring_up_to_date
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

__all__ = ["MOVE", "RECORD", "SqliteStore"]

T = TypeVar("T")
_Row = tuple[Any, ...]
Beside = Callable[[sqlite3.Connection, Sequence[Entry]], None]
_OURS = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
_read_progress = msgspec.json.Decoder(Progress).decode

START = """INSERT INTO operation (id, seq, machine, state, status, worker, queue, ready_at, timer_at, marks, snapshot)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
MOVE = """UPDATE operation SET seq=?, state=?, status=?, worker=?, queue=?, ready_at=?, timer_at=?, marks=?, snapshot=?
WHERE id=? AND seq=?"""
RECORD = "INSERT INTO journal (operation, seq, at, facts) VALUES ((SELECT key FROM operation WHERE id=?), ?, ?, ?)"
FIRE = "UPDATE schedule SET schedule=? WHERE name=? AND schedule=?"
STANDS = "SELECT 1 FROM schedule WHERE name=? AND schedule=?"
_RECORDS = "SELECT j.position, o.id, j.seq, j.at, j.facts FROM journal j JOIN operation o ON o.key = j.operation"
_READY = """SELECT ready_at, key FROM operation WHERE queue=? AND ready_at<=? AND machine IN ({machines})
ORDER BY ready_at, key LIMIT ?"""
_TIMERS = """SELECT timer_at, key FROM operation WHERE timer_at<=? AND machine IN ({machines})
ORDER BY timer_at, key LIMIT ?"""
_REPORT = """INSERT INTO progress VALUES (?, ?, ?) ON CONFLICT (operation)
DO UPDATE SET token=excluded.token, report=excluded.report WHERE excluded.token >= token"""
_ENDLESS = float("inf")
_AWAITS, _OWNS = 1, 2


class _Lost(Exception):
    """An entry of a group lost its compare-and-set."""


class SqliteStore:
    """A store in one SQLite file.

    Args:
        path: of the file; its directory must exist. The file is made if it does not.
        synchronous: ``FULL`` (the default): an acknowledged transition survives the loss of power. ``NORMAL``: faster, and the loss of
            power may take back the last acknowledged transitions; a crash of the process still loses none.
        busy_seconds: how long to wait for another process that is writing.
        beside: called within each commit's transaction, with the connection and the entries that won: what it writes is committed with
            them or not at all (`interlock.records.beside`). With it the file may be that of a service, with tables of its own.

    Raises:
        StoreNewer: a newer Interlock wrote the file; nothing was changed.
        StoreFailed: the file cannot be opened, is no store, or its schema cannot be brought up to date.
        Refused: ``synchronous`` is neither.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     store = SqliteStore(f"{directory}/operations.db")
    ...     store.position()
    ...     store.close()
    0
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        busy_seconds: float = 5.0,
        beside: Beside | None = None,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise Refused(f"synchronous={synchronous!r}: a SQLite store is FULL or NORMAL", synchronous=synchronous)
        self.path = str(path)
        self._synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._beside = beside
        self._closed = False
        try:
            # Whoever opens a store may hand it to the thread that will own it; it has one owner at any time.
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=busy_seconds, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        try:
            self._do(lambda: bring_up_to_date(self._db, self.path, shared=beside is not None))
            for setting in ("foreign_keys=ON", f"synchronous={synchronous}"):
                self._rows(f"PRAGMA {setting}")
        except BaseException:
            self._db.close()
            raise

    def _do(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise StoreFailed(f"`{self.path}`: this store was closed: open it again", path=self.path)
        try:
            return work()
        except _OURS:
            raise
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StoreFailed:
        code = getattr(error, "sqlite_errorname", "")
        mend = next(
            (mend for start, mend in _MENDS.items() if code.startswith(start)), "look at the file and its device"
        )
        directory = Path(self.path).parent
        if code.startswith("SQLITE_CANTOPEN") and not directory.is_dir():
            mend = f"the directory `{directory}` does not exist: make it"
        elif code.startswith("SQLITE_CANTOPEN") and Path(self.path).is_dir():
            mend = "it is a directory: name a file in it"
        return StoreFailed(
            f"`{self.path}`: {error}: {mend.format(seconds=self._busy_seconds)}. Nothing was changed",
            path=self.path,
            sqlite=code or str(error),
        )

    def _transaction(self, work: Callable[[], T], begin: str = "BEGIN IMMEDIATE") -> T:
        def whole() -> T:
            self._db.execute(begin)
            try:
                result = work()
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            return result

        return self._do(whole)

    def _unflushed(self, sql: str, rows: Sequence[_Row]) -> None:
        """Write what need not survive the loss of power. It is in the log before whatever is committed next, and flushed with that."""

        def write() -> None:
            self._db.execute("PRAGMA synchronous=NORMAL")
            try:
                self._transaction(lambda: self._db.executemany(sql, rows))
            finally:
                self._db.execute(f"PRAGMA synchronous={self._synchronous}")

        self._do(write)

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        starts: list[_Row] = []
        moves: list[_Row] = []
        records: list[_Row] = []
        moved: set[str] = set()
        in_order = True
        for entry in entries:
            snapshot = entry.snapshot
            assert snapshot.seq == entry.expected + len(entry.facts), f"{snapshot.id}: facts are missing"
            if entry.expected:
                moves.append(_move(entry))
                moved.add(snapshot.id)
            else:
                starts.append(_start(snapshot))
                in_order = in_order and snapshot.id not in moved
            records.append((snapshot.id, snapshot.seq, entry.at, encode(entry.facts)))
        if not records:
            return []
        if in_order:
            try:
                self._transaction(lambda: self._all_win(entries, starts, moves, records))
                return [True] * len(entries)
            except _Lost:
                pass
        return self._transaction(lambda: self._one_by_one(entries, records))

    def _all_win(
        self, entries: Sequence[Entry], starts: Sequence[_Row], moves: Sequence[_Row], records: Sequence[_Row]
    ) -> None:
        changed = self._db.executemany(START, starts).rowcount if starts else 0
        if moves:
            changed += self._db.executemany(MOVE, moves).rowcount
        if changed != len(records):
            raise _Lost
        self._db.executemany(RECORD, records)
        for entry in entries:
            if entry.claims:
                if not claims.free(self._db, entry.snapshot):
                    raise _Lost
                claims.claim(self._db, entry.snapshot)
            if entry.fires is not None and self._db.execute(FIRE, _fired(*entry.fires)).rowcount != 1:
                raise _Lost
        if self._beside is not None:
            self._beside(self._db, entries)

    def _one_by_one(self, entries: Sequence[Entry], records: Sequence[_Row]) -> list[bool]:
        won = []
        for entry, record in zip(entries, records, strict=True):
            sql, row = (MOVE, _move(entry)) if entry.expected else (START, _start(entry.snapshot))
            wins = not entry.claims or claims.free(self._db, entry.snapshot)
            wins = wins and (entry.fires is None or bool(self._db.execute(STANDS, _fired(*entry.fires)[1:]).fetchall()))
            wins = wins and self._db.execute(sql, row).rowcount == 1
            won.append(wins)
            if wins:
                if entry.claims:
                    claims.claim(self._db, entry.snapshot)
                self._db.execute(RECORD, record)
                if entry.fires is not None:
                    self._db.execute(FIRE, _fired(*entry.fires))
                if self._beside is not None:
                    self._beside(self._db, [entry])
        return won

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._do(lambda: self._db.execute(sql, values).fetchall())

    def _snapshots(self, sql: str, values: Sequence[Any] = ()) -> list[Snapshot]:
        return [read_snapshot(row[0]) for row in self._rows(sql, values)]

    def load(self, operations: Sequence[str]) -> list[Snapshot]:
        found: list[Snapshot] = []
        for one in operations:
            found += self._snapshots("SELECT snapshot FROM operation WHERE id=?", (one,))
        return found

    def _due(
        self, machines: Collection[str], queues: Collection[str], now: float, limit: int
    ) -> list[tuple[float, int]]:
        """Return time and key of what is due, longest first. Asked queue by queue, each answer is a stretch of an index."""
        marks = _marks(machines)
        rows = self._rows(_TIMERS.format(machines=marks), (now, *machines, limit))
        for queue in queues:
            rows += self._rows(_READY.format(machines=marks), (queue, now, *machines, limit))
        times: dict[int, float] = {}
        for at, key in rows:
            times[key] = min(at, times.get(key, at))
        return sorted((at, key) for key, at in times.items())[:limit]

    def due(
        self, machines: Collection[str], queues: Collection[str], now: float, limit: int, skip: int = 0
    ) -> list[Snapshot]:
        def read() -> list[Snapshot]:
            found: list[Snapshot] = []
            for _, key in self._due(machines, queues, now, skip + limit)[skip:]:
                found += self._snapshots("SELECT snapshot FROM operation WHERE key=?", (key,))
            return found

        return self._transaction(read, "BEGIN")

    def next_due(self, machines: Collection[str], queues: Collection[str]) -> float | None:
        first = self._due(machines, queues, _ENDLESS, 1)
        return first[0][0] if first else None

    def standing(self, names: Collection[str], limit: int) -> dict[str, list[Claimant]]:
        return self._transaction(lambda: claims.standing(self._db, names, limit), "BEGIN")

    def waiters(self, after: int, limit: int) -> list[Waiter]:
        places = {operation: place for place, operation in self._do(lambda: claims.waiting(self._db, after, limit))}
        return [Waiter(places[one.id], one, standing_of(self, one)) for one in self.load([*places])]

    def _marked(self, mark: int, after: str, limit: int) -> list[Snapshot]:
        sql = "SELECT snapshot FROM operation WHERE marks IS NOT NULL AND marks & ? AND id > ? ORDER BY id LIMIT ?"
        return self._snapshots(sql, (mark, after, limit))

    def awaiting(self, after: str, limit: int) -> list[Snapshot]:
        return self._marked(_AWAITS, after, limit)

    def owning(self, after: str, limit: int) -> list[Snapshot]:
        return self._marked(_OWNS, after, limit)

    def held(self, worker: str, limit: int) -> list[Snapshot]:
        return self._snapshots("SELECT snapshot FROM operation WHERE worker=? ORDER BY key LIMIT ?", (worker, limit))

    def schedules(self) -> list[Schedule]:
        return [read_schedule(row[0]) for row in self._rows("SELECT schedule FROM schedule ORDER BY name")]

    def set_schedule(self, schedule: Schedule, before: Schedule | None) -> bool:
        sql, row = "INSERT INTO schedule VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (schedule.name, encode(schedule))
        if before is not None:
            sql, row = FIRE, _fired(before, schedule)
        return self._transaction(lambda: self._db.execute(sql, row).rowcount == 1)

    def drop_schedule(self, name: str) -> bool:
        return self._transaction(lambda: self._db.execute("DELETE FROM schedule WHERE name=?", (name,)).rowcount == 1)

    def renew(self, lease: Lease) -> None:
        served = json.dumps(lease.queues), json.dumps(lease.machines)
        row = (lease.worker, lease.until, lease.process, *served, lease.max_running, json.dumps(lease.versions))
        self._unflushed("INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?, ?)", [row])

    def leases(self) -> list[Lease]:
        columns = "worker, until, process, queues, machines, max_running, versions"
        rows = self._rows(f"SELECT {columns} FROM lease ORDER BY worker")
        return [Lease(a, b, c, _listed(d), _listed(e), f, _listed(g)) for a, b, c, d, e, f, g in rows]

    def retire(self, worker: str) -> None:
        self._unflushed("DELETE FROM lease WHERE worker=?", [(worker,)])

    def define(self, machine: str, version: int, document: Mapping[str, Any]) -> None:
        text = document_text(document)
        known = self._document(machine, version)
        if known is None:
            insert = "INSERT OR IGNORE INTO machine VALUES (?, ?, ?)"
            self._transaction(lambda: self._db.execute(insert, (machine, version, text)))
            known = self._document(machine, version)
        assert known is not None, f"definition {machine} {version} was not kept"
        same_document(machine, version, known, text)

    def _document(self, machine: str, version: int) -> str | None:
        rows = self._rows("SELECT document FROM machine WHERE name=? AND version=?", (machine, version))
        return rows[0][0] if rows else None

    def definition(self, machine: str, version: int) -> dict[str, Any] | None:
        text = self._document(machine, version)
        return None if text is None else json.loads(text)

    def definitions(self) -> list[tuple[str, int]]:
        return [(row[0], row[1]) for row in self._rows("SELECT name, version FROM machine ORDER BY name, version")]

    def _records(self, sql: str, values: Sequence[Any]) -> list[Record]:
        rows = self._rows(f"{_RECORDS} {sql}", values)
        return [Record(row[0], row[1], row[2], row[3], read_facts(row[4])) for row in rows]

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
        asked: dict[str, list[Any]] = {}
        if cursor is not None:
            asked["key < ?"] = [place_of(cursor)]
        if machine is not None:
            asked["machine = ?"] = [machine]
        if state is not None:
            asked["state = ?"] = [state]
        if status:
            asked[f"status IN ({_marks(status)})"] = [*status]
        rows = self._rows(
            f"SELECT key, snapshot FROM operation WHERE {' AND '.join(asked) or 'true'} ORDER BY key DESC LIMIT ?",
            [*(value for values in asked.values() for value in values), limit + 1],
        )
        more = str(rows[limit - 1][0]) if len(rows) > limit else None
        return Page(tuple(read_snapshot(row[1]) for row in rows[:limit]), more)

    def counts(self) -> dict[tuple[str, str, str], int]:
        rows = self._rows("SELECT machine, state, status, count(*) FROM operation GROUP BY machine, state, status")
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    def report(self, progress: Sequence[Progress]) -> None:
        self._unflushed(_REPORT, [(one.operation, one.token, encode(one)) for one in progress])

    def progress(self, operation: str) -> Progress | None:
        rows = self._rows("SELECT report FROM progress WHERE operation=?", (operation,))
        return _read_progress(rows[0][0]) if rows else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._db.close()


# By the beginning of SQLite's name of the error.
_MENDS = {
    "SQLITE_CANTOPEN": "see that the file and its directory may be read and written",
    "SQLITE_READONLY": "see that the file and its directory may be written",
    "SQLITE_PERM": "see that the file and its directory may be written",
    "SQLITE_NOTADB": "this is no store: name another file, or none to make one",
    "SQLITE_FULL": "the disk or its quota is full: make room",
    "SQLITE_BUSY": "another process wrote to it for more than {seconds:g} s: find out which, and stop it or wait",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a backup",
    "SQLITE_IOERR": "its device failed or is full: see how much room there is, and the system's log",
}


def _listed(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))


def _places(snapshot: Snapshot) -> tuple[str | None, str | None, float | None, float | None]:
    """Return the columns by which an operation is found: worker, queue, ready_at, timer_at."""
    phase = snapshot.phase
    if isinstance(phase, Running):
        return phase.worker, None, None, None
    if isinstance(phase, Queued) and not snapshot.paused:
        return None, phase.queue, phase.ready_at, timer_at(snapshot)
    return None, None, None, timer_at(snapshot)


def _marks_of(snapshot: Snapshot) -> int | None:
    return (_AWAITS * awaits(snapshot) + _OWNS * owns(snapshot)) or None


def _fired(before: Schedule, after: Schedule) -> _Row:
    return encode(after), before.name, encode(before)


def _start(snapshot: Snapshot) -> _Row:
    one = snapshot
    return (one.id, one.seq, one.machine, one.state, one.status, *_places(one), _marks_of(one), encode(one))


def _move(entry: Entry) -> _Row:
    one = entry.snapshot
    return (one.seq, one.state, one.status, *_places(one), _marks_of(one), encode(one), one.id, entry.expected)
