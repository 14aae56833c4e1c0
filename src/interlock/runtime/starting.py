"""What a start is made of: the caller's bounds, and the id that an idempotency key stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from interlock.definition.data import fit
from interlock.definition.duration import Duration, seconds
from interlock.definition.machine import Definition
from interlock.errors import KeyReused, Refused
from interlock.interpreter.facts import Bounds, Started
from interlock.runtime.limits import Limits
from interlock.stores.contract import Record

__all__ = ["bounds_of", "id_for", "same_start"]


def bounds_of(
    now: float,
    deadline: Duration | None,
    timeouts: Mapping[str, Duration] | None,
    within: Mapping[str, Duration] | None,
    retries: Mapping[str, int] | None,
) -> Bounds | None:
    """Return what a caller set for one operation, None if nothing. Raises `Refused` for what is no duration or number of attempts."""
    if deadline is None and not (timeouts or within or retries):
        return None
    for state, attempts in (retries or {}).items():
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise Refused(f"retries: `{state}` must have a whole number of attempts from 1, not {attempts!r}")
    try:
        return Bounds(
            None if deadline is None else now + seconds(deadline),
            {state: seconds(value) for state, value in (timeouts or {}).items()},
            {state: seconds(value) for state, value in (within or {}).items()},
            dict(retries or {}),
        )
    except ValueError as error:
        raise Refused(str(error)) from None


def id_for(limits: Limits, machine: Definition, key: str) -> str:
    """Return the id of the operation of a machine that an idempotency key stands for. Raises `Refused`, `LimitExceeded`."""
    if not key:
        raise Refused("an empty idempotency key: leave key= out, or give one")
    limits.text("key_characters", key, "idempotency key")
    return "k" + hashlib.sha256(f"{machine.name}\0{key}".encode()).hexdigest()[:24]


def same_start(records: Sequence[Record], machine: Definition, key: str, given: Mapping[str, Any]) -> None:
    """Raise `KeyReused` unless the operation that a key stands for was started with the same data; ``records`` begin its journal."""
    first = records[0].facts[0]
    assert isinstance(first, Started), f"the journal of the operation of key `{key}` begins with {first!r}"
    if fit(machine.fields, given, f"operation of `{machine.name}`") != first.data:
        raise KeyReused(
            f"key `{key}` stands for operation `{first.id}`, which was started with other data; use another key",
            key=key,
            operation=first.id,
        )
