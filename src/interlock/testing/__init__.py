"""Proving: the test kit for users' own machines; and the simulator, and what it is made of.

    from interlock.testing import Kit

`Kit` runs a machine's operations in a plain test, `replay` holds an operation's journal against today's machine, `Coverage` counts the ways
that were taken. Each is loaded when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.testing.coverage import Coverage, Way, collecting
    from interlock.testing.kit import Kit, KitOperation
    from interlock.testing.replaying import NoLongerFits, Replayed, replay
    from interlock.testing.stage import NeverQuiet
    from interlock.testing.stubs import CRASHES, HANGS

__all__ = [
    "CRASHES",
    "HANGS",
    "Coverage",
    "Kit",
    "KitOperation",
    "NeverQuiet",
    "NoLongerFits",
    "Replayed",
    "Way",
    "collecting",
    "replay",
]

_LATER = {
    "CRASHES": "interlock.testing.stubs",
    "HANGS": "interlock.testing.stubs",
    "Coverage": "interlock.testing.coverage",
    "Kit": "interlock.testing.kit",
    "KitOperation": "interlock.testing.kit",
    "NeverQuiet": "interlock.testing.stage",
    "NoLongerFits": "interlock.testing.replaying",
    "Replayed": "interlock.testing.replaying",
    "Way": "interlock.testing.coverage",
    "collecting": "interlock.testing.coverage",
    "replay": "interlock.testing.replaying",
}


def __getattr__(name: str) -> Any:
    """Load what is first named now."""
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module `interlock.testing` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
