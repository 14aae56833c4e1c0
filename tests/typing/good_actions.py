"""Every line type-checks under mypy --strict and pyright: see tests/test_actions.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_type

from interlock import Actions, Definition, Event, Final, Interlock, Machine, Operation, State, When


@dataclass
class Move:
    instance: str
    port: int | None = None


class Moving(Machine[Move], version=1):
    preparing = State(initial=True, undo=True, then=[When("ready", "done"), "failed"])
    done = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


actions = Actions(Moving)
assert_type(actions, Actions[Move])


@actions.perform(Moving.preparing)
async def prepare(op: Operation[Move]) -> Mapping[str, Any] | Event | None:
    assert_type(op.data, Move)
    op.progress(1, 2, "bytes")
    if op.data.port is None:
        return Event("unready", port=1)
    return {"port": op.data.port + 1}


@actions.recover("preparing")
async def look(op: Operation[Move]) -> dict[str, int]:
    return {"port": 1}


@actions.undo(Moving.preparing)
def unprepare(op: Operation[Move]) -> None:
    op.raise_if_stopping()


@actions.when("ready", inline=True)
def ready(op: Operation[Move]) -> bool:
    return op.data.port is not None


async def use(document: Definition) -> None:
    assert_type(Actions(document), Actions[dict[str, Any]])
    async with Interlock("memory:", actions=[actions]) as interlock:
        op = await interlock.start(Moving, instance="web-1")
        assert_type(await op.data(), Move)
        assert_type(await (await interlock.start("moving", {"instance": "a"})).data(), dict[str, Any])


direct = prepare
