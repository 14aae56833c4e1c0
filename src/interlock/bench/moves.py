"""``interlock bench moves``: how much of a live migration's wall time is the engine's own, and a drain of many guests. On real QEMU.

A guest is moved there and back, by the engine and by the same verbs in a bare loop, in turns. What passes while no verb of a hypervisor is
being carried out is the engine's own: commits, hand-overs, and what its actions do between verbs. The drain is performed by three agents,
each a process of its own, as they would be on three hosts; its guests' consoles say whether each lived on without a break.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interlock import Interlock
from interlock.compute.boot import Boot
from interlock.compute.guest import prove
from interlock.compute.host_drain import HostDrain
from interlock.compute.hypervisor import Guest, Hypervisor, Permit, RunState
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.compute.local import qemu_missing
from interlock.compute.qemu import cluster
from interlock.compute.qemu_fleet import QemuFleet
from interlock.compute.qemu_host import QemuHosts

__all__ = ["Drained", "Moved", "main", "report"]

HOSTS = A, B, C = "host-a", "host-b", "host-c"
SHARE_LIMIT = 0.02
PATIENCE_SECONDS = 600.0
LONG_BYTES_PER_SECOND = 16 << 20
BREAK_LINES = 3
"""A line that is cut in two by a hand-over may be lost; the counter in the next one says so."""


@dataclass(frozen=True)
class Moved:
    """Moves of one guest, each by the engine and by a bare loop; medians in seconds of one move.

    Attributes:
        what: what the guest is like.
        moves: how many by each.
        wall, in_verbs: of a move by the engine, from asking for it to hearing that it is over; and how much of it verbs took.
        bare: of a move by the bare loop.
        cpu, bare_cpu: CPU of this process for a move, QEMU's not included.
        commits: transactions of a move.
    """

    what: str
    moves: int
    wall: float
    in_verbs: float
    bare: float
    cpu: float
    bare_cpu: float
    commits: float

    @property
    def share(self) -> float:
        """The engine's own share of the wall time."""
        return (self.wall - self.in_verbs) / self.wall


@dataclass(frozen=True)
class Drained:
    """A drain: guests, hosts, seconds, how many run exactly once elsewhere, and how many lived on without a break."""

    guests: int
    hosts: int
    seconds: float
    elsewhere: int
    unbroken: int


class Timed:
    """A hypervisor whose verbs are timed: ``seconds`` is how long any of them was being carried out."""

    def __init__(self, inner: Hypervisor) -> None:
        self._inner = inner
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)
        if not callable(verb):
            return verb

        async def once(*words: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return await verb(*words, **options)
            finally:
                self.seconds += time.perf_counter() - began

        async def each(*words: Any, **options: Any) -> AsyncGenerator[Any, None]:
            seen = verb(*words, **options)
            while True:
                began = time.perf_counter()
                try:
                    one = await anext(seen, None)
                finally:
                    self.seconds += time.perf_counter() - began
                if one is None:
                    return
                yield one

        return each if name in ("watch", "mirror", "pull") else once


async def bare_move(hosts: Hypervisor, source: str, destination: str, permit: Permit, rate: int | None) -> None:
    """Move the guest with nothing but the verbs."""
    await hosts.check("vm", source, destination)
    incoming = await hosts.prepare("vm", destination, permit)
    await hosts.start_copy("vm", source, incoming.uri, permit, bytes_per_second=rate)
    async for _ in hosts.watch("vm", source):
        pass
    await hosts.switch_over("vm", source, destination, permit)
    await hosts.remove_source("vm", source, destination, permit)


async def moved(directory: Path, what: str, guest: Guest, moves: int, rate: int | None) -> Moved:
    """Move a guest there by the engine and back by the bare loop, so often."""
    hosts = QemuHosts(directory / "hosts", (A, B))
    timed = Timed(hosts)
    figures: dict[str, list[float]] = {name: [] for name in ("wall", "in_verbs", "bare", "cpu", "bare_cpu", "commits")}
    actions = live_migration(timed)
    try:
        await hosts.boot(guest, A)
        queues = ("", f"host:{A}", f"host:{B}")
        async with Interlock(f"sqlite:///{directory}/ops.db", actions=[actions], queues=queues) as interlock:
            for number in range(moves):
                say(f"{what}: move {number + 1} of {moves}")
                timed.seconds, began, cpu = 0.0, time.perf_counter(), time.process_time()
                data = {"instance": "vm", "source": A, "destination": B, "bytes_per_second": rate}
                move = await interlock.start(LiveMigration, data)
                after = await move.finished(PATIENCE_SECONDS)
                figures["wall"].append(time.perf_counter() - began)
                figures["in_verbs"].append(timed.seconds)
                figures["cpu"].append(time.process_time() - cpu)
                figures["commits"].append(len(await move.history()))
                if after.status != "succeeded":
                    raise RuntimeError((await move.why()).waits_for)
                began, cpu = time.perf_counter(), time.process_time()
                await bare_move(hosts, B, A, Permit(f"bare-{number}", 1), rate)
                figures["bare"].append(time.perf_counter() - began)
                figures["bare_cpu"].append(time.process_time() - cpu)
    finally:
        await hosts.stop_all()
    return Moved(what, moves, **{name: statistics.median(values) for name, values in figures.items()})


async def drained(directory: Path, guests: int) -> Drained:
    """Boot guests on one of three hosts, and drain it."""
    names, store = [f"vm-{number}" for number in range(guests)], f"sqlite:///{directory}/drain.db"
    fleet, agents = QemuFleet(directory / "guests", HOSTS), list[subprocess.Popen[bytes]]()
    try:
        agents += [_agent(directory, store, host) for host in HOSTS]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while set(cluster(directory / "guests")) != {*HOSTS}:
                if any(agent.poll() is not None for agent in agents):
                    raise RuntimeError(f"an agent ended: {(directory / 'agents.log').read_text()}")
                await asyncio.sleep(0.05)
        async with Interlock(store, machines=[Boot, HostDrain]) as interlock:
            small = {"memory_mib": 32, "filled_mib": 8, "dirtied_pages": 4}
            for four in (names[first : first + 4] for first in range(0, guests, 4)):
                say(f"drain: booting {four[-1]} of {guests} guests")
                boots = [await interlock.start(Boot, {"instance": name, "host": A, **small}) for name in four]
                if {(await boot.finished(PATIENCE_SECONDS)).status for boot in boots} != {"succeeded"}:
                    raise RuntimeError("; ".join([(await boot.why()).waits_for for boot in boots]))
            say(f"drain: {guests} guests leave {A}")
            began = time.perf_counter()
            drain = await interlock.start(HostDrain, {"host": A})
            after = await drain.finished(PATIENCE_SECONDS)
            took = time.perf_counter() - began
            if after.status != "succeeded":
                raise RuntimeError((await drain.why()).waits_for)
        places = [await fleet.where(name) for name in names]
        elsewhere = sum([*one.values()] == [RunState.RUNNING] and A not in one for one in places)
        lives = [prove([console.text for console in await fleet.consoles(name)]) for name in names]
        return Drained(guests, len(HOSTS), took, elsewhere, sum(not life.faults(BREAK_LINES) for life in lives))
    finally:
        for agent in agents:
            agent.terminate()
        for agent in agents:
            agent.wait(PATIENCE_SECONDS)
        await fleet.stop_all()


def _agent(directory: Path, store: str, host: str) -> subprocess.Popen[bytes]:
    """Begin the agent of a host."""
    words = ["worker", "--actions", "interlock.compute.qemu", "--state-dir", str(directory / "guests")]
    words += ["--queue", f"host:{host}", "--queue", "", "--store", store]
    with (directory / "agents.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", *words], env={**os.environ}, stdout=log, stderr=log
        )


