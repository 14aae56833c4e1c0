"""Binding actions: what is refused when it is written, what before a worker starts, and what the type checkers see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interlock import Actions, ActionsMismatch, Event, Fail, IllegalData, Operation, RetryAfter
from interlock.runtime.actions import failure_of, typed
from interlock.runtime.operation import Stopping
from tests.deliveries import Delivery, Depot, Letter, Parcel

TYPING = Path(__file__).parent / "typing"


def nothing(op: Operation[Parcel]) -> None:
    """Does nothing."""


async def nothing_async(op: Operation[Parcel]) -> None:
    """Does nothing."""


class Callable:
    async def __call__(self, op: Operation[Parcel]) -> None:
        """Does nothing."""


@pytest.mark.parametrize(
    ("function", "inline", "way"),
    [
        (nothing, False, "thread"),
        (nothing, True, "inline"),
        (nothing_async, False, "async"),
        (Callable(), False, "async"),
    ],
)
def test_how_a_function_is_called(function: Any, inline: bool, way: str) -> None:
    actions = Actions(Delivery)
    assert actions.perform(Delivery.packing, inline=inline)(function) is function
    assert actions.performs["packing"].way == way


def test_bound_twice() -> None:
    actions = Actions(Delivery)
    actions.perform("packing")(nothing)
    with pytest.raises(
        ActionsMismatch, match="the action of `packing` is bound twice: to `nothing` and to `nothing_async`"
    ):
        actions.perform(Delivery.packing)(nothing_async)


def test_what_cannot_be_bound() -> None:
    actions = Actions(Delivery)
    with pytest.raises(TypeError, match="leave inline=True out"):
        actions.perform("packing", inline=True)(nothing_async)
    with pytest.raises(TypeError, match="5 is no function"):
        actions.undo("packing")(5)  # type: ignore[arg-type]  # what a caller without types may write


def test_all_mismatches_are_listed_with_their_mend() -> None:
    actions = Actions(Letter)
    actions.perform("writng")(nothing)
    actions.perform("waiting")(nothing)
    actions.undo("writing")(nothing)
    actions.when("abrod")(lambda op: True)
    found = {(fault.code, fault.where) for fault in actions.mismatches()}
    assert found == {
        ("state-unknown", "state `writng`"),
        ("not-acting", "state `waiting`"),
        ("undo-unused", "state `writing`"),
        ("perform-missing", "state `writing`"),
        ("perform-missing", "state `posting`"),
        ("perform-missing", "state `flying`"),
        ("condition-missing", "condition `abroad`"),
        ("condition-missing", "condition `heavy`"),
        ("condition-unknown", "condition `abrod`"),
    }
    with pytest.raises(ActionsMismatch) as caught:
        actions.check()
    message = str(caught.value)
    assert (
        "did you mean `writing`" in message
        and '@actions.when("heavy")' in message
        and "waiting: nothing is performed" in message
    )
    assert len(caught.value.details["faults"]) == 9


def test_a_missing_undo_is_a_mismatch() -> None:
    actions = Depot().actions()
    assert actions.mismatches() == ()
    del actions.undos["driving"]
    assert [fault.code for fault in actions.mismatches()] == ["undo-missing"]


def test_a_definition_has_untyped_data() -> None:
    actions = Actions(Delivery.definition)
    assert actions.data_type is None
    assert typed(actions.data_type, {"name": "a", "tags": ["x"]}, "here") == {"name": "a", "tags": ["x"]}


def test_typed_data_is_a_copy_and_must_fit() -> None:
    plain = {"name": "a", "tags": ["x"]}
    parcel = typed(Parcel, plain, "here")
    parcel.tags.append("y")
    assert plain == {"name": "a", "tags": ["x"]}
    with pytest.raises(IllegalData, match="here: Expected `str`"):
        typed(Parcel, {"name": 5}, "here")


class Odd(ValueError):
    """An error of the user's own."""


def test_how_errors_are_recorded() -> None:
    odd = failure_of(Odd("strange"))
    assert (odd.kind, odd.kinds, odd.message, odd.final, odd.retry_after) == (
        "Odd",
        ("Odd", "ValueError", "Exception"),
        "strange",
        False,
        None,
    )
    assert failure_of(Fail("no")).final
    assert failure_of(RetryAfter(-3)).retry_after == 0.0
    assert len(failure_of(Odd("x" * 5_000)).message) == 2_000


def test_an_operation_by_hand_speaks_to_nobody() -> None:
    op = Operation("op-1", "delivery", 1, "packing", Parcel("web"))
    op.heartbeat()
    op.progress(1)
    op.raise_if_stopping()
    op.stop()
    assert op.stopping and "op-1" in repr(op)
    with pytest.raises(Stopping, match="packing of op-1"):
        op.raise_if_stopping()


def test_an_event_shows_what_it_says() -> None:
    assert repr(Event("done", port=1)) == "Event('done', port=1)"


def check(tool: list[str], path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *tool, str(path)], capture_output=True, text=True, cwd=TYPING.parent.parent
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "tool", [["mypy", "--strict", "--no-incremental"], ["basedpyright", "--level", "error"]], ids=["mypy", "pyright"]
)
def test_good_actions_type_check(tool: list[str]) -> None:
    done = check(tool, TYPING / "good_actions.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "tool", [["mypy", "--strict", "--no-incremental"], ["basedpyright", "--level", "error"]], ids=["mypy", "pyright"]
)
def test_bad_actions_are_errors_where_they_are_bad(tool: list[str], tmp_path: Path) -> None:
    path = tmp_path / "bad_actions.py"
    path.write_text((TYPING / "bad_actions.txt").read_text())
    done = check(tool, path)
    bad = {number for number, line in enumerate(path.read_text().splitlines(), 1) if line.endswith("# bad")}
    found = {
        int(line.split(".py:")[1].split(":")[0])
        for line in done.stdout.splitlines()
        if ".py:" in line and "error" in line
    }
    assert found == bad, done.stdout
