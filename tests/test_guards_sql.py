"""The guard in the database: every statement that could slip past it is tried on a real SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from interlock import Final, Machine, State
from interlock.errors import Refused
from interlock.guards.sql import SqlGuard, sql_guard
from interlock.guards.sql_words import Place

DIALECTS = {"sqlite": "sqlite", "postgresql": "postgresql", "mysql": "mariadb"}


class Volume(Machine[dict[str, str]]):
    free = State(initial=True, to=["used"])
    used = State(to=["free", "gone"], status="in-use")
    gone = Final("succeeded")


class Database:
    """A connection, each statement a transaction of its own."""

    def __init__(self, dialect: str, connection: Connection) -> None:
        self.dialect, self.connection = dialect, connection

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        try:
            for statement in statements:
                result = self.connection.exec_driver_sql(statement)
                found = [tuple(row) for row in result] if result.returns_rows else []
        except BaseException:
            self.connection.rollback()
            raise
        self.connection.commit()
        return found

    def refusal(self, statement: str) -> str:
        """Return what the database says to a statement that it refuses."""
        with pytest.raises(DBAPIError) as refused:
            self.run(statement)
        return str(refused.value.orig)

    def rows(self) -> list[tuple[Any, ...]]:
        return self.run("SELECT id, status, n FROM volumes ORDER BY id")

    def apply(self, guard: SqlGuard) -> None:
        self.run(*guard.create)


@pytest.fixture(params=DIALECTS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Three volumes, one in each state, guarded."""
    url = request.getfixturevalue(DIALECTS[request.param])
    engine = create_engine(url, poolclass=NullPool, execution_options={"no_parameters": True})
    with engine.connect() as connection:
        one = Database(request.param, connection)
        one.run(
            "CREATE TABLE volumes (id INTEGER PRIMARY KEY, status VARCHAR(20), n INTEGER DEFAULT 0, label VARCHAR(9) UNIQUE)"
        )
        one.apply(guard(one))
        one.run("INSERT INTO volumes (id, status, n) VALUES (1, 'free', 0), (2, 'free', 0), (3, 'free', 0)")
        one.run("UPDATE volumes SET status = 'in-use' WHERE id > 1")
        one.run("UPDATE volumes SET status = 'gone' WHERE id > 2")
        yield one
    engine.dispose()


def guard(database: Database, **options: Any) -> SqlGuard:
    return sql_guard(
        Volume, **{"table": "volumes", "column": "status", "dialect": database.dialect, "key": ["id"], **options}
    )


