"""Every write that SQLAlchemy sends passes here: flushes, bulk methods, ORM and Core statements, sync and async sessions alike.

All of them end in an `Update` or an `Insert` that a connection executes. Before it is executed:

1. An UPDATE that sets a guarded column is asked as a SELECT first: which rows does it match, what do they hold, what would they get? The
   database works out expressions itself. Enforcing, the rows are locked by that (SQLite: the file), so that they stay as they were judged.
2. Each row is judged. A flush said beforehand what it read and which steps it made (`Plan`); whatever else writes makes one step.
3. Enforcing, the values found become part of the WHERE: compare-and-set, also where nothing is locked (a connection that commits itself).
   Afterwards as many rows must have been changed as were judged.
4. Each move that happened is written down, in the same transaction.

Observing, the statement is executed as it was; if the guard's own SELECT fails, that is counted, and nothing else.
An INSERT is judged likewise, by the values or defaults of its rows (`interlock.guards.sqlalchemy_inserts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Table, and_, bindparam, column, event, false, literal, or_, select, table, type_coerce, update
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.elements import BindParameter, ClauseElement, ColumnElement
from sqlalchemy.sql.lambdas import StatementLambdaElement

from interlock.errors import Conflict
from interlock.guards.sqlalchemy_inserts import Inserted, judge_insert, judge_late
from interlock.guards.sqlalchemy_watch import Move, Watch, forget_plans, plans_of

__all__ = ["WATCHED", "listen"]

WATCHED: dict[Any, list[Watch]] = {}
"""The guarded columns of each table."""
_WAS, _WANTED = "interlock_was", "interlock_wanted"
_EXPRESSION = "give the value itself: read the rows, decide in Python, and write each value with its own update()"
_LOST = ("40001", "1020", "1213")
"""PostgreSQL's serialization failure, MariaDB's changed record and deadlock: somebody else was first."""

Sets = list[dict[str, Any]]


class _Updated:
    """An UPDATE on its way: what is to be checked and written down when it has happened."""

    def __init__(self, watch: Watch, statement: Any, rows: int | None, moves: list[Move]) -> None:
        self.watch, self.statement, self.rows, self.moves = watch, statement, rows, moves

    def finish(self, connection: Connection, result: Any) -> None:
        if self.rows is not None and 0 <= result.rowcount != self.rows:
            raise Conflict(
                f"{self.watch.mapper.class_.__name__}: {self.rows} row(s) were judged and {result.rowcount} changed: somebody else "
                "wrote in between; roll back, read again and decide anew"
            )
        self.watch.write_down(connection, self.moves)


_PENDING: WeakKeyDictionary[Connection, list[_Updated | Inserted]] = WeakKeyDictionary()


def listen() -> None:
    """Judge what any engine of this process executes; asked again, it does nothing."""
    if event.contains(Engine, "before_execute", _before):
        return
    event.listen(Engine, "before_execute", _before, retval=True)
    event.listen(Engine, "before_cursor_execute", _before_cursor)
    event.listen(Engine, "after_execute", _after)
    for end in ("commit", "rollback", "rollback_savepoint"):
        event.listen(Engine, end, forget_plans)


def _before(
    connection: Connection, statement: Any, many: Sequence[Mapping[str, Any]], one: Mapping[str, Any], options: Any
) -> tuple[Any, Any, Any]:
    written = statement
    if isinstance(written, StatementLambdaElement):
        written = written._resolved
    if not isinstance(written, Update | Insert):
        return statement, many, one
    watches = list(_watches(written))
    if not watches:
        return statement, many, one
    if written is not statement:
        statement = written._annotate(statement._annotations)
    sets: Sets = [dict(each) for each in many] or [dict(one)]
    pending = _PENDING[connection] = []
    for watch in watches:
        judge = judge_insert if isinstance(statement, Insert) else _judge_update
        if watch.enforces:
            statement, sets, done = judge(connection, statement, sets, watch, options)
        else:
            try:
                statement, sets, done = judge(connection, statement, sets, watch, options)
            except Exception as error:  # observing never stands in the way, whatever it was
                _tell_of_a_deadlock(error)
                watch.cannot_judge(f"{type(error).__name__}: {error}", "")
                continue
        if done is not None:
            pending.append(done)
    for done in pending:
        done.statement = statement
    return (statement, sets, {}) if len(sets) > 1 else (statement, [], sets[0])


def _before_cursor(connection: Connection, cursor: Any, text: str, parameters: Any, execution: Any, many: bool) -> None:
    compiled = getattr(execution, "compiled", None)
    if compiled is None:
        return
    for cte in getattr(compiled, "ctes", None) or ():
        if isinstance(cte.element, Update | Insert):
            for watch in _watches(cte.element):
                watch.cannot_judge(
                    "a statement with a writing CTE sets it", "execute the update() or insert() by itself"
                )
    for pending in _PENDING.get(connection, ()):
        if isinstance(pending, Inserted) and pending.late and pending.statement is execution.invoked_statement:
            judge_late(pending, execution.compiled_parameters)


def _after(connection: Connection, statement: Any, many: Any, one: Any, options: Any, result: Any) -> None:
    pending = _PENDING.get(connection)
    if not pending or pending[0].statement is not statement:
        return
    del _PENDING[connection]
    for done in pending:
        if done.watch.enforces:
            done.finish(connection, result)
            continue
        try:
            done.finish(connection, result)
        except Exception as error:  # observing never stands in the way, whatever it was
            _tell_of_a_deadlock(error)
            done.watch.cannot_judge(f"not written down: {type(error).__name__}: {error}", "")


def _tell_of_a_deadlock(error: Exception) -> None:
    """Raise MariaDB's deadlock again: the whole transaction is rolled back, and whoever went on would lose what it wrote before."""
    code = getattr(getattr(error, "orig", None), "args", ("",))[0]
    if code == 1213:
        raise error


