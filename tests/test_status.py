"""The status of operations is a machine like any other."""

from __future__ import annotations

from typing import get_args

from interlock.interpreter.snapshot import Status
from interlock.interpreter.status import STATUS


def test_the_machine_has_exactly_the_statuses_there_are() -> None:
    assert set(STATUS.states) == set(get_args(Status))


def test_nothing_follows_an_end() -> None:
    for end in ("succeeded", "failed", "cancelled"):
        assert STATUS.moves[end] == frozenset()
