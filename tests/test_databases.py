"""The databases that the tests run on are real, each test's own, and reachable by no network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests import databases


@pytest.mark.parametrize(
    ("name", "question", "answer"),
    [
        ("postgresql", "SELECT version()", "PostgreSQL"),
        ("mariadb", "SELECT version()", "MariaDB"),
        ("sqlite", "SELECT sqlite_version()", "3."),
    ],
)
@pytest.mark.parametrize("time", [1, 2])
def test_each_test_has_a_real_database_of_its_own(
    name: str, question: str, answer: str, time: int, request: pytest.FixtureRequest
) -> None:
    engine = create_engine(request.getfixturevalue(name))
    with engine.begin() as connection:
        assert answer in connection.execute(text(question)).scalar_one()
        connection.execute(text("CREATE TABLE only_here (x INTEGER)"))
        connection.execute(text("INSERT INTO only_here VALUES (1)"))
    engine.dispose()


def test_the_servers_listen_on_sockets_only(postgresql_url: str, mariadb_url: str) -> None:
    assert Path(str(make_url(postgresql_url).query["host"])).is_dir()
    assert Path(str(make_url(mariadb_url).query["unix_socket"])).is_socket()


def test_a_missing_server_skips_or_fails_as_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    start = databases.mariadb_url.__wrapped__  # type: ignore[attr-defined]  # what the fixture runs
    monkeypatch.delenv("INTERLOCK_REQUIRE_DATABASES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install mariadb"):
        next(start())
    monkeypatch.setenv("INTERLOCK_REQUIRE_DATABASES", "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install mariadb"):
        next(start())
