"""Who and why, for audit rows."""

from __future__ import annotations

import asyncio

import pytest

from interlock import because
from interlock.guards.reason import Reason, reason_now


def test_reasons_nest_and_end() -> None:
    assert reason_now() == Reason("", "")
    with because("drain", by="alice"):
        with because("retry"):
            assert reason_now() == Reason("retry", "alice")
        with pytest.raises(KeyError), because("odd", by="bob"):
            raise KeyError
        assert reason_now() == Reason("drain", "alice")
    assert reason_now() == Reason()


async def test_each_asyncio_task_has_its_own() -> None:
    async def one(name: str) -> str:
        with because("x", by=name):
            await asyncio.sleep(0)
            return reason_now().by

    assert list(await asyncio.gather(one("a"), one("b"))) == ["a", "b"]
