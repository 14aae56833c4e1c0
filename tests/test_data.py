"""The shape of data: read from types, and held against what callers bring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

import msgspec
import pytest

from interlock import IllegalData
from interlock.definition.data import Field, fields_of, fit


@dataclass
class Inner:
    a: int


@dataclass
class Rich:
    name: str
    size: int | None
    ratio: float
    kind: Literal["a", "b"]
    inner: Inner
    anything: Any
    tags: list[str] = field(default_factory=list)
    on: bool = True
    hidden: str = field(default="x", init=False)


class Partly(TypedDict):
    a: int
    b: NotRequired[str]


class Packed(msgspec.Struct):
    a: int
    b: str = "x"


def test_dataclasses() -> None:
    fields = fields_of(Rich)
    assert fields is not None
    assert fields["size"] == Field(("integer", "null"))
    assert (
        fields["kind"] == Field(("string",))
        and fields["inner"] == Field(("object",))
        and fields["anything"] == Field(())
    )
    assert fields["tags"] == Field(("array",), False, []) and fields["on"] == Field(("boolean",), False, True)
    assert "hidden" not in fields


def test_typed_dicts_structs_and_free_form() -> None:
    assert fields_of(Partly) == {"a": Field(("integer",)), "b": Field(("string",), False, None)}
    assert fields_of(Packed) == {"a": Field(("integer",)), "b": Field(("string",), False, "x")}
    assert fields_of(dict[str, Any]) is None and fields_of(Any) is None and fields_of(None) is None


@pytest.mark.parametrize("odd", [int, "text", list[int]])
def test_what_holds_no_fields(odd: Any) -> None:
    with pytest.raises(TypeError, match="is no data type"):
        fields_of(odd)


FIELDS = {
    "name": Field(("string",)),
    "size": Field(("integer", "null"), False, None),
    "ratio": Field(("number",), False, 1.0),
}


def test_defaults_are_filled_in() -> None:
    assert fit(FIELDS, {"name": "x"}, "operation") == {"name": "x", "size": None, "ratio": 1.0}
    assert fit(FIELDS, {"size": 3}, "signal", partial=True) == {"size": 3}
    assert fit(None, {"free": [1]}, "operation") == {"free": [1]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "field `name` is missing; it needs name"),
        ({"name": 1}, "field `name` must be string, not integer"),
        ({"name": "x", "size": True}, "field `size` must be integer or null, not boolean"),
        ({"name": "x", "size": 1.5}, "not number"),
        ({"name": "x", "sise": 1}, "unknown field `sise` (did you mean `size`?)"),
        ({"name": ["x"]}, "not array"),
    ],
)
def test_what_does_not_fit_names_the_field(data: dict[str, Any], says: str) -> None:
    with pytest.raises(IllegalData) as refusal:
        fit(FIELDS, data, "operation")
    assert says in str(refusal.value) and str(refusal.value).startswith("operation: ")
    assert refusal.value.details["field"] in ("name", "size", "sise")


def test_whole_numbers_are_numbers() -> None:
    assert fit(FIELDS, {"name": "x", "ratio": 2}, "operation")["ratio"] == 2
