"""The guard in the database, on tables of many kinds: what stands in them, who else writes them, and how rows come in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from interlock.definition.document import read_document
from interlock.guards.sql import sql_guard
from tests.guarded_tables import DIALECTS, Database, connected, guard, volumes_on


@pytest.fixture(params=DIALECTS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with volumes_on(request.param, request.getfixturevalue(DIALECTS[request.param])) as one:
        yield one


def test_bulk_loads_are_judged(database: Database, tmp_path: Path) -> None:
    before, raw = database.rows(), database.connection.connection
    if database.dialect == "postgresql":
        for line in ("5\tgone", "5\tFree", "5\t\\N"):
            with pytest.raises(psycopg.errors.CheckViolation):
                with raw.cursor().copy("COPY volumes (id, status) FROM STDIN") as copy:
                    copy.write(f"4\tfree\n{line}\n")
            raw.rollback()
            assert database.rows() == before
    elif database.dialect == "mysql":
        for how, line in (("", "5\tgone"), ("REPLACE", "3\tfree"), ("IGNORE", "5\tgone")):
            (tmp_path / "rows").write_text(f"4\tfree\n{line}\n")
            said = database.refusal(f"LOAD DATA INFILE '{tmp_path}/rows' {how} INTO TABLE volumes (id, status)")
            assert "volumes.status" in said and database.rows() == before
    else:
        with pytest.raises(sqlite3.IntegrityError, match="begin"):
            raw.cursor().executemany("INSERT INTO volumes (id, status) VALUES (?, ?)", [(4, "free"), (5, "gone")])
        raw.rollback()
        assert database.rows() == before


def test_what_other_triggers_make_of_a_row_is_judged(database: Database) -> None:
    body = {
        "sqlite": "CREATE TRIGGER zz AFTER UPDATE OF n ON volumes BEGIN UPDATE volumes SET status = 'free' WHERE id = NEW.id; END",
        "postgresql": "CREATE TRIGGER zz BEFORE UPDATE ON volumes FOR EACH ROW EXECUTE FUNCTION zz()",
        "mysql": "CREATE TRIGGER zz BEFORE UPDATE ON volumes FOR EACH ROW SET NEW.status = 'free'",
    }
    if database.dialect == "postgresql":
        database.run(
            "CREATE FUNCTION zz() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.status := 'free'; RETURN NEW; END $$"
        )
    database.run(body[database.dialect])
    before = database.rows()
    assert "volumes.status" in database.refusal("UPDATE volumes SET n = 1 WHERE id = 3") and database.rows() == before
    database.run("UPDATE volumes SET n = 1 WHERE id = 2")
    assert database.rows()[1][1:] == ("free", 1)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_a_foreign_key_s_cascade_is_judged(database: Database) -> None:
    database.run("CREATE TABLE names (name VARCHAR(20) PRIMARY KEY)", "INSERT INTO names VALUES ('free')")
    database.run(
        "CREATE TABLE looked (id INTEGER PRIMARY KEY, status VARCHAR(20) REFERENCES names (name) ON UPDATE CASCADE)"
    )
    database.apply(guard(database, table="looked"))
    if database.dialect == "sqlite":
        database.run("PRAGMA foreign_keys = ON")
    database.run("INSERT INTO looked VALUES (1, 'free')")
    assert "looked.status" in database.refusal("UPDATE names SET name = 'gone'")
    assert database.run("SELECT status FROM looked") == [("free",)]


def test_keys_of_any_kind_in_sqlite(sqlite: str) -> None:
    tables = [
        "(host TEXT COLLATE NOCASE, id INT, status TEXT COLLATE NOCASE, PRIMARY KEY (host, id)) WITHOUT ROWID",
        "(host ANY, id INT, status ANY, PRIMARY KEY (host, id)) STRICT",
        "(host, id, status, UNIQUE (id, host))",
    ]
    with connected("sqlite", sqlite) as database:
        for number, columns in enumerate(tables):
            table = f"t{number}"
            database.run(f"CREATE TABLE {table} {columns}")
            database.apply(guard(database, table=table, key=["host", "id"]))
            database.run(f"INSERT INTO {table} VALUES ('a', 1, 'free')", f"INSERT INTO {table} VALUES ('b', 1, 'free')")
            database.run(f"REPLACE INTO {table} VALUES ('a', 1, 'in-use')")
            database.run(f"REPLACE INTO {table} VALUES ('a', 1, 'gone'), ('b', 1, 'in-use'), ('b', 2, 'free')")
            before = database.run(f"SELECT * FROM {table} ORDER BY host, id")
            assert [row[2] for row in before] == ["gone", "in-use", "free"]
            for statement in (
                f"REPLACE INTO {table} VALUES ('a', 1, 'free')",
                f"REPLACE INTO {table} VALUES ('a', 1, 'GONE')",
                f"UPDATE {table} SET status = 'IN-USE' WHERE host = 'b' AND id = 1",
                f"UPDATE OR REPLACE {table} SET host = 'a', id = 1 WHERE id = 2",
                *([f"REPLACE INTO {table} VALUES ('A', 1, 'free')"] if number == 0 else []),
            ):
                assert "t" in database.refusal(statement)
                assert database.run(f"SELECT * FROM {table} ORDER BY host, id") == before, statement


def test_values_that_are_numbers(database: Database) -> None:
    states = {"off": {"status": "0", "initial": True, "to": ["on"]}, "on": {"status": "1", "to": ["off", "end"]}}
    machine = read_document(
        json.dumps({"machine": "switch", "states": {**states, "end": {"status": "2", "final": "succeeded"}}})
    )
    database.run("CREATE TABLE switches (id INTEGER PRIMARY KEY, state INTEGER)")
    database.apply(sql_guard(machine, table="switches", column="state", key=["id"], dialect=database.dialect))
    database.run("INSERT INTO switches VALUES (1, 0)", "UPDATE switches SET state = 1")
    if database.dialect != "postgresql":
        database.run("REPLACE INTO switches VALUES (1, 0)", "REPLACE INTO switches VALUES (1, 1)")
        assert "switches.state" in database.refusal("REPLACE INTO switches VALUES (1, 3)")
    assert database.run(sql_guard(machine, table="switches", column="state", dialect=database.dialect).find) == []
    for state in (3, 10, -1):
        assert "switches.state" in database.refusal(f"UPDATE switches SET state = {state}")
    database.run("UPDATE switches SET state = 2")
    assert "switches.state" in database.refusal("UPDATE switches SET state = 0")


def test_two_columns_and_another_schema(database: Database) -> None:
    schema = {"sqlite": "ATTACH ':memory:' AS ops", "postgresql": "CREATE SCHEMA ops", "mysql": "CREATE DATABASE ops"}
    database.run(schema[database.dialect])
    try:
        database.run("CREATE TABLE ops.volumes (id INTEGER PRIMARY KEY, one VARCHAR(9), other VARCHAR(9))")
        for column in ("one", "other"):
            for _ in range(2):
                database.apply(guard(database, table="ops.volumes", column=column, audit="moves"))
        database.run("INSERT INTO ops.volumes VALUES (1, 'free', 'free')", "UPDATE ops.volumes SET one = 'in-use'")
        assert "volumes.other" in database.refusal("UPDATE ops.volumes SET one = 'gone', other = 'gone'")
        assert "volumes.one" in database.refusal("UPDATE ops.volumes SET one = 'x', other = 'in-use'")
        assert database.run("SELECT * FROM ops.volumes") == [(1, "in-use", "free")]
        assert len(database.run("SELECT * FROM ops.moves")) == 3
        assert [row[1] for row in database.rows()] == ["free", "in-use", "gone"]
    finally:
        if database.dialect == "mysql":
            database.run("DROP DATABASE ops")


def test_padded_columns_in_postgresql(postgresql: str) -> None:
    with connected("postgresql", postgresql) as database:
        database.run("CREATE TABLE volumes (id int PRIMARY KEY, status char(20), n int)")
        database.apply(guard(database))
        database.run("INSERT INTO volumes VALUES (1, 'free')", "UPDATE volumes SET status = 'in-use'")
        assert "volumes.status" in database.refusal("UPDATE volumes SET status = 'IN-USE'")
        assert database.run(guard(database).find) == []


def test_partitions_are_guarded_with_their_table(postgresql: str) -> None:
    with connected("postgresql", postgresql) as database:
        database.run("CREATE TABLE volumes (id int, status text, n int) PARTITION BY RANGE (id)")
        database.run("CREATE TABLE low PARTITION OF volumes FOR VALUES FROM (0) TO (9)")
        database.apply(guard(database, audit="moves"))
        database.run("CREATE TABLE high PARTITION OF volumes FOR VALUES FROM (9) TO (99)")
        database.run("INSERT INTO volumes VALUES (1, 'free', 0), (10, 'free', 0)", "UPDATE high SET status = 'in-use'")
        for table in ("volumes", "low", "high"):
            assert ".status" in database.refusal(f"UPDATE {table} SET status = 'x'")
        assert ".status" in database.refusal("UPDATE volumes SET id = 2 WHERE id = 10")
        assert [row[1] for row in database.rows()] == ["free", "in-use"]


@pytest.mark.parametrize(
    "kind", ["CHAR(20)", "TEXT", "ENUM('free', 'in-use', 'gone')", "VARCHAR(20) CHARACTER SET latin1"]
)
def test_columns_of_other_types_in_mysql(mariadb: str, kind: str) -> None:
    with connected("mysql", mariadb) as database:
        database.run(f"CREATE TABLE volumes (id INT PRIMARY KEY, status {kind}, n INT)", "SET sql_mode = ''")
        database.apply(guard(database))
        database.run("INSERT INTO volumes VALUES (1, 'free', 0)", "UPDATE volumes SET status = 'in-use'")
        for value in (
            "nonsense",
            "",
            *(["in-úse", "IN-USE"] if "ENUM" not in kind else []),
        ):  # ENUM stores in-use for them
            assert "volumes.status" in database.refusal(f"UPDATE volumes SET status = '{value}'")
        assert database.rows() == [(1, "in-use", 0)]
