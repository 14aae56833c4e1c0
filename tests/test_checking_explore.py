"""Exploring: it sees what the interpreter does, all of it, in a number of situations that grows with the machine; and every rule that is
broken on purpose is found."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock.checking.explore import Budget, Exploration, explore
from interlock.checking.situation import key_of, plain
from interlock.checking.trying import data_of
from interlock.compute.live_migration import LiveMigration
from interlock.definition.document import from_document
from interlock.definition.machine import Definition
from interlock.interpreter import attempts, rollback, timers, ways
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter import snapshot as snapshots
from interlock.interpreter.decide import _RULES
from interlock.interpreter.snapshot import Joining, Running, Snapshot
from interlock.interpreter.turn import Turn
from interlock.stores.memory import MemoryStore
from interlock.testing.machines import random_machine
from interlock.testing.simulate import Simulation
from tests.machines import ALL, Crossing, Resize

MACHINE = LiveMigration.definition


def chain(length: int) -> Definition:
    states: dict[str, Any] = {
        f"s{number}": {
            "undo": True,
            "timeout": "30s",
            "retry": {"attempts": 3},
            "then": f"s{number + 1}" if number + 1 < length else "end",
        }
        for number in range(length)
    }
    states["s0"]["initial"] = True
    ends = {"end": {"final": "succeeded"}, "failed": {"final": "failed"}, "cancelled": {"final": "cancelled"}}
    return from_document({"machine": "chain", "states": {**states, **ends}})


@pytest.mark.parametrize("machine", [LiveMigration, *ALL])
def test_every_state_is_entered_and_nothing_is_broken(machine: Any) -> None:
    seen = explore(machine.definition)
    assert seen.complete and not seen.findings and not seen.refused
    assert set(seen.first) >= set(machine.definition.states) - {"failed", "cancelled"}


def test_situations_grow_with_the_states_not_with_the_undo_lists() -> None:
    sizes = [len(explore(chain(length)).nodes) for length in (10, 20, 40)]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0]), sizes
    assert sizes[2] < 50 * 40


def test_every_step_is_undone_first_and_later_for_every_end() -> None:
    """Also after a choice that the shortest way does not take."""
    document = {
        "machine": "fork",
        "states": {
            "a": {"initial": True, "undo": True, "then": [{"when": "large", "to": "b"}, "c"]},
            "b": {"undo": True, "cancel": "refuse", "on": {"failed": "c"}, "then": "c"},
            "c": {"undo": True, "then": "end"},
            "end": {"final": "succeeded"},
            "failed": {"final": "failed"},
            "cancelled": {"final": "cancelled"},
        },
    }
    seen = explore(from_document(document))
    stages = {
        (node.snapshot.rollback.to, node.snapshot.phase.state, len(node.snapshot.steps) > 1)
        for node in seen.nodes
        if node.snapshot.rollback and isinstance(node.snapshot.phase, Running)
    }
    assert stages == {(end, step, more) for end in ("failed", "cancelled") for step in "abc" for more in (False, True)}
    assert seen.complete and not seen.findings


def test_the_shortest_way_is_told() -> None:
    seen = explore(Resize.definition)
    assert seen.story(seen.first["verifying"]) == (
        "an operation starts in `stopping`",
        "`stopping` is done, and `shared_storage` holds",
        "`starting` is done",
    )
    assert seen.stuck.keys() == {"confirming"}
    assert seen.stuck["confirming"].words == "`confirming` fails for the last time"
    stalls = explore(Crossing.definition).stuck
    assert {state: stall.late for state, stall in stalls.items()} == {"leaping": False, "flying": True}


def test_a_long_story_tells_its_end() -> None:
    seen = explore(chain(60))
    story = seen.story(seen.first["end"])
    assert len(story) == 41 and story[0] == "after 21 earlier events" and story[-1] == "`s59` is done"


def test_a_budget_that_runs_out_says_so() -> None:
    for budget in (Budget(situations=20), Budget(decisions=20)):
        seen = explore(MACHINE, budget)
        assert not seen.complete and 0 < len(seen.first) < len(MACHINE.states)


def test_a_machine_that_cannot_be_started_is_not_explored() -> None:
    document = {
        "machine": "move",
        "states": {
            "moving": {"initial": True, "then": "done_", "undo": "nothing"},
            "done_": {"final": "succeeded"},
            "failed": {"final": "failed"},
            "cancelled": {"final": "cancelled"},
        },
        "data": {"rack": {"type": "null"}},
        "claims": [{"name": "rack:{rack}"}],
    }
    seen = explore(from_document(document))
    assert "its data has no `rack`" in seen.refused and not seen.complete and not seen.nodes


@pytest.mark.parametrize("join", ["all", "any", "first"])
@pytest.mark.parametrize("fast", [True, False])
def test_children_end_in_every_way_and_the_parent_goes_on(join: str, fast: bool) -> None:
    children = {"machine": "move", "each": "guests", "join": join, "limit": 1}
    if fast:
        children["on_failure"] = "fast"
    document = {
        "machine": "drain",
        "states": {
            "moving": {"initial": True, "children": children, "undo": True, "then": "done_"},
            "done_": {"final": "succeeded"},
            "failed": {"final": "failed"},
            "cancelled": {"final": "cancelled"},
        },
        "data": {"guests": {"type": "array"}},
    }
    seen = explore(from_document(document))
    assert seen.complete and not seen.findings and seen.first.keys() == {"moving", "done_", "failed", "cancelled"}
    met = {node.snapshot.phase for node in seen.nodes if isinstance(node.snapshot.phase, Joining)}
    assert 1 in {len(phase.live) for phase in met} <= {0, 1}, "never more of them than the limit"
    assert 1 in {phase.issued for phase in met} <= {0, 1, 2}


# What the explorer sees is what happens


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_machines_made_at_random_hold(seed: int) -> None:
    seen = explore(random_machine(Random(seed), "m"))
    assert seen.complete and not seen.findings, [str(one) for one in seen.findings]


def test_whatever_the_simulator_does_was_seen() -> None:
    """Every situation that forty seeds of the whole runtime get into is one that exploring finds too."""
    met = 0
    for seed in range(40):
        simulation = Simulation(seed, reports=False, deploys=False)
        simulation.play()
        machines = {machine.name: machine for machine in simulation.machines}
        seen: dict[str, Exploration] = {}
        for snapshot in _snapshots(simulation.store):
            machine, phase = machines[snapshot.machine], snapshot.phase
            children = machine.table[snapshot.state].children
            if isinstance(phase, Joining) and phase.total != (2 if children and children.each else 1):
                continue  # exploring gives every such state two items
            if snapshot.owned:
                continue  # what actions own is left out of exploring
            if machine.name not in seen:
                seen[machine.name] = explore(machine)
            for bounded in (snapshot, replace(snapshot, timers={**snapshot.timers, "deadline": 1.0})):
                if seen[machine.name].knows(plain(replace(bounded, held=()), data_of(machine))):
                    met += 1
                    break
            else:
                raise AssertionError(f"seed {seed}: {key_of(plain(snapshot, {}))} was not seen")
    assert met > 1_000


def _snapshots(store: MemoryStore) -> list[Snapshot]:
    """Return every snapshot that a journal tells of, up to a person's override, which leaves the machine's table."""
    now: dict[str, Snapshot] = {}
    off: set[str] = set()
    found = []
    for record in store.tail(0, 1_000_000):
        after = now.get(record.operation)
        for fact in record.facts:
            after = snapshots.fold(after, fact, record.at)
            if isinstance(fact, f.Overrode):
                off.add(record.operation)
        assert after is not None
        now[record.operation] = after
        if record.operation not in off:
            found.append(after)
    return found


# Mutations: each breaks one rule of the interpreter, which exploring any machine that uses it has to find


def found(machine: Definition = MACHINE) -> set[str]:
    return {one.code for one in explore(machine).findings}


def test_a_step_that_is_not_remembered_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    issued = snapshots._FOLDS[f.Issued]
    monkeypatch.setitem(
        snapshots._FOLDS, f.Issued, lambda before, fact, at: issued(before, replace(fact, step=False), at)
    )
    assert "left-behind" in found()


def test_an_end_before_everything_is_undone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(turn: Turn, state: str) -> None:
        turn.add(f.Undone(state))
        assert turn.after.rollback is not None
        turn.enter(turn.after.rollback.to)

    monkeypatch.setattr(rollback, "undone", hasty)
    assert found() == {"left-behind"}


def test_a_cancel_that_forgets_to_roll_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def rude(turn: Turn, to: str, cause: str) -> None:
        turn.add(f.RollbackBegan(to, cause))
        turn.enter(to)

    monkeypatch.setattr(rollback, "begin", rude)
    assert "left-behind" in found()


def test_the_wrong_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    enter = Turn.enter
    monkeypatch.setattr(
        Turn,
        "enter",
        lambda turn, state: enter(turn, "failed" if state == "cancelled" and turn.after.rollback else state),
    )
    assert "wrong-end" in found()


def test_the_oldest_step_first_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = snapshots._FOLDS[f.UndoPlanned]
    monkeypatch.setitem(
        snapshots._FOLDS,
        f.UndoPlanned,
        lambda before, fact, at: planned(before, replace(fact, state=before.steps[0]), at),
    )
    assert "broken-rule" in found()


def test_a_rollback_beside_a_running_attempt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(turn: Turn, cause: f.Cause, name: str, cut: f.CutCause) -> None:
        ways._conclude_way(turn, cause, name)

    monkeypatch.setattr(ways, "leave", hasty)
    assert "overlap" in found()


def test_an_outcome_without_its_token_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(turn: Turn, token: int) -> Running:
        phase = turn.after.phase
        return phase if isinstance(phase, Running) else Running("perform", turn.after.state, token, "nobody", 0.0)

    monkeypatch.setattr(attempts, "running", trusting)
    assert "stale-outcome" in found()


def test_a_cancel_past_the_pivot_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def obliging(turn: Turn, input: i.Cancel) -> None:
        turn.add(f.CancelAccepted(input.by, input.reason))
        ways.leave(turn, "cancel", "", "cancel")

    monkeypatch.setitem(cast(Any, _RULES), i.Cancel, obliging)
    assert "undone-after-pivot" in found()


def test_a_failure_past_the_pivot_that_rolls_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "roll_back_or_stick", lambda turn, row, to, cause: rollback.begin(turn, to, cause))
    assert "undone-after-pivot" in found()


def test_an_attempt_while_paused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    issue = attempts.issue

    def eager(turn: Turn) -> None:
        turn._after = replace(turn.after, paused=None)
        issue(turn)

    monkeypatch.setattr(attempts, "issue", eager)
    assert "broken-rule" in found()


@pytest.mark.parametrize("kind", [i.Take, i.Tick, i.Lapsed, i.Resume, i.Silent])
def test_an_input_from_which_nothing_follows_is_found(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """A worker dies, a lease lapses, a timer is due, and nobody moves the operation."""
    monkeypatch.setitem(cast(Any, _RULES), kind, lambda turn, input: None)
    (one, *_) = (one for one in explore(MACHINE).findings if one.code == "broken-rule")
    assert one.what.startswith("nothing follows from it when")


@pytest.mark.parametrize("kind", [i.Take, i.Tick])
def test_an_operation_that_nothing_moves_has_no_end(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    monkeypatch.setitem(cast(Any, _RULES), kind, lambda turn, input: None)
    states = {"asleep": {"initial": True, "after": {"1h": "a"}}, "a": {"undo": "nothing", "then": "awake"}}
    ends = {"awake": {"final": "succeeded"}, "failed": {"final": "failed"}, "cancelled": {"final": "cancelled"}}
    assert "no-end" in found(from_document({"machine": "nap", "states": {**states, **ends}}))


def test_a_rule_that_fails_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "fire_timers", lambda turn: turn.machine.table["nowhere"])
    (one, *_) = explore(Resize.definition).findings
    assert one.code == "broken-rule" and "KeyError: 'nowhere'" in one.what and one.story[-1]
