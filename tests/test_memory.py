"""The memory store: all that any store promises."""

from __future__ import annotations

import pytest

from interlock.stores.memory import MemoryStore
from tests.claims_contract import ClaimsContract
from tests.store_contract import StoreContract


class TestMemory(StoreContract, ClaimsContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()
