"""Drawings: everything a machine has is in each of them, they are well-formed, and nothing lies on top of anything else."""

from __future__ import annotations

import random
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import pytest

from interlock import Children, Final, Group, LimitExceeded, Machine, Refused, Rollback, State, Unknown, When
from interlock.definition.document import from_document
from interlock.definition.draw import FORMATS, EdgeStyle, arrows, draw
from interlock.definition.machine import Definition
from interlock.interpreter.status import STATUS
from tests.machines import WRITTEN, Migration, Resize

SVG = "{http://www.w3.org/2000/svg}"


class Alone(Machine[dict[str, Any]], version=1):
    """One state, one loop, one end that nothing leads to but the clock; and text that needs quoting."""

    waiting = State(initial=True, on={"again": "waiting"}, after={"1m": "over"}, status='<"waiting" & more>')
    over = Final("succeeded")


class Kinds(Machine[dict[str, Any]], version=1):
    """Every shape: a parent, a group, a way back, words that Mermaid has a use for."""

    note = State(initial=True, undo="nothing", then="draining")
    draining = State(children=Children("live-migration", each="instances"), then="approval", on={"failed": "approval"})
    approval = State(
        on={
            "approve": [When("under_warranty", "leaping"), "buying"],
            "again": "approval",
            "reject": Rollback("cancelled"),
        },
        after={"72h": Rollback("failed")},
    )
    buying = State(undo="nothing", then="leaping", on={"back": "note"})
    leaping = State(pivot=True, then="end", on={"again": "leaping"})
    end = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")

    early = Group("note", "draining", on={"stop": Rollback("cancelled")}, timeout="1h")


MACHINES = [*(one.definition for one in WRITTEN), Alone.definition, Kinds.definition, STATUS]


def chain(count: int) -> Definition:
    """A guard of some states in a row, with ways to and fro that a seed chooses."""
    chosen = random.Random(count)
    states: dict[str, Any] = {}
    for number in range(count):
        on: dict[str, Any] = {f"e{one}": f"s{chosen.randrange(count)}" for one in range(chosen.randint(0, 3))}
        on |= {"next": f"s{(number + 1) % count}", "lost": {"rollback": "failed"}, "end": "end"}
        states[f"s{number}"] = {"initial": True, "on": on}
    return from_document(
        {"machine": "m", "states": {**states, "end": {"final": "succeeded"}, "failed": {"final": "failed"}}}
    )


def labels(root: ElementTree.Element) -> set[str]:
    return {" ".join(element.itertext()) for element in root.iter(f"{SVG}text")}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("machine", MACHINES, ids=lambda one: one.name)
def test_every_state_and_event_is_drawn(machine: Definition, format: str) -> None:
    text = draw(machine, format)
    if format == "svg":
        root = ElementTree.fromstring(text)
        said = labels(root)
        assert {row.status for row in machine.table.values()} <= said
        assert {arrow.label for arrow in arrows(machine) if arrow.label} <= said
        for kind in ("done", "event", "timer", "rollback"):
            drawn = [one for one in root.findall(f"{SVG}path") if one.get("class") == f"way {kind}"]
            starts = len(machine.initial) if kind == "done" else 0
            alone = len(said & {"a step fails for good", "a cancel"}) if kind == "rollback" else 0
            assert len(drawn) == sum(arrow.kind == kind for arrow in arrows(machine)) + starts + alone
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
    assert all(
        line.startswith((".interlock", "@media", "}")) for line in re.findall(r"^.*[{}].*$", style(text), re.M)
    ), "no rule reaches the page that a drawing is put into"


def style(text: str) -> str:
    return text.partition("<style>")[2].partition("</style>")[0].strip()


Box = tuple[float, float, float, float]


def states(root: ElementTree.Element) -> list[Box]:
    """Left, top, right and bottom of every state."""
    found = []
    for group in root.findall(f"{SVG}g"):
        if not (group.get("class") or "").startswith("state ") or group.get("transform"):
            continue
        rect = group.find(f"{SVG}rect")
        if rect is not None:
            x, y, width, height = (float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
        else:
            corners = [tuple(map(float, one.split(","))) for one in group[0].get("points", "").split()]
            across, down = [x for x, _ in corners], [y for _, y in corners]
            found.append((min(across), min(down), max(across), max(down)))
    return found


def label_boxes(root: ElementTree.Element) -> list[Box]:
    """What the labels of the ways cover, in letters of a narrow measure."""
    found = []
    for label in root.iter(f"{SVG}text"):
        if label.get("class") == "label":
            lines = list(label.iter(f"{SVG}tspan"))
            half = max(len(line.text or "") for line in lines) * 3.0
            x, high = float(lines[0].get("x", "0")), [float(line.get("y", "0")) for line in lines]
            found.append((x - half, min(high) - 6, x + half, max(high) + 6))
    return found


def overlapping(boxes: list[Box]) -> Iterator[tuple[Box, Box]]:
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]:
                yield one, other


@pytest.mark.parametrize("machine", MACHINES, ids=lambda one: one.name)
def test_states_and_labels_do_not_overlap(machine: Definition) -> None:
    root = ElementTree.fromstring(draw(machine, "svg"))
    assert len(states(root)) == len(machine.states)
    assert list(overlapping([*states(root), *label_boxes(root)])) == []


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 21, 34])
def test_any_graph_is_drawn_within_its_page_and_no_way_crosses_a_state(count: int) -> None:
    machine = chain(count)
    root = ElementTree.fromstring(draw(machine, "svg"))
    left, top, width, height = map(float, root.get("viewBox", "").split())
    boxes = states(root)
    assert list(overlapping(boxes)) == []
    numbers = re.compile(r"-?[0-9.]+,-?[0-9.]+")
    for path in root.findall(f"{SVG}path"):
        points = [tuple(map(float, one.split(","))) for one in numbers.findall(path.get("d", ""))]
        ends = points[::3]
        assert all(left <= x <= left + width and top <= y <= top + height for x, y in points)
        for x, y in ends[1:-1]:
            assert not any(a < x < c and b < y < d for a, b, c, d in boxes)


