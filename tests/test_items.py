"""What children are given, and how many run at the same time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from interlock import Children, Final, IllegalMachine, Machine, Refused, State
from interlock.definition.declare import Children as Declared
from interlock.definition.document import read_document
from interlock.interpreter.items import room_of
from interlock.testing import Kit


@dataclass
class Load:
    boxes: list[str] = field(default_factory=list)
    at_a_time: int = 2


@dataclass
class Box:
    box: str


class Carry(Machine[Box], version=1):
    carrying = State(initial=True, undo="nothing", timeout="1h", then="there")
    there = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Unload(Machine[Load], version=1):
    unloading = State(
        initial=True,
        children=Children("carry", each="boxes", item="box", limit="at_a_time", on_failure="collect"),
        within="9h",
        then="empty",
    )
    empty = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


@pytest.mark.parametrize("wanted", [1, 3, 9])
def test_who_starts_an_operation_says_how_many_children_run_at_the_same_time(wanted: int) -> None:
    kit = Kit(Unload, children=[Carry])
    kit.stub(Carry.carrying, hangs=True)
    unload = kit.start(boxes=["a", "b", "c", "d"], at_a_time=wanted)
    assert unload.snapshot.phase.live == tuple(range(min(wanted, 4)))  # type: ignore[union-attr]  # it is joining


@pytest.mark.parametrize("wanted", [0, -1])
def test_what_is_no_number_of_children_fails_and_says_so(wanted: int) -> None:
    unload = Kit(Unload, children=[Carry]).start(boxes=["a"], at_a_time=wanted)
    unload.expect(status="failed")
    assert f"`at_a_time` is {wanted}, not a whole number from 1" in str(unload.journal)


@pytest.mark.parametrize("value", [None, True, "2", 2.0, 0])
def test_only_a_whole_number_is_a_limit(value: Any) -> None:
    children = Declared("carry", each="boxes", limit="at_a_time")
    assert str(room_of(children, {"at_a_time": value})).startswith(f"`at_a_time` is {value!r}, not a whole number")
    assert room_of(children, {"at_a_time": 7}) == 7


def test_a_limit_that_is_no_field_is_refused() -> None:
    text = """
machine: unload
data: {boxes: array, at_a_time: integer}
states:
  unloading: {initial: true, children: {machine: carry, each: boxes, limit: at_a_tim}, then: empty}
  empty: {final: succeeded}
  failed: {final: failed}
  cancelled: {final: cancelled}
"""
    with pytest.raises(
        IllegalMachine, match=r"has children with the limit `at_a_tim`, which is no field of the data.*`at_a_time`"
    ):
        read_document(text)
    read_document(text.replace("at_a_tim}", "at_a_time}"))


def test_a_childs_machine_is_stubbed_by_its_name_or_its_state() -> None:
    kit = Kit(Unload, children=[Carry])
    kit.stub("carry.carrying", raises=OSError("no hands"))
    unload = kit.start(boxes=["a"])
    unload.expect(status="failed")
    kit.stub(Carry.carrying, returns=None)
    kit.start(boxes=["a"]).expect(status="succeeded")
    with pytest.raises(
        Refused, match=r"the kit has no machine `cary` \(did you mean `carry`\?\); it has unload, carry"
    ):
        kit.stub("cary.carrying", hangs=True)
    with pytest.raises(Refused, match="machine `unload` has no state with an action `carrying`"):
        kit.stub("carrying", hangs=True)
