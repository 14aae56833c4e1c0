"""INSERT on a guarded table: each row must begin with an initial value, be it given, a default, or what the database works out.

An upsert that sets the guarded column of a row that is already there is refused: which rows that would be is known only afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import literal_column, select, type_coerce
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import BindParameter, ClauseElement
from sqlalchemy.sql.schema import DefaultClause

from interlock.guards.sqlalchemy_watch import Move, Watch, plans_of

__all__ = ["Inserted", "judge_insert", "judge_late"]

Sets = list[dict[str, Any]]
Row = tuple[Sequence[Any] | None, Any]
_LATE = object()
"""A default that is a Python function: what it gives is known when SQLAlchemy has called it."""
_MISSING = object()


class Inserted:
    """An INSERT on its way: the steps each row has made, and the keys where they are known already."""

    def __init__(self, watch: Watch, statement: Any, uncertain: bool) -> None:
        self.watch, self.statement, self.uncertain = watch, statement, uncertain
        self.rows: list[tuple[Sequence[Any] | None, Sequence[str | None]]] = []
        self.late: list[int] = []
        self.audited = watch.audit is not None
        self.made_to_tell = False

    def finish(self, connection: Connection, result: Any) -> None:
        """Write the creations down, with the keys that the database gave."""
        if self.made_to_tell:
            result.context._rowcount = len(self.rows)  # as the caller's own statement would have counted
        if not self.audited or (self.uncertain and result.rowcount == 0):
            return
        given = [] if all(key for key, _ in self.rows) else _keys(result, self.watch)
        moves: list[Move] = []
        for number, (key, steps) in enumerate(self.rows):
            if key is None and number >= len(given):
                if not self.uncertain:
                    self.watch.cannot_judge(
                        "not written down: an INSERT whose keys the database did not tell", "give the keys"
                    )
                continue
            moves += self.watch.moves(key or given[number], steps)
        self.watch.write_down(connection, moves)


def judge_insert(
    connection: Connection, statement: Any, sets: Sets, watch: Watch, options: Mapping[str, Any]
) -> tuple[Any, Sets, Inserted | None]:
    """Judge every row of an INSERT; return it as it is to be executed, and what is to be done afterwards."""
    clause = statement._post_values_clause
    updates = getattr(clause, "update_values_to_set", None) or getattr(clause, "update", None)
    if updates and _sets(updates, watch):
        what = "an upsert sets it on rows that are already there"
        watch.cannot_judge(what, "leave it out of the update part, and move the rows with update()")
        return statement, sets, None
    done = Inserted(watch, statement, bool(clause is not None or statement._prefixes))
    rows = _selected if statement.select is not None else _given
    for number, (key, value) in enumerate(rows(connection, statement, sets, watch)):
        if value is _LATE:
            done.late.append(number)
            done.rows.append((key, ()))
        else:
            done.rows.append((key, _judge(connection, watch, watch.text(value))))
    if done.audited and not (statement.select is None and all(key for key, _ in done.rows)):
        statement, sets = _telling_keys(connection, statement, sets, done)
    if done.audited and (updates or (done.uncertain and len(done.rows) != 1)):
        done.audited = False
        what = "an INSERT that may leave rows out or change them, which cannot be written down"
        watch.cannot_judge(what, "insert one row at a time, and let the key be its conflict")
    return statement, sets, done


def judge_late(done: Inserted, parameters: Sequence[Mapping[str, Any]]) -> None:
    """Judge the rows whose value a Python function has given by now."""
    key, late, done.late = done.watch.column.key, done.late, []
    for number in late:
        each = parameters[number] if len(parameters) > 1 else parameters[0]
        value = each.get(f"{key}_m{number}", each.get(key))
        text = done.watch.text(value)
        done.watch.rules.create(done.watch.name(None), "NULL" if text is None else text)
        done.rows[number] = (done.rows[number][0], (None, text))


def _judge(connection: Connection, watch: Watch, text: str | None) -> Sequence[str | None]:
    record = watch.name(None)
    waiting = plans_of(connection).births.get((watch, text))
    if waiting and text not in watch.rules.initial:
        steps = waiting.pop(0).steps
        watch.judge_steps(
            record, steps if watch.enforces else steps[:2]
        )  # observing, the others were counted when made
        return steps
    watch.rules.create(record, "NULL" if text is None else text)
    return (None, text)


def _sets(updates: Any, watch: Watch) -> bool:
    keys = list(updates) if isinstance(updates, Mapping) else [key for key, _ in updates]
    names = (watch.column.key, watch.column.name)
    return any(key in names if isinstance(key, str) else getattr(key, "name", None) in names for key in keys)


def _selected(connection: Connection, statement: Any, sets: Sets, watch: Watch) -> list[Row]:
    """Return key and value of each row of an INSERT ... SELECT."""
    source, names = statement.select.subquery(), list(statement._select_names)
    columns = dict(zip(names, source.c, strict=False))
    keys = [columns[each.key] for each in watch.keys if each.key in columns]
    if watch.column.key in columns:
        value = type_coerce(columns[watch.column.key], watch.column.type)
        rows = [tuple(row) for row in watch.ask(connection, select(*keys, value), sets[0])]
    else:
        default = _default(connection, watch)
        query = select(*keys or [literal_column("1")]).select_from(source)
        rows = [(*row, default) for row in watch.ask(connection, query, sets[0])]
    whole = len(keys) == len(watch.keys)
    return [(row[:-1] if whole else None, row[-1]) for row in rows]


def _given(connection: Connection, statement: Any, sets: Sets, watch: Watch) -> list[Row]:
    """Return key and value of each row of an INSERT ... VALUES."""
    rows: list[Mapping[Any, Any]] = [row for several in statement._multi_values or () for row in several]
    if not rows:
        rows = [{**(statement._values or {}), **each} for each in sets]
    found: list[Row] = []
    for row in rows:
        parameters = sets[0] if statement._multi_values else row
        key = [_of(row, each, parameters) for each in watch.keys]
        known = not any(part is None or part is _MISSING or isinstance(part, ClauseElement) for part in key)
        value = _of(row, watch.column, parameters)
        if value is _MISSING:
            value = _default(connection, watch)
        elif isinstance(value, ClauseElement):
            value = _worked_out(connection, value, watch)
        found.append((tuple(key) if known else None, value))
    return found


def _of(row: Mapping[Any, Any], column: Any, parameters: Mapping[Any, Any]) -> Any:
    found = row.get(column.key, _MISSING)
    if found is _MISSING:
        found = next(
            (
                value
                for key, value in row.items()
                if not isinstance(key, str) and key is not None and column in key.proxy_set
            ),
            _MISSING,
        )
    if isinstance(found, BindParameter):
        return parameters.get(found.key, found.effective_value)
    return found


def _default(connection: Connection, watch: Watch) -> Any:
    default, server = watch.column.default, watch.column.server_default
    if default is not None and default.is_scalar:
        return default.arg  # type: ignore[attr-defined]  # is_scalar says that it has one
    if default is not None and default.is_callable:
        return _LATE
    if default is not None and default.is_clause_element:
        return _worked_out(connection, default.arg, watch)  # type: ignore[attr-defined]  # is_clause_element says so
    if isinstance(server, DefaultClause):
        return server.arg if isinstance(server.arg, str) else _worked_out(connection, server.arg, watch)
    if default is not None or server is not None:
        watch.cannot_judge("an INSERT without it, where the database gives it a value of its own", "give the value")
        return next(iter(watch.rules.initial))
    return None


def _worked_out(connection: Connection, expression: Any, watch: Watch) -> Any:
    """Ask the database for the value of an expression."""
    text = literal_column(f"({expression.text})") if hasattr(expression, "text") else expression
    return watch.ask(connection, select(type_coerce(text, watch.column.type)))[0][0]


def _telling_keys(connection: Connection, statement: Any, sets: Sets, done: Inserted) -> tuple[Any, Sets]:
    """Make an INSERT tell the keys that the database gives, without changing what its caller gets to see."""
    watch = done.watch
    if statement._multi_values and not statement._returning:
        rows = [row for several in statement._multi_values for row in several]
        if not any(isinstance(value, ClauseElement) for row in rows for value in row.values()):
            sets = [{key if isinstance(key, str) else key.key: value for key, value in row.items()} for row in rows]
            statement = statement._clone()
            statement._multi_values = ()
    can = connection.dialect.insert_executemany_returning_sort_by_parameter_order
    if can and len(sets) > 1 and not statement._returning and not statement._return_defaults:
        statement, done.made_to_tell = statement.return_defaults(*watch.keys, sort_by_parameter_order=True), True
    return statement, sets


def _keys(result: Any, watch: Watch) -> Sequence[Sequence[Any]]:
    """Return the keys of the rows that were inserted; an INSERT with RETURNING of the caller's is read, and wound back."""
    told = [tuple(row) for row in result.context.inserted_primary_key_rows if row and None not in row]
    if told or not result.returns_rows:
        return told
    rows = result.all()
    result._rewind(rows)
    if rows and all(each in rows[0]._mapping for each in watch.keys):
        return [tuple(row._mapping[each] for each in watch.keys) for row in rows]
    return []
