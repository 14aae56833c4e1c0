"""The SQLite schema: made, brought up to date step by step, and never touched when it is another's or a newer one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from interlock.errors import StoreFailed, StoreNewer
from interlock.interpreter.snapshot import fold
from interlock.stores.sqlite import SqliteStore
from interlock.stores.sqlite_schema import APPLICATION, STEPS, bring_up_to_date
from tests.house import ROOT
from tests.store_contract import SEARCH, five_steps, started

FIXTURE = ROOT / "tests" / "golden" / "sqlite-schema-1.sql"
NEXT = (*STEPS, ("ALTER TABLE lease ADD COLUMN host TEXT NOT NULL DEFAULT ''", "UPDATE operation SET status = 'stuck'"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def _numbers(db: sqlite3.Connection) -> tuple[int, int]:
    return db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]


def _make(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([started("a")])
    store.close()


def test_an_empty_file_becomes_a_store(db: sqlite3.Connection, path: Path) -> None:
    bring_up_to_date(db, str(path))
    assert _numbers(db) == (APPLICATION, len(STEPS))
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    before = [*db.iterdump()]
    bring_up_to_date(db, str(path))
    assert [*db.iterdump()] == before


def test_an_older_store_is_brought_up_to_date(db: sqlite3.Connection, path: Path) -> None:
    _make(path)
    bring_up_to_date(db, str(path), NEXT)
    assert _numbers(db) == (APPLICATION, len(NEXT))
    assert db.execute("SELECT id, status FROM operation").fetchall() == [("a", "stuck")]
    assert "host" in [row[1] for row in db.execute("PRAGMA table_info(lease)")]


def test_every_step_between_is_taken_once(db: sqlite3.Connection, path: Path) -> None:
    steps = tuple((f"CREATE TABLE t{number} (x)",) for number in range(5))
    bring_up_to_date(db, str(path), steps[:2])
    bring_up_to_date(db, str(path), steps)
    assert [row[0] for row in db.execute("SELECT name FROM sqlite_master ORDER BY name")] == [
        "t0",
        "t1",
        "t2",
        "t3",
        "t4",
    ]


def test_a_step_that_fails_changes_nothing(db: sqlite3.Connection, path: Path) -> None:
    _make(path)
    before = [*db.iterdump()]
    with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
        bring_up_to_date(db, str(path), (*NEXT, ("CREATE TABLE more (x)", "DELETE FROM nowhere")))
    assert _numbers(db) == (APPLICATION, len(STEPS)) and [*db.iterdump()] == before
    store = SqliteStore(path)
    assert store.load(["a"]) == [started("a").snapshot]
    store.close()


def test_a_newer_store_is_not_touched(db: sqlite3.Connection, path: Path) -> None:
    _make(path)
    bring_up_to_date(db, str(path), NEXT)
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        StoreNewer,
        match=rf"has schema {len(NEXT)}, .* up to {len(STEPS)}: use the newer Interlock; nothing was changed",
    ) as one:
        SqliteStore(path)
    assert str(path) in str(one.value) and one.value.details["schema"] == len(NEXT)
    assert path.read_bytes() == before and [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (x)", "PRAGMA application_id=252006674", "PRAGMA user_version=3"]
)
def test_another_application_is_not_touched(db: sqlite3.Connection, path: Path, statement: str) -> None:
    db.execute(statement)
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreFailed, match="is a database of another application: name another file"):
        SqliteStore(path)
    assert path.read_bytes() == before and [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_store_of_the_first_schema_is_read_for_ever(db: sqlite3.Connection, path: Path) -> None:
    db.executescript(FIXTURE.read_text())
    db.execute(f"PRAGMA application_id={APPLICATION}")
    db.execute("PRAGMA user_version=1")
    store = SqliteStore(path)
    (operation,) = store.load(["a"])
    assert operation == five_steps("a")[-1].snapshot
    snapshot = None
    for record in store.journal("a", 0, 100):
        for fact in record.facts:
            snapshot = fold(snapshot, fact, record.at)
    assert snapshot == operation
    assert store.definition("moving", 1) == {"states": {}} and [one.worker for one in store.leases()] == ["w1"]
    assert store.progress("a") is not None and store.due(["moving"], [""], 9.0, 10)[0].id == "b"
    assert store.commit([started("c")]) == [True] and len(store.search(**SEARCH).snapshots) == 3
    store.close()


def test_the_first_schema_is_never_edited(db: sqlite3.Connection, path: Path) -> None:
    bring_up_to_date(db, str(path), STEPS[:1])
    made = {row[0] for row in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    with closing(sqlite3.connect(":memory:")) as fixture:
        fixture.executescript(FIXTURE.read_text())
        kept = {row[0] for row in fixture.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    assert made == kept
