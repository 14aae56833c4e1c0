"""Upgrades: versions deployed under live operations while they run, and workers killed meanwhile; none is lost, none is off its table."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock import Interlock
from interlock.interpreter import facts as f
from interlock.testing import replay
from tests.rollouts import VERSIONS, Rollout

ROOT = Path(__file__).parent.parent


class Deployment:
    """Workers of one version, as processes of their own."""

    def __init__(self, store: str, actions: str, log: Path, count: int = 2) -> None:
        words = [sys.executable, "-m", "interlock.cli", "worker", f"tests.rollouts:{actions}", "--store", store]
        words += ["--max-running", "60"]
        with log.open("ab") as out:
            self.processes = [
                subprocess.Popen(words, cwd=ROOT, env={**os.environ}, stdout=out, stderr=out) for _ in range(count)
            ]

    def kill(self, *which: int) -> None:
        """Kill -9 the processes with these numbers, or all of them."""
        for number, process in enumerate(self.processes):
            if number in which or not which:
                process.send_signal(signal.SIGKILL)
                process.wait(10)


@contextmanager
def deployed(store: str, log: Path) -> Iterator[Callable[[str], Deployment]]:
    """Yield what deploys; every process is killed in the end."""
    all: list[Deployment] = []

    def deploy(actions: str) -> Deployment:
        all.append(Deployment(store, actions, log))
        return all[-1]

    try:
        yield deploy
    finally:
        for one in all:
            one.kill()


async def _until(interlock: Interlock, holds: Callable[[Counter[Any]], bool], seconds: float) -> Counter[Any]:
    """Wait until the operations, counted by state and by status, are as they are to be."""
    async with asyncio.timeout(seconds):
        while True:
            counted: Counter[Any] = Counter()
            for (_, state, status), count in (await interlock.counts()).items():
                counted[state] += count
                counted[status] += count
            if holds(counted):
                return counted
            await asyncio.sleep(0.02)


async def three_versions(place: Path, many: int) -> Counter[Any]:
    """Deploy three versions under ``many`` operations and kill their workers; return what was counted."""
    store, log = f"sqlite:///{place / 'ops.db'}", place / "workers.log"
    seconds = 60 + many / 20
    with deployed(store, log) as deploy:
        async with Interlock(store, machines=[Rollout], worker=False) as interlock:
            one = deploy("first")
            ids = [(await interlock.start(Rollout, host=f"h{number}")).id for number in range(many)]
            await _until(interlock, lambda now: now["checking"] >= many / 20, seconds)
            two = deploy("second")  # beside the first: both may take what the other leaves
            await _until(interlock, lambda now: now["probing"] >= min(many / 50, 20), seconds)
            one.kill()
            await _until(interlock, lambda now: now["writing"] + now["probing"] >= min(many / 50, 20), seconds)
            three = deploy("third")
            await _until(interlock, lambda now: now["soaking"] >= min(many / 50, 20), seconds)
            two.kill(0)
            three.kill(0)
            await _until(interlock, lambda now: now["succeeded"] == many, seconds)
            assert sorted(ids) == sorted([one.id async for one in _all(interlock)]), "none is lost, none is there twice"
            return await _judged(interlock, ids)


async def _all(interlock: Interlock) -> Any:
    cursor = None
    while True:
        page = await interlock.list(cursor=cursor, limit=1_000)
        for one in page.snapshots:
            yield one
        if page.cursor is None:
            return
        cursor = page.cursor


async def _judged(interlock: Interlock, ids: list[str]) -> Counter[Any]:
    """Hold every journal against the versions that it was written by, decision by decision."""
    *older, newest = VERSIONS
    counted: Counter[Any] = Counter()
    for id in ids:
        records = await interlock.history(id)
        text = "\n".join(msgspec.json.encode(record).decode() for record in records)
        replayed = replay(newest, text, older=older)
        assert replayed.snapshot == await interlock.show(id) and replayed.snapshot.state == "installed"
        facts = [fact for record in records for fact in record.facts]
        counted[f"ended in version {replayed.snapshot.version}"] += 1
        counted["upgrades"] += sum(isinstance(fact, f.Upgraded) for fact in facts)
        counted["lost attempts"] += sum(isinstance(fact, f.AttemptLost) for fact in facts)
        counted["decisions"] += replayed.decisions
    return counted


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_three_versions_under_a_thousand_operations(tmp_path: Path) -> None:
    counted = await three_versions(tmp_path, 1_000)
    assert counted["upgrades"] > 300 and counted["ended in version 3"] > 100, counted
    assert counted["ended in version 1"] + counted["ended in version 2"] > 0, counted


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
async def test_three_versions_under_ten_thousand_operations(tmp_path: Path) -> None:
    counted = await three_versions(tmp_path, 10_000)
    sys.stdout.write(f"{dict(counted)}\n")
    assert counted["upgrades"] > 3_000 and counted["ended in version 3"] > 1_000, counted
