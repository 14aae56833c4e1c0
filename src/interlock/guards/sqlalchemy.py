"""Guarding a mapped column of SQLAlchemy 2: `interlock.guard(Model.status, machine)`.

Three nets, one behind the other. An assignment is judged where it is made, if the present value is loaded. A flush says what each of its
records was read with and which steps it made. And every INSERT and UPDATE, wherever it comes from, is judged against what the database
holds before it is executed (`interlock.guards.sqlalchemy_writes`). Textual SQL passes by all three: that is what a trigger is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table, event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import ColumnProperty, InstrumentedAttribute, LoaderCallableStatus, Mapper, object_session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.sql.elements import ClauseElement

from interlock.errors import Refused
from interlock.guards.rules import Mode, Rules
from interlock.guards.sqlalchemy_watch import AUDITED, Plan, Watch, moves_table, plans_of
from interlock.guards.sqlalchemy_writes import WATCHED, listen

if TYPE_CHECKING:
    from interlock.definition.machine import Definition, Machine

__all__ = ["attach", "moves_table"]

_STEPS = "interlock.steps"


def attach(
    attribute: Any, machine: Definition | type[Machine[Any]], *, mode: Mode = "enforce", audit: Any = None
) -> Rules:
    """Guard a mapped column; the work behind `interlock.guard`, which see.

    Args:
        attribute: ``Model.status``: a plain column of the model that declares it; its subclasses are guarded with it.
        machine: class or definition.
        mode: ``observe`` or ``enforce``.
        audit: a table made by `moves_table`, or None.

    Returns the rules in force. Raises `Refused` for what is no plain column, and for a column that is guarded already.
    """
    column, mapper = _column(attribute)
    rules = Rules(machine, mode)
    name = f"{mapper.class_.__name__}.{attribute.key}"
    for other in WATCHED.get(column.table, ()):
        if other.column is column:
            raise Refused(f"{name} is guarded already, by machine `{other.rules.machine.name}`; a column has one guard")
        if other.rules.machine.name == rules.machine.name:
            raise Refused(
                f"{name}: machine `{rules.machine.name}` guards {other.key} already; one machine, one column of a model"
            )
    if audit is not None and not (isinstance(audit, Table) and set(AUDITED) <= set(audit.columns.keys())):
        raise Refused(f"{name}: audit={audit!r} is no table made by interlock.guards.sqlalchemy.moves_table(metadata)")
    watches = WATCHED.setdefault(column.table, [])
    watch = Watch(rules, mapper, attribute.key, column, audit, len(watches))
    watches.append(watch)
    _listen(watch)
    listen()
    return rules


def _column(attribute: Any) -> tuple[Column[Any], Mapper[Any]]:
    kept = attribute.property if isinstance(attribute, InstrumentedAttribute) else None
    if not isinstance(kept, ColumnProperty) or len(kept.columns) != 1 or not isinstance(kept.columns[0], Column):
        raise Refused(
            f"{attribute} is no plain column of a mapped class: name the attribute that holds the stored value"
        )
    column: Column[Any] = kept.columns[0]
    mapper: Any = attribute.parent
    name = f"{mapper.class_.__name__}.{attribute.key}"
    if not isinstance(column.table, Table) or not column.table.primary_key:
        raise Refused(f"{name} is no column of a table with a primary key: only there can its rows be found again")
    if kept.parent is not mapper:
        home = kept.parent.class_.__name__
        raise Refused(
            f"{name} is declared by {home}: write guard({home}.{attribute.key}, ...), which guards {home}'s subclasses, too"
        )
    if column.primary_key or column.onupdate is not None or column.server_onupdate is not None:
        raise Refused(f"{name} is changed by more than assignments (primary key, onupdate): it cannot be guarded")
    return column, mapper


def _listen(watch: Watch) -> None:
    """Have SQLAlchemy tell of assignments, flushes and loads."""
    owner, key = watch.mapper.class_, watch.key

    def assigned(target: Any, value: Any, old: Any, _: Any) -> None:
        _assign(watch, target, value, old)

    def inserting(_: Any, connection: Connection, target: Any) -> None:
        _plan_insert(watch, connection, target)

    def updating(_: Any, connection: Connection, target: Any) -> None:
        _plan_update(watch, connection, target)

    def written(_: Any, __: Any, target: Any) -> None:
        instance_state(target).info.get(_STEPS, {}).pop(key, None)

    def loaded(target: Any, *_: Any) -> None:
        state = instance_state(target)
        value = watch.text(state.dict.get(key))
        if value is not None and value not in watch.rules.allowed:
            watch.rules.load(watch.name(state.key[1] if state.key else None), value)

    event.listen(getattr(owner, key), "set", assigned, propagate=True)
    for name, listener in (
        ("before_insert", inserting),
        ("before_update", updating),
        ("after_insert", written),
        ("after_update", written),
        ("load", loaded),
        ("refresh", loaded),
    ):
        event.listen(owner, name, listener, propagate=True)


def _assign(watch: Watch, target: Any, value: Any, old: Any) -> None:
    """Judge an assignment as far as the present value is known, and remember the step."""
    state = instance_state(target)
    kept = state.info.setdefault(_STEPS, {})
    if _is_sql(value):
        kept.pop(watch.key, None)  # worked out by the database, and judged there
        return
    known = not isinstance(old, LoaderCallableStatus) and not _is_sql(old)
    before, after = watch.text(old) if known else None, watch.text(value)
    if known and (before is not None or state.key is not None):
        watch.judge(watch.name(state.key[1] if state.key else None), before, after)
    so_far = kept.get(watch.key)
    if watch.key in state.committed_state and so_far and so_far[1][-1] == before:
        kept[watch.key] = (so_far[0], (*so_far[1], after))
    elif state.key is None:
        kept[watch.key] = (True, (None, after) if before is None else (None, before, after))
    else:
        kept[watch.key] = (known, (before, after) if known else (after,))


def _plan_update(watch: Watch, connection: Connection, target: Any) -> None:
    """Say what a flush is about to write to a record that is there."""
    state = instance_state(target)
    value = state.dict.get(watch.key)
    if watch.key not in state.committed_state or _is_sql(value):
        return
    read = state.committed_state[watch.key]
    known = not isinstance(read, LoaderCallableStatus)
    first, last = watch.text(read) if known else None, watch.text(value)
    if known and first == last:
        return
    kept: tuple[bool, tuple[str | None, ...]] | None = state.info.get(_STEPS, {}).get(watch.key)
    if kept is None or kept[1][-1] != last or kept[0] != known or (known and kept[1][0] != first):
        kept = (known, (first, last) if known else (last,))  # changed behind the events' back
    if state.key is not None:
        plans_of(connection).moves[watch, tuple(state.key[1])] = Plan(*kept)


def _plan_insert(watch: Watch, connection: Connection, target: Any) -> None:
    """Say what a flush is about to create, where the record has moved before it was ever written or takes the place of another."""
    state = instance_state(target)
    value = state.dict.get(watch.key)
    if _is_sql(value):
        return
    last = watch.text(value)
    kept = state.info.get(_STEPS, {}).get(watch.key)
    steps = kept[1] if kept and kept[1][-1] == last else (None, last)
    plan = Plan(True, (None, *(step for step in steps if step is not None)), created=True)
    plans = plans_of(connection)
    if len(plan.steps) > 2:
        plans.births.setdefault((watch, last), []).append(plan)
    session, identity = object_session(target), state.mapper.identity_key_from_instance(target)
    before = session.identity_map.get(identity) if session is not None else None
    if before is not None and before is not target:
        plans.moves[watch, tuple(identity[1])] = plan


def _is_sql(value: Any) -> bool:
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")
