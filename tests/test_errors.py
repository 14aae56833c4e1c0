"""Errors carry data, stable codes, and what to do next."""

from __future__ import annotations

import inspect

from interlock import IllegalMove, NotPossible, errors
from interlock.errors import InterlockError, as_json


def every_error() -> list[type[InterlockError]]:
    return [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, InterlockError)]


def test_codes_are_stable_and_distinct() -> None:
    codes = {one.code: one.__name__ for one in every_error()}
    assert len(codes) == len(every_error())
    assert codes["not-possible"] == "NotPossible" and codes["stale-token"] == "StaleToken"


def test_the_tree_in_the_header_is_the_tree() -> None:
    header = (errors.__doc__ or "").split("`Fail` and")[0]
    for one in every_error():
        assert one.__name__ in header


def test_not_possible_says_what_is() -> None:
    error = NotPossible("cannot", ("cancel", "pause"), operation="op")
    assert str(error) == "cannot; possible now: cancel, pause"
    assert as_json(error) == {
        "code": "not-possible",
        "message": str(error),
        "possible": ["cancel", "pause"],
        "operation": "op",
    }
    assert str(NotPossible("cannot")) == "cannot; nothing is possible now"


def test_illegal_move_says_where_it_may_go() -> None:
    error = IllegalMove("m", "server 5", "active", "deleted", ["stopped"])
    assert (
        str(error) == "server 5: machine `m` does not allow `active` -> `deleted`; from `active` it may go to `stopped`"
    )
    assert "it may go nowhere" in str(IllegalMove("m", "r", "gone", "active", []))
