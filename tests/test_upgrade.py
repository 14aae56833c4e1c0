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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from interlock import Children, Claim, Final, Interlock, Machine, State
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.decide import Decision, decide
from interlock.interpreter.snapshot import Beginning, Joining, Running
from interlock.interpreter.upgrade import stranded, upgradable
from interlock.testing import replay
from tests.rollouts import HOLD, VERSIONS, Rollout

ROOT = Path(__file__).parent.parent


class Deployment:
    """Workers of one version, as processes of their own."""

    def __init__(self, place: Path, actions: str, count: int = 2) -> None:
        words = [sys.executable, "-m", "interlock.cli", "worker", f"tests.rollouts:{actions}"]
        words += ["--store", f"sqlite:///{place / 'ops.db'}", "--max-running", "60"]
        known = {**os.environ, HOLD: str(place / "hold")}
        with (place / "workers.log").open("ab") as out:
            self.processes = [
                subprocess.Popen(words, cwd=ROOT, env=known, stdout=out, stderr=out) for _ in range(count)
            ]

    def kill(self, *which: int) -> None:
        """Kill -9 the processes with these numbers, or all of them."""
        for number, process in enumerate(self.processes):
            if number in which or not which:
                process.send_signal(signal.SIGKILL)
                process.wait(10)


@contextmanager
def deployed(place: Path) -> Iterator[Callable[[str], Deployment]]:
    """Yield what deploys; every process is killed in the end."""
    all: list[Deployment] = []

    def deploy(actions: str) -> Deployment:
        all.append(Deployment(place, actions))
        return all[-1]

    try:
        yield deploy
    finally:
        for one in all:
            one.kill()


class Situation:
    """What is waited for. Nothing here passes by: what runs is held, what has moved on does not come back."""

    def __init__(self, interlock: Interlock, place: Path, seconds: float) -> None:
        self._interlock = interlock
        self._hold = place / "hold"
        self._seconds = seconds
        self.ids: list[str] = []

    def hold(self, *states: str) -> None:
        """Let the actions of these states not end, until the next call."""
        new = self._hold.with_name("hold.new")
        new.write_text(" ".join(states))
        new.replace(self._hold)

    async def start(self, many: int) -> None:
        for _ in range(many):
            self.ids.append((await self._interlock.start(Rollout, host=f"h{len(self.ids)}")).id)

    async def succeeded(self, at_least: int) -> None:
        async with asyncio.timeout(self._seconds):
            while (
                sum(n for (_, _, status), n in (await self._interlock.counts()).items() if status == "succeeded")
                < at_least
            ):
                await asyncio.sleep(0.05)

    async def runs(self, version: int, state: str = "", at_least: int = 20) -> None:
        """Wait until so many operations are performed in this version."""
        async with asyncio.timeout(self._seconds):
            while True:
                page = await self._interlock.list("rollout", "running", state=state or None, limit=500)
                if sum(one.version == version for one in page.snapshots) >= at_least:
                    return
                await asyncio.sleep(0.05)


