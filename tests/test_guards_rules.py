"""The judge behind every guard: what it allows, what it counts, and what it says."""

from __future__ import annotations

import enum
import logging
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import IllegalMove, Refused
from interlock.guards import rules as rules_module
from interlock.guards.rules import Rules
from tests.volumes import VolumeStates

VALUES = ["creating", "free", "in-use", "failed", "gone", "used", ""]


class Status(enum.Enum):
    FREE = "free"
    USED = "in-use"


@given(st.sampled_from(VALUES), st.sampled_from(VALUES))
def test_a_move_is_allowed_just_when_the_machine_has_the_edge(current: str, wanted: str) -> None:
    definition = VolumeStates.definition
    names = {row.status: name for name, row in definition.table.items()}
    same = current == wanted
    edge = current in names and wanted in names and definition.allows(names[current], names[wanted])
    rules = Rules(VolumeStates)
    if same or edge:
        rules.move("volume 1", current, wanted)
    else:
        with pytest.raises(IllegalMove) as refused:
            rules.move("volume 1", current, wanted)
        assert (refused.value.current, refused.value.wanted) == (current, wanted)


def test_a_refusal_says_where_it_may_go_and_what_is_unknown() -> None:
    rules = Rules(VolumeStates)
    with pytest.raises(IllegalMove, match="from `free` it may go to `gone`, `in-use`; no state is stored as `in-us`"):
        rules.move("volume 1", "free", "in-us")
    with pytest.raises(IllegalMove, match=r"did you mean `in-use`"):
        rules.move("volume 1", "free", "in-us")
    with pytest.raises(IllegalMove, match="does not let a record begin as `free`; it may begin as `creating`"):
        rules.create("volume 1", "free")
    rules.create("volume 1", "creating")


def test_members_of_an_enumeration_stand_for_their_values() -> None:
    rules = Rules(VolumeStates)
    rules.move("volume 1", Status.FREE, Status.USED)
    with pytest.raises(IllegalMove, match=r"`free` -> `free\.`"):
        rules.move("volume 1", Status.FREE, "free.")


@pytest.mark.parametrize("odd", [None, 7, ["free"], object])
def test_what_is_no_text_is_no_state(odd: Any) -> None:
    with pytest.raises(IllegalMove):
        Rules(VolumeStates).move("volume 1", "free", odd)


def test_observing_counts_with_the_call_site_and_never_refuses(caplog: pytest.LogCaptureFixture) -> None:
    rules = Rules(VolumeStates, "observe")
    with caplog.at_level(logging.WARNING, "interlock.guard"):
        for number in range(3):
            rules.move(f"volume {number}", "free", "creating")
        rules.create("volume 9", "free")
        rules.load("volume 8", "broken")
        rules.load("volume 8", "free")
    moved, created, loaded = rules.sightings()
    assert (moved.current, moved.wanted, moved.count, moved.record) == ("free", "creating", 3, "volume 2")
    assert moved.first <= moved.last
    assert moved.site.startswith(__file__) and moved.site.endswith("never_refuses")
    assert (created.current, created.wanted, created.loaded) == (None, "free", False)
    assert (loaded.wanted, loaded.loaded) == ("broken", True)
    assert len(caplog.records) == 3, "the log tells each once"


def test_unknown_values_that_are_loaded_are_counted_when_enforcing_too() -> None:
    rules = Rules(VolumeStates)
    rules.load("volume 8", "broken")
    assert [one.wanted for one in rules.sightings()] == ["broken"]


def test_sightings_are_limited_and_the_rest_is_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "MAX_SIGHTINGS", 2)
    rules = Rules(VolumeStates, "observe")
    for number in range(5):
        rules.load("volume 1", f"odd-{number}")
    assert sorted((one.wanted, one.count) for one in rules.sightings()) == [("(others)", 3), ("odd-0", 1), ("odd-1", 1)]


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="a guard can `observe` or `enforce`"):
        Rules(VolumeStates, cast(Any, "warn"))
