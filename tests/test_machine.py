"""Building machines from classes, and the table that everybody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from interlock import Definition, Final, IllegalMachine, Machine, State, Unknown
from interlock.definition.declare import Branch
from interlock.definition.machine import data_type_of
from tests.machines import Guarded, Migration, Move, Resize


def test_groups_are_flattened_and_the_nearest_exit_wins() -> None:
    table = Resize.definition.table
    assert table["stopping"].groups == ("disks", "moving")
    assert table["stopping"].exits["host_down"] == (Branch("failed", rollback=True),)
    assert table["copying_disk"].exits["timeout"] == (Branch("parked"),)
    assert "host_down" not in table["starting"].exits


def test_what_stands_past_the_pivot() -> None:
    past = {name for name, row in Migration.definition.table.items() if row.past_pivot}
    assert past == {"switching", "cleaning"}
    assert Migration.definition.table["switching"].cancel == "refuse"
    assert Migration.definition.table["copying"].cancel == "rollback"


def test_moves_and_views() -> None:
    machine = Migration.definition
    assert machine.allows("copying", "switching") and machine.allows("copying", "cancelled")
    assert not machine.allows("cleaning", "failed") and not machine.allows("nowhere", "failed")
    assert machine.view("copying", "v1") == "MIGRATING" and machine.view("failed", "v1") == "ACTIVE"
    with pytest.raises(Unknown, match="has no view `v9`; it has v1"):
        machine.view("copying", "v9")
    with pytest.raises(Unknown, match="did you mean `copying`"):
        machine.row("copyin")


def test_a_machine_without_actions_guards() -> None:
    machine = Guarded.definition
    assert not machine.drives
    assert machine.initial == ("accepted", "imported", "failed")
    assert machine.allows("running", "post_copy") and not machine.allows("accepted", "completed")
    assert not machine.allows("running", "failed"), "nothing is implied where nothing is driven"
    assert machine.table["post_copy"].status == "running (post-copy)"


def test_an_end_that_existing_code_leaves_is_still_an_end() -> None:
    machine = Guarded.definition
    assert machine.finals == ("completed", "error", "failed") and not machine.drives
    assert machine.moves["completed"] == {"completed", "error"} and machine.moves["failed"] == frozenset()
    assert machine.allows("running", "running") and machine.allows("error", "failed")
    assert not machine.allows("completed", "failed")
    assert [(event, branch.to) for event, branch in machine.table["error"].targets()] == [("to", "failed")]


def test_a_subclass_may_change_a_state_and_inherits_the_data_type() -> None:
    class Faster(Migration, version=2):
        checking = State(initial=True, undo="nothing", then="preparing", on={"unsuitable": "refused"}, timeout="5s")

    assert Faster.definition.version == 2 and Faster.definition.name == "faster"
    assert Faster.definition.table["checking"].timeout == 5.0
    assert Faster.definition.table["copying"] == Migration.definition.table["copying"]
    assert data_type_of(Faster) is Move
    assert Migration.definition.table["checking"].timeout == 30.0


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(IllegalMachine, match="`helper`: is function, which a machine has no use for"):

        class Odd(Machine[Any], version=1):
            a = State(initial=True, on={"go": "end"})
            end = Final("succeeded")

            def helper(self) -> None: ...


def test_an_empty_class_is_refused() -> None:
    with pytest.raises(IllegalMachine, match="has no state"):

        class Nothing(Machine[Any], version=1):
            pass


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.5])
def test_versions_are_counted_from_one(version: Any) -> None:
    with pytest.raises(IllegalMachine, match="Number versions 1, 2, 3"):

        class Odd(Machine[Any], version=version):
            a = State(initial=True, on={"go": "end"})
            end = Final("succeeded")


def test_a_data_type_that_cannot_be_read() -> None:
    @dataclass
    class Hidden:
        other: Unheard  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(IllegalMachine, match="declare what it names at module level"):

        class Odd(Machine[Hidden], version=1):
            a = State(initial=True, on={"go": "end"})
            end = Final("succeeded")


def test_what_is_late_for_good_leads_to_failed_in_a_machine_that_only_waits() -> None:
    class Slow(Machine[Any], version=1):
        asked = State(initial=True, on={"answer": "end"}, within="1h")
        told = State(initial=True, on={"answer": "end"})
        end = Final("succeeded")
        failed = Final("failed")

    assert Slow.definition.moves["asked"] == {"end", "failed"}
    assert Slow.definition.moves["told"] == {"end"}


@pytest.mark.parametrize(
    ("name", "says"), [("", "is no name for a machine"), ('m"]; x', "is no name"), ("m" * 65, "is longer")]
)
def test_a_machines_name_is_fit_for_drawings_and_addresses(name: str, says: str) -> None:
    a, end = State(initial=True, on={"go": "end"}, name="a"), Final("succeeded", name="end")
    with pytest.raises(IllegalMachine, match=says):
        Definition(name, 1, {"a": a, "end": end})
