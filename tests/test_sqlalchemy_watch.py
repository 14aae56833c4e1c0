"""What a guard on a mapped column knows: the table of moves, and the plans of a flush."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from interlock import IllegalMove, because
from interlock.guards.sqlalchemy_watch import plans_of
from tests.guarded_rows import World, worlds


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    yield from worlds(request)


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
def test_a_move_is_written_down_with_its_time_in_utc_and_its_reason(database: str, made: Callable[..., World]) -> None:
    at = made(database)
    with at.session() as session, because("r" * 1000, by="b" * 300):
        session.get_one(at.model, 1).status = "used"
        session.commit()
    with at.engine.connect() as connection:
        row = connection.execute(sa.select(at.audit)).one()
    assert list(at.audit.columns.keys()) == ["seq", "at", "machine", "record", "came_from", "went_to", "by", "reason"]
    assert (row.machine, row.record, row.came_from, row.went_to) == ("volume", "1", "free", "used")
    assert (row.by, row.reason) == ("b" * 300, "r" * 1000)
    written = row.at if row.at.tzinfo else row.at.replace(tzinfo=UTC)
    assert timedelta(0) <= datetime.now(UTC) - written < timedelta(minutes=1)


def test_what_is_written_down_goes_with_the_transaction(made: Callable[..., World]) -> None:
    at = made("sqlite")
    with at.session() as session:
        session.get_one(at.model, 1).status = "used"
        session.flush()
        session.rollback()
    assert (at.read(), at.history()) == ("free", [])


def test_the_plans_of_a_flush_are_used_up_or_forgotten_with_it(made: Callable[..., World]) -> None:
    at = made("sqlite")
    with at.session() as session:
        born, moved, stuck = at.model(status="free"), session.get_one(at.model, 1), session.get_one(at.model, 2)
        session.add(born)
        born.status = moved.status = "used"
        session.flush()
        plans = plans_of(session.connection())
        assert (plans.moves, [plan for waiting in plans.births.values() for plan in waiting]) == ({}, [])
        session.expire(stuck)
        moved.status, stuck.status = "ending", "gone"
        connection = session.connection()
        with pytest.raises(IllegalMove):
            session.flush()
        assert plans_of(connection).moves == {}
