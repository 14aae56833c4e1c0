"""Machines as Python source."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock import Machine, Refused
from interlock.definition.document import from_document
from interlock.definition.machine import Definition
from interlock.definition.source import to_python
from tests.machines import WRITTEN
from tests.test_document import documents


def run(source: str, monkeypatch: pytest.MonkeyPatch) -> Definition:
    module = types.ModuleType("written")
    monkeypatch.setitem(sys.modules, "written", module)
    exec(compile(source, "written", "exec"), module.__dict__)
    machines = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Machine) and one is not Machine
    ]
    (machine,) = machines
    return machine.definition


@pytest.mark.parametrize("machine", WRITTEN, ids=lambda machine: machine.definition.name)
def test_running_the_source_gives_an_equal_machine(
    machine: type[Machine[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(to_python(machine.definition), monkeypatch) == machine.definition


NAMES = st.sampled_from(["m", "live-migration", "nova.instance", "state", "none", "any", "X_y", "A-1b"])
PROSE = st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=12), max_size=3).map("\n".join)


@settings(max_examples=100, deadline=None)
@given(documents(), NAMES, PROSE)
def test_running_the_source_of_any_machine_gives_an_equal_one(document: dict[str, Any], name: str, prose: str) -> None:
    definition = from_document({**document, "machine": name, "description": prose})
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run(to_python(definition), monkeypatch) == definition


@pytest.mark.parametrize(
    ("states", "data"),
    [("class", "a"), ("State", "a"), ("When", "a"), ("a", "from"), ("a", "str"), ("a", "field"), ("a", "__a")],
)
def test_a_name_that_python_has_another_use_for_is_refused(states: str, data: str) -> None:
    definition = from_document(
        {
            "machine": "m",
            "data": {data: "string"},
            "states": {states: {"initial": True, "on": {"go": "over"}}, "over": {"final": "succeeded"}},
        }
    )
    with pytest.raises(Refused, match="has a meaning of its own in Python"):
        to_python(definition)