def report(runs: Sequence[Moved], drain: Drained | None) -> str:
    """Return the figures as a table for people."""
    lines = ["one live migration, medians; the engine's own is what passes outside of the hypervisor's verbs:"]
    lines.append(
        "  guest                               moves  wall ms  own ms  share  bare ms  to bare  CPU ms  bare CPU  commits"
    )
    for run in runs:
        own = run.wall - run.in_verbs
        lines.append(
            f"  {run.what:<35} {run.moves:>5}  {run.wall * 1e3:>7,.0f}  {own * 1e3:>6.1f}  {run.share:>5.1%}  {run.bare * 1e3:>7,.0f}"
            f"  {run.wall / run.bare:>6.2f}x  {run.cpu * 1e3:>6.0f}  {run.bare_cpu * 1e3:>8.0f}  {run.commits:>7.0f}"
        )
    if runs:
        met = "met   " if runs[0].share < SHARE_LIMIT else "MISSED"
        lines += [
            "",
            f"{met}  less than {SHARE_LIMIT:.0%} of the wall time is the engine's own: {runs[0].share:.2%} of {runs[0].what}",
        ]
    if drain:
        met = "met   " if drain.elsewhere == drain.unbroken == drain.guests else "MISSED"
        lines.append(
            f"{met}  a drain of {drain.guests} guests over {drain.hosts} hosts completes: {drain.seconds:.1f} s, "
            f"{drain.elsewhere} run exactly once elsewhere, {drain.unbroken} without a break"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    made = argparse.ArgumentParser(prog="interlock bench moves", description=__doc__)
    made.add_argument("--directory", type=Path, help="on the device to measure (default: a temporary one)")
    made.add_argument(
        "--moves", type=int, default=5, help="how often each guest is moved (default 5); 0 leaves that out"
    )
    made.add_argument("--guests", type=int, default=20, help="how many are drained (default 20); 0 leaves that out")
    made.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = made.parse_args(list(arguments))
    if missing := qemu_missing():
        print(f"{' and '.join(missing)} cannot be found: install qemu-system-x86 and qemu-utils", file=sys.stderr)
        return 2
    runs: list[Moved] = []
    drain: Drained | None = None
    with tempfile.TemporaryDirectory(prefix="interlock-bench-", dir=options.directory) as made_directory:
        directory = Path(made_directory)
        for what, guest, rate in _GUESTS if options.moves > 0 else ():
            place = directory / f"moves-{len(runs)}"
            place.mkdir()
            runs.append(asyncio.run(moved(place, what, guest, options.moves, rate)))
        if options.guests > 0:
            drain = asyncio.run(drained(directory, options.guests))
    if options.json:
        moves = [{**asdict(run), "share": run.share} for run in runs]
        print(json.dumps({"moves": moves, "drain": asdict(drain) if drain else None}))
    else:
        print(report(runs, drain))
    return 0


_GUESTS = (
    ("64 MiB of memory at 16 MiB/s", Guest("vm", memory_mib=128, filled_mib=64), LONG_BYTES_PER_SECOND),
    ("16 MiB of memory, unlimited", Guest("vm", memory_mib=64, filled_mib=16), None),
)


def say(what: str) -> None:
    """Tell a person at a terminal what is being measured."""
    if sys.stderr.isatty():
        print(f"measuring: {what}", file=sys.stderr, flush=True)
