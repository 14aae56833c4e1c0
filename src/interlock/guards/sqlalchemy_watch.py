"""What a guard on a mapped column knows: its rules, its column, where moves are written; and what a flush is about to write.

A flush says beforehand what it will write: a `Plan` for each record that moves, with the value that the record was read with and every
value it was given since. The statements that follow are judged against these plans (`interlock.guards.sqlalchemy_writes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper

from interlock.guards.reason import reason_now
from interlock.guards.rules import Rules, stored
from interlock.guards.watched import Move, Watched

__all__ = ["AUDITED", "Move", "Plan", "Plans", "Watch", "moves_table", "plans_of"]

AUDITED = ("at", "machine", "record", "came_from", "went_to", "by", "reason")


def moves_table(metadata: MetaData, name: str = "interlock_moves") -> Table:
    """Return the table into which a guard writes every move and creation, in the caller's own transaction: ``guard(..., audit=table)``.

    Columns: ``seq`` (ascending key), ``at`` (UTC), ``machine``, ``record`` (its primary key as text, several columns joined by a comma),
    ``came_from`` (NULL for a creation), ``went_to``, ``by`` and ``reason`` (what `because` said).

    >>> sorted(moves_table(MetaData()).columns.keys())
    ['at', 'by', 'came_from', 'machine', 'reason', 'record', 'seq', 'went_to']
    """
    return Table(
        name,
        metadata,
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("at", DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb"), nullable=False),
        Column("machine", String(255), nullable=False),
        Column("record", Text, nullable=False),
        Column("came_from", Text),
        Column("went_to", Text, nullable=False),
        Column("by", Text, nullable=False),
        Column("reason", Text, nullable=False),
        sqlite_autoincrement=True,
    )


@dataclass(eq=False)
class Watch(Watched):
    """A guarded column.

    Args:
        rules: what its machine allows.
        mapper: of the model it was attached to.
        key: the attribute's name.
        column: of the model's table.
        audit: the table in which moves are written down, if any.
        number: of the guards of this table; tells their parameters apart.
    """

    rules: Rules
    mapper: Mapper[Any]
    key: str
    column: Column[Any]
    audit: Table | None
    number: int = 0

    @property
    def model_name(self) -> str:
        """The name of the model that messages use."""
        return str(self.mapper.class_.__name__)

    @property
    def keys(self) -> Sequence[Column[Any]]:
        """The primary key of the column's table."""
        return tuple(self.column.table.primary_key)

    def text(self, value: Any) -> str | None:
        """Return a value as the machine knows it; None for NULL."""
        members = getattr(getattr(self.column.type, "enum_class", None), "__members__", {})
        value = members.get(value, value) if isinstance(value, str) else value  # an Enum column takes names, too
        return None if value is None else stored(value)

    def ask(
        self, connection: Connection, query: Any, parameters: Any = None, options: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the rows of a query of the guard's own; if it fails while observing, the caller's transaction is not spoilt."""
        with nullcontext() if self.enforces else _savepoint(connection):
            return list(connection.execute(query, parameters, execution_options=options))

    def write_down(self, connection: Connection, moves: Sequence[Move]) -> None:
        """Write moves into the audit table, in the transaction of this connection."""
        if self.audit is None or not moves:
            return
        now, reason = datetime.now(UTC), reason_now()
        fixed = {"at": now, "machine": self.rules.machine.name, "by": reason.by, "reason": reason.reason}
        rows = [{**fixed, "record": record, "came_from": before, "went_to": after} for record, before, after in moves]
        with nullcontext() if self.enforces else _savepoint(connection):
            connection.execute(self.audit.insert(), rows)


@dataclass(frozen=True)
class Plan:
    """What a flush is about to write to one record.

    Args:
        known: whether the value it was read with is known; then it is the first of ``steps``.
        steps: the values it was given, in order. Begins with None for a record that is created.
        created: a new record; in the place of an old one if a row of its key is still there.
    """

    known: bool
    steps: tuple[str | None, ...]
    created: bool = False


@dataclass
class Plans:
    """The plans of the flush that goes on over one connection."""

    moves: dict[tuple[Watch, tuple[Any, ...]], Plan] = field(default_factory=dict)
    births: dict[tuple[Watch, str | None], list[Plan]] = field(default_factory=dict)
    """New records that had made moves before they were ever written, by the value they are written with."""


_PLANS: WeakKeyDictionary[Connection, Plans] = WeakKeyDictionary()


def plans_of(connection: Connection) -> Plans:
    """Return the plans for a connection."""
    found = _PLANS.get(connection)
    if found is None:
        found = _PLANS[connection] = Plans()
    return found


def forget_plans(connection: Connection, *_: Any) -> None:
    """Forget the plans for a connection: its transaction, or a part of it, has ended."""
    _PLANS.pop(connection, None)


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    """Keep an error of an observing guard's own statement from spoiling the caller's transaction.

    PostgreSQL alone gives up a transaction over any failed statement.
    """
    if connection.dialect.name != "postgresql" or _commits_itself(connection):
        yield
        return
    connection.exec_driver_sql("SAVEPOINT interlock_guard")
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT interlock_guard")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT interlock_guard")


def _commits_itself(connection: Connection) -> bool:
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))
