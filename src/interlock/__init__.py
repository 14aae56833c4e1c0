"""Interlock: one state machine definition that first guards your operations, and then drives them to completion.

What a machine is made of is imported at once, on the standard library alone; whatever runs operations is loaded when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interlock.definition.declare import Children, Claim, Final, Group, Retry, Rollback, State, When
from interlock.definition.machine import Definition, Machine
from interlock.errors import (
    ActionsMismatch,
    ClaimTaken,
    Conflict,
    Fail,
    IllegalData,
    IllegalDocument,
    IllegalMachine,
    IllegalMove,
    InterlockError,
    KeyReused,
    LimitExceeded,
    NotPossible,
    Refused,
    RetryAfter,
    StaleToken,
    StoreFailed,
    StoreNewer,
    Unavailable,
    Unknown,
)

if TYPE_CHECKING:
    from interlock.definition.document import load, read_document, to_document
    from interlock.guards.attach import guard
    from interlock.guards.attribute import Guard
    from interlock.guards.reason import because
    from interlock.runtime.actions import Actions, Event, Operation
    from interlock.runtime.engine import Handle, Interlock

__all__ = [
    "Actions",
    "ActionsMismatch",
    "Children",
    "Claim",
    "ClaimTaken",
    "Conflict",
    "Definition",
    "Event",
    "Fail",
    "Final",
    "Group",
    "Guard",
    "Handle",
    "IllegalData",
    "IllegalDocument",
    "IllegalMachine",
    "IllegalMove",
    "Interlock",
    "InterlockError",
    "KeyReused",
    "LimitExceeded",
    "Machine",
    "NotPossible",
    "Operation",
    "Refused",
    "Retry",
    "RetryAfter",
    "Rollback",
    "StaleToken",
    "State",
    "StoreFailed",
    "StoreNewer",
    "Unavailable",
    "Unknown",
    "When",
    "because",
    "guard",
    "load",
    "read_document",
    "to_document",
]
__version__ = "0.1.0"

_LATER = {
    "Actions": "interlock.runtime.actions",
    "Event": "interlock.runtime.actions",
    "Operation": "interlock.runtime.actions",
    "Guard": "interlock.guards.attribute",
    "Handle": "interlock.runtime.engine",
    "Interlock": "interlock.runtime.engine",
    "because": "interlock.guards.reason",
    "guard": "interlock.guards.attach",
    "load": "interlock.definition.document",
    "read_document": "interlock.definition.document",
    "to_document": "interlock.definition.document",
}


def __getattr__(name: str) -> Any:
    """Load what runs operations when it is first named."""
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module `interlock` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