def _watches(statement: Update | Insert) -> Iterator[Watch]:
    """Yield the guarded columns that a statement may write."""
    marks = statement._annotations  # where the ORM writes a model of several tables, which one it is
    table = marks.get("_emit_insert_table", marks.get("_emit_update_table", statement.table))
    tables = {table} | {key.table for key in statement._values or () if not isinstance(key, str)}
    for each in tables:
        parts = [each] if isinstance(each, Table) else [one for one in visitors.iterate(each) if isinstance(one, Table)]
        for part in parts:
            yield from WATCHED.get(part, ())


def _judge_update(
    connection: Connection, statement: Any, sets: Sets, watch: Watch, options: Mapping[str, Any]
) -> tuple[Any, Sets, _Updated | None]:
    given = _given(statement, watch)
    if given is None and not any(watch.column.key in each for each in sets):
        return statement, sets, None
    final = statement
    if statement._propagate_attrs.get("compile_state_plugin") == "orm":  # with the criteria that the ORM adds
        compiled = statement.compile(dialect=connection.dialect, column_keys=sorted(sets[0]) or None)
        final = compiled.compile_state.statement
    if any(name.endswith("_limit") for name in statement.dialect_kwargs):
        watch.cannot_judge("an UPDATE with a LIMIT sets it", "choose the rows by their keys")
        return statement, sets, None
    expression = given if given is not None and not isinstance(given, BindParameter) else None
    if expression is not None and _depends_on_order(connection, statement, expression, watch):
        watch.cannot_judge("an expression over columns that the same UPDATE changes", _EXPRESSION)
        return statement, sets, None
    locks = watch.enforces or watch.audit is not None
    query = _query(connection, final, watch, expression, locks)
    plans, found, moves = plans_of(connection).moves, [], []
    for each in sets:
        literal_value = None if expression is not None else _value(given, each, watch)
        rows = _rows(connection, query, each, watch, options, locks)
        found.append([(*row, literal_value) if expression is None else row for row in rows])
    for rows in found:
        for *key, current, wanted in rows:
            plan = plans.pop((watch, tuple(key)), None)
            steps = _judge_row(watch, key, watch.text(current), watch.text(wanted), plan)
            moves += watch.moves(key, steps)
    if not watch.enforces:
        return statement, sets, _Updated(watch, statement, None, moves) if moves else None
    statement, sets = _compare_and_set(statement, final, sets, watch, expression, found)
    countable = not (statement._returning or statement._return_defaults) and (
        len(sets) == 1 or connection.dialect.supports_sane_multi_rowcount
    )
    return statement, sets, _Updated(watch, statement, sum(map(len, found)) if countable else None, moves)


def _judge_row(
    watch: Watch, key: Sequence[Any], current: str | None, wanted: str | None, plan: Any
) -> list[str | None]:
    """Judge what is to become of one row; return the steps it makes."""
    record = watch.name(key)
    if plan is None or plan.steps[-1] != wanted:
        watch.judge(record, current, wanted)
        return [current, wanted]
    if plan.created:
        watch.judge_steps(record, plan.steps)
        return list(plan.steps)
    if plan.known and plan.steps[0] != current:
        if watch.enforces:
            watch.lost(record, plan.steps[0], current, wanted)
        watch.judge(record, current, wanted)
        return [current, wanted]
    if watch.enforces or not plan.known:  # observing, the steps that are known were counted where they were made
        watch.judge_steps(record, plan.steps if plan.known else (current, plan.steps[0]))
    if watch.enforces and not plan.known:
        watch.judge_steps(record, plan.steps)
    if current == wanted:
        return [current, wanted]
    return list(plan.steps) if plan.known else [current, *plan.steps]


