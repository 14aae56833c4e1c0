"""All moves of a guest together: the machines that this package ships, and their actions over one fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from interlock import Actions
from interlock.compute.boot import boot
from interlock.compute.cold_migration import cold_migration
from interlock.compute.delete import delete
from interlock.compute.evacuation import evacuation, host_return
from interlock.compute.fleet import Fleet
from interlock.compute.host_drain import host_drain
from interlock.compute.live_migration import live_migration
from interlock.compute.rebuild import rebuild
from interlock.compute.resize import resize
from interlock.compute.shelving import shelve, unshelve
from interlock.compute.snapshot import snapshot

__all__ = ["MOVES", "every_move"]

MOVES: Mapping[str, Callable[[Fleet], Actions[Any]]] = {
    "live_migration": live_migration,
    "cold_migration": cold_migration,
    "resize": resize,
    "evacuation": evacuation,
    "host_return": host_return,
    "host_drain": host_drain,
    "boot": boot,
    "delete": delete,
    "snapshot": snapshot,
    "rebuild": rebuild,
    "shelve": shelve,
    "unshelve": unshelve,
}
"""What makes the actions of each move, by its name."""


def every_move(fleet: Fleet) -> list[Actions[Any]]:
    """Return the actions of all moves over a fleet.

    >>> from interlock.compute.fake_fleet import FakeFleet, FakeWorld
    >>> [actions.definition.name for actions in every_move(FakeFleet(FakeWorld()))][:3]
    ['live-migration', 'cold-migration', 'resize']
    """
    return [make(fleet) for make in MOVES.values()]
