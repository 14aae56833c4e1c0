"""A table of volumes under a guard of SQL, in a real database: what the tests of that guard share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from interlock import Final, Machine, State
from interlock.guards.sql import SqlGuard, sql_guard

DIALECTS = {"sqlite": "sqlite", "postgresql": "postgresql", "mysql": "mariadb"}
"""The fixture of `tests.databases` for each dialect."""


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


@contextmanager
def connected(dialect: str, url: str) -> Iterator[Database]:
    engine = create_engine(url, poolclass=NullPool, execution_options={"no_parameters": True})
    with engine.connect() as connection:
        yield Database(dialect, connection)
    engine.dispose()


@contextmanager
def volumes_on(dialect: str, url: str) -> Iterator[Database]:
    """Three volumes, one in each state, guarded."""
    with connected(dialect, url) as one:
        one.run(
            "CREATE TABLE volumes (id INTEGER PRIMARY KEY, status VARCHAR(20), n INTEGER DEFAULT 0, label VARCHAR(9) UNIQUE)"
        )
        one.apply(guard(one))
        one.run("INSERT INTO volumes (id, status, n) VALUES (1, 'free', 0), (2, 'free', 0), (3, 'free', 0)")
        one.run("UPDATE volumes SET status = 'in-use' WHERE id > 1")
        one.run("UPDATE volumes SET status = 'gone' WHERE id > 2")
        yield one


def guard(database: Database, **options: Any) -> SqlGuard:
    return sql_guard(
        Volume, **{"table": "volumes", "column": "status", "dialect": database.dialect, "key": ["id"], **options}
    )
