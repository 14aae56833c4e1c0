"""`guard` finds the ORM by the attribute it is given."""

from __future__ import annotations

import pytest

from interlock import Refused, guard
from tests.volumes import VolumeStates


def test_what_is_no_column_is_refused_with_what_to_write() -> None:
    class Thing:
        status = "free"

    with pytest.raises(Refused, match=r"write `status = Guard\(machine\)` in its body"):
        guard(Thing.status, VolumeStates)


def test_the_package_and_the_function_do_not_hide_each_other() -> None:
    import interlock
    import interlock.guards.attach

    assert interlock.guard is guard is interlock.guards.attach.guard
