"""More of what hurts operators of today's clouds: what a request leaves behind, to others and to those who clean up.

Like `tests/test_pains.py`; between them every row of the list has a test, by its number.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from interlock import Actions, Claim, Event, Final, Interlock, Machine, Operation, Retry, State
from interlock.compute.boot import Boot
from interlock.compute.every_move import MOVES, every_move
from interlock.compute.fake_fleet import FakeFleet
from interlock.compute.fake_world import FakeWorld
from interlock.compute.hypervisor import RunState
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.compute.qemu import cluster
from interlock.compute.qemu_fleet import QemuFleet
from interlock.interpreter.facts import AttemptLost, Overrode
from interlock.interpreter.why import Load, why
from interlock.testing import Kit
from tests.moving import GUEST, RUNS_AT_B, VM, A, B, C, Faulty, ended, engine, fleet, says
from tests.test_qemu_agent import SMALL, Agents, agents

__all__ = ["agents", "fleet"]

MACHINES = {one.definition.name.replace("-", "_"): one.definition for one in every_move(FakeFleet(FakeWorld()))}
MOVE = {"instance": VM, "source": A, "destination": B}
FIELDS: dict[str, dict[str, Any]] = {
    "live_migration": MOVE,
    "cold_migration": MOVE,
    "evacuation": MOVE,
    "resize": {"instance": VM, "host": A, "memory_mib": 48, "cpus": 1},
    "boot": {"instance": "vm-2", "host": A, "memory_mib": 32, "filled_mib": 8},
    "snapshot": {"instance": VM, "host": A, "image": "golden"},
    "rebuild": {"instance": VM, "host": A},
    "shelve": {"instance": VM, "host": A},
    "delete": {"instance": VM},
    "host_drain": {"host": A},
    "host_return": {"host": A},
}
STEPS = [(name, row.name) for name in FIELDS for row in MACHINES[name].table.values() if row.undo is True]


@pytest.mark.parametrize("mishap", ["fails", "dies", "cancelled"])
@pytest.mark.parametrize(("name", "state"), STEPS)
def test_10_allocations_that_nobody_owns_after_a_failed_move(name: str, state: str, mishap: str) -> None:
    """A failed move leaves allocations behind; somebody finds and deletes them by hand."""
    world = FakeWorld()
    yard = FakeFleet(world, (A, B, C), clock=lambda: kit.now)
    kit = Kit(MOVES[name](yard), children=[live_migration(yard)] if name == "host_drain" else ())
    asyncio.run(yard.boot(replace(GUEST, storage="local") if state in ("mirroring", "carrying") else GUEST, A))
    if name == "evacuation":
        asyncio.run(yard.cut_off(A))
    if mishap == "fails":
        kit.stub(state, raises=OSError("no"))
    else:
        kit.stub(state, hangs=True)
    move = kit.start(FIELDS[name])
    move.expect(state=state) if mishap != "fails" else None
    if mishap == "dies":
        kit.crash()
        kit.restart()
        kit.stub(state, raises=OSError("no"))
    elif mishap == "cancelled":
        move.cancel()
    kit.finish(move, within="9h")
    assert move.status == ("cancelled" if mishap == "cancelled" else "failed"), move.journal
    assert move.snapshot.claims == () and move.snapshot.owned == (), "nothing is held or owned when it is over"
    saves = [name for disk in world.disks.values() for name in disk.saves]
    assert not saves and not world.images and not world.disabled and not world.evacuations, (
        "nothing is left on the hosts"
    )
    asyncio.run(yard.cut_off(A, reachable=True))
    again = kit.start(FIELDS[name]) if name != "evacuation" else None
    assert again is None or again.status != "failed" or again.state != "refused", "who comes next finds the way free"


async def test_22_what_was_begun_and_died_is_told_from_what_was_never_begun(fleet: Faulty, tmp_path: Path) -> None:
    """After a restart nobody can tell what was never begun from what was begun and died."""
    data = {**MOVE, "bytes_per_second": 1 << 20}
    async with engine(tmp_path, live_migration(fleet), grace_seconds=0) as interlock:
        begun = await interlock.start(LiveMigration, data)
        while (progress := await begun.progress()) is None or not progress.done:
            await asyncio.sleep(0.01)
    # Nobody performs anything now.
    async with Interlock(f"sqlite:///{tmp_path}/ops.db", machines=[LiveMigration]) as interlock:
        never = await interlock.start(LiveMigration, {**MOVE, "instance": "vm-9"})
        died, waits = await interlock.operation(begun.id).show(), await never.show()
        assert (waits.status, waits.attempts) == ("queued", 0)
        lost = [
            fact
            for record in await interlock.history(begun.id)
            for fact in record.facts
            if isinstance(fact, AttemptLost)
        ]
        assert died.state == "copying" and len(lost) == 1, "its journal says that an attempt was begun, and did not end"
        assert "none that is alive serves" in (await never.why()).waits_for
    async with engine(tmp_path, live_migration(fleet)) as interlock:
        await interlock.operation(begun.id).signal("force")
        await ended(interlock.operation(begun.id), "succeeded")
    assert await fleet.where(VM) == RUNS_AT_B


@pytest.mark.qemu
@pytest.mark.slow
async def test_24_a_compute_service_cannot_be_stopped_before_all_long_work_is_done(agents: Agents) -> None:
    """Stopping a compute service means waiting for hours, or breaking what it does."""
    for host in (A, B):
        agents.begin(host)
    async with asyncio.timeout(30):
        while set(cluster(agents.guests)) != {A, B}:
            await asyncio.sleep(0.02)
    fleet = QemuFleet(agents.guests, (A, B))
    async with Interlock(agents.store, machines=[Boot, LiveMigration]) as interlock:
        boot = await interlock.start(Boot, instance=VM, host=A, **SMALL)
        assert (await boot.finished(60)).status == "succeeded"
        before = await says(fleet, A)
        move = await interlock.start(LiveMigration, {**MOVE, "bytes_per_second": 64 << 10})
        while (progress := await move.progress()) is None or not progress.done:
            await asyncio.sleep(0.02)
        began = time.monotonic()
        for process in agents.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in agents.processes.values():
            assert await asyncio.to_thread(process.wait, 20) == 0
        took = time.monotonic() - began
        assert (await move.show()).state == "copying", f"the copy needs two minutes, stopping took {took:.1f} s"
        agents.processes.clear()
        for host in (A, B):
            agents.begin(host)
        while (await move.show()).status != "running":
            await asyncio.sleep(0.02)
        await move.signal("force")
        await ended(move, "succeeded")
    line = await says(fleet, B, lambda one: one.counter > before.counter)
    assert line.nonce == before.nonce and not line.errors, "it was never started anew"


@dataclass
class Placed:
    guest: str
    group: str
    to: str
    reason: str = ""


class Loose(Machine[Placed], version=1):
    """Moves a guest of a group that must not share a host."""

    looking = State(initial=True, undo="nothing", timeout="1m", then="moving", on={"unsuitable": "refused"})
    moving = State(undo="nothing", timeout="1m", retry=Retry(3), then="there")
    there = Final("succeeded")
    refused = Final("failed")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Grouped(Loose, version=1):
    """The same, one move of a group at a time."""

    claims = [Claim("group:{group}", on_conflict="wait")]


@pytest.mark.parametrize(("machine", "together"), [(Loose, {"a": "c", "b": "c"}), (Grouped, {"a": "c", "b": "y"})])
def test_25_two_moves_at_once_put_a_group_on_one_host(machine: type[Loose], together: dict[str, str]) -> None:
    """Moves are serialised against a group's rule per host only: each looks before the other has moved."""
    where, actions = {"a": "x", "b": "y"}, Actions(machine)

    @actions.perform(machine.looking)
    def look(op: Operation[Placed]) -> Event | None:
        others = [guest for guest, host in where.items() if host == op.data.to and guest != op.data.guest]
        return Event("unsuitable", reason=f"{others} is there") if others else None

    @actions.perform(machine.moving)
    async def move(op: Operation[Placed]) -> None:
        await asyncio.sleep(5)
        where[op.data.guest] = op.data.to

    kit = Kit(actions)
    moves = [kit.start(guest=guest, group="g", to="c") for guest in where]
    kit.advance("1m")
    assert where == together, "without the claim the rule is broken, with it the second is refused"
    assert [one.status for one in moves] == ["succeeded", "failed" if machine is Grouped else "succeeded"]


