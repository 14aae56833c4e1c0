"""Guarding a field of a Django model: `interlock.guard(Model.status, machine)`.

Three nets, one behind the other. An assignment is judged where it is made, if the present value is loaded. An object that is saved knows
what it was read with and which steps it made. And every INSERT and UPDATE, whatever makes it, is judged against what the database holds
before it is executed (`interlock.guards.django_writes`, `interlock.guards.django_inserts`). Raw SQL passes by all three: that is what a
trigger is for.

Django gives no hook that sees every write (signals miss `update`, `bulk_create` and `bulk_update`), so the first guard of a process wraps
the two methods in which all of them end, and three that say which objects they write or read. Models without a guard are let through at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.db.models import Model, QuerySet
from django.db.models.query_utils import DeferredAttribute
from django.db.models.sql.compiler import SQLInsertCompiler, SQLUpdateCompiler

from interlock.errors import Refused
from interlock.guards.django_inserts import insert
from interlock.guards.django_watch import LOADING, WATCHED, WRITING, Guarded, Watch, Writing
from interlock.guards.django_writes import update
from interlock.guards.rules import Mode, Rules

if TYPE_CHECKING:
    from interlock.definition.machine import Definition, Machine

__all__ = ["attach"]

_WRAPPED = "__interlock__"


def __getattr__(name: str) -> Any:
    if name != "MoveModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from interlock.guards.django_moves import MoveModel

    return MoveModel


def attach(
    attribute: Any, machine: Definition | type[Machine[Any]], *, mode: Mode = "enforce", audit: Any = None
) -> Rules:
    """Guard a model's field; the work behind `interlock.guard`, which see.

    Args:
        attribute: ``Model.status``: a plain field of a model with a table; its proxies and the models that inherit its table are guarded
            with it.
        machine: class or definition.
        mode: ``observe`` or ``enforce``.
        audit: a model derived from `MoveModel`, or None.

    Returns the rules in force. Raises `Refused` for what is no plain field, and for a field that is guarded already.
    """
    field, model = _field(attribute)
    name = f"{model.__name__}.{field.attname}"
    rules = Rules(machine, mode)
    for other in WATCHED.get(model._meta.db_table, ()):
        if other.field.column == field.column:
            raise Refused(f"{name} is guarded already, by machine `{other.rules.machine.name}`; a field has one guard")
        if other.rules.machine.name == rules.machine.name:
            raise Refused(
                f"{name}: machine `{rules.machine.name}` guards {other.key} already; one machine, one field of a model"
            )
    if audit is not None and not _is_move_model(audit):
        raise Refused(f"{name}: audit={audit!r} is no model derived from interlock.guards.django_moves.MoveModel")
    watch = Watch(rules, field, audit)
    _wrap()
    WATCHED.setdefault(model._meta.db_table, []).append(watch)
    setattr(model, field.attname, Guarded(watch, attribute))
    _tell_of_loads(model, watch)
    return rules


def _field(attribute: Any) -> tuple[Any, Any]:
    field = getattr(attribute, "field", None)
    if type(attribute) is not DeferredAttribute or field is None:
        raise Refused(f"{attribute!r} is no plain field of a model: name the field that holds the stored value")
    model = field.model
    name = f"{model.__name__}.{field.attname}"
    if model._meta.abstract:
        raise Refused(
            f"{name} belongs to an abstract model, which has no table: guard it in each model derived from it"
        )
    if field.primary_key or field.is_relation or getattr(field, "generated", False):
        raise Refused(
            f"{name} is no field that holds a status (a primary key, a relation, generated): it cannot be guarded"
        )
    return field, model


def _is_move_model(audit: Any) -> bool:
    from interlock.guards.django_moves import MoveModel

    model: Any = audit
    return isinstance(audit, type) and issubclass(audit, MoveModel) and not model._meta.abstract


def _tell_of_loads(model: Any, watch: Watch) -> None:
    """Have an object remember what it was read with."""
    plain = model.from_db.__func__

    @wraps(plain)
    def from_db(cls: Any, *args: Any, **named: Any) -> Any:  # Django 6.1 names one more
        record = plain(cls, *args, **named)
        try:
            watch.loaded(record)
        except Exception as error:  # nothing is refused by reading it
            watch.rules.load(watch.name(None), f"(not judged: {type(error).__name__}: {error})")
        return record

    model.from_db = classmethod(from_db)


def _wrap() -> None:
    """Have Django's own methods pass by the guards; asked again, it does nothing."""
    if hasattr(SQLUpdateCompiler.execute_sql, _WRAPPED):
        return
    _replace(SQLUpdateCompiler, "execute_sql", _execute_update)
    if hasattr(SQLUpdateCompiler, "execute_returning_sql"):  # since Django 6.0
        _replace(SQLUpdateCompiler, "execute_returning_sql", _execute_returning)
    _replace(SQLInsertCompiler, "execute_sql", _execute_insert)
    _replace(Model, "_do_update", _save)
    _replace(Model, "refresh_from_db", _refresh)
    _replace(QuerySet, "bulk_update", _bulk_update)


def _replace(owner: Any, name: str, made: Callable[[Any], Any]) -> None:
    plain = getattr(owner, name)
    wrapped = wraps(plain)(made(plain))
    setattr(wrapped, _WRAPPED, True)
    setattr(owner, name, wrapped)


def _execute_update(plain: Any) -> Any:
    return lambda compiler, result_type: update(compiler, result_type, plain)


def _execute_returning(plain: Any) -> Any:
    def execute_returning_sql(compiler: Any, returning_fields: Any) -> Any:
        returns = compiler.connection.features.can_return_rows_from_update and not compiler.query.related_updates
        if returning_fields and returns:
            return update(compiler, returning_fields, plain)
        return plain(compiler, returning_fields)  # ends in execute_sql

    return execute_returning_sql


def _execute_insert(plain: Any) -> Any:
    return lambda compiler, returning_fields=None: insert(compiler, returning_fields, plain)


def _save(plain: Any) -> Any:
    def save(record: Any, *args: Any, **named: Any) -> Any:
        return _writing(plain, [record], record, *args, **named)

    return save


def _bulk_update(plain: Any) -> Any:
    def bulk_update(chosen: Any, objs: Any, *args: Any, **named: Any) -> Any:
        records = tuple(objs)
        return _writing(plain, records, chosen, records, *args, **named)

    return bulk_update


def _writing(plain: Any, records: Any, *args: Any, **named: Any) -> Any:
    token = WRITING.set(Writing(records))
    try:
        return plain(*args, **named)
    finally:
        WRITING.reset(token)


def _refresh(plain: Any) -> Any:
    def refresh_from_db(record: Any, *args: Any, **named: Any) -> Any:
        token = LOADING.set(record)
        try:
            return plain(record, *args, **named)
        finally:
            LOADING.reset(token)

    return refresh_from_db
