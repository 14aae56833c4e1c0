"""What the demo plays on a cluster: three hosts, each with an agent of its own, and the moves that need more than two.

Each host is a process `interlock worker --actions interlock.compute.qemu --queue host:NAME`. The process that a person sees only asks and
watches. Guests are real; a host is "dead" when its agent is killed and nothing reaches it any more, while its guests still run: the
worst case, because nobody can ask them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from interlock import Interlock
from interlock.cli.demo_moves import Proof, Stage, alive, at_rest, describe, in_the_end, shown, summary
from interlock.compute.agents import Agents
from interlock.compute.boot import Boot
from interlock.compute.evacuation import Evacuation, HostReturn
from interlock.compute.guest import Line, read
from interlock.compute.host_drain import HostDrain
from interlock.compute.hypervisor import RunState
from interlock.compute.live_migration import LiveMigration
from interlock.compute.records import read_record
from interlock.compute.resize import Resize
from interlock.interpreter.facts import AttemptLost, Issued
from interlock.interpreter.snapshot import Running, Snapshot
from interlock.stores.contract import Record

__all__ = ["SCENES", "play_cluster"]

MACHINES = (Boot, Resize, Evacuation, HostReturn, HostDrain, LiveMigration)
HOSTS = A, B, C = "host-a", "host-b", "host-c"
MEMORY_MIB = 64
PATIENCE_SECONDS = 90.0
COPY_BYTES_PER_SECOND = 8 << 20


async def play_cluster(stage: Stage, scenes: Sequence[str]) -> Sequence[Proof]:
    """Play scenes on a cluster; return every proof. Whatever was started is stopped in the end."""
    began, playing = time.monotonic(), asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    async with (
        Agents(stage.hosts, stage.store, HOSTS) as agents,
        Interlock(stage.store, machines=MACHINES, by="demo") as interlock,
    ):
        stage.hypervisor = agents.fleet
        pids = await agents.begin_all(PATIENCE_SECONDS)
        stage.say(f"the agents of {', '.join(HOSTS)} are processes {', '.join(map(str, pids))}")
        for scene in scenes:
            stage.say("")
            await SCENES[scene](stage, agents, interlock)
        await in_the_end(stage, interlock)
    summary(stage, time.monotonic() - began)
    return stage.proofs


async def _resize(stage: Stage, agents: Agents, interlock: Interlock) -> None:
    """A guest gets a new size; it is taken back; then it is asked for again, and confirmed."""
    stage.say("resize  a guest is resized and reverted, then resized and confirmed", "bold")
    guest, big = "web-1", 128
    await _boot(stage, interlock, guest, A)
    before = await _says(agents, guest, A, lambda line: line.disk >= 1)
    for answer, memory, status in (("revert", MEMORY_MIB, "cancelled"), ("confirm", big, "succeeded")):
        move = await interlock.start(Resize, instance=guest, host=A, memory_mib=big, cpus=1)
        async with shown(stage, interlock, move, Resize.definition) as follow:
            tried = await follow(lambda now, _: now.state == "verifying" and now.status == "waiting")
            bigger = await _says(agents, guest, A, lambda line: line.ram == big)
            await move.signal(answer)
            after = await follow(at_rest)
        stage.prove(
            f"it ran with {big} MiB while it was tried",
            tried.state == "verifying" and bigger.ram == big,
            f"{bigger.ram} MiB",
        )
        stage.prove(f"{answer}: the operation {status}", after.status == status, f"{after.status} in {after.state}")
        now = await _says(agents, guest, A, lambda line, size=memory: line.ram == size)  # type: ignore[misc]  # bound now
        stage.prove(
            f"it runs with {memory} MiB, from its own disk", now.ram == memory and now.disk >= before.disk, f"{now}"
        )
    await _once(stage, agents, guest, A)
    stage.prove(
        "no snapshot is left",
        not await agents.fleet.saved(guest),
        ", ".join(await agents.fleet.saved(guest)) or "none",
    )


async def _evacuate(stage: Stage, agents: Agents, interlock: Interlock) -> None:
    """A host dies with its guest still running; the guest is brought up elsewhere, once; the host comes back and is cleaned."""
    stage.say("evacuate  a host is dead, its guest goes on elsewhere; then the host comes back", "bold")
    guest = "db-1"
    await _boot(stage, interlock, guest, B)
    before = await _says(agents, guest, B, lambda line: line.disk >= 1)
    pid = await agents.kill(B)
    await agents.fleet.cut_off(B)
    stage.say(f"  kill -9 {pid}, and nothing reaches {B} any more; {guest} still runs there", "bold yellow")
    move = await interlock.start(Evacuation, instance=guest, source=B, destination=C)
    async with shown(stage, interlock, move, Evacuation.definition) as follow:
        after = await follow(at_rest)
    stage.prove("the operation succeeded", after.status == "succeeded", f"{after.status} in {after.state}")
    life = await _says(agents, guest, C, lambda line: line.disk > before.disk)
    stage.prove(
        "it goes on from its disk", life.disk > before.disk, f"life {before.disk} on {B}, life {life.disk} on {C}"
    )
    await _once(stage, agents, guest, C)
    await agents.fleet.cut_off(B, reachable=True)
    stage.say(f"  {B} can be reached again; its agent is process {await agents.begin(B)}", "bold yellow")
    back = await interlock.start(HostReturn, host=B)
    async with shown(stage, interlock, back, HostReturn.definition) as follow:
        home = await follow(at_rest)
    deleted = home.data.get("deleted")
    stage.prove(
        "the host is cleaned by the record of the evacuation", deleted == [guest], f"{home.status}, deleted {deleted}"
    )
    await _once(stage, agents, guest, C)


async def _drain(stage: Stage, agents: Agents, interlock: Interlock) -> None:
    """A host is drained under load; who drives the drain is killed, then the host's agent, and then all agents."""
    guests = [f"vm-{number}" for number in range(4)]
    stage.say(
        f"drain  {A} is emptied of {len(guests)} guests that write all the time, two at a time; who drives it is killed, then all are",
        "bold",
    )
    before = await agents.fleet.guests_on(A)
    for guest in guests:
        await _boot(stage, interlock, guest, A)
    # A QEMU that hangs holds up whoever looks what is on the host: so there is a moment to kill it in.
    hung = read_record(stage.hosts / "hosts" / A / guests[0] / "qemu.json")["pid"]
    os.kill(hung, signal.SIGSTOP)
    move = await interlock.start(HostDrain, host=A, bytes_per_second=COPY_BYTES_PER_SECOND)
    async with shown(stage, interlock, move, HostDrain.definition) as follow:
        looks = await follow(lambda now, _: now.state == "looking" and isinstance(now.phase, Running))
        driver = agents.host_of(looks.phase.worker) if isinstance(looks.phase, Running) else None
        if driver is not None:
            await _replace(stage, agents, [driver], "the agent that drove the drain is dead")
        os.kill(hung, signal.SIGCONT)
        await follow(lambda now, _: now.state == "emptying")
        first = asyncio.create_task(_copies(interlock, 0))
        await follow(lambda now, _: first.done())
        await _replace(stage, agents, [A], f"the agent of {A} is dead; its guests go on")
        second = asyncio.create_task(_copies(interlock, 2))
        await follow(lambda now, _: second.done())
        driven, copies = (await move.show()).state, await second
        await _replace(stage, agents, HOSTS, "nobody drives any more; the guests go on, and so do their copies")
        after = await follow(at_rest)
    victim, successor = _taken_up(await move.history())
    stage.prove(
        "who drove the drain was killed, and somebody else went on",
        bool(victim and successor) and victim != successor,
        f"the attempt of {victim} was lost, {successor} went on" if victim else "no attempt of the drain was lost",
    )
    stage.prove("everybody who drove it was killed half-way", driven == "emptying" and copies, f"it was in {driven}")
    await _drain_proved(stage, agents, interlock, after, guests, before)


