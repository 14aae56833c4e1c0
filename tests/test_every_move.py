"""What all moves have in common."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from interlock.checking.check import check
from interlock.checking.claims import claims
from interlock.compute.every_move import MOVES, every_move
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.hypervisor import Guest
from interlock.definition.draw import draw
from interlock.definition.machine import Definition
from interlock.testing import Kit, KitOperation

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


A, B, VM = "host-a", "host-b", "vm-1"
FIELDS: dict[str, dict[str, Any]] = {
    "cold_migration": {"instance": VM, "source": A, "destination": B},
    "resize": {"instance": VM, "host": A, "memory_mib": 48, "cpus": 1, "unanswered": "revert"},
    "snapshot": {"instance": VM, "host": A, "image": "golden"},
    "rebuild": {"instance": VM, "host": A},
    "shelve": {"instance": VM, "host": A},
    "delete": {"instance": VM},
}


class Yard:
    """Simulated hosts in virtual time, a guest on the first, and one kind of move."""

    def __init__(self, name: str, storage: str = "shared") -> None:
        self.world = FakeWorld()
        self.fleet = FakeFleet(self.world, (A, B), clock=lambda: self.kit.now)
        self.kit = Kit(MOVES[name](self.fleet))
        asyncio.run(self.fleet.boot(Guest(VM, memory_mib=32, filled_mib=8, storage=storage), A))

    def as_it_was(self, move: KitOperation) -> None:
        """Assert that nothing is left of a move, and the guest is where and what it was."""
        there = {host: str(process.state) for host, process in self.world.living(VM).items()}
        assert there == {A: "running"} and self.world.guests[VM]["memory_mib"] == 32, move.journal
        (disk,) = self.world.disks.values()
        assert not self.world.images and not disk.saves, move.journal


def started(name: str) -> list[str]:
    """The states of a move in which something is done before it can no longer be undone."""
    return [row.name for row in definition_of_move(name).table.values() if row.undo is True]


def definition_of_move(name: str) -> Definition:
    return next(machine for machine in MACHINES if machine.name == name.replace("_", "-"))


@pytest.mark.parametrize(("name", "state"), [(name, state) for name in FIELDS for state in started(name)])
def test_hosts_that_vanish_at_any_state_bring_it_back_when_they_answer_again(name: str, state: str) -> None:
    yard = Yard(name, "local" if state == "carrying" else "shared")
    move = yard.kit.start(FIELDS[name], breakpoints=[state])
    move.expect(status="paused", state=state)
    for host in (A, B):
        asyncio.run(yard.fleet.cut_off(host))
    move.resume()
    yard.kit.advance("20s")
    assert move.status == "reverting", move.journal
    for host in (A, B):
        asyncio.run(yard.fleet.cut_off(host, reachable=True))
    yard.kit.finish(move, within="2h")
    assert (move.status, move.state) == ("failed", "failed"), move.journal
    yard.as_it_was(move)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("resize", "saving"),
        ("snapshot", "copying"),
        ("rebuild", "saving"),
        ("shelve", "storing"),
        ("cold_migration", "carrying"),
    ],
)
def test_a_full_storage_is_said_at_once_and_rolled_back(name: str, state: str) -> None:
    yard = Yard(name, "local" if state == "carrying" else "shared")
    asyncio.run(yard.fleet.fill())
    move = yard.kit.start(FIELDS[name])
    yard.kit.finish(move, within="1m")
    assert (move.status, move.state) == ("failed", "failed"), move.journal
    assert move.attempts(state) == 1 and "no room on the storage" in "".join(map(str, move.journal))
    yard.as_it_was(move)
