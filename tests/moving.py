"""What the tests of all moves share: a fleet of three hosts, simulated or real, an engine over it, and what must be so at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from interlock import Actions, Interlock
from interlock.checking.check import check
from interlock.compute import fleet as verbs
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.guest import Line, read
from interlock.compute.hypervisor import Guest, RunState
from interlock.compute.qemu_fleet import QemuFleet
from interlock.definition.machine import Machine
from interlock.exploring.explore import Report, explore
from interlock.exploring.scenario import Exploration
from interlock.interpreter.facts import Undone
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime.engine import Handle
from tests.test_qemu_host import qemus_of

A, B, C, VM = "host-a", "host-b", "host-c", "vm-1"
GUEST = Guest(VM, memory_mib=32, filled_mib=8, dirtied_pages=4)
RUNS_AT_A, RUNS_AT_B = {A: RunState.RUNNING}, {B: RunState.RUNNING}


class Faulty(verbs.Fleet, Protocol):
    """A fleet whose hosts can be cut off."""

    async def cut_off(self, host: str, *, reachable: bool = False) -> None: ...


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.qemu)])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Faulty]:
    """Three hosts, with a guest on the first."""
    made: Faulty = (
        FakeFleet(tmp_path / "world.json", (A, B, C)) if request.param == "fake" else QemuFleet(tmp_path, (A, B, C))
    )
    try:
        await made.boot(GUEST, A)
        yield made
    finally:
        await made.stop_all()
        assert qemus_of(tmp_path) == []


def engine(tmp_path: Path, *actions: Actions[Any], **settings: Any) -> Interlock:
    queues = ("", *(f"host:{host}" for host in (A, B, C)))
    return Interlock(f"sqlite:///{tmp_path}/ops.db", actions=actions, queues=queues, poll_seconds=0.05, **settings)


async def ended(move: Handle[Any], status: str, state: str | None = None) -> Snapshot:
    """Wait for the end of a move and assert which."""
    after = await move.finished(timeout=60)
    assert (after.status, after.state) == (status, state or after.state), after
    return after


async def in_state(move: Handle[Any], state: str) -> None:
    """Wait until a move has come to a state."""
    for _ in range(3000):
        if (await move.show()).state == state:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it never came to {state}: {await move.show()}")


async def undone(move: Handle[Any]) -> list[str]:
    return [fact.state for record in await move.history() for fact in record.facts if isinstance(fact, Undone)]


async def says(fleet: verbs.Fleet, host: str, true: Callable[[Line], bool] = lambda line: True, vm: str = VM) -> Line:
    """Wait until the youngest process of a guest on a host says something that is true of it; return that line."""
    for _ in range(1500):
        texts = [console.text for console in await fleet.consoles(vm) if console.host == host]
        lines = read(texts[-1]).lines if texts else ()
        if lines and true(lines[-1]):
            return lines[-1]
        await asyncio.sleep(0.02)
    raise AssertionError(f"{vm} on {host} never says it")


def is_clean(machine: type[Machine[Any]]) -> None:
    """Assert that the checker finds nothing which the machine does not accept with a reason."""
    report = check(machine.definition)
    assert report.complete and not [str(one) for one in report.findings if not one.accepted]


def finds_nothing(exploration: Exploration[Any], *ends: str, runs: int = 250) -> Report:
    """Assert that no single mishap breaks an invariant, and that these ends were all seen."""
    report = explore(exploration, depth=1, runs=runs)
    assert report.finding is None, str(report)
    assert report.singles[0] == report.singles[1], report.coverage()
    assert set(ends) <= set(report.ends), report.ends
    return report
