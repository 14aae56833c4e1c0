"""Limits: each refuses with its setting's name, and data comes out as plain JSON values."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest

from interlock import IllegalData, LimitExceeded
from interlock.runtime.limits import Limits


@dataclass
class Size:
    flavor: str
    hosts: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": (1, 2)}, {"a": [1, 2]}),
        (Size("big", ("x",)), {"flavor": "big", "hosts": ["x"]}),
        (MappingProxyType({"a": None}), {"a": None}),
        ({}, {}),
    ],
)
def test_data_comes_out_plain(data: Any, expected: Any) -> None:
    assert Limits().plain(data, "here") == expected


@pytest.mark.parametrize(
    "data", [5, ["a"], {"a": object()}, {"a": float("inf")}, {"a": [{"b": float("nan")}]}, {(1, 2): 3}]
)
def test_what_has_no_plain_form_is_refused(data: Any) -> None:
    with pytest.raises(IllegalData, match="here"):
        Limits().plain(data, "here")


def test_data_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(IllegalData, match="here"):
        Limits().plain(loop, "here")


def test_limits_name_their_setting() -> None:
    limits = Limits(payload_bytes=10, id_characters=3, page=5)
    with pytest.raises(LimitExceeded, match=r"17 bytes of data, the limit is 10 \(setting `payload_bytes`\)"):
        limits.plain({"name": "abcdef"}, "here")
    with pytest.raises(LimitExceeded, match=r"4 characters, the limit is 3 \(setting `id_characters`\)"):
        limits.text("id_characters", "abcd", "operation id")
    for number in (0, 6):
        with pytest.raises(LimitExceeded, match="from 1 to 5"):
            limits.count("page", number, "limit")
    assert (limits.text("id_characters", "abc", ""), limits.count("page", 5, "")) == ("abc", 5)


@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_a_limit_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match="page"):
        Limits(page=value)
