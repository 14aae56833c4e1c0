"""Every UPDATE that Django makes passes here: `save`, `update`, `bulk_update`, related objects, sync and async alike.

All of them end in an `UpdateQuery` that its compiler executes. Before it is executed:

1. It is asked as a SELECT first: which rows does it match, what do they hold, what would they get? The database works out expressions
   itself. Enforcing, the rows are locked by that (SQLite: the file), so that they stay as they were judged.
2. Each row is judged. An object that is saved knows what it was read with and which steps it made; whatever else writes makes one step.
3. Enforcing, the rows are then written by their keys, as long as they hold what they were judged by (compare-and-set, also where nothing
   is locked), with what the expressions gave. As many rows must have been changed as were judged.
4. Each move that happened is written down, in the same transaction.

Observing, the statement is executed as it was; if the guard's own SELECT fails, that is counted, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import Q
from django.db.models.expressions import Col, ExpressionWrapper
from django.db.models.sql import Query, UpdateQuery, constants

from interlock.errors import Conflict
from interlock.guards.django_watch import WATCHED, WRITING, Steps, Watch, is_expression, keys, watches, whole
from interlock.guards.watched import Move

__all__ = ["update"]

Execute = Callable[[Any, Any], Any]
ROWS_AT_ONCE = 400
"""Rows written by one UPDATE, so that SQLite's 999 parameters suffice."""
_ROW_COUNT = getattr(constants, "ROW_COUNT", constants.CURSOR)  # Django before 5.2 counts by the cursor
_EXPRESSION = "give the value itself: read the rows, decide in Python, and write each value with its own update()"
_LOST = ("40001", "40P01", "1020", "1213", "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT")
"""PostgreSQL's serialization failure and deadlock, MariaDB's changed record and deadlock, SQLite's lock: somebody else was first."""

_LOCKED_TO_READ = ("sqlite", "mysql")
"""Where a transaction that has read before it writes may be refused the write: here an observer locks, as the UPDATE itself will."""


@dataclass
class _Set:
    """What a statement sets a guarded field to."""

    watch: Watch
    field: Any
    value: Any
    steps: list[tuple[tuple[Any, ...], Sequence[str | None]]] = dataclasses.field(default_factory=list)
    """The steps that each row makes, by its key."""

    @property
    def moves(self) -> list[Move]:
        return [move for key, steps in self.steps for move in self.watch.moves(key, steps)]


@dataclass
class _Row:
    """A row that a statement matches: its key, and for each guarded field what it holds and what it would get."""

    key: tuple[Any, ...]
    holds: list[Any]
    gets: list[Any]


def update(compiler: Any, result_type: Any, execute: Execute) -> Any:
    """Judge an UPDATE and execute it; ``execute`` is Django's own way, ``result_type`` may be fields whose new values it is to return."""
    query, alias = compiler.query, compiler.connection.alias
    guards = watches(query.model)
    found = [_Set(watch, each, value) for each, _, value in query.values for watch in guards if watch.is_of(each)]
    if not found:
        if any(parent._meta.db_table in WATCHED for parent in query.related_updates):
            with whole(alias):  # it is executed as several, of which a later one may be refused
                return execute(compiler, result_type)
        return execute(compiler, result_type)
    if any(each.watch.enforces for each in found):
        return _enforced(compiler, result_type, execute, found)
    return _observed(compiler, result_type, execute, found)


def _enforced(compiler: Any, result_type: Any, execute: Execute, sets: list[_Set]) -> Any:
    alias = compiler.connection.alias
    with whole(alias):
        judged = _can_be_judged(compiler, sets)
        rows = _rows(compiler, judged, locks=True)
        _judge(compiler, judged, rows)
        returns = isinstance(result_type, list | tuple)
        counted = _ROW_COUNT if result_type == constants.NO_RESULTS else result_type
        changed: Any = [] if returns else 0
        for part in _parts(compiler, judged, rows) if rows or not returns else ():
            changed += execute(part.get_compiler(alias), counted) or type(changed)()
        written = len(changed) if returns else changed
        if written != len(rows):
            _lost(compiler, judged, rows, written)
        for each in judged:
            if each.watch.enforces:
                each.watch.write_down(alias, each.moves)
        _finish_observed(alias, [each for each in judged if not each.watch.enforces])
    _remember(compiler, judged)
    return changed