def _given(statement: Any, watch: Watch) -> Any:
    """Return what a statement itself sets the guarded column to: an expression, a parameter, or None if it says nothing."""
    for key, value in (statement._values or {}).items():
        if key == watch.column.key if isinstance(key, str) else watch.column in key.proxy_set:
            return value
    return None


def _value(given: Any, each: Mapping[str, Any], watch: Watch) -> Any:
    if watch.column.key in each:
        return each[watch.column.key]
    return None if given is None else each.get(given.key, given.effective_value)


def _depends_on_order(connection: Connection, statement: Any, expression: ClauseElement, watch: Watch) -> bool:
    """MariaDB and MySQL work out each assignment with the values that the ones before it have already made."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return False
    keys = {key if isinstance(key, str) else key.key for key in statement._values} - {watch.column.key}
    return any(getattr(part, "key", None) in keys for part in visitors.iterate(expression) if hasattr(part, "table"))


def _query(connection: Connection, final: Any, watch: Watch, expression: Any, locks: bool) -> Any:
    """Return the SELECT that asks which rows an UPDATE matches, what they hold, and what an expression would give them."""
    target = final.table
    columns: list[Any] = [_exported(target, each) for each in (*watch.keys, watch.column)]
    if expression is not None:
        columns.append(type_coerce(expression, watch.column.type).label(_WANTED))
    query = select(*columns).select_from(target).where(*final._where_criteria)
    if locks and connection.dialect.name == "postgresql":
        return query.with_for_update(of=target)
    return query.with_for_update() if locks else query


def _exported(target: Any, wanted: Any) -> Any:
    """Return a column as the table, alias or join that is written to knows it."""
    found = target.corresponding_column(wanted)
    return wanted if found is None else found


def _rows(
    connection: Connection, query: Any, each: Mapping[str, Any], watch: Watch, options: Mapping[str, Any], locks: bool
) -> list[Any]:
    mapped = options.get("schema_translate_map")
    chosen = {"schema_translate_map": mapped} if mapped else {}
    try:
        if locks and connection.dialect.name == "sqlite":
            _lock_file(connection, watch, chosen)
        rows = watch.ask(connection, query, each, chosen)
    except DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None) or str((getattr(error.orig, "args", None) or ("",))[0])
        if watch.enforces and code in _LOST:
            raise Conflict(
                f"{watch.mapper.class_.__name__}: somebody else wrote first; roll back, read again and decide anew"
            ) from error
        raise
    return list(dict.fromkeys(tuple(row) for row in rows))


def _lock_file(connection: Connection, watch: Watch, options: Any) -> None:
    """Begin to write, so that nobody else can between the judging and the writing."""
    of = watch.column.table
    key: Any = column(watch.keys[0].name)
    bare = table(of.name, key, schema=of.schema)
    connection.execute(update(bare).values({key: key}).where(false()), execution_options=options)


def _compare_and_set(
    statement: Any, final: Any, sets: Sets, watch: Watch, expression: Any, found: list[list[Any]]
) -> tuple[Any, Sets]:
    """Let an UPDATE change rows only that hold what they were judged by."""
    held: ColumnElement[Any] = _exported(final.table, watch.column)
    was, given = f"{_WAS}_{watch.number}", f"{_WANTED}_{watch.number}"
    if all(len(rows) <= 1 for rows in found):
        statement = statement.where(held.is_not_distinct_from(bindparam(was, type_=watch.column.type)))
        return statement, [{**each, was: rows[0][-2] if rows else None} for each, rows in zip(sets, found, strict=True)]
    wanted = expression
    if expression is None:
        wanted = bindparam(given, type_=watch.column.type)
        values = [rows[0][-1] if rows else None for rows in found]
        sets = [{**each, given: value} for each, value in zip(sets, values, strict=True)]
    pairs = list(dict.fromkeys((row[-2], row[-1]) for rows in found for row in rows))
    typed = watch.column.type
    allowed = [
        and_(
            held.is_not_distinct_from(literal(before, typed)),
            wanted.is_not_distinct_from(literal(after, typed)),
        )
        for before, after in pairs
    ]
    return statement.where(or_(*allowed)), sets
