"""`guard(Model.status, machine)` on SQLAlchemy models: what it accepts, assignments, flushes, sessions of every kind."""

from __future__ import annotations

import copy
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.hybrid import hybrid_property

from interlock import Final, IllegalMove, Machine, Refused, State, because, guard
from tests.guarded_rows import Volume, World, world


class Power(Machine[Any]):
    off = State(initial=True, to=["on"])
    on = State(to=["off", "broken"])
    broken = Final("failed")


@pytest.fixture
def at(sqlite: str) -> Iterator[World]:
    made = world(sqlite)
    yield made
    made.close()


@pytest.fixture
def watched(sqlite: str) -> Iterator[World]:
    made = world(sqlite, "observe")
    yield made
    made.close()


def models() -> Any:
    class Base(orm.DeclarativeBase):
        pass

    class Host(Base):
        __tablename__ = "hosts"
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)

    class Server(Base):
        __tablename__ = "servers"
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        kind: orm.Mapped[str]
        status: orm.Mapped[str]
        power: orm.Mapped[str] = orm.mapped_column(default="off")
        changed: orm.Mapped[str] = orm.mapped_column(onupdate="x")
        host_id: orm.Mapped[int | None] = orm.mapped_column(sa.ForeignKey("hosts.id"))
        host: orm.Mapped[Host | None] = orm.relationship()
        other_name = orm.synonym("status")
        loud = orm.column_property(sa.func.upper(sa.text("status")))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "server"}

        @hybrid_property
        def idle(self) -> Any:
            return self.status == "free"

    class Big(Server):
        __tablename__ = "bigs"
        id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("servers.id"), primary_key=True)
        size: orm.Mapped[int] = orm.mapped_column(default=1)
        __mapper_args__ = {"polymorphic_identity": "big"}

    orm.configure_mappers()
    return Server, Big, Base.metadata


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("host", "no plain column"),
        ("idle", "no column of a SQLAlchemy|no plain column"),
        ("other_name", "no plain column"),
        ("loud", "no plain column"),
        ("id", "primary key"),
        ("changed", "onupdate"),
    ],
)
def test_what_is_no_plain_column_is_refused(name: str, why: str) -> None:
    server, _, _ = models()
    with pytest.raises(Refused, match=why):
        guard(getattr(server, name), Volume)


def test_a_column_has_one_guard_and_a_machine_one_column_of_a_model() -> None:
    server, big, metadata = models()
    with pytest.raises(Refused, match="is declared by Server"):
        guard(big.status, Volume)
    with pytest.raises(Refused, match="moves_table"):
        guard(server.status, Volume, audit=metadata.tables["hosts"])
    with pytest.raises(Refused, match="observe"):
        guard(server.status, Volume, mode="watch")  # type: ignore[arg-type]  # what is refused
    guard(server.status, Volume)
    with pytest.raises(Refused, match="guarded already"):
        guard(server.status, Power)
    with pytest.raises(Refused, match="one machine, one column"):
        guard(server.power, Volume)
    guard(server.power, Power)


def test_subclasses_are_guarded_and_several_columns_of_a_model_each_by_its_machine(sqlite: str) -> None:
    server, big, metadata = models()
    guard(server.status, Volume)
    power = guard(server.power, Power, mode="observe")
    engine = sa.create_engine(sqlite)
    metadata.create_all(engine)
    with orm.Session(engine, expire_on_commit=False) as session:
        record = big(status="free", changed="")
        session.add(record)
        session.commit()
        with pytest.raises(IllegalMove, match="Server 1: "):
            record.status = "gone"
        record.status, record.power, record.size = "used", "broken", 2
        session.commit()
        with pytest.raises(IllegalMove):
            session.execute(sa.update(server).where(server.id == 1).values(power="on", status="gone"))
        with pytest.raises(IllegalMove):
            session.execute(sa.insert(big), [{"status": "gone", "changed": ""}])
        session.rollback()
        assert session.execute(sa.select(server.status, server.power, sa.func.count()).group_by(server.id)).all() == [
            ("used", "broken", 1)
        ]
    assert [(one.current, one.wanted) for one in power.sightings()][:1] == [("off", "broken")]
    engine.dispose()


def test_two_columns_moved_by_one_statement_are_both_compared_and_set(sqlite: str) -> None:
    server, _, metadata = models()
    guard(server.status, Volume)
    guard(server.power, Power)
    engine = sa.create_engine(sqlite)
    metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all([server(id=key, status="free", changed="") for key in (1, 2, 3)])
        session.commit()
        one = session.get_one(server, 1)
        one.status, one.power = "used", "on"
        session.commit()
        session.execute(sa.update(server), [{"id": 2, "status": "used", "power": "on"}])
        session.execute(sa.update(server).values(status="used", power="on"))
        session.commit()
        with pytest.raises(IllegalMove):
            session.execute(sa.update(server).values(status="ending", power="gone"))
        assert session.execute(sa.select(server.status, server.power)).all() == [("used", "on")] * 3
    engine.dispose()


