"""What the engine reaches: operations of five steps alone and many in flight, one of very many steps, and orphans of a killed process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock import Interlock
from interlock.bench.device import flushes
from interlock.bench.machines import STEPS, Five, Round, five, round_actions, some_data
from interlock.stores.contract import Entry
from interlock.stores.sqlite import SqliteStore

__all__ = ["Flat", "InFlight", "Orphans", "flat", "in_flight", "orphans"]


class CountingStore(SqliteStore):
    """A SQLite store that counts what it is asked to commit."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.transactions = 0
        self.entries = 0

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        self.transactions += 1
        self.entries += len(entries)
        return super().commit(entries)


@dataclass(frozen=True)
class InFlight:
    """Operations of five steps, ``concurrent`` at a time. Times in seconds."""

    concurrent: int
    operations: int
    steps_per_second: float
    p50: float
    p99: float
    cpu_per_step: float
    commits_per_operation: float
    transactions: int
    flushes_per_operation: float | None
    bytes_per_step: float


def in_flight(directory: Path, concurrent: int, operations: int) -> InFlight:
    """Measure ``operations`` operations of five steps, ``concurrent`` at a time, on SQLite at synchronous=FULL."""
    return asyncio.run(_in_flight(directory, concurrent, operations))


async def _in_flight(directory: Path, concurrent: int, operations: int) -> InFlight:
    path = directory / f"engine-{concurrent}.db"
    store = CountingStore(path)
    taken: list[float] = []
    async with Interlock(store, actions=[five], max_running=max(500, concurrent)) as interlock:

        async def client(count: int) -> None:
            for _ in range(count):
                began = time.perf_counter()
                operation = await interlock.start(Five, some_data())
                await operation.finished()
                taken.append(time.perf_counter() - began)

        await client(5)
        taken.clear()
        store.transactions = store.entries = 0
        flushed, size, cpu, began = flushes(), path.stat().st_size, time.process_time(), time.perf_counter()
        await asyncio.gather(*(client(operations // concurrent) for _ in range(concurrent)))
        passed, cpu = time.perf_counter() - began, time.process_time() - cpu
        after = flushes()
        entries, transactions = store.entries, store.transactions
    done = len(taken)
    steps = done * STEPS
    ordered = sorted(taken)
    grown = path.stat().st_size - size
    _remove(path)
    return InFlight(
        concurrent,
        done,
        steps / passed,
        statistics.median(ordered),
        ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        cpu / steps,
        entries / done,
        transactions,
        None if after is None or flushed is None else (after - flushed) / done,
        grown / steps,
    )


@dataclass(frozen=True)
class Flat:
    """Seconds a step, near the given steps of one long operation, by step number."""

    per_step: dict[int, float]


def flat(directory: Path, turns: int) -> Flat:
    """Measure what a step costs early and late in one operation of ``turns`` steps (flushes left out: synchronous=NORMAL)."""
    path = directory / "flat.db"
    window = max(5, min(500, turns // 20))
    places = [place for place in (10, 100, 1_000, 10_000, 100_000) if place + window <= turns] or [10]
    marks = {mark: 0.0 for place in places for mark in (place, place + window)}

    async def run() -> None:
        store = SqliteStore(path, synchronous="NORMAL")
        async with Interlock(store, actions=[round_actions(turns, marks, time.process_time)]) as interlock:
            operation = await interlock.start(Round, {"notes": "n" * 200})
            await operation.finished()

    asyncio.run(run())
    _remove(path)
    return Flat({place: (marks[place + window] - marks[place]) / window for place in places})


@dataclass(frozen=True)
class Orphans:
    """``count`` operations left by a killed process. Seconds from the launch of the next one."""

    count: int
    first: float
    all: float


def orphans(directory: Path, count: int) -> Orphans:
    """Let a process start ``count`` operations and kill it with SIGKILL while all stand in their second step; measure the next one."""
    path = directory / "orphans.db"
    command = [sys.executable, "-m", "interlock.bench.engine", str(path), str(count)]
    with subprocess.Popen([*command, "leave"], stdout=subprocess.PIPE, text=True) as left:
        assert left.stdout is not None
        line = left.stdout.readline()
        if line.strip() != "ready":
            raise RuntimeError(f"the process that was to leave orphans said {line!r}")
        os.kill(left.pid, signal.SIGKILL)
    began = time.time()
    taken = subprocess.run([*command, "take"], stdout=subprocess.PIPE, text=True, check=True)
    times = json.loads(taken.stdout)
    _remove(path)
    return Orphans(count, times["first"] - began, times["all"] - began)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


async def _leave(path: str, count: int) -> None:
    from interlock import Actions

    reached = asyncio.Event()
    standing = 0
    actions = Actions(Five)

    async def stand(op: Any) -> None:
        nonlocal standing
        standing += 1
        if standing == count:
            reached.set()
        await asyncio.Event().wait()

    async def pass_on(op: Any) -> None:
        return None

    actions.perform("one")(pass_on)
    for name in ("two", "three", "four", "five"):
        actions.perform(name)(stand)
    async with Interlock(SqliteStore(path, synchronous="NORMAL"), actions=[actions], max_running=count) as interlock:
        for batch in range(0, count, 500):
            await asyncio.gather(*(interlock.start(Five, some_data()) for _ in range(min(500, count - batch))))
        await reached.wait()
        print("ready", flush=True)
        await asyncio.Event().wait()


async def _take(path: str, count: int) -> None:
    times: dict[str, float] = {}
    done = 0
    over = asyncio.Event()
    store = SqliteStore(path)
    before = store.position()
    async with Interlock(store, actions=[five]) as interlock:
        async for record in interlock.watch(after=before):
            if any(type(fact).__name__ == "Entered" and fact.kind == "final" for fact in record.facts):  # type: ignore[union-attr]
                done += 1
                times.setdefault("first", time.time())
                if done == count:
                    times["all"] = time.time()
                    over.set()
                    break
    print(json.dumps(times))


if __name__ == "__main__":
    _, _path, _count, _what = sys.argv
    asyncio.run((_leave if _what == "leave" else _take)(_path, int(_count)))
