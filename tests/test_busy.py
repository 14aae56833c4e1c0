"""A full queue, seen through a real engine: who fills it, and how many operations are before one."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock import Interlock
from tests.deliveries import Delivery, Depot, Gate, a_store


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_why_tells_the_full_queue_and_then_no_longer(kind: str, tmp_path: Path) -> None:
    depot, gate, store = Depot(), Gate(), a_store(kind, tmp_path)
    depot.do["perform packing"] = gate
    async with Interlock(store, [depot.actions()], max_running=1) as interlock:
        first = await interlock.start(Delivery, name="1")
        await gate.entered.wait()
        second, third = [await interlock.start(Delivery, name=name) for name in "23"]
        assert "is full" not in (await first.why()).waits_for
        told = [(await op.why()).waits_for for op in (second, third)]
        assert [text.partition(" is full (")[0] for text in told] == [
            "a place to begin `packing`: the default queue"
        ] * 2
        assert [text.partition("performs 1 of 1; ")[2] for text in told] == ["it is the next)", "1 before it)"]
        gate.open.set()
        assert (await third.finished()).status == "succeeded"
        assert (await third.why()).waits_for == "nothing: it succeeded"
    store.close()
