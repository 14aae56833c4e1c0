"""A process of its own that writes to a SQLite store: the tests of what survives it run it.

python -m tests.store_writer endless PATH      commit groups for ever; say of each, once acknowledged, `id seq` for its operations
python -m tests.store_writer race PATH NAME N  move `race-0` to `race-3` on N times; say `id seq` for each compare-and-set won
python -m tests.store_writer open PATH         wait for a line, open the store, say its position
"""

from __future__ import annotations

import sys
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from interlock.stores.sqlite import SqliteStore
from tests.store_contract import running, stepped

GROUP = 8
RACED = tuple(f"race-{number}" for number in range(4))


def endless(path: str) -> None:
    store = SqliteStore(path)
    place = store.position()
    while True:
        group = [running(f"op-{place}-{number}") for number in range(GROUP)]
        for _ in range(20):
            assert all(store.commit(group))
            place += GROUP
            print(*(f"{entry.snapshot.id} {entry.snapshot.seq}" for entry in group), sep="\n", flush=True)
            group = [stepped(entry.snapshot, "two", at=entry.at + 1) for entry in group]


def race(path: str, name: str, count: int) -> None:
    store = SqliteStore(path, busy_seconds=60)
    for _ in range(count):
        group = [stepped(snapshot, "two", name) for snapshot in store.load(RACED)]
        for entry, won in zip(group, store.commit(group), strict=True):
            if won:
                print(entry.snapshot.id, entry.snapshot.seq)
    store.close()


def open_all(paths: list[str], together: Barrier, said: Queue[list[int]]) -> None:
    """Open stores, each at the moment in which others do, and say their positions."""
    positions = []
    for path in paths:
        together.wait()
        store = SqliteStore(path)
        positions.append(store.position())
        store.close()
    said.put(positions)


if __name__ == "__main__":
    _, what, *arguments = sys.argv
    if what == "endless":
        endless(arguments[0])
    else:
        race(arguments[0], arguments[1], int(arguments[2]))
