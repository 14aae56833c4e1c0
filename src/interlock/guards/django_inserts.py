"""INSERT on a guarded table: `save`, `create`, `bulk_create` and all the others; each row must begin with an initial value.

The value is the one that would be written: given, a default, or what the database works out. A `bulk_create` that sets the guarded field
of rows that are already there is refused: which rows that would be is known only afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models.constants import OnConflict

from interlock.guards.django_watch import Watch, is_expression, key_of, keys, watches, whole

__all__ = ["insert"]

Execute = Callable[[Any, Any], Any]


@dataclass
class _Births:
    """The steps that each new row has made, as one guard judged them."""

    watch: Watch
    steps: list[Sequence[str | None]]


def insert(compiler: Any, returning: Any, execute: Execute) -> Any:
    """Judge an INSERT and execute it; ``execute`` is Django's own way."""
    query, alias = compiler.query, compiler.connection.alias
    guards = watches(query.get_meta().model)
    if not guards:
        return execute(compiler, returning)
    needed = any(watch.enforces or watch.audit is not None for watch in guards)
    with whole(alias) if needed else nullcontext():
        births = [found for watch in guards if (found := _birth(compiler, watch)) is not None]
        if any(each.watch.audit is not None for each in births) and query.on_conflict == OnConflict.IGNORE:
            result, written = [], _each(compiler, execute)
        else:
            result = execute(compiler, returning)
            written = [_key(record, query, returning, row) for record, row in _rows(query.objs, result)]
        for each in births:
            _finish(alias, each, written)
    for each in births:
        for record, steps in zip(query.objs, each.steps, strict=True):
            if not is_expression(record.__dict__.get(each.watch.key)):
                each.watch.remember(record, steps[-1])
    return result


def _birth(compiler: Any, watch: Watch) -> _Births | None:
    """Judge the new rows; None if they cannot be judged, which an observer counts."""
    if watch.enforces:
        return _judge(compiler, watch)
    try:
        with transaction.atomic(compiler.connection.alias) if _asks(compiler, watch) else nullcontext():
            return _judge(compiler, watch)
    except Exception as error:  # observing never stands in the way, whatever it was
        watch.overlook(compiler.connection.alias, error)
        return None


def _asks(compiler: Any, watch: Watch) -> bool:
    return any(is_expression(record.__dict__.get(watch.key)) for record in compiler.query.objs)


def _judge(compiler: Any, watch: Watch) -> _Births | None:
    query = compiler.query
    updated = [each.column for each in query.update_fields or ()]
    if query.on_conflict == OnConflict.UPDATE:
        if watch.field.column in updated:
            what = "a bulk_create with update_conflicts sets it on rows that are already there"
            watch.cannot_judge(what, "leave it out of update_fields, and move the rows with update()")
            return None
        if watch.audit is not None:
            what = "a bulk_create with update_conflicts, whose new rows cannot be told and written down"
            watch.cannot_judge(what, "create the new rows, and change the others with bulk_update()")
            return None
    guarded = next((each for each in query.fields if each.column == watch.field.column), None)
    if guarded is None:
        watch.cannot_judge("an INSERT leaves it to the database", "give the value")
        return None
    values = [compiler.pre_save_val(guarded, record) for record in query.objs]
    given = [_asked(compiler, guarded, value) if is_expression(value) else value for value in values]
    births = _Births(watch, [_judge_one(watch, record, value) for record, value in zip(query.objs, given, strict=True)])
    _write_what_was_judged(compiler, guarded, given if watch.enforces else values)
    return births


def _judge_one(watch: Watch, record: Any, value: Any) -> Sequence[str | None]:
    name, text, known = watch.name(None), watch.text(value), watch.steps(record)
    if known and len(known) > 2 and known[0] is None and known[-1] == text:
        steps = [step for step in known if step is not ...]
        watch.judge_steps(name, steps if watch.enforces else steps[:2])  # observing, the others were counted when made
        return steps
    watch.rules.create(name, "NULL" if text is None else text)
    return (None, text)


def _asked(compiler: Any, guarded: Any, value: Any) -> Any:
    """Ask the database for the value of an expression."""
    connection = compiler.connection
    if type(value).__name__ == "DatabaseDefault":
        value = guarded._db_default_expression
    resolved = value.resolve_expression(compiler.query, allow_joins=False, for_save=True)
    sql, parameters = compiler.compile(resolved)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}{connection.features.bare_select_suffix}", parameters)
        (found,) = cursor.fetchone()
    for convert in (*connection.ops.get_db_converters(guarded.get_col("")), *guarded.get_db_converters(connection)):
        found = convert(found, guarded, connection)
    return found


def _write_what_was_judged(compiler: Any, guarded: Any, given: Sequence[Any]) -> None:
    """Let an expression, or the field's ``pre_save``, not be worked out a second time: it may give something else."""
    plain = compiler.pre_save_val
    judged = {id(record): value for record, value in zip(compiler.query.objs, given, strict=True)}
    compiler.pre_save_val = lambda each, record: judged[id(record)] if each is guarded else plain(each, record)


def _rows(records: Sequence[Any], result: Any) -> list[tuple[Any, Any]]:
    """Pair the objects with what the database returned of them."""
    return [(record, result[number] if result else None) for number, record in enumerate(records)]


def _key(record: Any, query: Any, returning: Any, row: Any) -> tuple[Any, ...] | None:
    """Return the key of a new row, if it is known."""
    model = query.get_meta().model
    given = dict(zip((each.attname for each in returning or ()), row or (), strict=False))
    key = tuple(given.get(each.attname, known) for each, known in zip(keys(model), key_of(record, model), strict=True))
    return None if any(part is None or is_expression(part) for part in key) else key


def _each(compiler: Any, execute: Execute) -> list[tuple[Any, ...] | None]:
    """Insert one row after the other, where conflicts are ignored; return the keys of those that were written: () for the others."""
    query, connection = compiler.query, compiler.connection
    meta, written = query.get_meta(), list[tuple[Any, ...] | None]()
    returns = connection.features.can_return_columns_from_insert
    for record in query.objs:
        one = query.clone()
        one.objs = [record]
        single = one.get_compiler(connection.alias)
        single.pre_save_val = compiler.pre_save_val
        single.returning_fields = list(keys(meta.model)) if returns else None
        with connection.cursor() as cursor:
            for sql, parameters in single.as_sql():
                cursor.execute(sql, parameters)
            row = cursor.fetchone() if returns else None
            happened = row is not None if returns else cursor.rowcount == 1
        written.append(_key(record, query, single.returning_fields, row) if happened else ())
    return written


def _finish(alias: str, births: _Births, written: Sequence[tuple[Any, ...] | None]) -> None:
    """Write the creations down, with the keys that the database gave; () for a row that was not written."""
    watch = births.watch
    if watch.audit is None:
        return
    moves = [move for key, steps in zip(written, births.steps, strict=True) if key for move in watch.moves(key, steps)]
    try:
        if None in written:
            watch.cannot_judge("not written down: an INSERT whose keys the database did not tell", "give the keys")
        watch.write_down(alias, moves)
    except Exception as error:
        if watch.enforces:
            raise
        watch.overlook(alias, error, "not written down: ")