def test_an_assignment_is_judged_where_it_is_made_and_changes_nothing(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        with pytest.raises(IllegalMove) as caught:
            record.status = "gone"
        assert (caught.value.current, caught.value.wanted, caught.value.allowed) == ("free", "gone", ("used",))
        assert caught.value.record == "Record 1"
        assert record.status == "free"
        record.status = "free"
        record.status = "used"
        session.commit()
    assert at.read() == "used"


def test_each_step_between_two_flushes_is_judged_and_written_down(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        with because("host is to be replaced", by="alice"):
            for status in ("used", "used", "ending", "gone"):
                record.status = status
            session.flush()
        born = at.model(id=3, status="free", kind="b")
        session.add(born)
        born.status = "used"
        session.commit()
        born.status = "free"
        born.status = "used"
        session.commit()
    assert at.history() == [
        ("1", "free", "used"),
        ("1", "used", "ending"),
        ("1", "ending", "gone"),
        ("3", None, "free"),
        ("3", "free", "used"),
    ]
    with at.reader.connect() as connection:
        rows = connection.exec_driver_sql('SELECT machine, "by", reason, at FROM interlock_moves ORDER BY seq').all()
    assert [tuple(row[:3]) for row in rows] == [("volume", "alice", "host is to be replaced")] * 3 + [
        ("volume", "", "")
    ] * 2
    assert all(str(row[3]).startswith("20") for row in rows)


def test_the_steps_after_an_unread_value_begin_at_what_the_database_holds(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        session.expire(record)
        record.status = "used"
        record.status = "ending"
        session.commit()
        session.expire(record)
        record.status = "free"
        with pytest.raises(IllegalMove, match="`ending` -> `free`"):
            session.commit()
    assert at.history() == [("1", "free", "used"), ("1", "used", "ending")]


def test_a_rollback_and_a_savepoint_forget_their_steps(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        record.status = "used"
        session.rollback()
        assert record.status == "free"
        record.status = "used"
        inner = session.begin_nested()
        record.status = "ending"
        session.flush()
        inner.rollback()
        assert record.status == "used"
        record.status = "free"
        session.flush()
        with pytest.raises(IllegalMove):
            record.status = "ending"
        record.status = "used"
        session.commit()
    assert at.history() == [("1", "free", "used"), ("1", "used", "free"), ("1", "free", "used")]


def test_a_refused_flush_leaves_nothing_of_itself(at: World) -> None:
    with at.session() as session:
        other, record = session.get_one(at.model, 2), session.get_one(at.model, 1)
        session.expire(record)
        other.status, other.kind, record.status = "free", "b", "gone"
        with pytest.raises(IllegalMove):
            session.commit()
        session.rollback()
        assert (other.status, other.kind, record.status) == ("used", "a", "free")
    assert at.history() == []


def test_merge_refresh_detached_and_deleted_records(at: World) -> None:
    with at.session() as session:
        session.merge(at.model(id=1, status="used"))
        session.commit()
        record = session.get_one(at.model, 1)
        session.refresh(record)
        session.expunge(record)
    record.status = "ending"
    with pytest.raises(IllegalMove):
        record.status = "free"
    with at.session() as session:
        session.add(record)
        session.commit()
        stale = at.model(id=2, status="free")
        orm.make_transient_to_detached(stale)
        merged = session.merge(stale, load=False)
        with pytest.raises(IllegalMove):
            merged.status = "gone"
        session.delete(session.get_one(at.model, 1))
        session.flush()
        session.add(at.model(id=1, status="free"))
        session.commit()
    assert at.history() == [("1", "free", "used"), ("1", "used", "ending"), ("1", None, "free")]


def test_a_record_in_the_place_of_a_deleted_one_is_a_new_one(at: World) -> None:
    with at.session() as session:
        session.delete(session.get_one(at.model, 2))
        session.add(at.model(id=2, status="free"))
        session.commit()
        assert at.history() == [("2", None, "free")]
        session.delete(session.get_one(at.model, 2))
        session.add(at.model(id=2, status="gone"))
        with pytest.raises(IllegalMove, match="begin as `gone`"):
            session.commit()
    assert at.read(2) == "free"


def test_a_copy_of_a_record_begins_anew(at: World) -> None:
    with at.session() as session:
        record = at.model(id=3, status="free")
        session.add(record)
        record.status = "used"
        session.commit()
        session.refresh(record)
        session.expunge(record)
        orm.make_transient(record)
        record.id = 4
        session.add(record)
        with pytest.raises(IllegalMove, match="begin as `used`"):
            session.commit()
    assert at.read(4) is None


def test_an_unknown_value_is_counted_when_it_is_loaded_and_refused_nowhere(at: World) -> None:
    with at.reader.begin() as connection:
        connection.exec_driver_sql("UPDATE volumes SET status = 'lost' WHERE id = 1")
        connection.exec_driver_sql("UPDATE volumes SET status = NULL WHERE id = 2")
    with at.session() as session:
        record, unset = session.get_one(at.model, 1), session.get_one(at.model, 2)
        record.kind = "b"
        session.commit()
        session.refresh(record)
        for seen in at.rules.sightings():
            assert (seen.wanted, seen.loaded, seen.record, seen.count) == ("lost", True, "Record 1", 1)
            assert seen.site.startswith(__file__)
        assert unset.status is None
        with pytest.raises(IllegalMove, match="may begin as `free`"):
            unset.status = "used"
        unset.status = "free"
        session.commit()
        record.status = "free"
        with pytest.raises(IllegalMove, match="`lost` -> `free`"):
            session.commit()
    assert at.history() == [("2", None, "free")]


def test_observing_changes_nothing_even_if_the_guard_cannot_look(watched: World) -> None:
    watched.audit.drop(watched.engine)
    with watched.session() as session:
        record = session.get_one(watched.model, 1)
        record.status = "gone"
        session.commit()
        changed = session.execute(sa.update(watched.model).values(status="free"))
        assert changed.rowcount == 2  # type: ignore[attr-defined]  # of an UPDATE
        session.commit()
    assert watched.read() == "free"
    seen = {(one.current, one.wanted[:18]) for one in watched.rules.sightings()}
    assert {("free", "gone"), ("gone", "free"), (None, "(not judged: not w")} <= seen


def test_a_copy_that_is_carried_elsewhere_keeps_its_steps(at: World) -> None:
    with at.session() as session:
        record = session.get_one(at.model, 1)
        session.expunge(record)
    record.status = "used"
    record.status = "ending"
    carried = copy.deepcopy(record)  # by the same state that is sent to another process
    with at.session() as session:
        session.add(carried)
        session.commit()
        assert carried.status == "ending"
    assert at.history() == [("1", "free", "used"), ("1", "used", "ending")]


async def test_async_sessions_are_guarded_and_seen_where_they_were_used(tmp_path: Path) -> None:
    for mode in ("enforce", "observe"):
        made = world(f"sqlite:///{tmp_path / mode}.db", mode)
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / mode}.db")
        async with AsyncSession(engine) as session:
            record = await session.get_one(made.model, 1)
            session.expire(record)
            record.status = "gone"  # what it was is not loaded, and is not loaded here
            if mode == "enforce":
                with pytest.raises(IllegalMove):
                    await session.commit()
                await session.rollback()
                with pytest.raises(IllegalMove):
                    await session.execute(sa.update(made.model).values(status="gone"))
                await session.rollback()
                (await session.get_one(made.model, 1)).status = "used"
            await session.commit()
        await engine.dispose()
        assert made.read() == ("used" if mode == "enforce" else "gone")
        if mode == "observe":
            (seen,) = made.rules.sightings()
            assert seen.site.startswith(f"{__file__}:")
            assert seen.site.endswith(" test_async_sessions_are_guarded_and_seen_where_they_were_used")
        made.close()


class Colour(enum.Enum):
    RED = "free"
    GREEN = "used"
    BLUE = "gone"


def test_enumerations_stand_for_their_values(sqlite: str) -> None:
    at = world(sqlite, column=orm.mapped_column(sa.Enum(Colour)))
    with at.reader.begin() as connection:
        connection.exec_driver_sql("UPDATE volumes SET status = CASE status WHEN 'free' THEN 'RED' ELSE 'GREEN' END")
    with at.session() as session:
        record = session.get_one(at.model, 1)
        with pytest.raises(IllegalMove):
            record.status = Colour.BLUE
        record.status = Colour.GREEN
        session.commit()
        with pytest.raises(IllegalMove):
            session.execute(sa.update(at.model).values(status=Colour.BLUE))
        session.execute(sa.update(at.model).values(status="RED"))
        with pytest.raises(IllegalMove):
            session.execute(sa.insert(at.model), [{"status": Colour.GREEN}, {"status": Colour.GREEN}])
        session.execute(sa.insert(at.model), [{"status": Colour.RED}, {"status": Colour.RED}])
        session.commit()
    assert at.read() == "RED"
    assert at.history()[:3] == [("1", "free", "used"), ("1", "used", "free"), ("2", "used", "free")]
    at.close()
