"""What a host remembers: who may change a guest, records replaced whole, and a lock that another user waits for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import errors
from interlock.compute.hypervisor import HostUnreachable, Permit, StaleToken
from interlock.compute.records import CLOSED_LIMIT, Fence, admit, locked, read_record, write_record


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5))))
def test_tokens_never_go_back_and_a_migration_never_comes_back(permits: list[tuple[str, int]]) -> None:
    fence: Fence | None = None
    admitted: list[tuple[str, int]] = []
    for migration, token in permits:
        mine = [seen for name, seen in admitted if name == migration]
        late = bool(mine) and (admitted[-1][0] != migration or token < max(mine))
        try:
            fence = admit(fence, Permit(migration, token), host="host-a", instance="vm-1")
        except StaleToken as refused:
            assert late
            assert isinstance(refused, errors.StaleToken)
            assert not refused.worth_retrying
        else:
            assert not late
            admitted.append((migration, token))


def test_only_so_many_migrations_are_remembered() -> None:
    fence: Fence | None = None
    for number in range(CLOSED_LIMIT + 10):
        fence = admit(fence, Permit(f"m{number}", 1), host="host-a", instance="vm-1")
    assert fence is not None
    assert len(fence["closed"]) == CLOSED_LIMIT
    assert fence["closed"][-1] == f"m{CLOSED_LIMIT + 8}"


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "record.json"
    assert read_record(path) is None
    write_record(path, {"pid": 1})
    path.with_name("record.json.new").write_text('{"pid": ')  # what a writer that died left behind
    assert read_record(path) == {"pid": 1}
    write_record(path, {"pid": 2})
    assert json.loads(path.read_text()) == {"pid": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]


async def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    async with locked(lock, host="host-a", instance="vm-1", patience_seconds=1):
        with pytest.raises(HostUnreachable, match=r"another driver has held .* for 0.05 s") as caught:
            async with locked(lock, host="host-a", instance="vm-1", patience_seconds=0.05):
                raise AssertionError("held twice")
        assert caught.value.worth_retrying
    async with locked(lock, host="host-a", instance="vm-1", patience_seconds=0.05):
        pass
