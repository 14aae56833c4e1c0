"""The SQLite store: all that any store promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.stores.sqlite import SqliteStore
from tests.store_contract import StoreContract


class TestSqlite(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(tmp_path / "operations.db")
        yield store
        store.close()
