"""Every way of writing that SQLAlchemy offers is judged before it writes, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from interlock.errors import IllegalMove, Refused
from interlock.guards.rules import Mode
from tests import guarded_rows
from tests.guarded_rows import CREATIONS, MOVES, Way, World, world

DATABASES = ["sqlite", "postgresql", "mariadb"]
REFUSED = (guarded_rows.upsert,)
"""Ways that cannot be judged: refused with what to write instead, and counted as such."""


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(database: str, mode: Mode = "enforce", **options: object) -> World:
        worlds.append(world(request.getfixturevalue(database), mode, **options))  # type: ignore[arg-type]  # as given
        return worlds[-1]

    yield make
    for each in worlds:
        each.close()


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
