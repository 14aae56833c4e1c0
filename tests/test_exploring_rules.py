"""Every explored run is held to interlock's own rules too: an engine that breaks one is found over anybody's actions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from interlock.exploring import play
from interlock.exploring.explore import explore
from interlock.exploring.scenario import Exploration, Start
from interlock.exploring.verdict import BadScenario
from interlock.interpreter import facts as f
from interlock.interpreter import plan as plans
from interlock.interpreter import snapshot as snapshots
from interlock.interpreter.snapshot import Snapshot
from interlock.stores.memory import MemoryStore
from tests import explored_schedules as meters
from tests.explored_fleet import drained


def broken(scenario: Exploration[Any], runs: int = 100) -> str:
    report = explore(scenario, runs=runs)
    assert report.finding is not None and report.finding.invariant == play.RULES, str(report)
    return report.finding.answer


def test_a_claim_that_two_hold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes start one operation each, and the store looks at no claim when it commits."""

    class Generous(MemoryStore):
        def _free(self, snapshot: Snapshot) -> bool:
            return True

    monkeypatch.setattr(play, "MemoryStore", Generous)
    one = Start(meters.Reading, meter="m1")
    assert "takes meter:m1, which" in broken(
        Exploration(world=meters.Book, actions=meters.reading, operations=[one, one])
    )


def test_a_delayed_start_that_does_not_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = snapshots._FOLDS[f.Postponed]
    monkeypatch.setitem(
        snapshots._FOLDS, f.Postponed, lambda before, fact, at: fold(before, replace(fact, until=at), at)
    )
    assert "was to begin" in broken(meters.by_hand_too)


def test_a_plan_that_leaves_states_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plans._ahead
    monkeypatch.setattr(plans, "_ahead", lambda machine, first: whole(machine, first)[:1])
    assert "and its plan had named" in broken(meters.read)


def test_a_child_whose_queue_nobody_serves_is_told_by_its_queue() -> None:
    with pytest.raises(BadScenario, match=r"no worker serves queue `host:host-[bc]`"):
        explore(dataclasses.replace(drained, queues=None), runs=1)
