"""Any machine, any sequence of moves: attribute, SQLAlchemy's guard, Django's guard and the trigger give the same verdict."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from random import Random
from typing import Any, Protocol

import pytest
import sqlalchemy as sa
from django.apps import apps
from django.db import models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import orm

from interlock import Guard, IllegalMove, guard
from interlock.definition.document import from_document
from interlock.definition.machine import Definition
from interlock.guards.django_watch import WATCHED
from interlock.guards.sql import sql_guard
from interlock.guards.sqlalchemy import moves_table
from tests.django_app import Move, django_on, held, history

Moves = list[tuple[str | None, str]]


@st.composite
def machines(draw: st.DrawFn) -> Definition:
    names = [f"s{number}" for number in range(draw(st.integers(2, 5)))]
    states: dict[str, Any] = {"end": {"final": "succeeded"}}
    for number, name in enumerate(names):
        others = set(draw(st.lists(st.sampled_from([*names, "end"]), max_size=3))) - {name}
        following = names[number + 1] if number + 1 < len(names) else "end"
        states[name] = {"initial": number == 0 or draw(st.booleans()), "to": sorted(others | {following})}
    return from_document({"machine": "made", "states": states})


class Record(Protocol):
    """One guarded record, out of four places where it may be."""

    def write(self, before: str | None, wanted: str) -> None: ...
    def read(self) -> str | None: ...


class Attribute:
    def __init__(self, machine: Definition) -> None:
        self.record = type("Plain", (), {"status": Guard(machine)})()

    def write(self, before: str | None, wanted: str) -> None:
        self.record.status = wanted

    def read(self) -> str | None:
        found: str | None = getattr(self.record, "status", None)
        return found


class Mapped:
    """SQLAlchemy's guard; a value is written by some way."""

    def __init__(self, session: orm.Session, model: Any, moves: sa.Table, random: Random) -> None:
        self.session, self.model, self.moves, self.random = session, model, moves, random

    def write(self, before: str | None, wanted: str) -> None:
        try:
            self._write(before, wanted)
            self.session.commit()
        except IllegalMove:
            self.session.rollback()
            raise

    def _write(self, before: str | None, wanted: str) -> None:
        session, model, way = self.session, self.model, self.random.randrange(4)
        if before is None and way % 2:
            session.add(model(id=1, status=wanted))
        elif before is None:
            session.execute(sa.insert(model), [{"id": 1, "status": wanted}])
        elif way == 0:
            session.get_one(model, 1).status = wanted
        elif way == 1:
            session.execute(sa.update(model).values(status=wanted))
        elif way == 2:
            session.execute(sa.update(model), [{"id": 1, "status": wanted}])
        else:
            session.merge(model(id=1, status=wanted))

    def read(self) -> str | None:
        found: str | None = self.session.connection().exec_driver_sql("SELECT status FROM records").scalar()
        return found

    def history(self) -> Moves:
        found = self.session.execute(sa.select(self.moves.c.came_from, self.moves.c.went_to).order_by(self.moves.c.seq))
        return [(row[0], row[1]) for row in found]


class Stored:
    """Django's guard; a value is written by some way."""

    def __init__(self, model: Any, random: Random) -> None:
        self.model, self.random = model, random

    def write(self, before: str | None, wanted: str) -> None:
        objects, model = self.model.objects, self.model
        ways: list[Callable[[], Any]] = [lambda: model(pk=1, status=wanted).save()]
        if before is None:
            ways += [
                lambda: objects.create(pk=1, status=wanted),
                lambda: objects.bulk_create([model(pk=1, status=wanted)]),
            ]
            ways += [lambda: objects.get_or_create(pk=1, defaults={"status": wanted})]
        else:
            ways += [lambda: self._assign(wanted), lambda: self._in_bulk(wanted), lambda: objects.update(status=wanted)]
            ways += [lambda: objects.update(status=models.Value(wanted))]
        self.random.choice(ways)()

    def _assign(self, wanted: str) -> None:
        record = self.model.objects.get(pk=1)
        record.status = wanted
        record.save()

    def _in_bulk(self, wanted: str) -> None:
        record = self.model.objects.get(pk=1)
        record.__dict__["status"] = wanted
        self.model.objects.bulk_update([record], ["status"])

    def read(self) -> str | None:
        return held(self.model)

    def history(self) -> Moves:
        return [(came, went) for _, came, went in history()]


class Triggered:
    """The trigger, which gets raw SQL."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def write(self, before: str | None, wanted: str) -> None:
        command = "INSERT INTO records VALUES (1, ?)" if before is None else "UPDATE records SET status=?"
        try:
            self.database.execute(command, (wanted,))
        except sqlite3.IntegrityError as error:
            raise IllegalMove("made", "record", before, wanted, []) from error

    def read(self) -> str | None:
        row = self.database.execute("SELECT status FROM records").fetchone()
        return row[0] if row else None


@contextmanager
def mapped(machine: Definition, random: Random) -> Iterator[Mapped]:
    class Base(orm.DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "records"
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        status: orm.Mapped[str]

    moves = moves_table(Base.metadata)
    guard(Row.status, machine, audit=moves)
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        yield Mapped(session, Row, moves, random)
    engine.dispose()


@contextmanager
def stored(machine: Definition, random: Random) -> Iterator[Stored]:
    table = f"guarded_any_{random.randrange(10**12)}"
    meta = type("Meta", (), {"app_label": "guarded", "db_table": table})
    fields = {"__module__": __name__, "Meta": meta, "status": models.CharField(max_length=200)}
    apps.all_models["guarded"].pop("anything", None)
    model: Any = type("Anything", (models.Model,), fields)
    with django_on("sqlite:///:memory:", model):
        guard(model.status, machine, audit=Move)
        try:
            yield Stored(model, random)
        finally:
            del WATCHED[table]


@contextmanager
def triggered(machine: Definition) -> Iterator[Triggered]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, status TEXT)")
        for statement in sql_guard(machine, table="records", column="status", dialect="sqlite").create:
            database.execute(statement)
        yield Triggered(database)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(machine=machines(), seed=st.integers(0, 2**32))
def test_all_guards_give_the_same_verdict_and_hold_the_same_value(machine: Definition, seed: int) -> None:
    random = Random(seed)
    with (
        mapped(machine, random) as by_sqlalchemy,
        stored(machine, random) as by_django,
        triggered(machine) as by_trigger,
    ):
        attribute, expected = Attribute(machine), Moves()
        others: list[Record] = [by_sqlalchemy, by_django, by_trigger]
        for _ in range(12):
            before, wanted = attribute.read(), random.choice([*machine.states, "unknown"])
            try:
                attribute.write(before, wanted)
            except IllegalMove as refused:
                for other in others:
                    with pytest.raises(IllegalMove) as caught:
                        other.write(before, wanted)
                    assert (caught.value.current, caught.value.wanted) == (refused.current, refused.wanted)
            else:
                for other in others:
                    other.write(before, wanted)
                expected += [(before, wanted)] if before != wanted else []
            assert [other.read() for other in others] == [attribute.read()] * 3, (before, wanted)
        assert by_sqlalchemy.history() == by_django.history() == expected
