"""`decide`: every scenario file, the coverage of our own tables, and properties over random inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock import NotPossible, Refused, StaleToken
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.children import child_id
from interlock.interpreter.decide import decide, outstanding
from interlock.interpreter.facts import Fact, Failure
from interlock.interpreter.items import room_of
from interlock.interpreter.possible import possible
from interlock.interpreter.snapshot import (
    Ended,
    Joining,
    Queued,
    Running,
    Settling,
    Snapshot,
    Stuck,
    Waiting,
    fold,
    timer_at,
)
from interlock.interpreter.status import STATUS
from tests.machines import ALL, Migration, Resize
from tests.scenario import EVERYWHERE, replay

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
OFFER = i.Offer("w1", EVERYWHERE)
MOVE = {"instance": "vm-1", "source": "a", "destination": "b"}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    says, now, _ = replay(path)
    assert now == says, "the trace changed; if it should, run with REWRITE=1 and review the diff"


def test_scenarios_cover_our_own_tables() -> None:
    """Every kind of fact, every input, every input in every phase it can meet, and every change of status is taken by some scenario."""
    facts: set[type] = set()
    edges: set[tuple[str, str]] = set()
    rules: set[tuple[str, str]] = set()
    for path in SCENARIOS:
        _, _, scenario = replay(path)
        facts |= scenario.facts
        edges |= scenario.edges
        rules |= scenario.rules
    every_fact = set(Fact.__args__)
    assert every_fact - facts == set()
    assert {(row.name, to) for row in STATUS.table.values() for to in row.to} - edges == set()
    inputs = {one.__name__ for one in i.Input.__args__}
    assert inputs - {name for name, _ in rules} == set()
    callers = {"Signal", "Cancel", "Pause", "Retry", "Override", "Tick", "Take", "Lapsed"}
    phases = {"Beginning", "Queued", "Running", "Waiting", "Joining", "Stuck", "Ended"}
    refused = {("Signal", "Stuck"), ("Signal", "Ended"), ("Cancel", "Ended"), ("Pause", "Ended"), ("Retry", "Running")}
    refused |= {("Retry", "Waiting"), ("Retry", "Ended"), ("Override", "Running"), ("Override", "Ended")}
    refused |= {("Retry", "Beginning"), ("Override", "Beginning"), ("Retry", "Joining"), ("Override", "Joining")}
    wanted = {(name, phase) for name in callers for phase in phases} - refused
    assert wanted - rules == set()


def started(**options: Any) -> Snapshot:
    return decide(Migration.definition, None, i.Start("op", MOVE, offer=OFFER, **options), 0.0).snapshot


def test_a_step_is_one_decision_and_its_effect_is_the_next_attempt() -> None:
    snapshot = started()
    assert isinstance(snapshot.phase, Running)
    decision = decide(Migration.definition, snapshot, i.Done(snapshot.phase.token, offer=OFFER), 1.0)
    assert [type(fact) for fact in decision.facts] == [f.Performed, f.Entered, f.Issued]
    assert decision.effects == outstanding(decision.snapshot)
    assert isinstance(decision.effects[0], i.Perform)


def test_the_token_is_the_sequence_number_of_the_issue_and_grows() -> None:
    snapshot, tokens = started(), []
    while isinstance(snapshot.phase, Running):
        tokens.append(snapshot.phase.token)
        snapshot = decide(Migration.definition, snapshot, i.Done(snapshot.phase.token, offer=OFFER), 1.0).snapshot
    assert tokens == sorted(set(tokens)) and len(tokens) == 5


def test_the_key_is_stable_over_attempts_and_new_for_each_stay() -> None:
    snapshot = started()
    first = outstanding(snapshot)[0]
    assert isinstance(first, i.Perform) and isinstance(snapshot.phase, Running)
    failed = decide(Migration.definition, snapshot, i.Failed(snapshot.phase.token, Failure("X"), OFFER), 1.0).snapshot
    again = decide(Migration.definition, failed, i.Tick(OFFER), 60.0)
    second = again.effects[0]
    assert isinstance(second, i.Perform) and second.key == first.key and second.token > first.token


def test_effects_of_a_refused_input_do_not_exist() -> None:
    snapshot = started()
    before = msgspec.json.encode(snapshot)
    with pytest.raises(NotPossible) as refusal:
        decide(Migration.definition, snapshot, i.Signal("abort"), 1.0)
    assert refusal.value.possible == possible(Migration.definition, snapshot)
    with pytest.raises(StaleToken):
        decide(Migration.definition, snapshot, i.Done(99), 1.0)
    assert msgspec.json.encode(snapshot) == before


def test_held_signals_have_a_limit() -> None:
    snapshot = started()
    for number in range(32):
        snapshot = decide(Migration.definition, snapshot, i.Signal("abort", key=str(number), hold=True), 1.0).snapshot
    with pytest.raises(Refused, match="32 signals are held"):
        decide(Migration.definition, snapshot, i.Signal("abort", key="one more", hold=True), 1.0)


def test_keys_are_remembered_up_to_their_limit() -> None:
    snapshot = decide(Resize.definition, None, i.Start("op", {"server": "s", "flavor": "f"}), 0.0).snapshot
    for number in range(200):
        snapshot = fold(snapshot, f.Signalled("x", key=str(number)), 1.0)
    assert len(snapshot.keys) == 128 and snapshot.keys[-1] == "199"


def test_a_loop_does_not_grow_the_snapshot() -> None:
    loop = ALL[2].definition
    snapshot = decide(loop, None, i.Start("op", {}, state="working", offer=OFFER), 0.0).snapshot
    sizes = []
    for _ in range(300):
        assert isinstance(snapshot.phase, Running)
        snapshot = decide(loop, snapshot, i.Done(snapshot.phase.token, offer=OFFER), 1.0).snapshot
        sizes.append(len(msgspec.json.encode(snapshot)))
    assert sizes[-1] - sizes[10] < 20


EVENTS = sorted(
    {event for machine in ALL for row in machine.definition.table.values() for event in row.exits} | {"nonsense"}
)
CONDITION = st.fixed_dictionaries({}, optional={"shared_storage": st.booleans()})
OFFERS = st.sampled_from([None, OFFER, i.Offer("w2", EVERYWHERE), i.Offer("w3", frozenset({"host:a"}))])


STANDING: i.Standing = {name: [i.Claimant("other")] for name in ("instance:vm-1", "instance:1", "host:a")}


@st.composite
def an_input(draw: st.DrawFn, snapshot: Snapshot, states: list[str]) -> i.Input:
    token = snapshot.phase.token if isinstance(snapshot.phase, Running) else 1
    token = draw(st.sampled_from([token, token, token, token, 2]))
    offer = draw(OFFERS)
    kinds: list[i.Input] = [
        i.Take(OFFER),
        i.Done(token, "done", answers=draw(CONDITION), offer=offer),
        i.Done(token, draw(st.sampled_from(EVENTS)), answers=draw(CONDITION), offer=offer),
        i.Failed(
            token, draw(st.sampled_from([Failure("X"), Failure("Y", final=True), Failure("Z", retry_after=3.0)])), offer
        ),
        i.Stopped(token, offer),
        i.Silent(token),
        i.Lapsed(draw(st.sampled_from(["w1", "w2", "w3"])), offer),
        i.Tick(offer),
        i.Tick(offer, STANDING if draw(st.booleans()) else {"none": []}),
        i.Owns(token, "disk", "d-1", draw(st.booleans())),
        i.ChildOver(
            index := draw(st.integers(0, 1)),
            child_id(snapshot, index),
            draw(st.sampled_from(["succeeded", "failed"])),
            offer=offer,
        ),
        i.Signal(
            draw(st.sampled_from(EVENTS)), key=draw(st.sampled_from(["", "k"])), hold=draw(st.booleans()), offer=offer
        ),
        i.Cancel(offer=offer),
        i.Pause(before=draw(st.sampled_from([None, (), tuple(states[:2])]))),
        i.Resume(offer=offer),
        i.Retry(reason="r", offer=offer),
        i.Skip(reason="r", offer=offer),
        i.Override(draw(st.sampled_from(states)), reason="r", offer=offer),
    ]
    return draw(st.sampled_from(kinds))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_inputs_in_any_order(data: st.DataObject) -> None:
    """Whatever comes, an operation is somewhere that something can move it from, clean if it says so, and its journal tells it all."""
    machine = data.draw(st.sampled_from([one.definition for one in ALL]))
    guests = {"host": "a", "source": "a", "destination": "b", "guests": [{"instance": "1"}, {"instance": "2"}]}
    fields: Any = {
        "migration": MOVE, "resize": {"server": "s", "flavor": "f"}, "drain": guests, "evacuate": guests, "delete": {"instance": "1"},
    }.get(machine.name, {})  # fmt: skip
    later = data.draw(st.sampled_from([None, None, 10.0]))
    start = i.Start("op", fields, state=machine.initial[0], offer=data.draw(OFFERS), not_before=later)
    if data.draw(st.booleans()):
        start = replace(start, standing=STANDING, on_conflict="wait")
    decision = decide(machine, None, start, 0.0)
    journal, snapshot, now, overridden = list(decision.facts), decision.snapshot, 0.0, False
    for _ in range(data.draw(st.integers(1, 30))):
        now += data.draw(st.sampled_from([0.0, 1.0, 30.0, 3600.0, 90_000.0]))
        input = data.draw(an_input(snapshot, list(machine.states)))
        try:
            decision = decide(machine, snapshot, input, now)
        except (Refused, StaleToken):
            continue
        overridden |= isinstance(input, i.Override)
        check(snapshot, decision.snapshot, decision.facts, decision.effects, overridden)
        journal += decision.facts
        snapshot = decision.snapshot
        assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot
    again = None
    stored = msgspec.json.decode(msgspec.json.encode(journal), type=list[Fact])
    for fact in stored:
        again = fold(again, fact, 0.0)
    assert again is not None
    assert (again.seq, again.state, again.status, again.steps, again.data) == (
        snapshot.seq, snapshot.state, snapshot.status, snapshot.steps, snapshot.data
    )  # fmt: skip


def check(
    before: Snapshot, after: Snapshot, facts: tuple[Fact, ...], effects: tuple[i.Effect, ...], overridden: bool
) -> None:
    assert after.seq == before.seq + len(facts)
    assert not isinstance(after.phase, Settling)
    assert set(effects) <= set(outstanding(after))
    if before.ended:
        assert not facts, "an operation that is over was moved"
    if after.status in ("failed", "cancelled") and not overridden:
        assert not after.steps, "called clean with steps left to undo"
    issued = [fact for fact in facts if isinstance(fact, f.Issued)]
    assert len(issued) <= 1
    if issued:
        assert isinstance(after.phase, Running) and not after.paused
        if isinstance(before.phase, Running):
            ends = (f.Performed, f.Undone, f.Answered, f.AttemptFailed, f.AttemptLost, f.AttemptCut)
            assert any(isinstance(fact, ends) for fact in facts), "a new attempt while the old one had not ended"
    if isinstance(after.phase, Queued) and not after.paused:
        assert any(isinstance(effect, i.Wake) for effect in outstanding(after))
    if isinstance(after.phase, Joining):
        machine = next(one.definition for one in ALL if one.definition.name == after.machine)
        assert after.phase.live or after.paused or after.pending, "nobody will ever move it on"
        children = machine.table[after.state].children
        assert children is not None and len(after.phase.live) <= int(room_of(children, after.data))
    if isinstance(after.phase, Ended):
        assert not after.claims, "it is over and holds its claims"
        assert {own.kind for own in after.owned} <= {"record"}, "it is over and owns what nobody takes over"
    if isinstance(after.phase, Waiting):
        assert after.paused or timer_at(after) is not None or possible_signals(after)
    if isinstance(after.phase, Stuck):
        assert after.phase.reason and timer_at(after) is None


def possible_signals(snapshot: Snapshot) -> bool:
    machine = next(one.definition for one in ALL if one.definition.name == snapshot.machine)
    return any(word.startswith("signal ") for word in possible(machine, snapshot))
