"""Conforming: Nova's documented moves are allowed by its machines and everything else is reported; and what is painted of it."""

from __future__ import annotations

from typing import Any

import pytest

from interlock import Final, Machine, State
from interlock.definition.draw import draw
from interlock.history.conform import conform, painted
from interlock.history.reading import Step
from interlock.history.tally import START, tally
from tests.test_nova import NAMES, TABLES, machine

OTHERS = [("completed", "running"), ("running", "on its way"), ("on its way", "queued")]


def documented(name: str) -> list[Step]:
    """Return a history of a record for each move that the facts document, in Nova's own words."""
    steps: list[Step] = []
    for row, moves in TABLES[name].items():
        for number, (before, after) in enumerate(moves):
            steps.append(Step(f"{row}/{number}", None if before == "-" else before, after, float(len(steps))))
    return steps


@pytest.mark.parametrize("name", NAMES)
def test_every_documented_move_of_nova_conforms(name: str) -> None:
    steps = documented(name)
    found = conform(machine(name), tally(steps))
    assert found.holds, (found.refused, found.made, found.strangers)
    moved = {(step.before or START, step.after) for step in steps if step.before != step.after}
    assert set(found.allowed) == moved and not found.unused, "and every edge of the machine is documented"


def test_what_nova_does_not_document_is_reported() -> None:
    steps = documented("live_migration")
    steps += [Step(f"odd {number}", *pair, 5e9) for number, pair in enumerate(OTHERS)]
    steps += [Step("odd 9", "completed", "running", 6e9), Step("born late", None, "running", 0.0)]
    found = conform(machine("live_migration"), tally(steps))
    assert list(found.refused) == OTHERS and found.refused["completed", "running"].count == 2
    use = found.refused["completed", "running"]
    assert (use.first, use.last, use.example) == (5e9, 6e9, "odd 0")
    assert list(found.made) == ["running"] and found.made["running"].example == "born late"
    (stranger,) = found.strangers
    assert (stranger.value, stranger.count, stranger.records) == ("on its way", 2, ["odd 1"])
    assert not found.holds and conform(machine("live_migration"), tally(documented("live_migration"))).holds


class Volume(Machine[dict[str, str]]):
    free = State(initial=True, to=["used"])
    used = State(to=["free", "gone", "used"], status="in-use")
    gone = Final("succeeded")


def test_edges_that_nothing_used_are_listed() -> None:
    found = conform(Volume, tally([Step("v", None, "free", 0.0), Step("v", "free", "in-use", 1.0)]))
    assert found.holds and found.unused == [("in-use", "free"), ("in-use", "gone"), ("in-use", "in-use")]
    again = tally([Step("v", None, "free", 0.0), Step("v", "free", "in-use", 1.0), Step("v", "in-use", "in-use", 2.0)])
    assert conform(Volume, again).unused == [("in-use", "free"), ("in-use", "gone")]


def test_a_history_that_begins_in_the_middle_makes_nobody() -> None:
    steps = tally([Step("v", None, "in-use", 0.0), Step("v", "in-use", "gone", 1.0)], "values")
    assert list(conform(Volume, steps).made) == ["in-use"]
    assert conform(Volume, steps, partial=True).holds


def test_it_is_painted_by_use_with_violations_in_red() -> None:
    steps = [Step(f"v{number}", None, "free", 0.0) for number in range(100)]
    steps += [Step(f"v{number}", "free", "in-use", 1.0) for number in range(64)]
    steps += [Step("v0", "in-use", "lost", 2.0), Step("v1", "in-use", "used", 2.0)]
    looks: dict[Any, Any] = dict(painted(conform(Volume, tally(steps))))
    assert looks["", "free"].width == 8.0 and looks["free", "used"].label == "64"
    assert looks["used", "lost"].width == 2.4 and ("used", "used (stored)") in looks, "a stored text is no state's name"
    assert looks["used", "gone"].dashed
    svg = draw(Volume.definition, "svg", edges=looks)
    assert "lost" in svg and "not in the machine" in svg
