"""What the demo plays on a cluster: three hosts, each with an agent of its own, and the moves that need more than two.

Each host is a process `interlock worker --actions interlock.compute.qemu --queue host:NAME`. The process that a person sees only asks and
watches. Guests are real; a host is "dead" when its agent is killed and nothing reaches it any more, while its guests still run: the
worst case, because nobody can ask them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from interlock import Interlock
from interlock.cli.demo_moves import Proof, Stage, alive, at_rest, describe, shown, summary
from interlock.compute.boot import Boot
from interlock.compute.evacuation import Evacuation, HostReturn
from interlock.compute.guest import Line, read
from interlock.compute.host_drain import HostDrain
from interlock.compute.hypervisor import Permit, RunState, Unsuitable
from interlock.compute.live_migration import LiveMigration
from interlock.compute.qemu import cluster as named
from interlock.compute.qemu_fleet import QemuFleet
from interlock.compute.resize import Resize
from interlock.interpreter.facts import AttemptLost
from interlock.interpreter.snapshot import Snapshot

__all__ = ["SCENES", "play_cluster"]

MACHINES = (Boot, Resize, Evacuation, HostReturn, HostDrain, LiveMigration)
HOSTS = A, B, C = "host-a", "host-b", "host-c"
MEMORY_MIB = 64
PATIENCE_SECONDS = 90.0
COPY_BYTES_PER_SECOND = 8 << 20


class Cluster:
    """Three hosts and their agents.

    Attributes:
        fleet: the hosts, for whoever only looks.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.fleet = QemuFleet(stage.hosts, HOSTS)
        self._agents: dict[str, asyncio.subprocess.Process] = {}

    async def begin(self, host: str) -> int:
        """Begin the agent of a host; return its process id."""
        words = ["worker", "--actions", "interlock.compute.qemu", "--state-dir", str(self.stage.hosts)]
        words += ["--queue", f"host:{host}", "--queue", "", "--store", self.stage.store, "--lease-seconds", "3"]
        with (self.stage.directory / f"{host}.log").open("ab") as log:
            self._agents[host] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "interlock.cli",
                *words,
                env={**os.environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self._agents[host].pid

    async def kill(self, host: str) -> int:
        """Kill the agent of a host with SIGKILL; return the process id that it had."""
        agent = self._agents.pop(host)
        agent.send_signal(signal.SIGKILL)
        await agent.wait()
        return agent.pid

    async def stop(self) -> None:
        """Stop all agents and all guests."""
        for host in [*self._agents]:
            await self.kill(host)
        await self.fleet.stop_all()


async def play_cluster(stage: Stage, scenes: Sequence[str]) -> Sequence[Proof]:
    """Play scenes on a cluster; return every proof. Whatever was started is stopped in the end."""
    began, cluster = time.monotonic(), Cluster(stage)
    stage.hypervisor = cluster.fleet
    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    try:
        async with Interlock(stage.store, machines=MACHINES, by="demo") as interlock:
            for host in HOSTS:
                stage.say(f"the agent of {host} is process {await cluster.begin(host)}")
            until = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < until:
                if set(named(stage.hosts)) == set(HOSTS):  # each agent has named its host
                    break
                await asyncio.sleep(0.05)
            for scene in scenes:
                stage.say("")
                await SCENES[scene](stage, cluster, interlock)
            stage.say("")
            await _nothing_left(stage, cluster, interlock)
    finally:
        await cluster.stop()
    summary(stage, time.monotonic() - began)
    return stage.proofs


async def _resize(stage: Stage, cluster: Cluster, interlock: Interlock) -> None:
    """A guest gets a new size; it is taken back; then it is asked for again, and confirmed."""
    stage.say("resize  a guest is resized and reverted, then resized and confirmed", "bold")
    guest, big = "web-1", 128
    await _boot(stage, interlock, guest, A)
    before = await _says(cluster, guest, A, lambda line: line.disk >= 1)
    for answer, memory, status in (("revert", MEMORY_MIB, "cancelled"), ("confirm", big, "succeeded")):
        move = await interlock.start(Resize, instance=guest, host=A, memory_mib=big, cpus=1)
        async with shown(stage, interlock, move, Resize.definition) as follow:
            tried = await follow(lambda now, _: now.state == "verifying" and now.status == "waiting")
            bigger = await _says(cluster, guest, A, lambda line: line.ram == big)
            await move.signal(answer)
            after = await follow(at_rest)
        stage.prove(
            f"it ran with {big} MiB while it was tried",
            tried.state == "verifying" and bigger.ram == big,
            f"{bigger.ram} MiB",
        )
        stage.prove(f"{answer}: the operation {status}", after.status == status, f"{after.status} in {after.state}")
        now = await _says(cluster, guest, A, lambda line, size=memory: line.ram == size)  # type: ignore[misc]  # bound now
        stage.prove(
            f"it runs with {memory} MiB, from its own disk", now.ram == memory and now.disk >= before.disk, f"{now}"
        )
    await _once(stage, cluster, guest, A)
    stage.prove(
        "no snapshot is left",
        not await cluster.fleet.saved(guest),
        ", ".join(await cluster.fleet.saved(guest)) or "none",
    )


async def _evacuate(stage: Stage, cluster: Cluster, interlock: Interlock) -> None:
    """A host dies with its guest still running; the guest is brought up elsewhere, once; the host comes back and is cleaned."""
    stage.say("evacuate  a host is dead, its guest goes on elsewhere; then the host comes back", "bold")
    guest = "db-1"
    await _boot(stage, interlock, guest, B)
    before = await _says(cluster, guest, B, lambda line: line.disk >= 1)
    pid = await cluster.kill(B)
    await cluster.fleet.cut_off(B)
    stage.say(f"  kill -9 {pid}, and nothing reaches {B} any more; {guest} still runs there", "bold yellow")
    move = await interlock.start(Evacuation, instance=guest, source=B, destination=C)
    async with shown(stage, interlock, move, Evacuation.definition) as follow:
        after = await follow(at_rest)
    stage.prove("the operation succeeded", after.status == "succeeded", f"{after.status} in {after.state}")
    life = await _says(cluster, guest, C, lambda line: line.disk > before.disk)
    stage.prove(
        "it goes on from its disk", life.disk > before.disk, f"life {before.disk} on {B}, life {life.disk} on {C}"
    )
    await _once(stage, cluster, guest, C)
    await cluster.fleet.cut_off(B, reachable=True)
    stage.say(f"  {B} can be reached again; its agent is process {await cluster.begin(B)}", "bold yellow")
    back = await interlock.start(HostReturn, host=B)
    async with shown(stage, interlock, back, HostReturn.definition) as follow:
        home = await follow(at_rest)
    deleted = home.data.get("deleted")
    stage.prove(
        "the host is cleaned by the record of the evacuation", deleted == [guest], f"{home.status}, deleted {deleted}"
    )
    await _once(stage, cluster, guest, C)


async def _drain(stage: Stage, cluster: Cluster, interlock: Interlock) -> None:
    """A host is drained under load; its agent is killed in the middle, and then all that drive."""
    guests = [f"vm-{number}" for number in range(4)]
    stage.say(
        f"drain  {A} is emptied of {len(guests)} guests that write all the time, two at a time; its agent is killed, then all are",
        "bold",
    )
    here = [one for one in await cluster.fleet.guests_on(A) if one not in guests]
    for guest in guests:
        await _boot(stage, interlock, guest, A)
    move = await interlock.start(HostDrain, host=A, bytes_per_second=COPY_BYTES_PER_SECOND)
    async with shown(stage, interlock, move, HostDrain.definition) as follow:
        await follow(lambda now, _: now.state == "emptying")
        first = asyncio.create_task(_copies(interlock, 0))
        await follow(lambda now, _: first.done())
        pid = await cluster.kill(A)
        stage.say(f"  kill -9 {pid}: the agent of {A} is dead; its guests go on", "bold yellow")
        stage.say(f"  its agent is process {await cluster.begin(A)} now", "bold yellow")
        second = asyncio.create_task(_copies(interlock, 2))
        await follow(lambda now, _: second.done())
        pids = ", ".join([str(await cluster.kill(host)) for host in HOSTS])
        driven, copies = (await move.show()).state, await second
        stage.say(f"  kill -9 {pids}: nobody drives any more; the guests go on, and so do their copies", "bold yellow")
        stage.say(
            f"  the agents are {', '.join([str(await cluster.begin(host)) for host in HOSTS])} now", "bold yellow"
        )
        after = await follow(at_rest)
    stage.prove("everybody who drove it was killed half-way", driven == "emptying" and copies, f"it was in {driven}")
    children = [one for one in (await interlock.list(LiveMigration)).snapshots if one.parent is not None]
    histories = [await interlock.history(child.id) for child in children]
    facts = [fact for history in histories for record in history for fact in record.facts]
    lost = sum(isinstance(fact, AttemptLost) for fact in facts)
    stage.prove("the drain succeeded", after.status == "succeeded", f"{after.status} in {after.state}")
    wanted = len(guests) + len(here)
    moved, seen = f"{wanted} guests were moved by operations of their own", f"{len(children)}, {lost} attempts lost"
    stage.prove(moved, len(children) >= wanted and lost > 0, seen)
    left = await cluster.fleet.guests_on(A)
    stage.prove(f"nothing is left on {A}", not left, ", ".join(left) or "nothing")
    for guest in guests:
        where = await cluster.fleet.where(guest)
        stage.prove(
            f"{guest} runs exactly once, elsewhere",
            list(where.values()) == [RunState.RUNNING] and A not in where,
            describe(where),
        )
        await alive(stage, guest)


async def _nothing_left(stage: Stage, cluster: Cluster, interlock: Interlock) -> None:
    """In the end: nothing is owned or held by nobody, and every guest's disk is whole."""
    stage.say("in the end, all guests are switched off", "bold")
    owned = await interlock.owned()
    stage.prove("nothing is owned by nobody", not owned, ", ".join(one.id for one in owned) or "nothing is owned")
    left = [one for one in (await interlock.list()).snapshots if not one.ended]
    stage.prove("nothing waits for a person", not left, ", ".join(one.id for one in left) or "every operation is over")
    whole, off = list[str](), Permit("the-end", 1)
    guests = [(guest, host) for host in HOSTS for guest in await cluster.fleet.guests_on(host)]
    for guest, host in guests:
        await cluster.fleet.stop(guest, host, off)
        with suppress(Unsuitable):
            await cluster.fleet.sound(guest, host)
            whole.append(guest)
    damaged = [guest for guest, _ in guests if guest not in whole]
    seen = ", ".join(damaged) or f"{len(whole)} disks, by qemu-img check"
    stage.prove("every guest's disk is whole", bool(guests) and not damaged, seen)


SCENES: Mapping[str, Callable[[Stage, Cluster, Interlock], Awaitable[None]]] = {
    "resize": _resize,
    "evacuate": _evacuate,
    "drain": _drain,
}


async def _copies(interlock: Interlock, index: int) -> bool:
    """Wait until a move that a drain began, not before the one of that number, copies; or, and then say so, until all of them are over."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        moves = [one for one in (await interlock.list(LiveMigration)).snapshots if one.parent is not None]
        if any(
            one.state == "copying" and one.status == "running" and one.parent is not None and one.parent.index >= index
            for one in moves
        ):
            return True
        if moves and all(one.ended for one in moves) and max(one.parent.index for one in moves if one.parent) >= index:
            return False
        await asyncio.sleep(0.005)
    return False


async def _boot(stage: Stage, interlock: Interlock, instance: str, host: str) -> Snapshot:
    boot = await interlock.start(
        Boot, instance=instance, host=host, memory_mib=MEMORY_MIB, filled_mib=16, dirtied_pages=32
    )
    after = await boot.finished(PATIENCE_SECONDS)
    stage.say(f"  {instance} runs on {host}: it counts on its serial port, and writes to its disk")
    if after.status != "succeeded":
        stage.prove(f"{instance} boots", False, f"{after.status} in {after.state}: {after.data.get('reason')}")
    return after


async def _once(stage: Stage, cluster: Cluster, instance: str, host: str) -> None:
    where = await cluster.fleet.where(instance)
    stage.prove(f"exactly one {instance} runs, on {host}", where == {host: RunState.RUNNING}, describe(where))


async def _says(cluster: Cluster, instance: str, host: str, true: Callable[[Line], bool]) -> Line:
    """Wait until the youngest process of a guest on a host says something that is true of it; return that line, or the last one."""
    until, last = time.monotonic() + PATIENCE_SECONDS / 3, Line(0, 0, 0, 0, 0, 0)
    while time.monotonic() < until:
        texts = [console.text for console in await cluster.fleet.consoles(instance) if console.host == host]
        lines = read(texts[-1]).lines if texts else ()
        last = lines[-1] if lines else last
        if lines and true(last):
            return last
        await asyncio.sleep(0.05)
    return last
