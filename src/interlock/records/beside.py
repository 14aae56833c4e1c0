"""The status column in the same transaction: for a table that lives in the SQLite store's own file."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from interlock.definition.machine import Definition, Machine, definition_of
from interlock.errors import Refused
from interlock.interpreter.facts import Entered
from interlock.stores.contract import Entry

__all__ = ["predecessors", "status_column"]

log = logging.getLogger("interlock.records")


def predecessors(machine: Definition) -> dict[str, frozenset[str]]:
    """Return for each state the stored values of the states from which it may be entered."""
    status = {name: row.status for name, row in machine.table.items()}
    return {
        state: frozenset(status[name] for name, reached in machine.moves.items() if state in reached and name != state)
        for state in machine.table
    }


def status_column(
    machine: Definition | type[Machine[Any]], *, table: str, key: str, column: str
) -> Callable[[sqlite3.Connection, Sequence[Entry]], None]:
    """Return what keeps a status column in step with the operations of a machine: give it to ``SqliteStore(beside=...)``.

    It writes in the transaction of the operation's own commit, so that readers of the column never see it behind. A record that other code
    has moved elsewhere meanwhile is left as it is, and logged: what the engine does next shows in the operation's history.

    Args:
        machine: class or definition.
        table, key, column: where the records are; the key is compared as text with what the operation was adopted with.

    Use it as ``SqliteStore("service.db", beside=status_column(Moving, table="migrations", key="id", column="status"))``.
    """
    definition = definition_of(machine)
    names = [_quoted(name) for name in (table, key, column)]
    before = predecessors(definition)

    def write(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not entry.snapshot.record or entry.snapshot.machine != definition.name:
                continue
            for fact in entry.facts:
                if isinstance(fact, Entered):
                    _write(db, names, entry.snapshot.record, definition.row(fact.state).status, before[fact.state])

    return write


def _write(db: sqlite3.Connection, names: Sequence[str], record: str, status: str, before: frozenset[str]) -> None:
    table, key, column = names
    marks = ", ".join("?" * len(before)) or "NULL"
    update = f"UPDATE {table} SET {column}=? WHERE CAST({key} AS TEXT)=? AND {column} IN ({marks})"
    try:
        if db.execute(update, (status, record, *sorted(before))).rowcount:
            return
    except sqlite3.IntegrityError as error:  # a trigger of the table's: the statement is undone, the commit goes on
        log.warning("record %s of %s could not be written `%s`: %s", record, table, status, error)
        return
    found = db.execute(f"SELECT {column} FROM {table} WHERE CAST({key} AS TEXT)=?", (record,)).fetchone()
    if found is None or found[0] != status:
        now = "gone" if found is None else f"`{found[0]}`"
        log.warning(
            "record %s of %s is %s: it was not written `%s`, where its operation is now", record, table, now, status
        )


def _quoted(name: str) -> str:
    if not name or "\0" in name:
        raise Refused(f"{name!r} is no name of a table or column")
    return '"' + name.replace('"', '""') + '"'
