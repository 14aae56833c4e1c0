"""What a guard on a Django field knows, and what an object remembers of it: the value it was read with, and every one it was given since.

An object keeps that beside its ``_state``, as a tuple of steps that begins with the value it was read with; with None if the object is new;
with ``...`` if it was not read (a deferred field). Writing the object makes the last step the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import EllipsisType
from typing import Any

from django import conf
from django.db import connections, transaction
from django.db.models.query_utils import DeferredAttribute

from interlock.guards.reason import reason_now
from interlock.guards.rules import Rules, stored
from interlock.guards.watched import Move, Watched

__all__ = ["LOADING", "WATCHED", "WRITING", "Guarded", "Steps", "Watch", "Writing", "is_expression", "watches", "whole"]

Steps = tuple[str | EllipsisType | None, ...]


@dataclass(eq=False)
class Watch(Watched):
    """A guarded field.

    Args:
        rules: what its machine allows.
        field: the model's field.
        audit: the model into which moves are written, if any.
    """

    rules: Rules
    field: Any
    audit: Any

    def __post_init__(self) -> None:
        self.key = self.field.attname
        self.mark = f"interlock_{self.field.attname}"
        """The attribute of an object's ``_state`` that keeps its steps."""

    @property
    def model_name(self) -> str:
        """The name of the model that messages use."""
        return str(self.field.model.__name__)

    def is_of(self, field: Any) -> bool:
        """Return whether a field is the guarded one; the table is."""
        return bool(field.column == self.field.column)

    def text(self, value: Any) -> str | None:
        """Return a value as it is stored; None for NULL. Raises what the field raises for a value that it cannot store."""
        if type(value) is not str:
            value = self.field.get_prep_value(value)
        return None if value is None else stored(value)

    def steps(self, record: Any) -> Steps | None:
        """Return the steps that an object remembers."""
        found: Steps | None = getattr(record.__dict__.get("_state"), self.mark, None)
        return found

    def remember(self, record: Any, value: str | None) -> None:
        """Let an object begin anew with the value that is in the database."""
        setattr(record._state, self.mark, (value,))

    def forget(self, record: Any) -> None:
        """Let an object forget its steps."""
        record.__dict__["_state"].__dict__.pop(self.mark, None)

    def loaded(self, record: Any) -> None:
        """Take the value in an object for the one in the database; an unknown one is counted."""
        if self.key not in record.__dict__:
            self.forget(record)
            return
        value = self.text(record.__dict__[self.key])
        self.remember(record, value)
        if value is not None and value not in self.rules.allowed:
            self.rules.load(self.name(key_of(record)), value)

    def overlook(self, alias: str, error: Exception, what: str = "") -> None:
        """Count an error of an observing guard's own.

        Raises it again if the database gave up the caller's transaction over it (MariaDB's deadlock): that only the caller can repeat, and
        its own statement would have been told the same.
        """
        self.cannot_judge(f"{what}{type(error).__name__}: {error}", "")
        if connections[alias].in_atomic_block and connections[alias].needs_rollback:
            raise error

    def write_down(self, alias: str, moves: Sequence[Move]) -> None:
        """Write moves into the audit table, in the transaction of this database."""
        if self.audit is None or not moves:
            return
        now, reason = datetime.now(UTC), reason_now()
        fixed = {
            "at": now if conf.settings.USE_TZ else now.replace(tzinfo=None),
            "machine": self.rules.machine.name,
            "by": reason.by,
            "reason": reason.reason,
        }
        rows = [self.audit(record=record, came_from=before, went_to=after, **fixed) for record, before, after in moves]
        with nullcontext() if self.enforces else transaction.atomic(alias):
            self.audit._base_manager.using(alias).bulk_create(rows)


WATCHED: dict[str, list[Watch]] = {}
"""The guarded fields of each table, by its name: also what other models write to the same table is judged."""


def watches(model: Any) -> Sequence[Watch]:
    """Return the guards of a model's own table; a migration's models of former times have none."""
    found = WATCHED.get(model._meta.db_table, ())
    return () if found and model.__module__ == "__fake__" else found


def is_expression(value: Any) -> bool:
    """Return whether the database works a value out."""
    return hasattr(value, "resolve_expression")