async def three_versions(place: Path, many: int) -> Counter[Any]:
    """Deploy three versions under ``many`` operations and kill their workers; return what was counted."""
    with deployed(place) as deploy:
        async with Interlock(f"sqlite:///{place / 'ops.db'}", machines=[Rollout], worker=False) as interlock:
            now = Situation(interlock, place, 60 + many / 20)
            now.hold()
            await now.start(many // 2)
            one = deploy("first")
            await now.succeeded(many // 50)
            now.hold("*")
            await now.start(many // 4)  # more than the first can take, held as they are
            two = deploy("second")
            await now.runs(1)
            await now.runs(2)
            one.kill()
            now.hold("probing")
            await now.runs(2, "probing")
            now.hold("*")
            await now.start(many - len(now.ids))
            three = deploy("third")
            await now.runs(3)
            two.kill(0)
            three.kill(0)
            now.hold()
            await now.succeeded(many - many // 10)  # and once where nothing is held
            three.kill(1)
            deploy("third")
            await now.succeeded(many)
            there = sorted([one.id async for one in _all(interlock)])
            assert there == sorted(now.ids), "none is lost, none is there twice"
            return await _judged(interlock, now.ids)


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
        counted.update(f"upgrades to {fact.version}" for fact in facts if isinstance(fact, f.Upgraded))
        counted["lost attempts"] += sum(isinstance(fact, f.AttemptLost) for fact in facts)
        counted["decisions"] += replayed.decisions
    return counted


def _covered(counted: Counter[Any], many: int) -> None:
    assert sum(counted[f"ended in version {version}"] for version in (1, 2, 3)) == many, counted
    assert counted["ended in version 1"] and counted["ended in version 3"], counted
    assert counted["upgrades to 2"] >= 20 and counted["upgrades to 3"] >= 20 and counted["lost attempts"] >= 20, counted


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_three_versions_under_a_thousand_operations(tmp_path: Path) -> None:
    _covered(await three_versions(tmp_path, 1_000), 1_000)


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
async def test_three_versions_under_ten_thousand_operations(tmp_path: Path) -> None:
    counted = await three_versions(tmp_path, 10_000)
    sys.stdout.write(f"{dict(counted)}\n")
    _covered(counted, 10_000)


# Where it rests


@dataclass
class Convoy:
    road: str
    carts: list[str]


class Convoys(Machine[Convoy], version=1):
    claims = [Claim("road:{road}", on_conflict="wait")]

    loading = State(initial=True, undo=True, then="moving")
    moving = State(children=Children("rollout", each="carts", item="host"), then="unloading", timeout="1h")
    unloading = State(undo=True, then="arrived")
    arrived = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Convoys2(Machine[Convoy], version=2, name="convoys"):
    renames = {"unloading": "unpacking"}
    claims = [Claim("road:{road}", on_conflict="wait")]

    loading = State(initial=True, undo=True, then="moving")
    moving = State(children=Children("rollout", each="carts", item="host"), then="unpacking", timeout="1h")
    unpacking = State(undo=True, then="arrived")
    arrived = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


OLD, NEW = Convoys.definition, Convoys2.definition
OFFER = i.Offer("w1", written={"convoys": NEW})
TAKEN = {"road:a": (i.Claimant("other"),)}


def upgrades(decision: Decision) -> list[str]:
    return [fact.state for fact in decision.facts if isinstance(fact, f.Upgraded)]


def test_who_waits_for_claims_is_upgraded_when_it_begins() -> None:
    start = i.Start("op", {"road": "a", "carts": ["h1"]}, offer=OFFER, standing=TAKEN)
    waits = decide(OLD, None, start, 0.0)
    assert type(waits.snapshot.phase) is Beginning and not upgrades(waits)
    for input in (i.Tick(OFFER, TAKEN), i.Tick(OFFER), i.Take(OFFER)):
        assert not decide(OLD, waits.snapshot, input, 1.0).facts
    assert (
        upgradable(OLD, NEW, waits.snapshot, 1.0) == "it has not begun" and stranded(OLD, NEW, waits.snapshot) is None
    )
    begun = decide(OLD, waits.snapshot, i.Tick(OFFER, {"road:a": ()}), 2.0)
    assert upgrades(begun) == ["loading"] and begun.snapshot.version == 2
    assert isinstance(begun.snapshot.phase, Running) and begun.snapshot.claims[0].held


def test_who_waits_for_children_is_upgraded_when_they_are_over() -> None:
    begun = decide(OLD, None, i.Start("op", {"road": "a", "carts": ["h1"]}, offer=i.Offer("w0")), 0.0).snapshot
    assert isinstance(begun.phase, Running) and begun.version == 1
    joins = decide(OLD, begun, i.Done(begun.phase.token, offer=OFFER), 1.0)
    assert type(joins.snapshot.phase) is Joining and not upgrades(joins), "its children go on as it began them"
    assert (
        upgradable(OLD, NEW, joins.snapshot, 1.0) == "its children are not over"
        and stranded(OLD, NEW, joins.snapshot) is None
    )
    assert not decide(OLD, joins.snapshot, i.Tick(OFFER), 2.0).facts
    (child,) = [effect.id for effect in joins.effects if isinstance(effect, i.Spawn)]
    over = decide(OLD, joins.snapshot, i.ChildOver(0, child, "succeeded", offer=OFFER), 3.0)
    assert upgrades(over) == ["unpacking"] and over.snapshot.version == 2 and over.snapshot.steps[0] == "loading"
    assert isinstance(over.snapshot.phase, Running) and over.snapshot.phase.state == "unpacking"


def test_claims_are_compared_as_they_are_held() -> None:
    """Called otherwise, the same may be meant; and what an action made of the data since changes nothing."""
    begun = decide(OLD, None, i.Start("op", {"road": "a", "carts": ["h1"]}), 0.0).snapshot
    same = replace(NEW, claims=[Claim("road:a")])
    other = replace(NEW, claims=[Claim("road:{road}", limit=2)])
    assert upgradable(OLD, same, begun, 1.0) is None
    assert upgradable(OLD, other, begun, 1.0) == "it holds `road:{road}`, and version 2 claims `road:{road}` for 2"
    assert (
        upgradable(OLD, replace(NEW, claims=()), begun, 1.0) == "it holds `road:{road}`, and version 2 claims nothing"
    )
    assert upgradable(OLD, NEW, structs.replace(begun, data={**begun.data, "road": "b"}), 1.0) is None
    free = replace(OLD, claims=())
    unclaimed = decide(free, None, i.Start("op", {"road": "a", "carts": ["h1"]}), 0.0).snapshot
    assert upgradable(free, NEW, unclaimed, 1.0) is None