EVERYWHERE = [
    "UPDATE volumes SET status = 'gone' WHERE id = 1",
    "UPDATE volumes SET status = 'free' WHERE id = 3",
    "UPDATE volumes SET status = NULL WHERE id = 1",
    "UPDATE volumes SET status = 'nonsense' WHERE id = 1",
    "UPDATE volumes SET status = 'FREE' WHERE id = 1",
    "UPDATE volumes SET status = 'Gone' WHERE id = 2",
    "UPDATE volumes SET status = 'free ' WHERE id = 1",
    "UPDATE volumes SET status = '' WHERE id = 1",
    "UPDATE volumes SET n = 9, status = 'gone', label = 'x' WHERE id = 1",
    "UPDATE volumes SET n = 9, status = 'gone'",  # legal for 2, no move for 3, illegal for 1
    "UPDATE volumes SET status = 'free' WHERE id IN (2, 3)",
    "UPDATE volumes SET id = 9, status = 'gone' WHERE id = 1",
    "UPDATE volumes SET status = CASE id WHEN 1 THEN 'in-use' ELSE 'free' END",
    "INSERT INTO volumes (id, status) VALUES (4, 'in-use')",
    "INSERT INTO volumes (id, status) VALUES (4, NULL)",
    "INSERT INTO volumes (id) VALUES (4)",
    "INSERT INTO volumes (id, status) VALUES (4, 'Free')",
    "INSERT INTO volumes (id, status) VALUES (4, 'free'), (5, 'gone'), (6, 'free')",
    "INSERT INTO volumes (id, status, n) SELECT id + 10, status, n FROM volumes",
]
OF_ONE = {
    "sqlite": [
        "INSERT OR REPLACE INTO volumes (id, status) VALUES (3, 'free')",
        "REPLACE INTO volumes (id, status) VALUES (1, 'gone')",
        "INSERT OR REPLACE INTO volumes (id, status) VALUES (4, 'free'), (2, 'free'), (3, 'free')",
        "INSERT OR REPLACE INTO volumes (rowid, status) VALUES (3, 'free')",
        "INSERT OR REPLACE INTO volumes SELECT 3, status, n, label FROM volumes WHERE id = 1",
        "INSERT OR IGNORE INTO volumes (id, status) VALUES (4, 'gone')",
        "INSERT OR FAIL INTO volumes (id, status) VALUES (4, 'gone')",
        "INSERT INTO volumes (id, status) VALUES (3, 'free') ON CONFLICT (id) DO UPDATE SET status = excluded.status",
        "INSERT INTO volumes (id, status) VALUES (3, 'x') ON CONFLICT DO UPDATE SET status = 'free'",
        "UPDATE OR REPLACE volumes SET id = 3 WHERE id = 1",
        "UPDATE OR REPLACE volumes SET rowid = 3 WHERE id = 1",
        "UPDATE OR REPLACE volumes SET id = 3, status = 'in-use' WHERE id = 1",
        "UPDATE OR IGNORE volumes SET status = 'gone' WHERE id = 1",
        "UPDATE volumes SET status = CAST('in-use' AS BLOB) WHERE id = 1",
        "UPDATE volumes SET status = 'in-use' || char(0) || 'x' WHERE id = 1",
        "UPDATE volumes SET status = 'gone' FROM (SELECT 1 AS one) AS other WHERE volumes.id = other.one",
        "WITH some AS (SELECT 1 AS one) UPDATE volumes SET status = 'gone' WHERE id IN (SELECT one FROM some)",
    ],
    "postgresql": [
        "INSERT INTO volumes (id, status) VALUES (3, 'free') ON CONFLICT (id) DO UPDATE SET status = excluded.status",
        "INSERT INTO volumes (id, status) VALUES (3, 'x') ON CONFLICT (id) DO UPDATE SET status = 'free'",
        "INSERT INTO volumes (id, status) VALUES (4, 'gone') ON CONFLICT DO NOTHING",
        "MERGE INTO volumes USING (VALUES (1)) AS new (id) ON volumes.id = new.id WHEN MATCHED THEN UPDATE SET status = 'gone'",
        "MERGE INTO volumes USING (VALUES (4)) AS new (id) ON volumes.id = new.id WHEN NOT MATCHED THEN INSERT VALUES (4, 'gone')",
        "WITH moved AS (UPDATE volumes SET status = 'gone' WHERE id = 1 RETURNING 1) SELECT * FROM moved",
        "UPDATE volumes SET (status, n) = ROW ('gone', 5) WHERE id = 1",
        "UPDATE volumes SET status = 'gone' FROM (VALUES (1)) AS other (one) WHERE id = one",
        "DO $$ BEGIN UPDATE volumes SET status = 'gone' WHERE id = 1; END $$",
        "UPDATE volumes SET status = DEFAULT WHERE id = 1",
    ],
    "mysql": [
        "REPLACE INTO volumes (id, status) VALUES (3, 'free')",
        "REPLACE INTO volumes (id, status) VALUES (4, 'free'), (1, 'gone')",
        "REPLACE INTO volumes SET id = 3, status = 'free'",
        "REPLACE INTO volumes (id, status) SELECT 3, status FROM volumes WHERE id = 1",
        "INSERT INTO volumes (id, status) VALUES (3, 'free') ON DUPLICATE KEY UPDATE status = VALUES(status)",
        "INSERT INTO volumes (id, status) VALUES (3, 'x') ON DUPLICATE KEY UPDATE status = 'free'",
        "INSERT IGNORE INTO volumes (id, status) VALUES (4, 'gone')",
        "UPDATE IGNORE volumes SET status = 'gone' WHERE id = 1",
        "UPDATE volumes, (SELECT 1 AS one) AS other SET status = 'gone' WHERE volumes.id = other.one",
        "UPDATE volumes SET status = 'gone' ORDER BY id DESC LIMIT 3",
        "UPDATE volumes SET status = 'gone' WHERE id = 1 AND (@interlock_volumes_status_a14306e4_replaced := 1)",
        "INSERT INTO volumes (id, status) VALUES (4, IF((@interlock_volumes_status_a14306e4_replaced := 'in-use') = '', '', 'gone'))",
        "UPDATE volumes SET status = DEFAULT WHERE id = 1",
    ],
}


@pytest.mark.parametrize("guarded_again", [False, True])
def test_no_statement_slips_past(database: Database, guarded_again: bool) -> None:
    if guarded_again:
        database.apply(guard(database, audit="moves"))
    before = database.rows()
    assert [row[1] for row in before] == ["free", "in-use", "gone"]
    for statement in [*EVERYWHERE, *OF_ONE[database.dialect]]:
        said = database.refusal(statement)
        assert "volumes.status" in said, f"{statement}: {said}"
        assert database.rows() == before, statement
