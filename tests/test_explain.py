"""A machine in words answers the same questions for every state."""

from __future__ import annotations

from typing import Any

import pytest

from interlock import Machine
from interlock.definition.explain import explain
from tests.machines import ALL, Guarded, Migration

QUESTIONS = (
    "Who acts:",
    "If it fails:",
    "If it takes too long:",
    "If the worker dies:",
    "A cancel:",
    "A worker's stop:",
)


@pytest.mark.parametrize("machine", ALL, ids=lambda machine: machine.definition.name)
def test_every_state_answers_every_question(machine: type[Machine[Any]]) -> None:
    sections = explain(machine.definition).split("\n## ")[1:]
    for name, row in machine.definition.table.items():
        (section,) = [one for one in sections if one.startswith(f"{name} ")]
        for question in QUESTIONS:
            assert (question in section) == (row.kind != "final"), (name, question)


def test_what_it_says_of_a_migration() -> None:
    text = explain(Migration.definition)
    assert "- A cancel: is refused: it is past the point of no return" in text
    assert "- If it fails: attempts without limit" in text
    assert "- Who acts: a worker of queue `host:{source}`" in text
    assert "an attempt is ended when its action is silent for 10s" in text
    assert "| `copying` | MIGRATING |" in text


def test_what_it_says_of_a_machine_that_only_guards() -> None:
    text = explain(Guarded.definition)
    assert "- May be written next: `running`, `error`" in text
    assert "The operation failed.\n\n- May be written even after this end: `failed`" in text
    assert "undone" not in text, "nothing is performed, so nothing is known to be clean"
