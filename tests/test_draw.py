"""Drawings: everything a machine has is in each of them, and they are well-formed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from interlock import Final, Machine, Refused, State, Unknown
from interlock.definition.draw import FORMATS, arrows, draw
from interlock.interpreter.status import STATUS
from tests.machines import ALL, Migration, Resize

SVG = "{http://www.w3.org/2000/svg}"


class Alone(Machine[dict[str, Any]], version=1):
    """One state, one loop, one end that nothing leads to but the clock; and text that needs quoting."""

    waiting = State(initial=True, on={"again": "waiting"}, after={"1m": "over"}, status='<"waiting" & more>')
    over = Final("succeeded")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "machine", [*(one.definition for one in ALL), Alone.definition, STATUS], ids=lambda one: one.name
)
def test_every_state_and_event_is_drawn(machine: Any, format: str) -> None:
    text = draw(machine, format)
    if format == "svg":
        root = ElementTree.fromstring(text)
        words = [element.text or "" for element in root.iter(f"{SVG}text")]
        for row in machine.table.values():
            assert row.status in words
        for arrow in arrows(machine):
            assert not arrow.label or arrow.label in words
        assert len(root.findall(f".//{SVG}polygon")) == len(arrows(machine)) + len(machine.initial)
    else:
        for row in machine.table.values():
            assert row.name in text
            for event in row.exits:
                assert event == "done" or event in text


def test_a_drawing_is_the_same_every_time() -> None:
    for format in FORMATS:
        assert draw(Resize.definition, format) == draw(Resize.definition, format)


def test_svg_stands_alone() -> None:
    text = draw(Migration.definition, "svg")
    assert "href" not in text and "<script" not in text and "url(" not in text and "@import" not in text
    assert text.count("http") == 1, "only the name space"


def test_states_and_labels_of_the_shipped_machine_do_not_overlap() -> None:
    root = ElementTree.fromstring(draw(Migration.definition, "svg"))
    boxes = [
        tuple(float(rect.get(key, "0")) for key in ("x", "y", "width", "height")) for rect in root.iter(f"{SVG}rect")
    ]
    outer = [box for box in boxes if box[3] == 42.0]
    assert len(outer) == len(Migration.definition.states)
    for number, (x, y, width, height) in enumerate(outer):
        for other_x, other_y, other_width, other_height in outer[number + 1 :]:
            apart = (
                x + width <= other_x
                or other_x + other_width <= x
                or y + height <= other_y
                or other_y + other_height <= y
            )
            assert apart


def test_where_it_is_and_was() -> None:
    marks = {format: draw(Migration.definition, format, current="copying", visited=["checking"]) for format in FORMATS}
    assert "* copying" in marks["text"] and "+ checking" in marks["text"]
    assert "class copying current" in marks["mermaid"] and "class checking visited" in marks["mermaid"]
    assert 'class="state acting current"' in marks["svg"] and 'class="state acting visited"' in marks["svg"]
    assert '"copying" [shape=box, label="copying", style="filled", fillcolor="#ffd966"]' in marks["dot"]


def test_the_point_of_no_return_is_marked() -> None:
    assert "point of no return" in draw(Migration.definition, "svg")
    assert "note right of switching: point of no return" in draw(Migration.definition, "mermaid")
    assert "acting, pivot" in draw(Migration.definition, "text")


def test_bad_requests() -> None:
    with pytest.raises(Refused, match="mermaid, dot, text, svg"):
        draw(Migration.definition, "png")
    with pytest.raises(Unknown, match="did you mean `copying`"):
        draw(Migration.definition, "text", current="copyng")
