"""The guard in the database itself: triggers that refuse what `Rules` refuse, whoever writes.

Everything here is text: nothing is connected to, nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from interlock.definition.machine import Definition, Machine
from interlock.errors import Refused
from interlock.guards import sql_mysql, sql_postgresql, sql_sqlite
from interlock.guards.rules import Rules
from interlock.guards.sql_words import Dialect, Place, Subject, dialect_named, place_named

__all__ = ["SqlGuard", "sql_guard"]

_DIALECTS = {"sqlite": sql_sqlite, "postgresql": sql_postgresql, "mysql": sql_mysql}
_ALWAYS_OPEN = (
    "DELETE, and an INSERT of the same record later: it begins anew",
    "whoever may drop triggers or change the table",
)
_WRITERS: dict[Dialect, str] = {
    "sqlite": "sqlite3 -bail FILE",
    "postgresql": "psql -v ON_ERROR_STOP=1",
    "mysql": "mariadb DATABASE",
}


@dataclass(frozen=True)
class SqlGuard:
    """The statements of a guard in a database, each without a semicolon at its end, fit for a driver's ``execute``.

    Args:
        dialect: whose statements.
        create: put the guard in place, over whatever one was there for the same column; in one transaction, where DDL can be.
        remove: take it away; an audit table stays.
        find: list the rows whose value no state is stored as.
        not_closed: what the guard does not see.
    """

    dialect: Dialect
    create: tuple[str, ...]
    remove: tuple[str, ...]
    find: str
    not_closed: tuple[str, ...]

    def script(self, statements: Iterable[str]) -> str:
        """Return statements as one script for the database's own client, in a transaction where there is one."""
        lines = list(statements)
        text = "\n".join(f"{statement};" for statement in lines)
        if self.dialect == "mysql":
            text = "\n".join(_delimited(statement) for statement in lines)
        elif len(lines) > 1:
            text = f"{'BEGIN IMMEDIATE' if self.dialect == 'sqlite' else 'BEGIN'};\n{text}\nCOMMIT;"
        if (
            not text.isascii() and self.dialect != "sqlite"
        ):  # the client may take the script to be in another character set
            text = ("SET NAMES utf8mb4;\n" if self.dialect == "mysql" else "SET client_encoding = 'UTF8';\n") + text
        return text + "\n"


def sql_guard(
    machine: Definition | type[Machine[Any]],
    *,
    table: str | Place,
    column: str,
    dialect: str,
    key: Sequence[str] = (),
    audit: str | Place | None = None,
) -> SqlGuard:
    """Return the triggers that let a column move along a machine's edges only, their removal, and a query for rows already illegal.

    With them in place a statement that makes an illegal move fails as a whole, with an error that names the column, the move, and what
    is allowed. An INSERT needs an initial value, and so does an UPDATE over NULL; NULL is no value of any state, so it is refused.
    Writing the present value again is no move. Values are compared exactly, whatever the column's collation.

    Args:
        machine: class or definition.
        table: ``table`` or ``schema.table``; a part with a dot or a quote in it is written in double quotes. A `Place` is taken as it is.
        column: the guarded column, as it is called in the database.
        dialect: ``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``, which is the same.
        key: the columns of the primary key: told by ``find`` and the audit rows; in SQLite they close ``INSERT OR REPLACE``.
        audit: a table that takes a row for every move and creation, in the writer's transaction: made if it is not there; None for none.

    Raises `Refused` for what the dialect cannot name or hold.

    >>> from interlock import Final, Machine, State
    >>> class Volume(Machine[dict[str, str]]):
    ...     free = State(initial=True, to=["used"])
    ...     used = State(to=["free", "gone"])
    ...     gone = Final("succeeded")
    >>> sql_guard(Volume, table="volumes", column="status", dialect="sqlite", key=["id"]).find
    'SELECT "volumes"."id", "volumes"."status" FROM "volumes"
    WHERE "volumes"."status" IS NULL OR NOT "volumes"."status" COLLATE BINARY IN (\\'free\\', \\'gone\\', \\'used\\')'
    """
    for what, names in (("column", column), ("key column", key)):
        if isinstance(names, str) == (what == "key column"):
            raise Refused(f"the {what} is {names!r}: write {'text' if what == 'column' else 'a list of columns'}")
    chosen = dialect_named(dialect)
    places = [
        place_named(one) if isinstance(one, str) and not isinstance(one, Place) else one for one in (table, audit)
    ]
    assert places[0] is not None
    subject = Subject(Rules(machine), chosen, places[0], column, tuple(key), places[1])
    if chosen == "sqlite" and subject.audit and subject.audit.schema not in (None, subject.table.schema):
        raise Refused("a trigger of SQLite writes in its own database only: name the audit table without a schema")
    module = _DIALECTS[chosen]
    return SqlGuard(
        dialect=chosen,
        create=(_there(subject), *module.create(subject)),
        remove=tuple(module.remove(subject)),
        find=_find(subject),
        not_closed=(*module.not_closed(subject), *_ALWAYS_OPEN),
    )


def written(guard: SqlGuard, machine: Definition, parts: Sequence[str]) -> str:
    """Return a script of some parts of a guard: ``find``, ``create``, ``remove``; the removal is commented out beside others."""
    scripts = {
        "find": guard.script([guard.find]),
        "create": guard.script(guard.create),
        "remove": guard.script(guard.remove),
    }
    lines = [
        f"-- The guard of machine {machine.name}, version {machine.version}. Run it: {_WRITERS[guard.dialect]} < THIS"
    ]
    for part in parts:
        if part == "create":
            lines += ["-- Not closed:", *(f"--   {one}" for one in guard.not_closed)]
        text = scripts[part]
        if part == "remove" and len(parts) > 1:
            text = "-- To remove it:\n" + "".join(f"-- {line}\n" for line in re.split(r"[\r\n]", text.rstrip("\n")))
        lines.append(text.rstrip("\n"))
    return "\n".join(lines) + "\n"


def _there(subject: Subject) -> str:
    """A query that fails if table or columns are not there, before anything is done."""
    bare = subject.place(subject.table, bare=True)
    columns = ", ".join(f"{bare}.{subject.quoted(one)}" for one in (subject.column, *subject.key))
    return f"SELECT {columns} FROM {subject.place(subject.table)} LIMIT 0"


def _find(subject: Subject) -> str:
    """List rows with their keys; without a key, the values with how many rows hold each."""
    bare = subject.place(subject.table, bare=True)
    *key, column = (f"{bare}.{subject.quoted(one)}" for one in (*subject.key, subject.column))
    exact = {
        "sqlite": f"{column} COLLATE BINARY",
        "postgresql": f'{column}::text COLLATE "C"',
        "mysql": f"CAST(CONVERT({column} USING utf8mb4) AS BINARY)",
    }[subject.dialect]
    source = f"FROM {subject.place(subject.table)} WHERE {column} IS NULL OR NOT {exact} IN ({subject.values(subject.known)})"
    if key:
        return f"SELECT {', '.join([*key, column])} {source}"
    shown = f"CONVERT({exact} USING utf8mb4)" if subject.dialect == "mysql" else exact
    return f"SELECT {shown} AS {subject.quoted(subject.column)}, count(*) AS {subject.quoted('rows')} {source} GROUP BY {exact}"


def _delimited(statement: str) -> str:
    """A statement for a client that ends statements at a semicolon, with another end for those that have some inside."""
    if not statement.startswith("CREATE TRIGGER"):
        return f"{statement};"
    return f"DELIMITER //\n{statement} //\nDELIMITER ;"
