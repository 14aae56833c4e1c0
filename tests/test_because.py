"""Why an operation did not succeed, in words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from interlock import Actions, Event, Final, Interlock, Machine, Operation, Retry, Rollback, State
from interlock.cli.app import app
from interlock.interpreter import facts as f
from interlock.interpreter.because import because


class Order(Machine[dict[str, str]], version=1):
    packing = State(initial=True, undo=True, retry=Retry(2), then="packed", on={"broken": "failed"})
    packed = State(on={"drop": Rollback("cancelled")}, after={"2h": "failed"}, to=["sent"])
    sent = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


BROKEN = f.Performed("broken", {"reason": "no box", "weight": 3, "empty": ""})
FAILED = f.AttemptFailed(f.Failure("OSError", "no tape"))
PACKING = f.Entered("packing")


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ([], ""),
        ([f.Undone("packing")], ""),
        ([BROKEN], ""),
        ([PACKING, BROKEN], "the action of `packing` came out as `broken` (reason: no box)"),
        (
            [PACKING, BROKEN, f.RollbackBegan("failed", "`broken` in `packing`"), f.UndoPlanned("packing"), FAILED],
            "`broken` in `packing` (reason: no box)",
        ),
        (
            [PACKING, FAILED, f.RollbackBegan("failed", "`packing` failed: OSError: no tape")],
            "`packing` failed: OSError: no tape",
        ),
        ([PACKING, FAILED, f.Entered("failed", "final", outcome="failed")], "`packing` failed: OSError: no tape"),
        ([FAILED], "OSError: no tape"),
        ([PACKING, FAILED, f.Entered("packed", "waiting"), f.TimerFired("2h")], "timer `2h` ran out in `packed`"),
        (
            [f.Entered("packed", "waiting"), f.Signalled("drop", {"why": "lost"}, by="ann")],
            "signal `drop` in `packed` by ann (why: lost)",
        ),
        ([f.Signalled("drop", by="ann"), f.RollbackBegan("cancelled", "`drop` in `packed`")], "signal `drop` by ann"),
        (
            [PACKING, f.CancelAccepted("bob", "enough"), f.RollbackBegan("cancelled", "cancelled")],
            "it was cancelled by bob (enough)",
        ),
        ([PACKING, f.CancelAccepted("bob")], "it was cancelled by bob"),
        ([PACKING, f.Reported("failed", by="old")], "`failed` was reported in `packing` by old"),
        ([PACKING, f.Overrode("failed", by="ann", reason="gone")], "it was moved there by ann (gone)"),
        (
            [PACKING, f.Performed("broken", {"reason": "x" * 999})],
            f"the action of `packing` came out as `broken` (reason: {'x' * 392}…)",
        ),
    ],
)
def test_what_led_to_an_end(last: list[f.Fact], told: str) -> None:
    assert because(last) == told


order = Actions(Order)


@order.perform(Order.packing)
async def pack(op: Operation[dict[str, str]]) -> Event | None:
    return Event("broken", reason="no box") if op.data["what"] == "glass" else None


@order.undo(Order.packing)
async def unpack(op: Operation[dict[str, str]]) -> None: ...


async def test_it_is_told_where_a_person_asks(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/ops.db"
    async with Interlock(store, actions=[order], poll_seconds=0.05) as interlock:
        broken = await interlock.start(Order, {"what": "glass"})
        assert (await broken.finished(20)).status == "failed"
        assert (await broken.why()).waits_for == "nothing: it failed, because `broken` in `packing` (reason: no box)"
        dropped = await interlock.start(Order, {"what": "wood"})
        async for _ in dropped.watch():
            if (await dropped.show()).state == "packed":
                break
        await dropped.cancel("changed my mind", by="ann")
        assert (await dropped.finished(20)).status == "cancelled"
        assert (await dropped.why()).waits_for == "nothing: it was cancelled by ann (changed my mind)"
        command = ["start", "tests.test_because:Order", "what=glass", "--wait", "--store", store]
        said = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert said.exit_code == 1
        assert "failed in failed: it failed, because `broken` in `packing` (reason: no box)" in said.output
        said = await asyncio.to_thread(CliRunner().invoke, app, ["why", broken.id, "--store", store])
        assert "because `broken` in `packing` (reason: no box)" in said.output
