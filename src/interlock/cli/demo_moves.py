"""What the demo plays: three moves, and the proof of each.

The process that a person sees only watches. A second one, `interlock worker`, drives; it is the one that is killed. Both meet in a SQLite
file, as any two processes would.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from interlock import Interlock
from interlock.cli.live import LiveView, children_of
from interlock.compute.fleet import Fleet
from interlock.compute.guest import prove
from interlock.compute.hypervisor import Guest, Permit, RunState, Unsuitable
from interlock.compute.live_migration import LiveMigration
from interlock.compute.local import HOSTS, SIMULATED, hypervisor_at
from interlock.definition.machine import Definition
from interlock.interpreter.facts import AttemptLost, Undone
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime.engine import Handle
from interlock.stores.contract import Progress

__all__ = ["Proof", "Stage", "alive", "at_rest", "describe", "in_the_end", "play", "shown", "summary"]

A, B = "host-a", "host-b"
MIB = 1 << 20
FILLED_MIB = 32
PATIENCE_SECONDS = 60.0
REFRESH_SECONDS = 0.1
LOST_LINES = 3
"""Lines that may be missing where a process that held the guest was killed while it printed."""


class Proof(NamedTuple):
    """One thing that has to be true in the end."""

    what: str
    held: bool
    seen: str


class Stage:
    """Where the demo plays: its directory, store, hosts, the guests that were booted there, and what it says."""

    def __init__(self, directory: Path, *, simulated: bool, copy_seconds: float, quiet: bool) -> None:
        self.directory = directory
        self.simulated = simulated
        self.rate = int(FILLED_MIB * MIB / copy_seconds)
        self.store = f"sqlite:///{directory / 'operations.db'}"
        self.hosts = directory / "hosts"
        self.hypervisor: Fleet = hypervisor_at(self.hosts, simulated=simulated)
        self.console = Console(quiet=quiet, highlight=False)
        self.proofs: list[Proof] = []
        self.guests: list[str] = []

    def beside(self, name: str) -> Stage:
        """Return a stage of its own, in a directory beside this one's hosts."""
        (self.directory / name).mkdir(parents=True, exist_ok=True)
        made = Stage(self.directory / name, simulated=self.simulated, copy_seconds=1.0, quiet=self.console.quiet)
        made.rate = self.rate
        return made

    def say(self, text: str, style: str = "") -> None:
        """Say one line; simulated ones are marked."""
        mark = "SIMULATED  " if self.simulated else ""
        self.console.print(Text(f"{mark}{text}", style=style), soft_wrap=True)

    def prove(self, what: str, held: bool, seen: str) -> None:
        """Keep a proof, and show it."""
        self.proofs.append(Proof(what, held, seen))
        self.say(f"  {'proved' if held else 'FAILED'}  {what}: {seen}", "green" if held else "bold red")


class Driver:
    """The process that drives: `interlock worker` for both hosts."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._process: asyncio.subprocess.Process | None = None
        self.log = stage.directory / "driver.log"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it."""
        words = ["worker", "interlock.compute.local:actions", "--store", self._stage.store]
        words += ["--queue", "", "--queue", f"host:{A}", "--queue", f"host:{B}"]
        environment = {**os.environ, HOSTS: str(self._stage.hosts), SIMULATED: "1" if self._stage.simulated else "0"}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "interlock.cli",
                *words,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> int:
        """Kill it with SIGKILL and return its exit status as the system gave it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        return await self._process.wait()

    async def stop(self) -> None:
        """Stop it gracefully; after a while by force."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            await self.kill()


async def play(stage: Stage) -> Sequence[Proof]:
    """Play all three moves; return every proof. Whatever was started is stopped in the end."""
    began = time.monotonic()
    driver = Driver(stage)
    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    try:
        async with Interlock(stage.store, machines=[LiveMigration], by="demo") as interlock:
            await driver.start()
            await killed_driver(stage, interlock, driver)
            await killed_destination(stage, interlock)
            await cancelled(stage, interlock)
            await in_the_end(stage, interlock)
    finally:
        await driver.stop()
        await stage.hypervisor.stop_all()
    summary(stage, time.monotonic() - began)
    return stage.proofs


def summary(stage: Stage, seconds: float) -> None:
    """Say how it ended."""
    failed = [proof for proof in stage.proofs if not proof.held]
    stage.say("")
    if failed:
        stage.say(f"{len(failed)} of {len(stage.proofs)} proofs FAILED after {seconds:.0f} s:", "bold red")
        for proof in failed:
            stage.say(f"  {proof.what}: {proof.seen}", "red")
    else:
        stage.say(f"All {len(stage.proofs)} proofs held, in {seconds:.0f} s.", "bold green")


