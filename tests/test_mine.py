"""Mining: whatever happened, the machine that is proposed allows it; accidents are set apart."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.definition.machine import Definition
from interlock.errors import Refused
from interlock.history.conform import conform
from interlock.history.mine import mine
from interlock.history.reading import Step
from interlock.history.tally import tally
from interlock.testing.machines import random_machine

WALKS = 30


def walks(machine: Definition, random: Random) -> list[Step]:
    """Return moves that a machine allows, of a few records, beginning where it begins."""
    status = {name: row.status for name, row in machine.table.items()}
    steps = []
    for number in range(WALKS):
        at, state = float(number), random.choice(machine.initial)
        steps.append(Step(f"r{number}", None, status[state], at))
        while machine.moves[state] and random.random() < 0.9:
            following = random.choice(sorted(machine.moves[state]))
            at += random.random() * 100
            steps.append(Step(f"r{number}", status[state], status[following], at))
            state = following
    return steps


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_what_happened_is_allowed_by_what_is_mined_and_by_what_it_came_from(seed: int) -> None:
    random = Random(seed)
    machine = random_machine(random, "m")
    counted = tally(walks(machine, random))
    assert conform(machine, counted).holds
    if not any(before for before, _ in counted.moves):
        return
    proposal = mine(counted, keep_rare=True)
    found = conform(proposal.machine, counted)
    assert found.holds and not found.unused and not proposal.rare
    assert set(proposal.names) <= {row.status for row in machine.table.values()}


def test_what_is_rare_is_left_out_with_what_only_it_leads_to() -> None:
    steps = []
    for number in range(5_000):
        steps += [Step(f"r{number}", None, "new", 0.0), Step(f"r{number}", "new", "done", 1.0)]
    steps += [Step("odd", None, "new", 0.0), Step("odd", "new", "lost", 1.0), Step("odd", "lost", "found", 2.0)]
    proposal = mine(tally(steps))
    assert list(proposal.rare) == [("new", "lost")] and list(proposal.behind) == [("lost", "found")]
    assert list(proposal.machine.states) == ["new", "done"] and proposal.machine.finals == ("done",)
    everything = mine(tally(steps), keep_rare=True)
    assert set(everything.machine.states) == {"new", "done", "lost", "found"} and not everything.rare


def test_names_fit_and_the_stored_text_is_kept() -> None:
    values = ["in use", "in-use", "class", "2nd try", "état", "In use"]
    steps = [Step("r", before, after, 0.0) for before, after in zip([None, *values], values, strict=False)]
    machine = mine(tally(steps), "9 lives!").machine
    assert [row.status for row in machine.table.values()] == values and len({*machine.states}) == len(values)
    assert machine.name == "m-9-lives" and all(name.isidentifier() for name in machine.states)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [("error", "failed"), ("Timed out", "failed"), ("cancelled", "cancelled"), ("active", "succeeded")],
)
def test_how_an_end_is_called_is_guessed_from_its_name(value: str, outcome: str) -> None:
    machine = mine(tally([Step("r", None, "new", 0.0), Step("r", "new", value, 1.0)])).machine
    (end,) = machine.finals
    assert machine.table[end].outcome == outcome


def test_a_circle_without_an_end_gets_the_one_where_records_rest() -> None:
    steps = [Step("new", None, "new", 0.0), Step("new", "new", "gone", 1.0)]
    for number in range(9):
        steps += [Step(f"r{number}", None, "new", 0.0), Step(f"r{number}", "new", "off", 0.0)]
        steps += [Step(f"r{number}", "off", "on", 1.0), Step(f"r{number}", "on", "off", 2.0)]
    steps += [Step("r0", "off", "on", 3.0)]
    proposal = mine(tally(steps))
    assert proposal.resting == {"off": 8} and set(proposal.machine.finals) == {"gone", "off"}


def test_a_history_in_which_nothing_moved_is_refused() -> None:
    with pytest.raises(Refused, match="nothing was read"):
        mine(tally([]))
    with pytest.raises(Refused, match="is the column of the record the right one"):
        mine(tally([Step("r", None, "a", 0.0), Step("s", None, "b", 0.0)]))
