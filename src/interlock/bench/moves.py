"""``interlock bench moves``: what the engine costs a live migration of a real guest, and how long a drain of a host takes.

A guest is moved to and fro between two hosts: there by an engine on SQLite with durable commits, back by a plain script that calls the
same verbs one after the other. The engine's own time is the wall time, from the start until the end is known, that is spent in no verb
of the hypervisor: decisions, commits, and whatever lies between two steps. Then the same guest is moved by two agents, one a host, which
hand the operation to each other. At last a host full of guests is drained by the agents of three hosts.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from interlock import Interlock
from interlock.bench.engine import CountingStore
from interlock.bench.report import say
from interlock.compute.agents import Agents
from interlock.compute.boot import Boot
from interlock.compute.guest import prove
from interlock.compute.host_drain import HostDrain
from interlock.compute.hypervisor import Guest, Hypervisor, Permit, RunState
from interlock.compute.live_migration import LiveMigration, live_migration
from interlock.compute.local import qemu_missing
from interlock.compute.qemu_fleet import QemuFleet
from interlock.interpreter.snapshot import Snapshot

__all__ = ["Drained", "Migrations", "drained", "main", "migrations", "report"]

HOSTS = A, B, C = "host-a", "host-b", "host-c"
MIB = 1 << 20
SHARE_LIMIT = 0.02
REALISTIC_SECONDS = 2.0
"""A share is held against its limit only where a migration takes at least so long."""
SMALL = Guest("vm-0", memory_mib=32, filled_mib=8, dirtied_pages=4)
BOOTS_AT_ONCE = 4
PATIENCE_SECONDS = 300.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Migrations:
    """Live migrations of one guest. Times in seconds, each the mean of one migration.

    Attributes:
        filled_mib, bytes_per_second: what had to move, and the limit of the rate; None: as fast as it goes.
        moves: by the engine in one process, as many by the script, and as many by two agents.
        wall, verbs, own: from the start until the end is known; the part inside a verb of the hypervisor; and the rest, the engine's own.
        commits, cpu: of the engine, and CPU time of its process, verbs included.
        bare, bare_cpu: the same verbs in a plain script.
        by_agents: wall time with an agent a host; None: not measured.
        faults: what the guest's consoles tell against its having lived one life.
    """

    filled_mib: int
    bytes_per_second: int | None
    moves: int
    wall: float
    verbs: float
    own: float
    commits: float
    cpu: float
    bare: float
    bare_cpu: float
    by_agents: float | None
    faults: tuple[str, ...]

    @property
    def share(self) -> float:
        """The engine's own share of the wall time."""
        return self.own / self.wall


@dataclass(frozen=True)
class Drained:
    """A host full of guests, emptied by the agents of three hosts. ``seconds`` are of the drain alone.

    Attributes:
        guests, booted, status: how many were to boot and did, and how the drain ended.
        boot_seconds, seconds: how long booting them took, and the drain.
        moved: by operations of their own that succeeded.
        elsewhere: guests that run exactly once, and on another host.
        alive: guests whose consoles prove one life without a break, which goes on.
    """

    guests: int
    booted: int
    status: str
    boot_seconds: float
    seconds: float
    moved: int
    elsewhere: int
    alive: int

    @property
    def moves_per_second(self) -> float:
        """Guests moved in a second of the drain."""
        return self.moved / self.seconds

    @property
    def complete(self) -> bool:
        """Whether every guest was moved, runs exactly once elsewhere, and goes on."""
        return self.status == "succeeded" and self.guests == self.booted == self.moved == self.elsewhere == self.alive


