"""The shape of data: read from types, and held against what callers bring."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, make_dataclass
from enum import Enum
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


COUNT = itertools.count()


class Colour(Enum):
    RED = "red"


@dataclass
class Defaults:
    colour: Colour = Colour.RED
    inner: Inner = field(default_factory=lambda: Inner(3))
    pair: tuple[int, int] = (1, 2)
    names: dict[str, Inner] = field(default_factory=lambda: {"a": Inner(1)})
    absent: str = None  # type: ignore[assignment]  # as people write it


class Keyworded(msgspec.Struct, kw_only=True):
    a: int
    tags: list[str] = []
    size: int = 3
    last: str


def test_defaults_are_plain_data() -> None:
    fields = fields_of(Defaults)
    assert fields is not None and {name: one.default for name, one in fields.items()} == {
        "colour": "red",
        "inner": {"a": 3},
        "pair": [1, 2],
        "names": {"a": {"a": 1}},
        "absent": None,
    }
    keyworded = fields_of(Keyworded)
    assert keyworded is not None and [name for name, one in keyworded.items() if one.required] == ["a", "last"]
    assert keyworded["tags"] == Field(("array",), False, []) and keyworded["size"].default == 3


def test_a_default_none_of_a_field_that_may_not_be_null_is_left_out() -> None:
    filled = fit(fields_of(Defaults), {}, "operation")
    assert "absent" not in filled and filled["pair"] == [1, 2]
    assert fit(fields_of(Partly), {"a": 1}, "operation") == {"a": 1}


def test_operations_do_not_share_a_default() -> None:
    fields = fields_of(Keyworded)
    fit(fields, {"a": 1, "last": "x"}, "operation")["tags"].append("mine")
    assert fit(fields, {"a": 1, "last": "x"}, "operation")["tags"] == []


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: next(COUNT), "is another one each time"),
        (lambda: b"raw", "is nothing that JSON holds"),
        (lambda: float("inf"), "is nothing that JSON holds"),
        (lambda: [object], "is nothing that JSON holds"),
        (lambda: {1: "a"}, "is nothing that JSON holds"),
    ],
)
def test_a_default_that_cannot_be_kept_is_refused(make: Any, says: str) -> None:
    odd = make_dataclass("odd", [("a", Any, field(default_factory=make))])
    with pytest.raises(TypeError, match=says):
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
