"""`Guard` on classes of every kind."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from interlock import Guard, IllegalMove
from tests.volumes import VolumeStates


class Plain:
    status = Guard(VolumeStates)

    def __init__(self, status: str = "creating") -> None:
        self.status = status


class Slotted:
    __slots__ = ("_status",)
    status = Guard(VolumeStates)


@dataclass
class Declared:
    name: str
    status: Guard = Guard(VolumeStates)  # noqa: RUF009  a descriptor is the default that dataclasses hand over


class Heir(Plain):
    pass


class Observed:
    status = Guard(VolumeStates, mode="observe")


@pytest.mark.parametrize("kind", [Plain, Slotted, Heir])
def test_a_refused_assignment_leaves_the_value(kind: type[Any]) -> None:
    record = kind()
    record.status = "creating"
    record.status = "free"
    record.status = "free"
    with pytest.raises(IllegalMove, match=r"\.status: machine `volume` does not allow `free` -> `failed`"):
        record.status = "failed"
    assert record.status == "free"


def test_creation_takes_an_initial_value_only() -> None:
    with pytest.raises(IllegalMove, match="begin as `free`; it may begin as `creating`"):
        Plain("free")
    with pytest.raises(AttributeError, match=r"Slotted\.status has no value yet"):
        _ = Slotted().status


def test_a_dataclass_begins_in_the_one_initial_state() -> None:
    record = Declared("v1")
    assert record.status == "creating"
    with pytest.raises(IllegalMove):
        Declared("v2", "gone")


def test_observing_lets_everything_pass() -> None:
    record = Observed()
    record.status = "gone"
    record.status = "nonsense"
    assert record.status == "nonsense"
    assert [(one.current, one.wanted) for one in Observed.status.sightings()] == [(None, "gone"), ("gone", "nonsense")]
    assert all(one.site.startswith(__file__) for one in Observed.status.sightings())


def test_a_copy_stands_where_the_original_stood() -> None:
    record = Plain()
    record.status = "free"
    twin = copy.copy(record)
    twin.status = "in-use"
    assert (record.status, twin.status) == ("free", "in-use")


def test_what_cannot_be_guarded_is_refused_when_the_class_is_made() -> None:
    with pytest.raises((TypeError, RuntimeError)) as refused:

        class Closed:
            __slots__ = ("name",)
            status = Guard(VolumeStates)

    assert "add '_status' to them" in str(refused.value.__cause__ or refused.value)  # wrapped before Python 3.12
    with pytest.raises(AttributeError, match="it is not deleted, it moves"):
        del Plain().status


def test_unhashable_and_foreign_values_are_refused() -> None:
    record = Plain()
    for odd in (["free"], None, 3):
        with pytest.raises(IllegalMove):
            record.status = odd
    assert record.status == "creating"


def test_guarding_loads_the_standard_library_alone() -> None:
    code = """
import sys
before = set(sys.modules)
from interlock import Guard, Machine, State, Final
class M(Machine[dict], version=1):
    a = State(initial=True, to=["b"])
    b = Final("succeeded")
class R:
    status = Guard(M)
r = R(); r.status = "a"; r.status = "b"
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names) - {"interlock"}), "asyncio" in sys.modules, "sqlite3" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] False False"