def _observed(compiler: Any, result_type: Any, execute: Execute, sets: list[_Set]) -> Any:
    alias = compiler.connection.alias
    audited = any(each.watch.audit is not None for each in sets)
    locks = audited or (compiler.connection.in_atomic_block and compiler.connection.vendor in _LOCKED_TO_READ)
    with whole(alias) if audited else nullcontext():
        try:
            judged = _can_be_judged(compiler, sets)
            with transaction.atomic(alias):  # an error in here spoils nothing
                rows = _rows(compiler, judged, locks=locks)
            _judge(compiler, judged, rows)
        except Exception as error:  # observing never stands in the way, whatever it was
            judged = []
            for each in sets:
                each.watch.overlook(alias, error)
        changed = execute(compiler, result_type)
        if changed or result_type == constants.NO_RESULTS:
            _finish_observed(alias, judged)
    _remember(compiler, judged)
    return changed


def _finish_observed(alias: str, sets: Sequence[_Set]) -> None:
    for each in sets:
        try:
            each.watch.write_down(alias, each.moves)
        except Exception as error:  # observing never stands in the way, whatever it was
            each.watch.overlook(alias, error, "not written down: ")


def _can_be_judged(compiler: Any, sets: list[_Set]) -> list[_Set]:
    """Leave out what an observer cannot judge; enforcing, it is refused."""
    judged = []
    for each in sets:
        if is_expression(each.value) and _depends_on_order(compiler, each):
            each.watch.cannot_judge("an expression over columns that the same UPDATE changes", _EXPRESSION)
        else:
            judged.append(each)
    return judged


def _depends_on_order(compiler: Any, one: _Set) -> bool:
    """MariaDB and MySQL work out each assignment with the values that the ones before it have already made."""
    if compiler.connection.vendor != "mysql":
        return False
    changed = {each.column for each, _, _ in compiler.query.values} - {one.field.column}
    return any(isinstance(part, Col) and part.target.column in changed for part in _flat(one.value))


def _flat(expression: Any) -> Iterator[Any]:
    yield expression
    if hasattr(expression, "get_source_expressions"):
        for part in expression.get_source_expressions():
            yield from _flat(part)
    for part in getattr(expression, "children", ()):
        yield from _flat(part)


def _rows(compiler: Any, sets: Sequence[_Set], locks: bool) -> list[_Row]:
    """Ask which rows an UPDATE matches, what they hold, and what it would give them."""
    if not sets:
        return []
    connection, model = compiler.connection, compiler.query.model
    query = _matching(compiler)
    table = query.get_initial_alias()
    wanted = [ExpressionWrapper(each.value, each.field) if is_expression(each.value) else None for each in sets]
    columns = [each.get_col(table) for each in (*keys(model), *(one.field for one in sets))]
    query.set_select([*columns, *(each for each in wanted if each is not None)])
    query.select_for_update = locks and connection.features.has_select_for_update
    try:
        if locks and connection.vendor == "sqlite":
            _lock_file(connection, model)
        found = list(query.get_compiler(connection.alias).results_iter())
    except DatabaseError as error:
        if _is_lost(error) and any(each.watch.enforces for each in sets):
            raise Conflict(
                f"{sets[0].watch.model_name}: somebody else wrote first; roll back, read again and decide anew"
            ) from error
        raise
    rows, many, held = [], len(keys(model)), len(keys(model)) + len(sets)
    for row in found:
        given = iter(row[held:])
        gets = [each.value if part is None else next(given) for each, part in zip(sets, wanted, strict=True)]
        rows.append(_Row(tuple(row[:many]), list(row[many:held]), gets))
    return rows


def _is_lost(error: DatabaseError) -> bool:
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or str((error.args or ("",))[0])
    return code in _LOST


def _matching(compiler: Any) -> Any:
    """Return a query of the rows that an UPDATE matches, on its table alone, so that they can be locked."""
    query = compiler.query.chain(klass=Query)
    query.get_initial_alias()
    query.clear_select_clause()
    query.selected = None
    query.select_for_update_of, query.select_for_update_nowait, query.select_for_update_skip_locked = (), False, False
    if compiler.connection.vendor != "mysql":  # there, an UPDATE has an order
        query.clear_ordering(force=True)
    if query.count_active_tables() == 1 and not (query.group_by or query.distinct or query.extra_tables):
        return query
    query.clear_ordering(force=True)
    query.add_fields([query.get_meta().pk.name])
    outer = Query(query.model)
    outer.add_filter("pk__in", query)
    return outer


def _lock_file(connection: Any, model: Any) -> None:
    """Begin to write, so that nobody else can between the judging and the writing."""
    table, column = map(connection.ops.quote_name, (model._meta.db_table, keys(model)[0].column))
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {column} = {column} WHERE 1 = 0")


