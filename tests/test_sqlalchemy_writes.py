"""Every way of writing that SQLAlchemy offers is judged before it writes, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from interlock import because, guard
from interlock.errors import Conflict, IllegalMove, Refused
from interlock.guards.sqlalchemy import moves_table
from tests import guarded_rows
from tests.guarded_rows import CREATIONS, MOVES, Volume, Way, World, worlds

DATABASES = ["sqlite", "postgresql", "mariadb"]
REFUSED = (guarded_rows.upsert,)
"""Ways that cannot be judged: refused with what to write instead, and counted as such."""


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    yield from worlds(request)


@pytest.mark.parametrize("database", DATABASES)
def test_enforcing_no_way_makes_an_illegal_move(database: str, made: Callable[..., World]) -> None:
    at = made(database)
    for way in MOVES:
        with pytest.raises(Refused) as caught:
            way(at)
        assert isinstance(caught.value, IllegalMove) is (way not in REFUSED), way
        assert (at.read(1), at.read(2), at.history()) == ("free", "used", []), way


@pytest.mark.parametrize("database", DATABASES)
def test_enforcing_no_way_creates_as_it_must_not(database: str, made: Callable[..., World]) -> None:
    at = made(database)
    for way in CREATIONS:
        with pytest.raises(IllegalMove, match="does not let a record begin as `gone`"):
            way(at)
        assert (at.read(8), at.read(9), at.history()) == (None, None, []), way


@pytest.mark.parametrize("database", DATABASES)
def test_observing_every_way_works_as_ever_and_is_seen_where_it_was_written(
    database: str, made: Callable[..., World]
) -> None:
    at = made(database, "observe")
    for way in [*MOVES, *CREATIONS]:
        at.reset()
        way(at)
        assert at.read(1 if way in MOVES else 9) == "gone", way
        _seen(at, way)
        if way in MOVES and way not in REFUSED:
            assert ("1", "free", "gone") in at.history(), way
        elif way in CREATIONS:
            assert ("9", None, "gone") in at.history(), way


def _seen(at: World, way: Way) -> None:
    seen = [(one.current, one.wanted) for one in at.rules.sightings()]
    if way in REFUSED:
        assert seen == [(None, "(not judged: an upsert sets it on rows that are already there)")]
    else:
        assert ("free" if way in MOVES else None, "gone") in seen, (way, seen)
    for one in at.rules.sightings():
        assert one.site.startswith(f"{guarded_rows.__file__}:"), (way, one)
        assert one.site.endswith(f" {way.__name__}"), (way, one)


def _flush(at: World, engine: Engine, wanted: str, start: threading.Barrier) -> None:
    with orm.Session(engine) as session:
        record = session.get_one(at.model, 2)
        record.status = wanted
        start.wait(20)
        session.commit()


def _statement(at: World, engine: Engine, wanted: str, start: threading.Barrier) -> None:
    with orm.Session(engine) as session:
        start.wait(20)
        session.execute(sa.update(at.model).where(at.model.id == 2).values(status=wanted))
        session.commit()


@pytest.mark.parametrize("write", [_flush, _statement])
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "AUTOCOMMIT"])
@pytest.mark.parametrize("database", DATABASES)
def test_of_two_concurrent_writers_exactly_one_wins(
    database: str, isolation: Any, write: Callable[..., None], made: Callable[..., World]
) -> None:
    at = made(database)
    level = "SERIALIZABLE" if database == "sqlite" and isolation != "AUTOCOMMIT" else isolation
    outcomes: dict[str, Exception | None] = {}
    start = threading.Barrier(2)

    def run(wanted: str) -> None:
        engine = sa.create_engine(at.engine.url, isolation_level=level)
        try:
            write(at, engine, wanted, start)
            outcomes[wanted] = None
        except Exception as error:
            outcomes[wanted] = error
        engine.dispose()

    threads = [threading.Thread(target=run, args=(wanted,)) for wanted in ("free", "ending")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    won = [wanted for wanted, error in outcomes.items() if error is None]
    lost = [error for error in outcomes.values() if error is not None]
    assert (len(won), len(lost)) == (1, 1), outcomes
    assert isinstance(lost[0], IllegalMove | Conflict), lost
    if isinstance(lost[0], IllegalMove):
        assert lost[0].current == won[0]
    assert at.read(2) == won[0]
    assert at.history() == [("2", "used", won[0])]


@pytest.mark.parametrize("database", DATABASES)
def test_a_stale_writer_loses_even_where_its_move_would_be_allowed(database: str, made: Callable[..., World]) -> None:
    at = made(database)
    with at.session() as session:
        stale = session.get_one(at.model, 1)
    with at.session() as other:
        other.get_one(at.model, 1).status = "used"
        other.commit()
        other.get_one(at.model, 1).status = "free"
        other.get_one(at.model, 1).status = "used"
        other.commit()
    with at.session() as session:
        stale = session.merge(stale, load=False)
        stale.status = "used"
        with pytest.raises(IllegalMove, match="came too late: somebody else has moved it to `used`") as caught:
            session.commit()
    assert (caught.value.current, caught.value.wanted) == ("used", "used")
    assert at.history() == [("1", "free", "used")]


@pytest.mark.parametrize("database", DATABASES)
def test_what_is_allowed_is_written_and_each_row_written_down(database: str, made: Callable[..., World]) -> None:
    at = made(database)
    with at.session() as session:
        with because("spring cleaning", by="bob"):
            changed: Any = session.execute(
                sa.update(at.model).values(status=sa.case((at.model.status == "free", "used"), else_="free"))
            )
        assert changed.rowcount == 2
        session.execute(sa.update(at.model).where(at.model.kind == "none").values(status="used"))
        session.execute(sa.update(at.model).values(status=at.model.status, kind="b"))
        session.execute(sa.update(at.model), [{"id": 1, "status": "free"}, {"id": 2, "status": "free", "kind": "c"}])
        loaded = session.get_one(at.model, 1)
        session.execute(sa.update(at.model).where(at.model.status == "free").values(status="used"))
        assert loaded.status == "used"
        loaded.status = "ending"
        session.commit()
    assert (at.read(1), at.read(2)) == ("ending", "used")
    first, rest = at.history()[:2], at.history()[2:]
    assert sorted(first) == [("1", "free", "used"), ("2", "used", "free")]
    assert rest[0] == ("1", "used", "free")
    assert sorted(rest[1:3]) == [("1", "free", "used"), ("2", "free", "used")]
    assert rest[3:] == [("1", "used", "ending")]
    with at.reader.connect() as connection:
        reasons = connection.execute(sa.select(at.audit.c.by, at.audit.c.reason).order_by(at.audit.c.seq)).all()
    assert [tuple(row) for row in reasons[:3]] == [("bob", "spring cleaning")] * 2 + [("", "")]


@pytest.mark.parametrize("database", DATABASES)
def test_an_update_through_an_alias_or_over_another_table_is_judged(database: str, made: Callable[..., World]) -> None:
    at = made(database)
    hosts = sa.Table("hosts", sa.MetaData(), sa.Column("volume", sa.Integer), sa.Column("wanted", sa.String(20)))
    hosts.create(at.engine)
    with at.engine.begin() as connection:
        connection.execute(hosts.insert(), [{"volume": 1, "wanted": "gone"}, {"volume": 2, "wanted": "free"}])
    joined = at.table.update().where(at.table.c.id == hosts.c.volume).values(status=hosts.c.wanted)
    statements = [joined]
    if database == "postgresql":
        alias: Any = at.table.alias("v")
        statements.append(sa.update(alias).where(alias.c.id == 1).values(status="gone"))
    if database == "mariadb":
        statements.append(hosts.update().where(at.table.c.id == hosts.c.volume).values({at.table.c.status: "gone"}))
    for statement in statements:
        with at.engine.begin() as connection, pytest.raises(IllegalMove, match="`free` -> `gone`"):
            connection.execute(statement)
        assert (at.read(1), at.read(2)) == ("free", "used")
    with at.engine.begin() as connection:
        connection.execute(joined.where(at.table.c.id == 2))
    assert at.history() == [("2", "used", "free")]


def test_on_mariadb_an_expression_over_what_the_same_statement_changes_is_refused(made: Callable[..., World]) -> None:
    for mode, found in (("enforce", "free"), ("observe", "gone")):
        at = made("mariadb", mode)
        wanted = sa.case((at.table.c.kind == "b", "gone"), else_=at.table.c.status)
        statement = (
            at.table.update()
            .where(at.table.c.id == 1)
            .ordered_values((at.table.c.kind, "b"), (at.table.c.status, wanted))
        )
        with at.engine.begin() as connection:
            if mode == "enforce":
                with pytest.raises(Refused, match="decide in Python"):
                    connection.execute(statement)
            else:
                connection.execute(statement)
                assert "same UPDATE changes" in at.rules.sightings()[0].wanted
        assert at.read() == found
        at.table.drop(at.engine)
        at.audit.drop(at.engine)


def test_a_writing_cte_is_refused(made: Callable[..., World]) -> None:
    at = made("postgresql")
    writing = at.table.update().where(at.table.c.id == 1).values(status="gone").returning(at.table.c.id).cte("writing")
    with at.engine.begin() as connection, pytest.raises(Refused, match="writing CTE"):
        connection.execute(sa.select(writing.c.id))
    assert at.read() == "free"


@pytest.mark.parametrize("database", DATABASES)
def test_an_observer_that_cannot_write_down_what_it_sees_spoils_nothing(
    database: str, made: Callable[..., World]
) -> None:
    at = made(database, "observe")
    with at.session() as session:
        record = session.get_one(at.model, 1)
        at.audit.drop(at.reader)
        record.status = "gone"
        session.execute(sa.insert(at.model), [{"id": 9, "status": "gone"}])
        session.commit()
    assert (at.read(1), at.read(9)) == ("gone", "gone")
    seen = [(one.current, one.wanted.partition(":")[0]) for one in at.rules.sightings()]
    assert {("free", "gone"), (None, "gone"), (None, "(not judged")} == set(seen)


def test_rows_that_come_to_match_between_judging_and_writing_are_not_moved_unseen(made: Callable[..., World]) -> None:
    at = made("postgresql")
    inserted: list[str] = ["free", "used"]

    @event.listens_for(at.engine, "before_cursor_execute")
    def come_in_between(_: Any, __: Any, text: str, *___: Any) -> None:
        if text.startswith("UPDATE volumes") and inserted:
            with at.reader.begin() as other:
                other.exec_driver_sql(f"INSERT INTO volumes VALUES ({len(inserted) + 10}, '{inserted[0]}', 'a')")

    statement = at.table.update().where(at.table.c.kind == "a").values(status="ending")
    with at.reader.begin() as connection:
        connection.exec_driver_sql("DELETE FROM volumes WHERE id = 1")
    with at.engine.begin() as connection:
        assert connection.execute(statement).rowcount == 1
    assert (at.read(2), at.read(12), at.history()) == ("ending", "free", [("2", "used", "ending")])
    at.reset()
    with at.reader.begin() as connection:
        connection.exec_driver_sql("DELETE FROM volumes WHERE id = 1")
    del inserted[0]
    with pytest.raises(Conflict, match="were judged and 2 changed"), at.engine.begin() as connection:
        connection.execute(statement)
    assert (at.read(2), at.read(11), at.history()) == ("used", "used", [])


def test_a_table_with_a_key_of_several_columns_and_another_name_for_its_column(sqlite: str) -> None:
    class Base(orm.DeclarativeBase):
        pass

    class Port(Base):
        __tablename__ = "ports"
        host: orm.Mapped[str] = orm.mapped_column(primary_key=True)
        number: orm.Mapped[int] = orm.mapped_column("no", primary_key=True)
        state: orm.Mapped[str] = orm.mapped_column("port status")

    moves = moves_table(Base.metadata, "port_moves")
    guard(Port.state, Volume, audit=moves)
    engine = sa.create_engine(sqlite)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        port = Port(host="a", number=1, state="free")
        session.add_all([port, Port(host="a", number=2, state="free")])
        session.flush()
        port.state, port.number = "used", 3
        session.flush()
        with pytest.raises(IllegalMove, match="Port a,3"):
            port.state = "gone"
        with pytest.raises(IllegalMove, match="Port a,2"):
            session.execute(sa.update(Port).where(Port.number == 2).values(state="gone"))
        with pytest.raises(IllegalMove, match="Port a,2"):
            session.execute(sa.update(Port), [{"host": "a", "number": 2, "state": "gone"}])
        session.execute(sa.update(Port).where(Port.number == 2).values({Port.state: "used"}))
        session.commit()
        found = session.execute(
            sa.select(moves.c.record, moves.c.came_from, moves.c.went_to).order_by(moves.c.seq)
        ).all()
    assert [tuple(row) for row in found] == [
        ("a,1", None, "free"),
        ("a,2", None, "free"),
        ("a,1", "free", "used"),
        ("a,2", "free", "used"),
    ]
    engine.dispose()


@pytest.mark.parametrize("audit", [True, False])
def test_a_deadlock_is_told_to_whoever_it_rolled_back_also_when_observing(
    made: Callable[..., World], audit: bool
) -> None:
    """MariaDB has rolled back the whole transaction: whoever hears of no error would believe that its first write is there."""
    at = made("mariadb", "observe", audit=audit)
    ready, outcomes = threading.Barrier(2), dict[int, Exception | None]()

    def write(mine: int, other: int) -> None:
        try:
            with at.engine.begin() as connection:
                connection.execute(sa.text(f"UPDATE volumes SET kind='by {mine}' WHERE id={mine}"))
                ready.wait(10)
                connection.execute(at.table.update().where(at.table.c.id == other).values(status="used"))
            outcomes[mine] = None
        except OperationalError as error:
            outcomes[mine] = error

    threads = [threading.Thread(target=write, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with at.reader.connect() as connection:
        kinds: dict[int, str] = {row.id: row.kind for row in connection.exec_driver_sql("SELECT id, kind FROM volumes")}
    assert {key: kinds[key] == f"by {key}" for key in (1, 2)} == {key: outcomes[key] is None for key in (1, 2)}, (
        outcomes
    )
