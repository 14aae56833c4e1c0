"""INSERT statements: values, defaults of every kind, upserts, and the keys under which creations are written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import mysql, postgresql, sqlite

from interlock import IllegalMove, Refused
from tests.guarded_rows import World, worlds

DATABASES = ["sqlite", "postgresql", "mariadb"]


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    yield from worlds(request)


def _text(default: str) -> Any:
    return sa.text(f"'{default}'")


DEFAULTS: dict[str, Callable[[str], Any]] = {
    "scalar": lambda value: orm.mapped_column(sa.String(20), default=value),
    "function": lambda value: orm.mapped_column(sa.String(20), default=lambda: value),
    "expression": lambda value: orm.mapped_column(sa.String(20), default=sa.func.lower(value.upper())),
    "server text": lambda value: orm.mapped_column(sa.String(20), server_default=value),
    "server expression": lambda value: orm.mapped_column(sa.String(20), server_default=_text(value)),
}


@pytest.mark.parametrize("kind", DEFAULTS)
@pytest.mark.parametrize("value", ["free", "gone"])
def test_a_default_is_judged_like_a_value(kind: str, value: str, made: Callable[..., World]) -> None:
    at = made("sqlite", column=DEFAULTS[kind](value))
    for way in (_by_constructor, _by_list, _by_values, _by_core):
        at.reset()
        if value == "free":
            way(at)
            assert at.history() == [("8", None, "free"), ("9", None, "free")], way
        else:
            with pytest.raises(IllegalMove, match="begin as `gone`"):
                way(at)
            assert (at.read(8), at.read(9), at.history()) == (None, None, []), way


def _by_constructor(at: World) -> None:
    with at.session() as session:
        session.add_all([at.model(id=8), at.model(id=9)])
        session.commit()


def _by_list(at: World) -> None:
    with at.session() as session:
        session.execute(sa.insert(at.model), [{"id": 8}, {"id": 9}])
        session.commit()


def _by_values(at: World) -> None:
    with at.session() as session:
        session.execute(sa.insert(at.model).values([{"id": 8}, {"id": 9}]))
        session.commit()


def _by_core(at: World) -> None:
    with at.engine.begin() as connection:
        connection.execute(at.table.insert(), {"id": 8})
        connection.execute(at.table.insert().values(id=9))


def test_a_record_without_a_status_is_no_record_to_begin_with(made: Callable[..., World]) -> None:
    at = made("sqlite")
    for way in (_by_constructor, _by_list, _by_values, _by_core):
        with pytest.raises(IllegalMove, match="begin as `NULL`"):
            way(at)
        assert at.read(9) is None
    with at.session() as session, pytest.raises(IllegalMove, match="begin as `NULL`"):
        session.execute(sa.insert(at.model).from_select(["kind"], sa.select(sa.literal("b"))))


def test_what_the_database_fills_in_by_itself_cannot_be_judged(made: Callable[..., World]) -> None:
    at = made("sqlite", column=orm.mapped_column(sa.String(20), server_default=sa.FetchedValue()))
    with pytest.raises(Refused, match="give the value"):
        _by_core(at)


@pytest.mark.parametrize("database", DATABASES)
def test_creations_are_written_down_with_the_keys_that_the_database_gave(
    database: str, made: Callable[..., World]
) -> None:
    at = made(database)
    two = [{"status": "free"}, {"status": "free"}]
    ways: list[Callable[[orm.Session], Any]] = [
        lambda session: session.add_all([at.model(status="free"), at.model(status="free")]),
        lambda session: session.execute(sa.insert(at.model), two),
        lambda session: session.execute(sa.insert(at.model).values(two)),
        lambda session: session.execute(sa.insert(at.model).returning(at.model), two).all(),
        lambda session: session.bulk_insert_mappings(at.model, two),
        lambda session: session.bulk_save_objects([at.model(**each) for each in two]),
        lambda session: session.connection().execute(at.table.insert(), two).rowcount == 2 or pytest.fail("rowcount"),
        lambda session: [session.connection().execute(at.table.insert(), each) for each in two],
    ]
    for way in ways:
        at.reset()
        with at.session() as session:
            way(session)
            session.commit()
        with at.reader.connect() as connection:
            keys = connection.exec_driver_sql("SELECT id FROM volumes WHERE id > 2 ORDER BY id").scalars().all()
        assert len(keys) == 2
        assert at.history() == [(str(key), None, "free") for key in keys], way
    with at.session() as session:
        rows = session.execute(
            at.table.insert().values(status="free").returning(at.table.c.id, at.table.c.status)
        ).all()
        assert at.audit.c.record.type.python_type is str
        found = session.scalars(sa.select(at.audit.c.record).order_by(at.audit.c.seq.desc()).limit(1)).one()
        assert [(found, "free")] == [(str(row[0]), row[1]) for row in rows]


def test_creations_whose_keys_are_not_told_are_refused_when_they_must_be_written_down(
    made: Callable[..., World],
) -> None:
    at = made("sqlite")
    chosen = sa.select(sa.literal("free"))
    with at.session() as session:
        with pytest.raises(Refused, match="give the keys"):
            session.execute(sa.insert(at.model).from_select(["status"], chosen))
        session.rollback()
        session.execute(sa.insert(at.model).from_select(["id", "status"], sa.select(sa.literal(7), sa.literal("free"))))
        session.commit()
    assert at.history() == [("7", None, "free")]


@pytest.mark.parametrize("database", DATABASES)
def test_an_upsert_that_leaves_the_status_alone_is_judged_as_a_creation(
    database: str, made: Callable[..., World]
) -> None:
    at = made(database, audit=False)
    for status, key in (("free", 1), ("free", 5), ("used", 6)):
        values, update = {"id": key, "status": status}, {"kind": "z"}
        statement: Any
        if database == "mariadb":
            statement = mysql.insert(at.table).values(values).on_duplicate_key_update(update)
        else:
            dialect = sqlite if database == "sqlite" else postgresql
            statement = (
                dialect.insert(at.table).values(values).on_conflict_do_update(index_elements=["id"], set_=update)
            )
        with at.engine.begin() as connection:
            if status == "used":
                with pytest.raises(IllegalMove):
                    connection.execute(statement)
            else:
                connection.execute(statement)
    assert [at.read(key) for key in (1, 5, 6)] == ["free", "free", None]


def test_an_insert_that_does_nothing_is_not_written_down(made: Callable[..., World]) -> None:
    at = made("sqlite")
    for key in (1, 5):
        statement = sqlite_insert(at).values(id=key, status="free").on_conflict_do_nothing()
        with at.engine.begin() as connection:
            connection.execute(statement)
            connection.execute(at.table.insert().prefix_with("OR IGNORE"), {"id": key, "status": "free"})
    assert at.history() == [("5", None, "free")]
    with at.engine.begin() as connection, pytest.raises(Refused, match="one row at a time"):
        rows = [{"id": 6, "status": "free"}, {"id": 7, "status": "free"}]
        connection.execute(sqlite_insert(at).on_conflict_do_nothing(), rows)
    assert at.read(6) is None


def sqlite_insert(at: World) -> Any:
    return sqlite.insert(at.table)