async def _drain_proved(
    stage: Stage, agents: Agents, interlock: Interlock, after: Snapshot, guests: Sequence[str], before: Sequence[str]
) -> None:
    """Prove that every guest was moved, once, and goes on. Those of scenes ``before`` this one may have been switched off in theirs."""
    children = [one for one in (await interlock.list(LiveMigration)).snapshots if one.parent is not None]
    histories = [await interlock.history(child.id) for child in children]
    facts = [fact for history in histories for record in history for fact in record.facts]
    lost = sum(isinstance(fact, AttemptLost) for fact in facts)
    stage.prove("the drain succeeded", after.status == "succeeded", f"{after.status} in {after.state}")
    everybody = [*guests, *before]
    moved, seen = (
        f"{len(everybody)} guests were moved by operations of their own",
        f"{len(children)}, {lost} attempts lost",
    )
    stage.prove(moved, len(children) >= len(everybody) and lost > 0, seen)
    left = await agents.fleet.guests_on(A)
    stage.prove(f"nothing is left on {A}", not left, ", ".join(left) or "nothing")
    for guest in everybody:
        where = await agents.fleet.where(guest)
        elsewhere = [*where.values()] == [RunState.RUNNING] and A not in where
        stage.prove(f"{guest} runs exactly once, elsewhere", elsewhere, describe(where))
        if guest not in before:
            await alive(stage, guest)