async def killed_driver(stage: Stage, interlock: Interlock, driver: Driver) -> None:
    """The first move: its driver is killed half-way through the copy, and a new one takes it up."""
    guest = "vm-1"
    stage.say("")
    stage.say(f"1  {guest} moves from {A} to {B}; its driver is killed half-way", "bold")
    await boot(stage, guest)
    move = await interlock.start(LiveMigration, instance=guest, source=A, destination=B, bytes_per_second=stage.rate)
    async with shown(stage, interlock, move) as follow:
        await follow(half_way)
        pid = driver.pid
        status = await driver.kill()
        stage.say(f"  kill -9 {pid}: the driver is dead (exit status {status}); the hypervisor goes on", "bold yellow")
        left = await move.show()
        await driver.start()
        stage.say(f"  a new driver is started: pid {driver.pid}", "bold yellow")
        after = await follow(at_rest)
    lost = sum(isinstance(fact, AttemptLost) for record in await move.history() for fact in record.facts)
    where = await stage.hypervisor.where(guest)
    stage.prove(
        "the driver died while the copy ran",
        left.state == "copying" and left.status == "running",
        f"{left.status} in {left.state}",
    )
    stage.prove(
        "the same operation was taken up again",
        lost == 1 and after.id == left.id,
        f"{lost} attempt lost, operation {after.id}",
    )
    stage.prove("the operation succeeded", after.status == "succeeded", f"{after.status} in {after.state}")
    stage.prove(f"exactly one guest runs, on {B}", where == {B: RunState.RUNNING}, describe(where))
    await alive(stage, guest)


async def killed_destination(stage: Stage, interlock: Interlock) -> None:
    """The second move: its destination dies during the copy, and everything is undone."""
    guest = "vm-2"
    stage.say("")
    stage.say(f"2  {guest} moves from {A} to {B}; the destination is killed half-way", "bold")
    await boot(stage, guest)
    move = await interlock.start(LiveMigration, instance=guest, source=A, destination=B, bytes_per_second=stage.rate)
    async with shown(stage, interlock, move) as follow:
        await follow(half_way)
        was_there = await stage.hypervisor.kill(guest, B)
        stage.say(f"  the destination process on {B} was killed with SIGKILL", "bold yellow")
        after = await follow(at_rest)
    stage.prove("the destination was there to be killed", was_there, str(was_there))
    await rolled_back(stage, move, after, guest, "failed")


async def cancelled(stage: Stage, interlock: Interlock) -> None:
    """The third move: a person cancels it during the copy."""
    guest = "vm-2"
    stage.say("")
    stage.say(f"3  {guest} moves again; a person cancels half-way", "bold")
    move = await interlock.start(LiveMigration, instance=guest, source=A, destination=B, bytes_per_second=stage.rate)
    async with shown(stage, interlock, move) as follow:
        await follow(half_way)
        await move.cancel(reason="changed my mind")
        stage.say("  cancel: accepted", "bold yellow")
        after = await follow(at_rest)
    await rolled_back(stage, move, after, guest, "cancelled")


async def rolled_back(stage: Stage, move: Handle[Any], after: Snapshot, guest: str, status: str) -> None:
    """Prove that a move ended as it should and left nothing."""
    undone = [fact.state for record in await move.history() for fact in record.facts if isinstance(fact, Undone)]
    where = await stage.hypervisor.where(guest)
    stage.prove(f"the operation is {status}", after.status == status, f"{after.status} in {after.state}")
    stage.prove(
        "every started step was undone, newest first",
        undone == ["copying", "preparing"],
        " then ".join(undone) or "nothing",
    )
    stage.prove(
        f"the guest still runs on {A}, and nothing is left on {B}", where == {A: RunState.RUNNING}, describe(where)
    )
    await alive(stage, guest)


