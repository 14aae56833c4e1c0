"""The guard in the database: every statement that could slip past it is tried on a real SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from interlock.definition.document import read_document
from interlock.guards.sql import sql_guard
from tests.guarded_tables import DIALECTS, Database, Volume, connected, guard, volumes_on


@pytest.fixture(params=DIALECTS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with volumes_on(request.param, request.getfixturevalue(DIALECTS[request.param])) as one:
        yield one


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


# What a session may set to weaken a guard.
SETTINGS = {
    "sqlite": ["PRAGMA recursive_triggers = ON"],
    "postgresql": [
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.yes(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes)",
        "CREATE FUNCTION evil.coalesce(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
        "CREATE TEMP TABLE moves (LIKE public.moves)",
        "SET search_path = evil, public, pg_catalog",
    ],
    "mysql": ["SET sql_mode = ''", "SET NAMES latin1 COLLATE latin1_swedish_ci"],
}


@pytest.mark.parametrize("how", ["plain", "audited", "set"])
def test_no_statement_slips_past(database: Database, how: str) -> None:
    if how != "plain":
        database.apply(guard(database, audit="moves"))
    if how == "set":
        database.run(*SETTINGS[database.dialect])
    before = database.rows()
    assert [row[1] for row in before] == ["free", "in-use", "gone"]
    for statement in [*EVERYWHERE, *OF_ONE[database.dialect]]:
        said = database.refusal(statement)
        assert "volumes.status" in said, f"{statement}: {said}"
        assert database.rows() == before, statement
    if how != "plain":
        assert database.run(f"SELECT count(*) FROM {'public.' * (database.dialect == 'postgresql')}moves") == [(0,)]


LEGAL: list[tuple[str, dict[int, str | None]]] = [
    ("UPDATE volumes SET status = 'in-use' WHERE id = 1", {1: "in-use"}),
    (
        "UPDATE volumes SET status = CASE id WHEN 1 THEN 'in-use' WHEN 2 THEN 'gone' ELSE 'gone' END",
        {1: "in-use", 2: "gone"},
    ),
    ("UPDATE volumes SET status = status, n = n + 1", {}),
    ("UPDATE volumes SET n = n + 1", {}),
    ("UPDATE volumes SET id = 9 WHERE id = 3", {3: None, 9: "gone"}),
    ("UPDATE volumes SET id = 9, status = 'in-use' WHERE id = 1", {1: None, 9: "in-use"}),
    ("INSERT INTO volumes (id, status) VALUES (4, 'free'), (5, 'free')", {4: "free", 5: "free"}),
    ("DELETE FROM volumes WHERE id > 1", {2: None, 3: None}),
]
LEGAL_IN_ONE: dict[str, list[tuple[str, dict[int, str | None]]]] = {
    "sqlite": [
        ("INSERT INTO volumes (status) VALUES ('free')", {4: "free"}),
        ("INSERT INTO volumes (id, status) VALUES (2, 'gone') ON CONFLICT DO UPDATE SET status = excluded.status", {2: "gone"}),
        ("INSERT INTO volumes (id, status) VALUES (3, 'free') ON CONFLICT DO UPDATE SET n = n + 1", {}),
        ("INSERT OR IGNORE INTO volumes (id, status) VALUES (3, 'free'), (4, 'free')", {4: "free"}),
        ("INSERT OR REPLACE INTO volumes (id, status) VALUES (2, 'gone'), (3, 'gone'), (4, 'free')", {2: "gone", 4: "free"}),
        ("UPDATE OR REPLACE volumes SET id = 3, status = 'gone' WHERE id = 2", {2: None}),
    ],
    "postgresql": [
        ("INSERT INTO volumes (id, status) VALUES (2, 'gone') ON CONFLICT (id) DO UPDATE SET status = excluded.status", {2: "gone"}),
        ("INSERT INTO volumes (id, status) VALUES (3, 'free') ON CONFLICT (id) DO UPDATE SET n = volumes.n + 1", {}),
        ("INSERT INTO volumes (id, status) VALUES (3, 'free'), (4, 'free') ON CONFLICT DO NOTHING", {4: "free"}),
        (
            "MERGE INTO volumes USING (VALUES (1), (4)) AS new (id) ON volumes.id = new.id "
            "WHEN MATCHED THEN UPDATE SET status = 'in-use' WHEN NOT MATCHED THEN INSERT VALUES (4, 'free')",
            {1: "in-use", 4: "free"},
        ),
    ],
    "mysql": [
        ("INSERT INTO volumes (id, status) VALUES (2, 'gone') ON DUPLICATE KEY UPDATE status = VALUES(status)", {2: "gone"}),
        ("INSERT INTO volumes (id, status) VALUES (3, 'free') ON DUPLICATE KEY UPDATE n = n + 1", {}),
        ("INSERT IGNORE INTO volumes (id, status) VALUES (3, 'free'), (4, 'free')", {4: "free"}),
        ("REPLACE INTO volumes (id, status) VALUES (2, 'gone'), (3, 'gone'), (4, 'free')", {2: "gone", 4: "free"}),
    ],
}  # fmt: skip


def test_legal_statements_pass(database: Database) -> None:
    for statement, changed in LEGAL + LEGAL_IN_ONE[database.dialect]:
        database.run(*guard(database).remove, "DELETE FROM volumes")
        database.run("INSERT INTO volumes (id, status, n) VALUES (1, 'free', 0), (2, 'in-use', 0), (3, 'gone', 0)")
        database.apply(guard(database))
        database.run(statement)
        expected = {1: "free", 2: "in-use", 3: "gone", **changed}
        assert {row[0]: row[1] for row in database.rows()} == {one: to for one, to in expected.items() if to}, statement


def test_the_error_names_what_was_tried_and_what_is_allowed(database: Database) -> None:
    moved = database.refusal("UPDATE volumes SET status = 'free' WHERE id = 3")
    chosen = database.refusal("UPDATE volumes SET status = 'x' WHERE id = 2")
    begun = database.refusal("INSERT INTO volumes (id, status) VALUES (4, NULL)")
    assert "volumes.status" in moved and "`gone`" in moved and "`free`" in begun
    assert "`in-use`" in chosen and "`free`, `gone`" in chosen
    if database.dialect == "postgresql":
        assert "`gone` -> `free`" in moved and "nothing else" in moved and "`NULL`" in begun
        with pytest.raises(DBAPIError) as refused:
            database.run("UPDATE volumes SET status = 'x' WHERE id = 2")
        assert isinstance(refused.value.orig, psycopg.errors.CheckViolation)
        diagnosed = refused.value.orig.diag
        assert (diagnosed.table_name, diagnosed.column_name) == ("volumes", "status")
        assert diagnosed.message_detail == "From `in-use` it may go to `free`, `gone`."
    elif database.dialect == "mysql":
        assert moved == "(1644, 'volumes.status: `gone` -> `free` refused; allowed: nothing')"
        assert "a new record as `NULL`" in begun


def test_a_long_error_is_cut_where_mysql_would_refuse_it(mariadb: str) -> None:
    names = [f"state_{'x' * 50}_{number}" for number in range(9)]
    states: dict[str, Any] = {
        name: {"to": [one for one in names if one != name], "status": f"{name}é"} for name in names
    }
    states[names[0]] = {**states[names[0]], "initial": True, "to": [*names[1:], "end"]}
    machine = read_document(json.dumps({"machine": "wordy", "states": {**states, "end": {"final": "failed"}}}))
    with connected("mysql", mariadb) as database:
        table, column = "t" * 64, "c" * 64
        database.run(f"CREATE TABLE {table} (id INT PRIMARY KEY, {column} VARCHAR(90))")
        database.apply(sql_guard(machine, table=table, column=column, dialect="mariadb"))
        database.run(f"INSERT INTO {table} VALUES (1, '{names[0]}é')")
        said = database.refusal(f"UPDATE {table} SET {column} = '{'é' * 80}'")
        assert "1644" in said and "` -> `éééé" in said and "allowed: `end`, `s" in said and "...'" in said


def test_null_and_rows_that_were_illegal_before(database: Database) -> None:
    database.run(*guard(database).remove)
    database.run("UPDATE volumes SET status = 'lost' WHERE id = 2", "UPDATE volumes SET status = NULL WHERE id = 3")
    assert sorted(database.run(guard(database).find)) == [(2, "lost"), (3, None)]
    assert sorted(database.run(guard(database, key=[]).find), key=str) == [("lost", 1), (None, 1)]
    database.run("INSERT INTO volumes (id, status) VALUES (4, 'FREE'), (5, 'free ')")
    assert len(database.run(guard(database).find)) == len(database.run(guard(database, key=[]).find)) == 4
    database.run("DELETE FROM volumes WHERE id > 3")
    database.apply(guard(database))
    database.run("UPDATE volumes SET status = status, n = 5")  # the present value is no move, whatever it is
    assert [row[2] for row in database.rows()] == [5, 5, 5]
    for statement in (
        "SET status = 'free' WHERE id = 2",
        "SET status = 'gone' WHERE id = 3",
        "SET status = 'y' WHERE id = 2",
    ):
        assert "volumes.status" in database.refusal(f"UPDATE volumes {statement}")
    database.run("UPDATE volumes SET status = 'free' WHERE id = 3")  # over NULL a record begins
    assert [row[1] for row in database.rows()] == ["free", "lost", "free"]


def test_removed_it_leaves_nothing_behind(database: Database) -> None:
    database.run(*guard(database).remove)
    database.run(*guard(database).remove)
    database.run("UPDATE volumes SET status = 'x'", "INSERT INTO volumes (id) VALUES (4)", "DELETE FROM volumes")
    left = {
        "sqlite": "SELECT name FROM sqlite_master WHERE name LIKE '%interlock%'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal "
        "UNION SELECT proname FROM pg_proc WHERE proname LIKE 'interlock%'",
        "mysql": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = database()",
    }
    assert database.run(left[database.dialect]) == []


def test_audit_rows_tell_every_move_in_order(database: Database) -> None:
    database.run(*guard(database).remove, "DELETE FROM volumes")
    database.apply(guard(database, audit="moves"))
    settings = {
        "postgresql": "SELECT set_config('interlock.by', 'alice', false), set_config('interlock.reason', 'test', false)"
    }
    settings["mysql"] = "SET @interlock_by = 'alice', @interlock_reason = 'test'"
    if database.dialect in settings:
        database.run(settings[database.dialect])
    database.run("INSERT INTO volumes (id, status) VALUES (1, 'free'), (2, 'free')")
    database.run("UPDATE volumes SET status = 'in-use'", "UPDATE volumes SET n = 1, status = 'in-use'")
    database.refusal("UPDATE volumes SET status = 'x' WHERE id = 1")
    database.run("UPDATE volumes SET status = 'gone' WHERE id = 2")
    moves = [
        ("1", None, "free"),
        ("2", None, "free"),
        ("1", "free", "in-use"),
        ("2", "free", "in-use"),
        ("2", "in-use", "gone"),
    ]
    if database.dialect != "postgresql":
        database.run("REPLACE INTO volumes (id, status) VALUES (1, 'free'), (2, 'gone'), (3, 'free')")
        moves += [("1", "in-use", "free"), ("3", None, "free")]
    found = database.run("SELECT * FROM moves ORDER BY seq")
    assert [row[3:6] for row in found] == moves
    whom = ("", "") if database.dialect == "sqlite" else ("alice", "test")
    assert {(row[2], *row[6:]) for row in found} == {("volume", *whom)}
    now = datetime.now(UTC)
    for row in found:
        at = datetime.fromisoformat(row[1]) if isinstance(row[1], str) else row[1]
        assert abs((now - (at if at.tzinfo else at.replace(tzinfo=UTC))).total_seconds()) < 60


def test_audit_in_a_session_that_is_elsewhere(postgresql: str) -> None:
    """A record's key of two columns, a schema, a column of a type of its own, and a search path that points nowhere."""
    with connected("postgresql", postgresql) as database:
        database.run("CREATE SCHEMA ops", "CREATE TYPE ops.state AS ENUM ('free', 'in-use', 'gone')")
        database.run("CREATE TABLE ops.volumes (host text, id int, status ops.state, PRIMARY KEY (host, id))")
        options: dict[str, Any] = {"table": "ops.volumes", "column": "status", "key": ["host", "id"], "audit": "moves"}
        database.apply(sql_guard(Volume, dialect="postgresql", **options))
        database.run("SET search_path = ''", "SET timezone = 'Asia/Tokyo'")
        database.run("INSERT INTO ops.volumes VALUES ('a', 1, 'free')", "UPDATE ops.volumes SET status = 'in-use'")
        assert "volumes.status" in database.refusal("INSERT INTO ops.volumes VALUES ('a', 2, 'gone')")
        assert database.run("SELECT record, went_to FROM ops.moves") == [("a,1", "free"), ("a,1", "in-use")]


def test_a_guard_on_what_is_not_there_is_not_applied(database: Database) -> None:
    before = database.rows()
    for options in ({"column": "statsu"}, {"table": "volume"}, {"key": ["uuid"]}):
        with pytest.raises(DBAPIError):
            database.apply(guard(database, **options))
    assert "volumes.status" in database.refusal("UPDATE volumes SET status = 'x'") and database.rows() == before
    database.run("UPDATE volumes SET n = 7")
