"""The published schema says yes to every document that is read, and no to what is not."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from interlock import Machine
from interlock.definition.document import to_document
from interlock.definition.schema import document_schema, generate
from interlock.interpreter.status import STATUS
from tests.machines import WRITTEN, Migration

VALIDATOR = jsonschema.Draft202012Validator(document_schema())


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(document_schema())


@pytest.mark.parametrize("machine", WRITTEN, ids=lambda machine: machine.definition.name)
def test_our_documents_fit(machine: type[Machine[Any]]) -> None:
    VALIDATOR.validate(json.loads(json.dumps(to_document(machine))))


def test_the_status_machine_fits() -> None:
    VALIDATOR.validate(json.loads(json.dumps(to_document(STATUS))))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["machine"], 3),
        (["version"], 0),
        (["colour"], "red"),
        (["states", "checking", "thn"], "x"),
        (["states", "checking", "timeout"], "soon"),
        (["states", "checking", "undo"], "maybe"),
        (["states", "checking", "retry"], {"attempts": 0}),
        (["states", "completed", "final"], "won"),
        (["states", "completed", "then"], "checking"),
        (["views", "v1", "ACTIVE"], "completed"),
        (["data", "instance"], "text"),
    ],
)
def test_what_does_not_fit_is_refused(path: list[str], value: Any) -> None:
    document = json.loads(json.dumps(to_document(Migration)))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert not VALIDATOR.is_valid(document)


def test_the_published_copy_is_the_schema() -> None:
    (text,) = generate().values()
    assert json.loads(text) == document_schema()