def _judge(compiler: Any, sets: Sequence[_Set], rows: Sequence[_Row]) -> None:
    model, alias, writing = compiler.query.model, compiler.connection.alias, WRITING.get()
    for number, each in enumerate(sets):
        each.steps = []
        for row in rows:
            record = writing.record(model, row.key, alias) if writing else None
            current, wanted = each.watch.text(row.holds[number]), each.watch.text(row.gets[number])
            known = each.watch.steps(record) if record is not None else None
            each.steps.append((row.key, _judge_row(each.watch, row.key, current, wanted, known)))


def _judge_row(
    watch: Watch, key: tuple[Any, ...], current: str | None, wanted: str | None, known: Steps | None
) -> Sequence[str | None]:
    """Judge what is to become of one row; return the steps it makes."""
    record = watch.name(key)
    if not known or known[-1] != wanted:
        watch.judge(record, current, wanted)
        return (current, wanted)
    first, *rest = known
    later = [step for step in rest if step is not ...]
    if first is ...:  # it was never read
        watch.judge(record, current, later[0])
        if watch.enforces:
            watch.judge_steps(record, later)
    elif first != current:
        if watch.enforces:
            watch.lost(record, first, current, wanted)
        watch.judge(record, current, wanted)
        return (current, wanted)
    elif watch.enforces:  # observing, the steps were counted where they were made
        watch.judge_steps(record, (first, *later))
    return (current, wanted) if current == wanted else (current, *later)


def _parts(compiler: Any, sets: Sequence[_Set], rows: Sequence[_Row]) -> Iterator[Any]:
    """Yield the UPDATEs that write rows by their keys, as long as they hold what they were judged by."""
    query = compiler.query
    groups: dict[tuple[Any, ...], list[_Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.gets), []).append(row)
    for gets, same in groups.items() or [((), [])]:
        values = {each.field.column: get for each, get in zip(sets, gets, strict=False)}
        for start in range(0, len(same) or 1, ROWS_AT_ONCE):
            chosen = same[start : start + ROWS_AT_ONCE]
            part = UpdateQuery(query.model)
            part.values = [(each, model, values.get(each.column, value)) for each, model, value in query.values]
            part.related_updates = query.related_updates
            part.order_by = query.order_by if compiler.connection.vendor == "mysql" else ()
            part.add_filter("pk__in", [_one_or_all(row.key) for row in chosen])
            for number, each in enumerate(sets):
                part.add_q(_holding(each.field, {row.holds[number] for row in chosen}))
            yield part


def _one_or_all(key: tuple[Any, ...]) -> Any:
    first, *more = key
    return key if more else first


def _holding(guarded: Any, values: set[Any]) -> Q:
    """Return the condition that a field holds one of these values."""
    condition = Q(**{f"{guarded.name}__in": [value for value in values if value is not None]})
    return condition | Q(**{f"{guarded.name}__isnull": True}) if None in values else condition


def _lost(compiler: Any, sets: Sequence[_Set], rows: Sequence[_Row], written: int) -> None:
    """Raise that somebody else was first, with what a row holds now where that can be read."""
    query = Query(compiler.query.model)
    query.add_filter("pk__in", [_one_or_all(row.key) for row in rows[:ROWS_AT_ONCE]])
    table = query.get_initial_alias()
    query.set_select([each.get_col(table) for each in (*keys(query.model), *(one.field for one in sets))])
    now = {
        tuple(row[: -len(sets)]): row[-len(sets) :]
        for row in query.get_compiler(compiler.connection.alias).results_iter()
    }
    for row in rows:
        for each, held, present, gets in zip(sets, row.holds, now.get(row.key, ()), row.gets, strict=False):
            ours = written and present == gets
            if held != present and not ours and each.watch.enforces:
                text = each.watch.text
                each.watch.lost(each.watch.name(row.key), text(held), text(present), text(gets))
    raise Conflict(
        f"{sets[0].watch.model_name}: {len(rows)} row(s) were judged and not all of them changed: somebody else wrote in between; "
        "roll back, read again and decide anew"
    )


def _remember(compiler: Any, sets: Sequence[_Set]) -> None:
    """Let the objects that were written begin anew with what was written."""
    writing = WRITING.get()
    for each in sets if writing else ():
        for key, steps in each.steps:
            record = writing.record(compiler.query.model, key, compiler.connection.alias) if writing else None
            if record is not None and not is_expression(record.__dict__.get(each.watch.key)):
                each.watch.remember(record, steps[-1])