def test_26_a_reset_of_the_state_hides_what_was_never_cleaned() -> None:
    """`reset-state` makes an operation look done; what it had begun elsewhere is never found again."""
    world = FakeWorld()
    yard = FakeFleet(world, (A, B, C), clock=lambda: kit.now)
    kit = Kit(live_migration(yard))
    asyncio.run(yard.boot(GUEST, A))
    asyncio.run(yard.inject("start_copy"))
    asyncio.run(yard.inject("tear_down", times=1_000))
    move = kit.start(MOVE)
    kit.finish(move, within="9h")
    move.expect(status="stuck")
    move.override("failed", reason="I know better")
    move.expect(status="failed")
    (moved,) = [fact for fact in move.facts if isinstance(fact, Overrode)]
    assert "failed means clean, and `preparing` was not undone" in moved.broke
    assert move.snapshot.steps == ("preparing",), "what was begun and not undone is still listed"
    told = " ".join(why(LiveMigration.definition, move.snapshot, [], kit.now, Load(last=move.facts)).details)
    assert "moved it to `failed` (I know better), which broke: the rollback to `failed` was not finished" in told
    assert "`preparing` was not undone" in told
    # What is left there is in nobody's way: the next move of this guest finds it, and puts its own in its place.
    assert asyncio.run(yard.where(VM)) == {A: RunState.RUNNING, B: RunState.INCOMING}
    world.faults.clear()
    again = kit.start(MOVE)
    kit.finish(again, within="1h")
    again.expect(status="succeeded")
    assert asyncio.run(yard.where(VM)) == RUNS_AT_B


