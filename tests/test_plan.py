"""The plan of a start: what `decide` would do, and nothing done."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock import Interlock, Refused
from interlock.compute.live_migration import LiveMigration
from interlock.definition.document import read_document
from interlock.interpreter.claims import wanted
from interlock.interpreter.inputs import Claimant, Start
from interlock.interpreter.plan import plan
from tests.deliveries import a_store
from tests.machines import Delete, Drain, Migration

MOVE = {"instance": "web-1", "source": "a", "destination": "b"}


def test_states_lie_ahead_in_their_queues() -> None:
    found = plan(LiveMigration.definition, Start("op", MOVE), {}, 0.0)
    assert not found.refused and all(claim.free for claim in found.claims)
    assert [state.name for state in found.states][:3] == ["checking", "preparing", "copying"]
    assert {state.name: state.queue for state in found.states}["copying"] == "host:a"
    assert [state.name for state in found.states if state.pivot] == ["switching", "pulling"]
    assert found.states[2].ways["abort"] == ("cancelled (rolls back)",)


def test_what_is_taken_says_by_whom_and_what_then() -> None:
    name = "instance:web-1"
    standing = {name: [Claimant("other"), Claimant("third", held=False)]}
    found = plan(LiveMigration.definition, Start("op", MOVE), standing, 0.0)
    assert "is held by `other`" in found.refused and found.claims[0].others == ("other", "third")
    waits = plan(LiveMigration.definition, Start("op", MOVE, on_conflict="wait"), standing, 0.0)
    assert not waits.refused and (waits.claims[0].free, waits.claims[0].on_conflict) == (False, "wait")
    preempts = plan(Delete.definition, Start("op", {"instance": "web-1"}), standing, 0.0)
    assert not preempts.refused and preempts.claims[0].on_conflict == "preempt"


def test_children_are_listed_with_what_they_would_be_given() -> None:
    data = {
        "host": "a",
        "source": "a",
        "destination": "b",
        "guests": ["web-1", {"instance": "web-2", "destination": "c"}],
    }
    found = plan(Drain.definition, Start("op", data), {}, 0.0)
    (state,) = [one for one in found.states if one.child]
    assert state.child == Migration.definition.name and state.queue == ""
    assert [child["instance"] for child in state.children] == ["web-1", "web-2"]
    assert [child["destination"] for child in state.children] == ["b", "c"]


@pytest.mark.parametrize("data", [{}, {"instance": "web-1", "source": 5, "destination": "b"}, {**MOVE, "typo": 1}])
def test_what_is_wrong_with_the_data_is_said_not_raised(data: dict[str, object]) -> None:
    found = plan(LiveMigration.definition, Start("op", data), {}, 0.0)
    assert found.refused and found.states


def test_a_state_that_is_passed_by_at_once_is_named_too() -> None:
    machine = read_document("""
machine: tour
data: {stops: array}
states:
  visiting: {initial: true, children: {machine: visit, each: stops}, then: home}
  home: {undo: nothing, then: done_}
  done_: {final: succeeded}
  failed: {final: failed}
  cancelled: {final: cancelled}
""")
    assert [state.name for state in plan(machine, Start("op", {"stops": []}), {}, 0.0).states] == [
        "visiting",
        "home",
        "done_",
    ]


async def test_nothing_is_changed(tmp_path: Path) -> None:
    store = a_store("sqlite", tmp_path)
    async with Interlock(store, machines=[Delete]) as interlock:
        before = store.position(), store.definitions()
        held = await interlock.start(LiveMigration, MOVE)
        found = await interlock.plan(LiveMigration, MOVE)
        assert found.claims[0].others == (held.id,) and found.refused
        assert (await interlock.plan(Delete, instance="web-1")).refused == ""
        assert (await interlock.plan("delete", instance="")).refused
        with pytest.raises(Refused):
            await interlock.plan(LiveMigration, MOVE, on_conflict="shove")  # type: ignore[arg-type]  # a person's slip
        assert store.position() == before[0] + 1
        assert store.standing(["instance:web-1"], 9)["instance:web-1"] == [Claimant(held.id)]
    store.close()


def test_what_is_claimed_needs_its_field() -> None:
    with pytest.raises(Refused, match="its data has no `instance`"):
        wanted(LiveMigration.definition, {"instance": "", "source": "a"})
