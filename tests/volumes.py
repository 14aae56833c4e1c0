"""A guarded machine for the tests: a volume's status, with a stored value that is no identifier."""

from __future__ import annotations

from typing import Any

from interlock import Final, Machine, State


class VolumeStates(Machine[dict[str, Any]], version=1, name="volume"):
    creating = State(initial=True, to=["free", "failed"])
    free = State(to=["used", "gone"])
    used = State(status="in-use", to=["free", "used", "failed"])
    failed = Final("failed")
    gone = Final("succeeded")