async def in_the_end(stage: Stage, interlock: Interlock) -> None:
    """Prove of all guests of all scenes that each runs once, lived well, and has a whole disk; and that nothing is left to nobody."""
    fleet, off = stage.hypervisor, Permit("the-end", 1)
    stage.say("")
    stage.say("in the end, all guests are switched off", "bold")
    places = {guest: await fleet.where(guest) for guest in stage.guests}
    amiss = [
        f"{guest} is {describe(where)}" for guest, where in places.items() if [*where.values()] != [RunState.RUNNING]
    ]
    counted = f"{len(places)} guests"
    stage.prove("each guest runs exactly once", bool(places) and not amiss, "; ".join(amiss) or counted)
    # Each process by itself: a guest that was switched off in between, to be resized or evacuated, counts anew.
    lives = [(guest, console) for guest in places for console in await fleet.consoles(guest)]
    wrong = [f"{guest} on {one.host}: {fault}" for guest, one in lives for fault in _faults(one.text)]
    what = "no counter ever went back, and no guest found its memory or its disk wrong"
    stage.prove(what, bool(lives) and not wrong, "; ".join(wrong[:3]) or f"{counted}, in {len(lives)} processes")
    owned = await interlock.owned()
    stage.prove("nothing is owned by nobody", not owned, ", ".join(one.id for one in owned) or "nothing is owned")
    left = [one for one in (await interlock.list()).snapshots if not one.ended]
    stage.prove("nothing waits for a person", not left, ", ".join(one.id for one in left) or "every operation is over")
    whole = list[str]()
    for guest, where in places.items():
        for host in where:
            await fleet.stop(guest, host, off)
        with suppress(Unsuitable):
            await fleet.sound(guest, next(iter(where), A))
            whole.append(guest)
    damaged = [guest for guest in places if guest not in whole]
    by = "as far as simulated disks go" if stage.simulated else "by qemu-img check"
    stage.prove("every guest's disk is whole", not damaged, ", ".join(damaged) or f"{len(whole)} disks, {by}")


def _faults(console: str) -> list[str]:
    """What one process printed against the guest; nothing, if it was killed before it said a whole line."""
    proof = prove([console])
    return proof.faults(missing_allowed=LOST_LINES) if proof.lines else []


async def boot(stage: Stage, instance: str) -> None:
    """Boot a guest on the first host."""
    stage.guests.append(instance)
    await stage.hypervisor.boot(Guest(instance, memory_mib=FILLED_MIB * 2, filled_mib=FILLED_MIB), A)
    stage.say(f"  {instance} runs on {A}: {FILLED_MIB} MiB of its memory hold data, and it counts on its serial port")


async def alive(stage: Stage, instance: str) -> None:
    """Prove from what the guest printed that it never stopped, went back, or was started again; and that it goes on now."""
    before = prove([console.text for console in await stage.hypervisor.consoles(instance)])
    until = time.monotonic() + PATIENCE_SECONDS
    now = before
    while now.last <= before.last and time.monotonic() < until:
        await asyncio.sleep(0.05)
        now = prove([console.text for console in await stage.hypervisor.consoles(instance)])
    faults = now.faults(missing_allowed=LOST_LINES)
    seen = (
        f"{now.lines} lines from {now.first} to {now.last}, {now.missing} missing, one boot, no memory error"
        if not faults
        else "; ".join(faults)
    )
    stage.prove("the guest's counter never went back or began again", not faults, seen)
    stage.prove("the guest goes on", now.last > before.last, f"{before.last}, then {now.last}")


def describe(where: Mapping[str, RunState]) -> str:
    """Say where a guest is."""
    return ", ".join(f"{state} on {host}" for host, state in where.items()) or "nowhere"


Until = Callable[[Snapshot, Progress | None], bool]
Follow = Callable[[Until], Awaitable[Snapshot]]


@asynccontextmanager
async def shown(
    stage: Stage, interlock: Interlock, move: Handle[Any], definition: Definition = LiveMigration.definition
) -> AsyncIterator[Follow]:
    """Show an operation as it moves; what is given follows it until something is so."""
    mark = "SIMULATED" if stage.simulated else ""
    seen = 0
    with LiveView(definition, stage.console, mark) as view:

        async def follow(until: Until) -> Snapshot:
            nonlocal seen
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                records = await move.history(after=seen)
                snapshot, progress = await move.show(), await move.progress()
                seen = records[-1].seq if records else seen
                view.update(snapshot, records, progress, await children_of(interlock, snapshot))
                if until(snapshot, progress) or at_rest(snapshot, progress) or time.monotonic() > deadline:
                    return snapshot
                await asyncio.sleep(REFRESH_SECONDS)

        yield follow


def half_way(snapshot: Snapshot, progress: Progress | None) -> bool:
    """Whether a copy is about half-way: half of the guest's memory is empty, and that half costs no time."""
    copying = snapshot.state == "copying" and progress is not None and progress.total is not None
    return copying and progress is not None and progress.total is not None and progress.done >= 0.25 * progress.total


def at_rest(snapshot: Snapshot, progress: Progress | None) -> bool:
    """Whether an operation is over or needs a person."""
    return snapshot.ended or snapshot.status == "stuck"