def key_of(record: Any, model: Any = None) -> tuple[Any, ...]:
    """Return an object's primary key, in its own table or in that of a model it descends from."""
    return tuple(record.__dict__.get(field.attname) for field in keys(model or type(record)))


def keys(model: Any) -> Sequence[Any]:
    """Return the fields of a model's primary key."""
    meta = model._meta
    return tuple(getattr(meta, "pk_fields", None) or (meta.pk,))  # Django 5.2 has keys of several fields


@contextmanager
def whole(alias: str) -> Iterator[None]:
    """Let what is written together happen together: a transaction, unless the caller has one already."""
    connection = connections[alias]
    if not connection.in_atomic_block:
        with transaction.atomic(
            alias, savepoint=False
        ):  # where autocommit is off, SQLite commits with its first savepoint
            yield
        return
    try:
        yield
    except Exception:
        connection.set_rollback(True)
        raise


class Writing:
    """The objects that are being written, so that their statements are judged by the steps they made."""

    def __init__(self, records: Sequence[Any]) -> None:
        self.records = records

    @cached_property
    def _found(self) -> dict[Any, dict[Any, Any]]:
        return {}

    def record(self, model: Any, key: tuple[Any, ...], alias: str) -> Any:
        """Return the object of this key that was read from this database, if any."""
        found = self._found.get(model)
        if found is None:
            to_python = [field.to_python for field in keys(model)]
            found = self._found[model] = {
                tuple(each(part) for each, part in zip(to_python, key_of(one, model), strict=True)): one
                for one in self.records
                if isinstance(one, model._meta.concrete_model) and not one._state.adding and one._state.db == alias
            }
        return found.get(key)


WRITING: ContextVar[Writing | None] = ContextVar("interlock_django_writing", default=None)
LOADING: ContextVar[Any] = ContextVar("interlock_django_loading", default=None)
"""The object that is being refreshed."""


class Guarded(DeferredAttribute):  # type: ignore[misc, unused-ignore]  # Django is untyped
    """The attribute of a guarded field: judges assignments as far as the present value is known."""

    def __init__(self, watch: Watch, plain: Any) -> None:
        super().__init__(watch.field)
        self.watch, self.plain, self.key = watch, plain, watch.key

    def __get__(self, record: Any, owner: Any = None) -> Any:
        if record is None:
            return self.plain
        try:
            return record.__dict__[self.key]
        except KeyError:
            return self.plain.__get__(record, owner)

    def __set__(self, record: Any, value: Any) -> None:
        data = record.__dict__
        state = data.get("_state")
        if state is None or (self.key not in data and state.adding):  # a constructor
            data[self.key] = value
        elif record is LOADING.get():
            data[self.key] = value
            self.watch.loaded(record)
        else:
            self._assign(record, state, value)

    def __delete__(self, record: Any) -> None:
        if self.key not in record.__dict__:
            raise AttributeError(self.key)
        del record.__dict__[self.key]  # it is read again when it is next asked for
        self.watch.forget(record)

    def _assign(self, record: Any, state: Any, value: Any) -> None:
        watch, data = self.watch, record.__dict__
        old = data.get(self.key, ...)
        known = old is not ... and not is_expression(old)
        before: str | None = None
        try:
            after = ... if is_expression(value) else watch.text(value)
            before = watch.text(old) if known else None
        except Exception:
            after = ...  # the field will say itself what is wrong with it, when it is written
        if after is ...:
            watch.forget(record)
            data[self.key] = value
            return
        if known and (before is not None or not state.adding):
            watch.judge(watch.name(key_of(record)), before, after)
        data[self.key] = value
        self._step(record, state, known, before, after)

    def _step(self, record: Any, state: Any, known: bool, before: str | None, after: str | None) -> None:
        so_far: Steps | None = self.watch.steps(record)
        steps: Steps
        if known and so_far and so_far[-1] == before:
            steps = so_far if before == after else (*so_far, after)
        elif known and state.adding:
            steps = (None, after) if before is None else (None, before, after)
        elif known:
            steps = (before, after)
        else:
            steps = (None, after) if state.adding else (..., after)
        setattr(state, self.watch.mark, steps)
