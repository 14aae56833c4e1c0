"""Claims in the SQLite store: who holds what, and who waits for it, on the store's connection and within its transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from interlock.interpreter.claims import blocked, family
from interlock.interpreter.inputs import Claimant
from interlock.interpreter.snapshot import Snapshot

__all__ = ["claim", "free", "standing", "waiting"]

_STANDING = "SELECT operation, held FROM claim WHERE name=? ORDER BY held DESC, place LIMIT ?"
_WAITING = """SELECT min(place), operation FROM
(SELECT *, row_number() OVER (PARTITION BY name ORDER BY place) AS rank FROM claim WHERE held = 0) AS mine
WHERE kin OR rank + (SELECT count(*) FROM claim AS taken WHERE taken.name = mine.name AND taken.held = 1) <= share
GROUP BY operation HAVING min(place) > ? ORDER BY 1 LIMIT ?"""


def standing(db: sqlite3.Connection, names: Collection[str], limit: int) -> dict[str, list[Claimant]]:
    """Return of each name who holds it, then who waits for it in order."""
    return {
        name: [Claimant(operation, bool(held)) for operation, held in db.execute(_STANDING, (name, limit))]
        for name in names
    }


def free(db: sqlite3.Connection, snapshot: Snapshot) -> bool:
    """Return whether what a snapshot says it holds is free for it."""
    held = [claim for claim in snapshot.claims if claim.held]
    if not held:
        return True
    ancestors = family(snapshot)
    most = max(claim.limit for claim in held) + len(ancestors) + 1
    return not blocked(held, standing(db, [claim.name for claim in held], most), snapshot.id, ancestors)


def claim(db: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Make an operation's claims those of its snapshot; who waited for a claim keeps its place."""
    if not snapshot.claims:
        db.execute("DELETE FROM claim WHERE operation=?", (snapshot.id,))
        return
    known = {name for (name,) in db.execute("SELECT name FROM claim WHERE operation=?", (snapshot.id,))}
    for gone in known - {claim.name for claim in snapshot.claims}:
        db.execute("DELETE FROM claim WHERE operation=? AND name=?", (snapshot.id, gone))
    kin = snapshot.parent is not None
    for one in snapshot.claims:
        if one.name in known:
            row = (one.held, one.limit, snapshot.id, one.name)
            db.execute("UPDATE claim SET held=?, share=? WHERE operation=? AND name=?", row)
        else:
            new = (one.name, snapshot.id, one.held, one.limit, kin)
            db.execute("INSERT INTO claim (name, operation, held, share, kin) VALUES (?, ?, ?, ?, ?)", new)


def waiting(db: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, str]]:
    """Return place and id of operations that wait for claims and may find them free."""
    return db.execute(_WAITING, (after, limit)).fetchall()
