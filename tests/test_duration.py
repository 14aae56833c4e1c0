"""Durations."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.definition.duration import duration_text, seconds


@given(st.one_of(st.integers(0, 10**9), st.floats(0, 10**6, allow_nan=False)))
def test_what_is_written_is_read_back_exactly(value: float) -> None:
    exact = seconds(value)
    assert seconds(duration_text(exact)) == exact and abs(exact - value) <= 0.0005


def test_forms() -> None:
    assert [seconds(one) for one in ("1h30m", "250ms", 2, timedelta(minutes=1), "1d")] == [
        5400.0,
        0.25,
        2.0,
        60.0,
        86400.0,
    ]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "soon",
        "5",
        "-5s",
        "5s 3m",
        "m5",
        "1e3s",
        -1,
        float("nan"),
        float("inf"),
        True,
        None,
        "9999999999999s",
        10**400,
        "9" * 400 + "s",
        "٣s",
    ],
)
def test_what_is_no_duration(bad: Any) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds(bad)