def _taken_up(records: Sequence[Record]) -> tuple[str, str]:
    """Return the worker whose attempt was lost first, and the one that performed the next; empty where there is none."""
    worker = victim = ""
    for fact in (fact for record in records for fact in record.facts):
        if isinstance(fact, AttemptLost):
            victim = victim or worker
        elif isinstance(fact, Issued):
            worker = fact.worker
            if victim:
                return victim, worker
    return victim, ""


async def _replace(stage: Stage, agents: Agents, hosts: Sequence[str], what: str) -> None:
    """Kill the agents of hosts, say what that means, and begin new ones."""
    killed = [await agents.kill(host) for host in hosts]
    stage.say(f"  kill -9 {', '.join(map(str, killed))}: {what}", "bold yellow")
    begun = [f"that of {host} is process {await agents.begin(host)}" for host in hosts]
    stage.say(f"  begun again: {', '.join(begun)}", "bold yellow")


SCENES: Mapping[str, Callable[[Stage, Agents, Interlock], Awaitable[None]]] = {
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
    stage.guests.append(instance)
    boot = await interlock.start(
        Boot, instance=instance, host=host, memory_mib=MEMORY_MIB, filled_mib=16, dirtied_pages=32
    )
    after = await boot.finished(PATIENCE_SECONDS)
    stage.say(f"  {instance} runs on {host}: it counts on its serial port, and writes to its disk")
    if after.status != "succeeded":
        stage.prove(f"{instance} boots", False, f"{after.status} in {after.state}: {after.data.get('reason')}")
    return after


async def _once(stage: Stage, agents: Agents, instance: str, host: str) -> None:
    where = await agents.fleet.where(instance)
    stage.prove(f"exactly one {instance} runs, on {host}", where == {host: RunState.RUNNING}, describe(where))


async def _says(agents: Agents, instance: str, host: str, true: Callable[[Line], bool]) -> Line:
    """Wait until the youngest process of a guest on a host says something that is true of it; return that line, or the last one."""
    until, last = time.monotonic() + PATIENCE_SECONDS / 3, Line(0, 0, 0, 0, 0, 0)
    while time.monotonic() < until:
        texts = [console.text for console in await agents.fleet.consoles(instance) if console.host == host]
        lines = read(texts[-1]).lines if texts else ()
        last = lines[-1] if lines else last
        if lines and true(last):
            return last
        await asyncio.sleep(0.05)
    return last
