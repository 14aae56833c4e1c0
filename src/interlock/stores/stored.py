"""The stored form: what every store writes for facts, snapshots and definitions, and how it reads them back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from interlock.errors import Refused
from interlock.interpreter.claims import family
from interlock.interpreter.facts import Fact
from interlock.interpreter.inputs import Claimant
from interlock.interpreter.phases import Beginning, Joining
from interlock.interpreter.snapshot import Snapshot
from interlock.stores.contract import Schedule, Store

__all__ = [
    "awaits",
    "document_text",
    "encode",
    "owns",
    "place_of",
    "read_facts",
    "read_schedule",
    "read_snapshot",
    "same_document",
    "standing_of",
]

encode = msgspec.json.Encoder().encode
read_facts = msgspec.json.Decoder(tuple[Fact, ...]).decode
read_schedule = msgspec.json.Decoder(Schedule).decode
read_snapshot = msgspec.json.Decoder(Snapshot).decode


def awaits(snapshot: Snapshot) -> bool:
    """Return whether an operation waits for others that it has to look after: its children, or whom it preempts."""
    phase = snapshot.phase
    if isinstance(phase, Joining):
        return bool(phase.live)
    return isinstance(phase, Beginning) and bool(snapshot.preempts)


def owns(snapshot: Snapshot) -> bool:
    """Return whether an operation owns something and has not ended."""
    return bool(snapshot.owned) and not snapshot.ended


def standing_of(store: Store, snapshot: Snapshot) -> Mapping[str, list[Claimant]]:
    """Return what stands at an operation's claims, as much of it as matters to the operation."""
    most = max((claim.limit for claim in snapshot.claims), default=0) + len(family(snapshot)) + 1
    return store.standing([claim.name for claim in snapshot.claims], most)


def document_text(document: Mapping[str, Any]) -> str:
    """Return a definition's document as text; the order of its keys is kept, as it is that of drawings and lists."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def same_document(machine: str, version: int, known: str, given: str) -> None:
    """Raise `Refused` unless two texts are the same definition; the order of keys does not matter."""
    if known != given and _in_order(known) != _in_order(given):
        raise Refused(
            f"machine `{machine}` version {version} is known to this store with another content; "
            "give the changed machine a new version",
            machine=machine,
            version=version,
        )


def _in_order(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def place_of(cursor: str) -> int:
    """Return the place in the list that a page's cursor stands for. Raises `Refused` if no page gave it.

    >>> place_of("17")
    17
    """
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise Refused(f"cursor `{cursor[:40]}` is none of this store: give the one that the last page ended with")
    return int(cursor)