class Renting(Machine[dict[str, str]], version=1):
    using = State(initial=True, undo=True, timeout="1m", then="giving_back")
    giving_back = State(undo="nothing", timeout="1m", then="done")
    done = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


def test_26_what_is_owned_is_never_hidden_by_an_override() -> None:
    renting = Actions(Renting)

    @renting.perform(Renting.using)
    async def rent(op: Operation[dict[str, str]]) -> None:
        await op.owns("port", "p-1")
        raise OSError("the network is gone")

    @renting.undo(Renting.using)
    async def give_back(op: Operation[dict[str, str]]) -> None:
        raise OSError("the network is gone")

    @renting.perform(Renting.giving_back)
    async def done(op: Operation[dict[str, str]]) -> None: ...

    kit = Kit(renting)
    move = kit.start()
    kit.advance("1d")
    move.expect(status="stuck")
    move.override("failed", reason="looks fine to me")
    move.expect(status="stuck")
    assert [own.id for own in move.snapshot.owned] == ["p-1"], "it does not end while it owns what nobody takes over"


def test_every_pain_has_a_test() -> None:
    names = [name for file in ("test_pains.py", "test_pains_left.py") for name in _tests(file)]
    told = {int(number) for name in names for number in re.findall(r"(?<=_)\d+(?=_)", name)}
    assert told == set(range(1, 27))


def _tests(file: str) -> list[str]:
    return re.findall(r"^(?:async )?def (test_\w+)", (Path(__file__).parent / file).read_text(), re.M)