def test_groups_are_framed_where_their_members_lie_together_and_named_where_not() -> None:
    text = draw(Resize.definition, "svg")
    assert text.count('<rect class="group"') == 2
    scattered = from_document(
        {
            "machine": "m",
            "states": {
                "a": {"initial": True, "on": {"x": "b"}},
                "b": {"on": {"x": "c"}},
                "c": {"on": {"x": "end"}},
                "end": {"final": "succeeded"},
            },
            "groups": {"g": {"members": ["a", "c"], "on": {"stop": "end"}}},
        }
    )
    assert "group g: a, c" in draw(scattered, "svg")


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


def test_words_and_signs_that_mermaid_reads_otherwise_are_kept_from_it() -> None:
    text = draw(Kinds.definition, "mermaid")
    assert 'state "note" as note_' in text and "[*] --> note_" in text and "end_ --> [*]" in text
    assert 'state "#60;#34;waiting#34; & more#62;" as waiting' in draw(Alone.definition, "mermaid")


def test_bad_requests() -> None:
    with pytest.raises(Refused, match="mermaid, dot, text, svg"):
        draw(Migration.definition, "png")
    with pytest.raises(Unknown, match="did you mean `copying`"):
        draw(Migration.definition, "text", current="copyng")
    with pytest.raises(LimitExceeded, match="draw text or dot"):
        draw(chain(600), "svg")


def test_without_the_layout_library_svg_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    with pytest.raises(Refused, match=r"pip install 'interlock\[draw\]'"):
        draw(Migration.definition, "svg")
    assert draw(Migration.definition, "text")


LOOKS = {
    ("", "waiting"): EdgeStyle("12"),
    ("", "over"): EdgeStyle("2"),
    ("waiting", "waiting"): EdgeStyle("1,204", width=6),
    ("waiting", "over"): EdgeStyle(colour="#123456", dashed=True),
    ("over", "waiting"): EdgeStyle("3"),
    ("over", 'no "state" <at all>'): EdgeStyle("1"),
}


def test_ways_look_as_they_are_told_in_svg() -> None:
    root = ElementTree.fromstring(draw(Alone.definition, "svg", edges=LOOKS))
    ways = {
        kind: [one.get("style") for one in root.findall(f"{SVG}path") if one.get("class") == f"way {kind}"]
        for kind in ("done", "event", "timer", "outside")
    }
    assert ways == {
        "done": [None],
        "event": ["stroke-width:6"],
        "timer": ["stroke:#123456;stroke-dasharray:5 4"],
        "outside": [None, None, None],
    }
    assert {"again · 1,204", "after 1m", "12", "2", "3", "1", 'no "state" <at all>', "not in the machine"} <= labels(
        root
    )
    assert "state waiting strange" in {one.get("class") for one in root.findall(f"{SVG}g")}


def test_ways_look_as_they_are_told_in_dot_and_mermaid() -> None:
    dot = draw(Alone.definition, "dot", edges=LOOKS)
    assert '"waiting" -> "waiting" [label="again · 1,204", style=solid, penwidth=6];' in dot
    assert '"waiting" -> "over" [label="after 1m", style=dashed, color="#123456", fontcolor="#123456"];' in dot
    assert '"over" -> "waiting" [label="3", style=solid, color="#d1242f", fontcolor="#d1242f"];' in dot
    assert '"initial 1" -> "over" [label="2", style=solid, color="#d1242f", fontcolor="#d1242f"];' in dot
    mermaid = draw(Alone.definition, "mermaid", edges=LOOKS).splitlines()
    links = [line.strip() for line in mermaid if "-->" in line]
    assert links[2] == 'waiting -->|"again · 1,204"| waiting'
    assert links[-1] == 'over -->|"1"| strange_0'
    looks = [line.strip() for line in mermaid if "linkStyle" in line]
    red = "stroke:#d1242f,color:#d1242f"
    assert looks == [
        f"linkStyle 1 {red}",
        "linkStyle 2 stroke-width:6px",
        "linkStyle 3 stroke:#123456,color:#123456,stroke-dasharray:5 4",
        f"linkStyle 4 {red}",
        f"linkStyle 5 {red}",
    ]


def test_ways_look_as_they_are_told_in_text() -> None:
    lines = draw(Alone.definition, "text", edges=LOOKS).splitlines()
    assert lines[4:] == [
        "  (new) -> waiting             12",
        "! (new) -> over                2",
        "  waiting -> waiting           1,204",
        "! over -> waiting              3",
        '! over -> no "state" <at all>  1',
        "(! not in the machine)",
    ]


def test_a_label_stands_once_where_two_ways_join_the_same_states() -> None:
    text = draw(Kinds.definition, "text", edges={("draining", "approval"): EdgeStyle("77")})
    assert text.count("77") == 1


@pytest.mark.parametrize("look", [{"width": 0.1}, {"width": 99.0}, {"colour": "red;}"}, {"colour": "#12"}])
def test_a_look_that_cannot_be_drawn_is_refused(look: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="EdgeStyle"):
        EdgeStyle(**look)
