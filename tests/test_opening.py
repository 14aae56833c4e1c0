"""Stores by address."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.errors import InterlockError, Refused, StoreFailed
from interlock.stores.memory import MemoryStore
from interlock.stores.opening import open_store
from interlock.stores.sqlite import SqliteStore


@pytest.mark.parametrize("url", ["memory:", "memory://"])
def test_memory(url: str) -> None:
    assert isinstance(open_store(url), MemoryStore)
    assert open_store(url) is not open_store(url)


@pytest.mark.parametrize(
    ("url", "file", "level"),
    [
        ("sqlite:///relative.db", "relative.db", 2),
        ("sqlite:///x.db?synchronous=NORMAL", "x.db", 1),
        ("sqlite:///x.db?synchronous=FULL", "x.db", 2),
        ("sqlite:///a%20b%3Fc#d.db", "a b?c#d.db", 2),
        ("sqlite:///no-suffix", "no-suffix", 2),
        ("sqlite:///{here}/absolute.db", "absolute.db", 2),
        ("plain.db", "plain.db", 2),
        ("./plain.sqlite", "plain.sqlite", 2),
        ("{here}/plain.db", "plain.db", 2),
    ],
)
def test_sqlite(url: str, file: str, level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(url.replace("{here}", str(tmp_path)))
    assert isinstance(store, SqliteStore)
    assert store._rows("PRAGMA synchronous") == [(level,)]
    store.close()
    assert [one.name for one in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "`` names no store: use `memory:`"),
        ("operations", "`operations` names no store: .*a path ending in `.db`"),
        ("mysql://localhost/x", "names no store"),
        ("memory:x", "names no store"),
        ("http://localhost/x.db", "names no store"),
        ("postgresql://user:secret@localhost/x", "PostgreSQL is not there yet: use `memory:`"),
        ("sqlite:x.db", "`sqlite:x.db` names no file: .*`sqlite:///relative.db`"),
        ("sqlite://host/x.db", "names no file"),
        ("sqlite:/x.db", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///?synchronous=FULL", "names no file"),
        ("sqlite:///x.db?sync=FULL&fast", "unknown option sync, fast: the one there is `synchronous=FULL` or `NORMAL`"),
        ("sqlite:///x.db?synchronous=OFF", "synchronous='OFF': a SQLite store is FULL or NORMAL"),
        ("sqlite:///x.db?synchronous", "synchronous='': a SQLite store is FULL or NORMAL"),
    ],
)
def test_what_names_no_store_is_refused(url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=said) as refused:
        open_store(url)
    assert "secret" not in str(refused.value) + str(refused.value.details)
    assert [*tmp_path.iterdir()] == []


def test_what_the_file_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="does not exist: make it") as failed:
        open_store(f"sqlite:///{tmp_path}/nowhere/x.db")
    assert isinstance(failed.value, InterlockError)


def test_a_store_that_is_not_there_is_made_only_where_that_is_meant(tmp_path: Path) -> None:
    for url in (f"{tmp_path}/x.db", f"sqlite:///{tmp_path}/x.db?synchronous=NORMAL"):
        with pytest.raises(Refused, match=r"there is no store at `.*x\.db`"):
            open_store(url, create=False)
    assert [*tmp_path.iterdir()] == []
    open_store(f"{tmp_path}/x.db").close()
    open_store(f"{tmp_path}/x.db", create=False).close()