class Timed:
    """Hosts that note how many seconds were spent in their verbs."""

    def __init__(self, hosts: Hypervisor) -> None:
        self._hosts = hosts
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._hosts, name)
        if inspect.isasyncgenfunction(verb):
            return self._each(verb)
        return self._once(verb) if inspect.iscoroutinefunction(verb) else verb

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began

    def _once(self, verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def timed(*arguments: Any, **named: Any) -> Any:
            with self._timed():
                return await verb(*arguments, **named)

        return timed

    def _each(self, verb: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def timed(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
            values = verb(*arguments, **named)
            while True:
                with self._timed():
                    try:
                        value = await anext(values)
                    except StopAsyncIteration:
                        return
                yield value

        return timed


async def migrations(
    directory: Path, guest: Guest, bytes_per_second: int | None, moves: int, *, by_agents: bool = True
) -> Migrations:
    """Move a guest ``moves`` times by the engine, as often by a plain script, and as often by two agents.

    Raises:
        RuntimeError: a migration did not succeed.
    """
    async with Agents(directory / "hosts", f"sqlite:///{directory / 'agents.db'}", (A, B)) as agents:
        fleet, store = agents.fleet, CountingStore(directory / "engine.db")
        timed = Timed(fleet)
        actions = live_migration(cast("Hypervisor", timed))
        engine, script = [0.0, 0.0], [0.0, 0.0]
        await fleet.boot(guest, A)
        async with Interlock(store, actions=[actions], queues=("", f"host:{A}", f"host:{B}")) as interlock:
            for number in range(-1, moves):
                if number == 0:  # what only the first one has to do is not counted
                    engine, script, timed.seconds, store.entries = [0.0, 0.0], [0.0, 0.0], 0.0, 0
                say(f"{guest.filled_mib} MiB, migration {number + 1} of {moves}")
                with _spent(engine):
                    await _by_engine(interlock, guest, bytes_per_second, A, B)
                with _spent(script):
                    await _bare(fleet, guest, bytes_per_second, number)
        handed_over = await _by_agents(agents, guest, bytes_per_second, moves) if by_agents else None
        faults = prove([console.text for console in await fleet.consoles(guest.instance)]).faults()
    wall, cpu, bare, bare_cpu = (seconds / moves for seconds in (*engine, *script))
    verbs, commits = timed.seconds / moves, store.entries / moves
    return Migrations(
        guest.filled_mib, bytes_per_second, moves, wall, verbs, wall - verbs, commits, cpu, bare, bare_cpu, handed_over,
        tuple(faults),
    )  # fmt: skip


@contextmanager
def _spent(sums: list[float]) -> Iterator[None]:
    """Add the wall and the CPU time of a block to two sums."""
    began, cpu = time.perf_counter(), time.process_time()
    yield
    sums[0] += time.perf_counter() - began
    sums[1] += time.process_time() - cpu


async def _by_engine(
    interlock: Interlock, guest: Guest, bytes_per_second: int | None, source: str, destination: str
) -> None:
    move = await interlock.start(
        LiveMigration,
        instance=guest.instance,
        source=source,
        destination=destination,
        bytes_per_second=bytes_per_second,
    )
    after = await move.finished(PATIENCE_SECONDS)
    if after.status != "succeeded":
        raise RuntimeError(f"a migration ended {after.status} in {after.state}: {after.failure or after.data}")


async def _bare(fleet: QemuFleet, guest: Guest, bytes_per_second: int | None, number: int) -> None:
    """Move the guest back as a script would: the verbs of a live migration one after the other, and nothing remembered."""
    instance, permit = guest.instance, Permit(f"bare-{number}", 1)
    await fleet.check(instance, B, A)
    incoming = await fleet.prepare(instance, A, permit)
    await fleet.start_copy(instance, B, incoming.uri, permit, bytes_per_second=bytes_per_second)
    async for _ in fleet.watch(instance, B):
        pass
    await fleet.switch_over(instance, B, A, permit)
    await fleet.remove_source(instance, B, A, permit)


async def _by_agents(agents: Agents, guest: Guest, bytes_per_second: int | None, moves: int) -> float:
    """Return the mean wall time of the same migration by an agent a host, to and fro."""
    await agents.begin_all()
    taken, places = [0.0, 0.0], (A, B)
    async with Interlock(agents.store, machines=[LiveMigration]) as interlock:
        for number in range(-1, moves):
            if number == 0:
                taken = [0.0, 0.0]
            say(f"{guest.filled_mib} MiB, migration {number + 1} of {moves} by agents")
            with _spent(taken):
                await _by_engine(interlock, guest, bytes_per_second, *places)
            places = places[::-1]
    return taken[0] / moves


async def drained(directory: Path, guests: int) -> Drained:
    """Boot small guests on one of three hosts, and drain it."""
    names = [f"vm-{number}" for number in range(guests)]
    made = {key: value for key, value in asdict(SMALL).items() if key != "instance"}
    turns = asyncio.Semaphore(BOOTS_AT_ONCE)
    async with Agents(directory / "cluster", f"sqlite:///{directory / 'cluster.db'}", HOSTS) as agents:
        await agents.begin_all()
        async with Interlock(agents.store, machines=[Boot, HostDrain, LiveMigration]) as interlock:

            async def boot(name: str) -> bool:
                async with turns:
                    say(f"booting {name}")
                    birth = await interlock.start(Boot, instance=name, host=A, **made)
                    return (await birth.finished(PATIENCE_SECONDS)).status == "succeeded"

            began = time.perf_counter()
            booted = sum(await asyncio.gather(*(boot(name) for name in names)))
            boot_seconds, began = time.perf_counter() - began, time.perf_counter()
            drain = await interlock.start(HostDrain, host=A)
            watching = asyncio.create_task(_say_how_far(interlock, guests))
            try:
                after = await drain.finished(PATIENCE_SECONDS)
            finally:
                watching.cancel()
            seconds = time.perf_counter() - began
            moved = len([one async for one in _children(interlock) if one.status == "succeeded"])
        places = [await agents.fleet.where(name) for name in names]
        elsewhere = sum([*where.values()] == [RunState.RUNNING] and A not in where for where in places)
        alive = sum(await asyncio.gather(*(_goes_on(agents.fleet, name) for name in names)))
    return Drained(guests, booted, after.status, boot_seconds, seconds, moved, elsewhere, alive)


async def _children(interlock: Interlock) -> AsyncIterator[Snapshot]:
    cursor: str | None = None
    while True:
        page = await interlock.list(LiveMigration, cursor=cursor, limit=200)
        for one in page.snapshots:
            yield one
        if (cursor := page.cursor) is None:
            return


async def _say_how_far(interlock: Interlock, guests: int) -> None:
    said = -1
    while True:
        moved = len([one async for one in _children(interlock) if one.ended])
        if moved != said:
            say(f"the drain: {moved} of {guests} guests moved")
            said = moved
        await asyncio.sleep(1.0)


async def _goes_on(fleet: QemuFleet, instance: str) -> bool:
    """Whether a guest has lived one life so far, and goes on."""
    proof, until = prove([console.text for console in await fleet.consoles(instance)]), time.monotonic() + 30
    before = proof.last
    while proof.last <= before and time.monotonic() < until:
        await asyncio.sleep(_POLL_SECONDS)
        proof = prove([console.text for console in await fleet.consoles(instance)])
    return proof.last > before and not proof.faults()


def report(measured: Sequence[Migrations], drain: Drained | None) -> str:
    """Return the figures as a table for people, with the targets."""
    lines: list[str] = []
    verdicts: list[tuple[str, bool]] = []
    if measured:
        lines += [
            "one guest from host to host, milliseconds of one migration: by the engine in one process; by a plain script of the same",
            "verbs; and by two agents, one a host, that hand the operation to each other and notice by themselves that they are to go on:",
            "    filled      rate  moves   engine   verbs    own   share  commits  CPU   script  CPU  x script   agents  x script",
        ]
    for one in measured:
        rate = "no limit" if one.bytes_per_second is None else f"{one.bytes_per_second / MIB:g} MiB/s"
        agents, ratio = "-", "-"
        if one.by_agents is not None:
            agents, ratio = f"{one.by_agents * 1e3:.0f}", f"{one.by_agents / one.bare:.3f}"
        lines.append(
            f"  {one.filled_mib:>4} MiB  {rate:>8}  {one.moves:>5} {one.wall * 1e3:>8.0f} {one.verbs * 1e3:>7.0f} {one.own * 1e3:>6.1f}"
            f" {one.share:>7.2%} {one.commits:>8.1f} {one.cpu * 1e3:>4.0f} {one.bare * 1e3:>8.0f} {one.bare_cpu * 1e3:>4.0f}"
            f" {one.wall / one.bare:>9.3f} {agents:>8} {ratio:>9}"
        )
        lines += [f"  the guest's life: {fault}" for fault in one.faults]
        if one.wall >= REALISTIC_SECONDS:
            what = f"a migration of {one.wall:.1f} s: the engine's own share is under {SHARE_LIMIT:.0%}"
            verdicts.append((what, one.share < SHARE_LIMIT))
            if one.by_agents is not None:
                what = f"and two agents take less than {SHARE_LIMIT:.0%} longer than the script"
                verdicts.append((what, one.by_agents / one.bare < 1 + SHARE_LIMIT))
        verdicts.append((f"{one.filled_mib} MiB: the guest lived one life, without a break", not one.faults))
    if measured:
        lines += [
            "own: wall time spent in no verb of the hypervisor; share: of the wall time. The shorter the migration, the larger its share.",
            "",
        ]
    if drain is not None:
        lines += [
            f"a drain of {drain.guests} guests ({SMALL.memory_mib} MiB, {SMALL.filled_mib} filled) by the agents of {len(HOSTS)} hosts:",
            f"  booted {drain.booted} in {drain.boot_seconds:.1f} s; {drain.status} in {drain.seconds:.1f} s,"
            f" {drain.moves_per_second:.1f} moves a second",
            f"  {drain.moved} moved, {drain.elsewhere} run exactly once and elsewhere, {drain.alive} prove one life that goes on",
            "",
        ]
        verdicts.append((f"the drain moves all {drain.guests}, and each lives on elsewhere, once", drain.complete))
    return "\n".join([*lines, "targets:"] + [f"  {'met   ' if met else 'MISSED'}  {what}" for what, met in verdicts])


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(prog="interlock bench moves", description=__doc__)
    made.add_argument("--directory", type=Path, help="where disks and stores are kept (default: a temporary one)")
    made.add_argument(
        "--moves", type=_count, default=10, help="migrations of each guest (default 10); 0 leaves them out"
    )
    made.add_argument("--filled-mib", type=_count, default=64, help="what a realistic guest has to move (default 64)")
    made.add_argument("--mib-per-second", type=_count, default=16, help="and how fast (default 16)")
    made.add_argument("--guests", type=_count, default=20, help="guests of the drain (default 20); 0 leaves it out")
    made.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    return made


def _count(text: str) -> int:
    if not text.isdigit() or int(text) > 10_000:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 to 10,000")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit status: 1 if a guest did not come through, 2 where it cannot run."""
    options = parser().parse_args(list(arguments))
    try:
        filled = options.filled_mib
        realistic = Guest(SMALL.instance, memory_mib=max(8, min(2048, 2 * filled)), filled_mib=filled)
    except ValueError as error:
        parser().error(str(error))
    if not options.mib_per_second:
        parser().error("--mib-per-second is 0: nothing would ever move")
    if missing := qemu_missing():
        install = "on Debian: apt-get install qemu-system-x86 qemu-utils"
        print(f"QEMU is missing ({', '.join(missing)}), and only real guests are measured; {install}", file=sys.stderr)
        return 2
    measured: list[Migrations] = []
    drain: Drained | None = None
    with tempfile.TemporaryDirectory(prefix="interlock-bench-", dir=options.directory) as directory:
        if options.moves:
            for guest, rate in ((realistic, options.mib_per_second * MIB), (SMALL, None)):
                place = Path(directory, str(len(measured)))
                place.mkdir()
                measured.append(asyncio.run(migrations(place, guest, rate, options.moves)))
        if options.guests:
            drain = asyncio.run(drained(Path(directory), options.guests))
    if options.json:
        moves = [{**asdict(one), "share": one.share} for one in measured]
        emptied = None if drain is None else {**asdict(drain), "moves_per_second": drain.moves_per_second}
        print(json.dumps({"migrations": moves, "drain": emptied}))
    else:
        print(report(measured, drain))
    return 0 if not any(one.faults for one in measured) and (drain is None or drain.complete) else 1
