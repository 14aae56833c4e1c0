"""Machines as Python source."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from interlock import Machine
from interlock.definition.machine import Definition
from interlock.definition.source import to_python
from tests.machines import ALL


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


@pytest.mark.parametrize("machine", ALL, ids=lambda machine: machine.definition.name)
def test_running_the_source_gives_an_equal_machine(
    machine: type[Machine[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(to_python(machine.definition), monkeypatch) == machine.definition
