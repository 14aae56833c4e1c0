"""A guarded table for the tests of SQLAlchemy's guard: models made anew for each test, and every way of writing to them that we know.

Each way tries the same: to take record 1 from ``free`` to ``gone``, or to create record 9 as ``gone``; the machine allows neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Engine

from interlock import Final, Machine, State, guard
from interlock.guards.rules import Mode, Rules
from interlock.guards.sqlalchemy import moves_table


class Volume(Machine[dict[str, str]]):
    free = State(initial=True, to=["used"])
    used = State(to=["free", "ending"])
    ending = State(to=["gone"])
    gone = Final("succeeded")


@dataclass
class World:
    """A database with a guarded table of two rows: 1 is ``free``, 2 is ``used``."""

    engine: Engine
    reader: Engine
    model: Any
    table: sa.Table
    audit: sa.Table
    rules: Rules

    def session(self) -> orm.Session:
        return orm.Session(self.engine)

    def read(self, key: int = 1) -> str | None:
        """What a connection of another engine finds."""
        with self.reader.connect() as connection:
            return connection.exec_driver_sql(f"SELECT status FROM volumes WHERE id = {key}").scalar()

    def history(self) -> list[tuple[str, str | None, str]]:
        with self.reader.connect() as connection:
            found = connection.exec_driver_sql("SELECT record, came_from, went_to FROM interlock_moves ORDER BY seq")
            return [(row[0], row[1], row[2]) for row in found]

    def reset(self) -> None:
        with self.reader.begin() as connection:
            connection.exec_driver_sql("DELETE FROM volumes")
            connection.exec_driver_sql(
                "INSERT INTO volumes (id, status, kind) VALUES (1, 'free', 'a'), (2, 'used', 'a')"
            )
            connection.exec_driver_sql("DELETE FROM interlock_moves")
            if self.reader.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT setval(pg_get_serial_sequence('volumes', 'id'), 100)")
        self.rules._seen.clear()

    def close(self) -> None:
        self.engine.dispose()
        self.reader.dispose()


def world(url: str, mode: Mode = "enforce", *, audit: bool = True, column: Any = None, machine: Any = Volume) -> World:
    """Return a fresh guarded table in the database of this URL."""

    class Base(orm.DeclarativeBase):
        pass

    class Record(Base):
        __tablename__ = "volumes"
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        status: orm.Mapped[str | None] = column if column is not None else orm.mapped_column(sa.String(20))
        kind: orm.Mapped[str | None] = orm.mapped_column(sa.String(20))

    moves = moves_table(Base.metadata)
    engine, reader = sa.create_engine(url), sa.create_engine(url)
    Base.metadata.create_all(engine)
    table = Record.__table__
    assert isinstance(table, sa.Table)
    rules = guard(Record.status, machine, mode=mode, audit=moves if audit else None)
    made = World(engine, reader, Record, table, moves, rules)
    made.reset()
    return made


def worlds(request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """Yield what makes guarded tables in the database of a fixture's name; in the end their engines are closed."""
    made: list[World] = []

    def make(database: str, mode: Mode = "enforce", **options: Any) -> World:
        made.append(world(request.getfixturevalue(database), mode, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


Way = Callable[[World], None]
MOVES: list[Way] = []
"""Ways of writing ``gone`` over ``free``."""
CREATIONS: list[Way] = []
"""Ways of creating a record as ``gone``."""


def _move(way: Way) -> Way:
    MOVES.append(way)
    return way


def _creation(way: Way) -> Way:
    CREATIONS.append(way)
    return way


@_move
def assignment(at: World) -> None:
    with at.session() as session:
        session.get_one(at.model, 1).status = "gone"
        session.commit()


@_move
def assignment_while_expired(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        session.expire(record)
        record.status = "gone"
        session.commit()


@_move
def assignment_of_an_expression(at: World) -> None:
    with at.session() as session:
        session.get_one(at.model, 1).status = sa.func.lower("GONE")
        session.commit()


@_move
def behind_the_events(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        record.__dict__["status"] = "gone"
        orm.attributes.flag_modified(record, "status")
        session.commit()


@_move
def merge_of_a_transient_object(at: World) -> None:
    with at.session() as session:
        session.merge(at.model(id=1, status="gone"))
        session.commit()


@_move
def merge_of_a_detached_object(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        session.expunge(record)
        record.__dict__["status"] = "gone"
    with at.session() as session:
        session.merge(record)
        session.commit()


@_move
def bulk_save_objects(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        record.__dict__["status"] = "gone"
        orm.attributes.flag_modified(record, "status")
        session.bulk_save_objects([record])
        session.commit()


@_move
def bulk_update_mappings(at: World) -> None:
    with at.session() as session:
        session.bulk_update_mappings(at.model, [{"id": 2, "status": "free"}, {"id": 1, "status": "gone"}])
        session.commit()


@_move
def update_by_key(at: World) -> None:
    with at.session() as session:
        session.execute(sa.update(at.model), [{"id": 2, "status": "free"}, {"id": 1, "status": "gone"}])
        session.commit()


@_move
def update_by_one_key(at: World) -> None:
    with at.session() as session:
        session.execute(sa.update(at.model), [{"id": 1, "status": "gone"}])
        session.commit()


@_move
def update_with_a_value(at: World) -> None:
    with at.session() as session:
        session.execute(sa.update(at.model).where(at.model.id < 2).values(status="gone"))
        session.commit()


@_move
def update_with_a_parameter(at: World) -> None:
    with at.session() as session:
        session.execute(sa.update(at.model).where(at.model.id == 1), {"status": "gone"})
        session.commit()


@_move
def update_with_a_named_parameter(at: World) -> None:
    with at.session() as session:
        session.execute(sa.update(at.model).where(at.model.id == 1).values(status=sa.bindparam("to")), {"to": "gone"})
        session.commit()


@_move
def update_with_an_expression(at: World) -> None:
    with at.session() as session:
        session.execute(sa.update(at.model).values(status=sa.case((at.model.id == 1, "gone"), else_=at.model.status)))
        session.commit()


@_move
def update_with_a_subquery(at: World) -> None:
    other = at.table.alias()
    chosen = sa.select(other.c.id).where(other.c.kind == "a", other.c.id == 1).subquery()
    with at.session() as session:
        wanted = sa.select(sa.literal("gone")).scalar_subquery()
        session.execute(sa.update(at.model).where(at.model.id.in_(sa.select(chosen))).values(status=wanted))
        session.commit()


@_move
def update_in_order(at: World) -> None:
    with at.session() as session:
        session.execute(
            sa.update(at.model).where(at.model.id == 1).ordered_values((at.model.kind, "b"), (at.model.status, "gone"))
        )
        session.commit()


@_move
def query_update(at: World) -> None:
    with at.session() as session:
        session.query(at.model).filter(at.model.id == 1).update({"status": "gone"})
        session.commit()


@_move
def query_update_fetching(at: World) -> None:
    with at.session() as session:
        session.query(at.model).filter_by(id=1).update({at.model.status: "gone"}, synchronize_session="fetch")
        session.commit()


@_move
def core_update_in_a_session(at: World) -> None:
    with at.session() as session:
        session.execute(at.table.update().where(at.table.c.id == 1).values(status="gone"))
        session.commit()


@_move
def core_update_on_a_connection(at: World) -> None:
    with at.engine.begin() as connection:
        connection.execute(at.table.update().where(at.table.c.id == 1).values({at.table.c.status: "gone"}))


@_move
def core_update_of_many(at: World) -> None:
    statement = at.table.update().where(at.table.c.kind == sa.bindparam("of")).values(status=sa.bindparam("to"))
    with at.engine.begin() as connection:
        connection.execute(statement, [{"of": "none", "to": "used"}, {"of": "a", "to": "gone"}])


@_move
def update_that_commits_itself(at: World) -> None:
    with at.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(at.table.update().where(at.table.c.id == 1).values(status="gone"))


@_move
def lambda_in_a_session(at: World) -> None:
    model = at.model
    with at.session() as session:
        session.execute(sa.lambda_stmt(lambda: sa.update(model).where(model.id == 1).values(status="gone")))
        session.commit()


@_move
def lambda_on_a_connection(at: World) -> None:
    table, key = at.table, 1
    with at.engine.begin() as connection:
        connection.execute(sa.lambda_stmt(lambda: table.update().where(table.c.id == key).values(status="gone")))


@_move
def upsert(at: World) -> None:
    values, wanted = {"id": 1, "status": "free"}, {"status": "gone"}
    statement: Any
    if at.engine.dialect.name == "mysql":
        statement = mysql.insert(at.table).values(values).on_duplicate_key_update(wanted)
    else:
        dialect = sqlite if at.engine.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(at.table).values(values).on_conflict_do_update(index_elements=["id"], set_=wanted)
    with at.engine.begin() as connection:
        connection.execute(statement)


@_creation
def constructor(at: World) -> None:
    with at.session() as session:
        session.add(at.model(id=9, status="gone"))
        session.commit()


@_creation
def merge_of_a_new_object(at: World) -> None:
    with at.session() as session:
        session.merge(at.model(id=9, status="gone"))
        session.commit()


@_creation
def bulk_save_of_new_objects(at: World) -> None:
    with at.session() as session:
        session.bulk_save_objects([at.model(id=8, status="free"), at.model(id=9, status="gone")])
        session.commit()


@_creation
def bulk_insert_mappings(at: World) -> None:
    with at.session() as session:
        session.bulk_insert_mappings(at.model, [{"id": 8, "status": "free"}, {"id": 9, "status": "gone"}])
        session.commit()


@_creation
def insert_of_many(at: World) -> None:
    with at.session() as session:
        session.execute(sa.insert(at.model), [{"id": 8, "status": "free"}, {"id": 9, "status": "gone"}])
        session.commit()


@_creation
def insert_of_values(at: World) -> None:
    with at.session() as session:
        session.execute(sa.insert(at.model).values([{"id": 8, "status": "free"}, {"id": 9, "status": "gone"}]))
        session.commit()


@_creation
def insert_of_an_expression(at: World) -> None:
    with at.session() as session:
        session.execute(sa.insert(at.model).values(id=9, status=sa.func.lower("GONE")))
        session.commit()


@_creation
def insert_from_a_select(at: World) -> None:
    chosen = sa.select(at.table.c.id + 8, sa.literal("gone")).where(at.table.c.id == 1)
    with at.session() as session:
        session.execute(sa.insert(at.model).from_select(["id", "status"], chosen))
        session.commit()


@_creation
def core_insert_on_a_connection(at: World) -> None:
    with at.engine.begin() as connection:
        connection.execute(at.table.insert(), {"id": 9, "status": "gone"})


@_creation
def insert_of_many_parameters(at: World) -> None:
    statement = at.table.insert().values(id=sa.bindparam("key"), status=sa.bindparam("to"))
    with at.engine.begin() as connection:
        connection.execute(statement, [{"key": 8, "to": "free"}, {"key": 9, "to": "gone"}])
