"""The status column in the same transaction as the operation's own commit."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from interlock import Interlock, Refused, StoreFailed
from interlock.records.beside import predecessors, status_column
from interlock.stores.sqlite import SqliteStore
from tests.moving_service import Moving
from tests.test_records import actions

BESIDE = status_column(Moving, table="migrations", key="id", column="status")


def service(directory: Path) -> sqlite3.Connection:
    db = sqlite3.connect(directory / "one.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE IF NOT EXISTS migrations (id INTEGER PRIMARY KEY, status TEXT NOT NULL)")
    return db


async def adopted(directory: Path, state: str) -> str:
    store = SqliteStore(directory / "one.db", beside=BESIDE)
    async with Interlock(store, actions=[actions([])]) as interlock:
        return (await (await interlock.adopt(Moving, {"guest": "g"}, state=state, record="7")).finished()).status


async def test_the_column_is_written_in_the_commit_of_the_move(tmp_path: Path) -> None:
    db = service(tmp_path)
    SqliteStore(tmp_path / "one.db", beside=BESIDE).close()
    db.execute("CREATE TABLE written (status TEXT, seq INTEGER)")
    db.execute("INSERT INTO migrations VALUES (7, 'queued')")
    db.execute(
        """CREATE TRIGGER note AFTER UPDATE ON migrations BEGIN
        INSERT INTO written SELECT NEW.status, seq FROM operation; END"""
    )
    assert await adopted(tmp_path, "queued") == "succeeded"
    written = [*db.execute("SELECT status, seq FROM written")]
    assert [status for status, _ in written] == ["preparing", "copying disk", "switching", "done"]
    journal = [seq for (seq,) in db.execute("SELECT seq FROM journal ORDER BY seq")]
    assert [seq for _, seq in written] == journal[1:], "each with the operation's own move, none before or after"
    db.close()


async def test_a_record_that_was_moved_elsewhere_is_left_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    db = service(tmp_path)
    db.execute("INSERT INTO migrations VALUES (7, 'failed')")
    with caplog.at_level(logging.WARNING, "interlock.records"):
        assert await adopted(tmp_path, "copying") == "succeeded"
    assert [*db.execute("SELECT status FROM migrations")] == [("failed",)]
    assert 'record 7 of "migrations" is `failed`: it was not written `switching`' in caplog.text
    db.close()


async def test_a_trigger_that_refuses_does_not_stop_the_operation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    db = service(tmp_path)
    db.execute("INSERT INTO migrations VALUES (7, 'switching')")
    db.execute("CREATE TRIGGER no BEFORE UPDATE ON migrations BEGIN SELECT RAISE(ABORT, 'not today'); END")
    with caplog.at_level(logging.WARNING, "interlock.records"):
        assert await adopted(tmp_path, "switching") == "succeeded"
    assert "could not be written `done`: not today" in caplog.text
    db.close()


async def test_a_table_that_is_not_there_fails_the_commit(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="no such table: migrations"):
        await adopted(tmp_path, "queued")


def test_where_a_state_may_be_entered_from() -> None:
    before = predecessors(Moving.definition)
    assert before["copying"] == {"preparing"} and before["switching"] == {"copying disk"}
    assert before["failed"] == {"queued", "preparing", "copying disk"}
    with pytest.raises(Refused, match="is no name of a table"):
        status_column(Moving, table="", key="id", column="status")


def test_without_it_a_file_of_another_application_is_refused(tmp_path: Path) -> None:
    service(tmp_path).close()
    with pytest.raises(StoreFailed, match="is a database of another application"):
        SqliteStore(tmp_path / "one.db")
