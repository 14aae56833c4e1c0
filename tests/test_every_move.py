"""What all moves have in common."""

from __future__ import annotations

from interlock.checking.check import check
from interlock.checking.claims import claims
from interlock.compute.every_move import MOVES, every_move
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.definition.draw import draw

MACHINES = [actions.definition for actions in every_move(FakeFleet(FakeWorld()))]


def test_they_end_in_the_same_ways_and_nothing_waits_without_a_deadline() -> None:
    assert len(MACHINES) == len(MOVES) == 12
    for machine in MACHINES:
        finals = {state.name: state.outcome for state in machine.states.values() if state.kind == "final"}
        assert finals == {"completed": "succeeded", "refused": "failed", "failed": "failed", "cancelled": "cancelled"}
        for row in machine.table.values():
            if row.kind == "waiting":
                assert row.after, f"{machine.name}: {row.name} waits without a deadline"
            if row.kind == "acting":
                assert row.timeout is not None, f"{machine.name}: {row.name} may hang"
        assert draw(machine, "mermaid")


def test_every_move_of_a_guest_holds_the_guest_alone() -> None:
    for machine in MACHINES:
        named = {claim.name: claim for claim in machine.claims}
        if "whole-host:{host}" in named:
            continue
        assert named["instance:{instance}"].limit == 1, machine.name


def test_beside_each_other_their_claims_cannot_deadlock() -> None:
    for machine in MACHINES:
        others = [one for one in MACHINES if one is not machine]
        assert not [str(one) for one in claims(machine, others)], machine.name
        assert check(machine).complete
