"""Whatever machines, states, tables and columns are called, the guard stays text in quotes; and all guards give the same verdict."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from interlock import Guard
from interlock.cli.app import app
from interlock.definition.document import read_document
from interlock.definition.machine import Definition
from interlock.errors import IllegalMove, Refused
from interlock.guards.rules import Rules
from interlock.guards.sql import SqlGuard, sql_guard, written
from interlock.guards.sql_words import Place, place_named
from tests.guarded_tables import Database, Volume, connected

DOCUMENT = """
machine: volume
version: 1
states:
  free: {initial: true, to: [used]}
  used: {status: in-use, to: [free, gone]}
  gone: {final: succeeded}
"""
# What has ended a quotation, a statement, a comment or a body somewhere.
HOSTILE = [
    "'", "''", '"', "`", "\\", "\\'", "';--", '";--', "`;--", "a\nb", "a\r\nb", "\n.quit\n", "\n/\n", "\ngo\n", "*/", "/*",
    "--", "#", ";", " x", "$$", "$interlock$", "$interlock_0$", "END", "END;\n", "END //", "DELIMITER ;", "//", "%s", "%", ":x",
    "{0}", "?", "\t", "é", "ß", "𝄞", "\u2028", "\x7f", "\\q", "\\! touch x", "select", "'); DROP TABLE canary; --",
    '"); DROP TABLE canary; --', "`); DROP TABLE canary; --", "$interlock$; DROP TABLE canary; $interlock$",
    "x' || (DELETE FROM canary) || '", "NULL", "null", "ACTIVE", "active", "active ", "Active",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=3).map("".join),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=9),
)
NAMES = st.one_of(VALUES, st.sampled_from(["volumes", "a.b", "x" * 60])).map(lambda one: one[:20])
MARKS = {"sqlite": '"', "postgresql": '"', "mysql": "`"}


def machine_of(statuses: Sequence[str], edges: set[tuple[int, int]], initial: set[int]) -> Definition:
    """Return a machine whose states lead one to the next, with some more edges; the last is final."""
    states: dict[str, Any] = {}
    for number, status in enumerate(statuses[:-1]):
        to = {number + 1, *(b % len(statuses) for a, b in edges if a % (len(statuses) - 1) == number)}
        states[f"s{number}"] = {"status": status, "to": [f"s{one}" for one in sorted(to)]}
        if number == 0 or number in initial:
            states[f"s{number}"]["initial"] = True
    states[f"s{len(statuses) - 1}"] = {"status": statuses[-1], "final": "succeeded"}
    return read_document(json.dumps({"machine": "any", "states": states}))


MACHINES = st.builds(
    machine_of,
    st.lists(VALUES, min_size=2, max_size=5, unique=True),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8),
    st.sets(st.integers(0, 4), max_size=2),
)
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def quoted(dialect: str, name: str) -> str:
    mark = MARKS[dialect]
    return mark + name.replace(mark, mark * 2) + mark


def values_of(machine: Definition) -> list[str]:
    known = sorted(Rules(machine).allowed)
    near = [known[0].swapcase(), known[-1] + " ", "unknown", ""]
    return [*known, *near]


def same_verdict(database: Database, machine: Definition, moves: Sequence[int], names: tuple[str, str, str]) -> None:
    """Take one record through values: rules, attribute and trigger refuse the same ones, and stand at the same place after each."""
    table, column, key = (quoted(database.dialect, name) for name in names)
    kind = {"mysql": "VARCHAR(200) CHARACTER SET utf8mb4"}.get(database.dialect, "TEXT")
    database.run(f"CREATE TABLE {table} ({key} INTEGER PRIMARY KEY, {column} {kind})")
    options: dict[str, Any] = {
        "table": Place(None, names[0]),
        "column": names[1],
        "key": [names[2]],
        "dialect": database.dialect,
    }
    made = sql_guard(machine, **options)
    database.apply(made)

    class Record:
        status = Guard(machine)

    rules, record, current, values = Rules(machine), Record(), None, values_of(machine)
    for number in moves:
        wanted = values[number % len(values)]
        asked = ("r", wanted) if current is None else ("r", current, wanted)
        by_rules = refuses(rules.create if current is None else rules.move, *asked)
        by_attribute = refuses(setattr, record, "status", wanted)
        command = f"INSERT INTO {table} VALUES (1, ?)" if current is None else f"UPDATE {table} SET {column} = ?"
        by_trigger = False
        try:
            head, _, tail = command.rpartition("?")  # a name may have anything in it, so it is escaped for `text` too
            database.connection.execute(text(head.replace(":", "\\:") + ":wanted" + tail), {"wanted": wanted})
            database.connection.commit()
        except DBAPIError as error:
            assert "machine" in str(error) or "allowed" in str(error)
            database.connection.rollback()
            by_trigger = True
        assert by_rules == by_attribute == by_trigger, (current, wanted)
        current = current if by_rules else wanted
        assert database.run(f"SELECT {column} FROM {table}") == ([(current,)] if current is not None else [])
    assert database.run(made.find) == []
    database.run(*made.remove, f"DROP TABLE {table}")


def refuses(judge: Callable[..., None], *asked: Any) -> bool:
    try:
        judge(*asked)
    except IllegalMove:
        return True
    return False


def untouched(database: Database) -> bool:
    return database.run("SELECT n FROM canary") == [(1,)]


def hunted(dialect: str, url: str, examples: int, *before: str) -> None:
    with connected(dialect, url) as database:
        database.run(*before)
        database.run("CREATE TABLE canary (n INTEGER)", "INSERT INTO canary VALUES (1)")

        @settings(max_examples=examples, deadline=None, suppress_health_check=SLOW)
        @given(MACHINES, st.lists(st.integers(0, 9), max_size=9), st.tuples(NAMES, NAMES, NAMES))
        def hunt(machine: Definition, moves: list[int], names: tuple[str, str, str]) -> None:
            plain = tuple(f"{name.rstrip()}{number}" for number, name in enumerate(names))
            if dialect == "mysql":
                plain = tuple("".join(one for one in name if one <= "\uffff") for name in plain)
            same_verdict(database, machine, moves, (plain[0], plain[1], plain[2]))
            assert untouched(database)

        hunt()


def test_all_guards_give_the_same_verdict_on_sqlite() -> None:
    hunted("sqlite", "sqlite://", 60)


@pytest.mark.slow
@pytest.mark.parametrize("escapes", ["on", "off"])
def test_all_guards_give_the_same_verdict_on_postgresql(postgresql: str, escapes: str) -> None:
    hunted(
        "postgresql", postgresql, 20, "SET escape_string_warning = off", f"SET standard_conforming_strings = {escapes}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT"])
def test_all_guards_give_the_same_verdict_on_mariadb(mariadb: str, mode: str) -> None:
    hunted("mysql", mariadb, 15, f"SET sql_mode = '{mode}'")


@pytest.mark.parametrize("dialect", ["sqlite", "mysql", "postgresql"])
def test_names_that_no_database_has_are_refused(dialect: str) -> None:
    good: dict[str, Any] = {"table": "t", "column": "c", "dialect": dialect, "key": ["id"], "audit": "moves"}
    faults: list[tuple[dict[str, Any], str]] = [
        ({"table": "a.b.c"}, "names no table"),
        ({"table": 'a"b'}, "double quotes"),
        ({"table": ""}, "names no table"),
        ({"column": ""}, "is empty"),
        ({"column": "a\0b"}, "NUL"),
        ({"table": "a\0b"}, "NUL"),
        ({"audit": "s\0.b"}, "NUL"),
        ({"key": ["\ud800"]}, "surrogate"),
        ({"key": ["c"]}, "guarded column"),
        ({"key": ["id", "id"]}, "twice"),
        ({"audit": "t"}, "guarded table"),
        ({"key": []}, "--key id"),
        ({"key": "id"}, "a list of columns"),
        ({"column": ["c"]}, "write text"),
        ({"dialect": "mysq"}, "did you mean `mysql`"),
    ]
    if dialect != "sqlite":
        faults += [({"column": "é" * 65}, "longer"), ({"table": "x" * 65}, "longer"), ({"audit": "x" * 65}, "longer")]
    if dialect == "mysql":
        faults += [({"column": "c "}, "space"), ({"column": "𝄞"}, "U+FFFF")]
    if dialect == "sqlite":
        faults += [({"audit": "other.moves"}, "own database")]
    if dialect != "postgresql":
        faults += [({"key": ["C"]}, "guarded column"), ({"key": ["id", "ID"]}, "twice")]
    for fault, said in faults:
        with pytest.raises(Refused, match=re.escape(said)):
            sql_guard(Volume, **{**good, **fault})
    for status, said in (("a\0", "NUL"), ("\ud800", "surrogate")):
        with pytest.raises(Refused, match=said):
            sql_guard(machine_of([status, "x"], set(), set()), **good)


def test_the_present_value_is_no_move_for_the_rules_either() -> None:
    rules = Rules(Volume)
    rules.move("volume 7", "lost", "lost")
    for current, wanted in (("lost", "free"), ("lost", "found"), ("free", "lost"), ("gone", "free")):
        assert refuses(rules.move, "volume 7", current, wanted)


def test_a_place_is_read_as_sql_reads_it() -> None:
    assert place_named("volumes") == (None, "volumes")
    assert place_named("ops.volumes") == ("ops", "volumes")
    assert place_named('"a.b"."c""d"') == ("a.b", 'c"d')
    assert place_named('ops."a\nb"') == ("ops", "a\nb")


def test_guards_have_names_of_their_own() -> None:
    """Different columns never share a part, the same column always does, and no name is too long anywhere."""

    def names(dialect: str, table: str, column: str) -> set[str]:
        return set(sql_guard(Volume, table=Place(None, table), column=column, dialect=dialect, key=["id"]).remove)

    for dialect in MARKS:
        pairs = [
            ("a_b", "c"),
            ("a", "b_c"),
            ("a b", "c"),
            ("x" * 60, "y" * 60),
            ("x" * 61, "y" * 60),
            ("é", "c"),
            ("ü", "c"),
        ]
        found = [names(dialect, *pair) for pair in pairs]
        assert len(set.union(*found)) == sum(len(one) for one in found)
        parts = re.findall(r"interlock_\w+", " ".join(set.union(*found)))
        assert max(map(len, parts)) <= 63
    assert names("sqlite", "Volumes", "Status") == names("sqlite", "volumes", "status")
    assert names("postgresql", "Volumes", "status") != names("postgresql", "volumes", "status")


def guarded_by_client(dialect: str, url: str, made: SqlGuard, machine: Definition) -> None:
    """Pipe the script into the database's own client, twice, as the script's first line says."""
    place = make_url(url)
    socket = f"--socket={place.query.get('unix_socket')}"
    commands = {
        "sqlite": ["sqlite3", "-bail"],
        "postgresql": ["psql", "-q", "-v", "ON_ERROR_STOP=1"],
        "mysql": ["mariadb", socket, "-uroot", "--default-character-set=latin1"],
    }
    address = url.replace("+psycopg", "") if dialect == "postgresql" else place.database or ""
    if shutil.which(commands[dialect][0]) is None:
        pytest.skip(f"no {commands[dialect][0]}")
    for parts in (["create"], ["find", "create", "remove"]):
        script = written(made, machine, parts)
        done = subprocess.run([*commands[dialect], address], input=script.encode(), capture_output=True, check=False)
        assert done.returncode == 0 and b"ERROR" not in done.stderr, (script, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", MARKS)
def test_the_script_goes_through_the_client(dialect: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue({"mysql": "mariadb"}.get(dialect, dialect))
    statuses = [one for one in HOSTILE if one.strip()]
    machine = machine_of(statuses, {(number, number + 2) for number in range(len(statuses))}, {1})
    names = [one for one in HOSTILE if "\r" not in one and (dialect != "mysql" or max(one) <= "\uffff")]
    with connected(dialect, url) as database:
        database.run("CREATE TABLE canary (n INTEGER)", "INSERT INTO canary VALUES (1)")
        for number in range(0, len(names) - 3, 4):
            table, column, key, audit = (
                f"{part}{name}{number}" for part, name in zip("tcka", names[number:], strict=False)
            )
            marked = [quoted(dialect, one) for one in (table, key, column)]
            kind = "VARCHAR(90) CHARACTER SET utf8mb4" if dialect == "mysql" else "TEXT"
            database.run(f"CREATE TABLE {marked[0]} ({marked[1]} INTEGER PRIMARY KEY, {marked[2]} {kind})")
            places: dict[str, Any] = {"table": Place(None, table), "audit": Place(None, audit)}
            made = sql_guard(machine, column=column, key=[key], dialect=dialect, **places)
            guarded_by_client(dialect, url, made, machine)
            some = statuses if number == 0 else statuses[:4]
            follows(database, marked, some)
            assert untouched(database)
            assert len(database.run(f"SELECT * FROM {quoted(dialect, audit)}")) == len(some)


def follows(database: Database, marked: list[str], statuses: list[str]) -> None:
    """Lead a record through every state in turn, trying to skip two at each."""
    table, _, column = (one.replace(":", "\\:") for one in marked)
    insert, update = text(f"INSERT INTO {table} VALUES (1, :to)"), text(f"UPDATE {table} SET {column} = :to")
    for number, status in enumerate(statuses):
        with database.connection.begin():
            database.connection.execute(update if number else insert, {"to": status})
        if number + 3 < len(statuses):
            with pytest.raises(DBAPIError), database.connection.begin():
                database.connection.execute(update, {"to": statuses[number + 3]})


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("volume.yaml").write_text(DOCUMENT)

    def run(*words: str, status: int = 0) -> str:
        result = CliRunner().invoke(
            app, ["guard", "sql", "volume.yaml", "--table", "volumes", "--column", "status", *words]
        )
        assert result.exit_code == status, result.output
        return result.output

    database = sqlite3.connect(tmp_path / "volumes.db")
    database.execute("CREATE TABLE volumes (id INTEGER PRIMARY KEY, status TEXT)")
    database.execute("INSERT INTO volumes VALUES (1, 'lost')")
    script = run("--dialect", "sqlite", "--key", "id")
    database.executescript(script)
    database.executescript(script)
    with pytest.raises(sqlite3.IntegrityError, match="may begin as `free`"):
        database.execute("INSERT INTO volumes VALUES (2, 'gone')")
    said = json.loads(run("--dialect", "sqlite", "--key", "id", "--all", "--json"))
    assert list(said) == ["machine", "version", "dialect", "find", "create", "remove", "not_closed"]
    assert database.execute(*said["find"]).fetchall() == [(1, "lost")]
    assert database.executescript(run("--dialect", "sqlite", "--remove")).fetchall() == []
    database.execute("INSERT INTO volumes VALUES (2, 'gone')")
    assert "FIND" not in run("--dialect", "mariadb", "--find") and "-- To remove it:" in run(
        "--dialect", "mariadb", "--all"
    )
    assert "OR REPLACE over a row" in run("--dialect", "sqlite") and "OR REPLACE over a row" not in script
    assert "there are sqlite, postgresql, mysql, mariadb" in run("--dialect", "oracle", status=2)
    database.close()
