"""The simulator: the real runtime, several processes, virtual time, and everything that can go wrong, by seed.

    python -m interlock.testing.simulate --seeds 0..2000
    python -m interlock.testing.simulate --seed 17 --story

For each seed a few machines are made at random and operations of them started. Processes come up, perform, freeze, are stopped, are
killed between any two steps of their loops, around every commit and every effect; actions fail, hang, ignore that they are told to end,
and come back with nonsense; callers send signals wanted and unwanted, twice, with and without keys; cancel, pause, resume, retry, skip,
override. Then all is calm, and what must be true is checked (`interlock.testing.checks`). A seed always tells the same story.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from operator import methodcaller
from random import Random
from typing import Any

from interlock.definition.declare import OnConflict
from interlock.definition.machine import Definition
from interlock.errors import InterlockError
from interlock.interpreter.facts import Fact, Started
from interlock.runtime.actions import Actions
from interlock.runtime.engine import Interlock
from interlock.stores.contract import Schedule
from interlock.stores.memory import MemoryStore
from interlock.testing.checks import Acknowledged, broken, held_up_by_stuck
from interlock.testing.coverage import Follower
from interlock.testing.machines import newer_machine, random_machine
from interlock.testing.process import Process, View
from interlock.testing.timetable import PLAIN, Noted, beginning, random_schedule, unkept
from interlock.testing.world import World

__all__ = ["Simulation", "main"]

BUSY_SECONDS = 90.0
CALM_SECONDS = 3_000.0
STEPS = 400_000
QUEUES = ("", "far")
CLOCK = "clock "


class Simulation:
    """One seed.

    Args:
        seed: names everything that happens.
        store: default: a new one in memory.
        reports: whether other code performs some of the states, and reports what came of them.
        deploys: whether newer versions of the machines come while operations run.
        scheduled: how likely, from 0 to 1, cron schedules start operations too.

    Attributes:
        story: what happened, a line each.
        counts: how often what went wrong.
        broken: what does not hold; empty if all is well.
    """

    def __init__(
        self,
        seed: int,
        store: MemoryStore | None = None,
        reports: bool = True,
        deploys: bool = True,
        scheduled: float = 0.3,
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.scheduled = Random(f"{seed} scheduled").random() < scheduled
        self.began = self.now = self.calm_at = beginning(self.random) if self.scheduled else PLAIN
        self.story: list[str] = []
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self.kill = self.random.choice([0.0, 0.005, 0.02, 0.05])
        self.fail = self.random.choice([0.0, 0.0, 0.01, 0.05])
        self.store = store or MemoryStore()
        self.world = World(self.random, self.say)
        self.machines: list[Definition] = []
        for number in range(self.random.randint(1, 3)):
            self.machines.append(random_machine(self.random, f"m{number}", self.machines))
        self.versions = [*self.machines]
        self.reports = reports
        self.deploys = deploys
        self.reported = {one.name: self._reported_of(one) for one in self.machines}
        self.processes: list[Process] = []
        self.told: list[Acknowledged] = []
        self.operations: list[str] = []
        self.schedules: list[Noted] = []
        self._ids = 0
        self._steps = 0

    def _reported_of(self, machine: Definition) -> frozenset[str]:
        """Return the states of a machine that other code performs; in most seeds none."""
        acting = [row.name for row in machine.table.values() if row.kind == "acting"]
        chosen = self.random.random() < 0.2 and self.reports
        return frozenset({self.random.choice(acting)} if acting and chosen else ())

    def say(self, process: str, what: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.now - self.began:9.3f}  {process:<6} {what}")

    def facts(self) -> list[Fact]:
        """Return all facts that were committed."""
        return [fact for record in self.store.tail(0, 1_000_000) for fact in record.facts]

    # Processes

    def launch(self, queues: Sequence[str], machines: Sequence[Definition] | None = None) -> Process:
        """Start a process with a worker for ``queues``, which has the actions of ``machines``; default: of the newest versions."""
        name = f"p{len(self.processes)}"
        machines = [*self.machines] if machines is None else machines
        view = View(self.store, self.random, self, self._count, self._noted)

        def actions(boundary: Callable[[], None]) -> list[Actions[Any]]:
            return [self.world.actions(machine, name, boundary, self.reported[machine.name]) for machine in machines]

        process = Process(name, view, lambda: self.now, actions, queues, self._new_id)
        self.processes.append(process)
        self.say(name, f"starts, for {', '.join(queue or 'the default queue' for queue in queues)}")
        return process

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        self.say("", what)

    def _noted(self, before: Schedule | None, after: Schedule | None) -> None:
        self.schedules.append(Noted(self.now, before, after))
        if self.schedules[-1].fired and before is not None and after is not None:
            self.counts["times of schedules made up for or left out"] += after.missed - before.missed
            self.counts["times of schedules refused"] += after.last.startswith("refused")

    def _new_id(self) -> str:
        self._ids += 1
        return f"op{self._ids}"

    def _living(self) -> list[Process]:
        return [one for one in self.processes if not one.dead and not one.stopped]

    # Time

    def run(self, seconds: float, events: Sequence[tuple[float, Callable[[], None]]] = ()) -> None:
        """Let ``seconds`` of virtual time pass."""
        end = self.now + seconds
        waiting = sorted(((self.now + at, number, event) for number, (at, event) in enumerate(events)), reverse=True)
        while True:
            awake = [one for one in self._living() if one.frozen_until <= self.now]
            ready = [one for one in awake if one.loop.ready()]
            if ready:
                self._step(self.random.choice(ready))
                continue
            times = [at for one in awake if (at := one.loop.next_timer()) is not None]
            times += [one.frozen_until for one in self._living() if one.frozen_until > self.now]
            if waiting:
                times.append(waiting[-1][0])
            following = min(times, default=end)
            if following >= end:
                self.now = end
                return
            self.now = max(self.now, following)
            while waiting and waiting[-1][0] <= self.now:
                waiting.pop()[2]()

    def _step(self, process: Process) -> None:
        self._steps += 1
        if self._steps > STEPS:
            raise AssertionError(f"seed {self.seed}: more than {STEPS} steps, something runs round for ever")
        process.step()
        if process.dead:
            self.say(process.name, "is dead")
        elif self.kill and self.random.random() < self.kill / 50:
            self._count("killed between two steps")
            self.say(process.name, "is dead")
            process.kill()
        elif self.scheduled and self.kill and self.random.random() < self.kill / 10:
            self._freeze_for(process)

    # What happens

    def play(self) -> list[str]:
        """Play the whole seed; return what does not hold."""
        try:
            return self._play()
        finally:
            Follower(self.store).read()
            for process in self.processes:
                process.loop.dispose()

    def _play(self) -> list[str]:
        self.launch(QUEUES)
        if self.random.random() < 0.6:
            self.launch(self.random.choice([("",), ("far",), QUEUES]))
        events = [(self.random.uniform(0, BUSY_SECONDS), self._event()) for _ in range(self.random.randint(10, 50))]
        starts = [(self.random.uniform(0, BUSY_SECONDS / 2), self._start) for _ in range(self.random.randint(4, 12))]
        if self.scheduled:
            starts += [(self.random.uniform(0, BUSY_SECONDS / 3), self._schedule) for _ in range(3)]
        self.run(BUSY_SECONDS, [*starts, *events])
        self._calm()
        self.broken = [*self.world.faults, *self._faults()]
        sessions = {one.interlock._ledger.holder for one in self._living() if one.interlock is not None}
        self.broken += broken(self.store, self.told, self.world.things, sessions, self.world.came_back)
        self.broken += unkept(self.schedules, self._by_schedules(), self.calm_at, self.now)
        return self.broken

    def _by_schedules(self) -> dict[str, str]:
        """Return what schedules started; they sign with their names."""
        started = {}
        for record in self.store.tail(0, 1_000_000):
            for fact in record.facts:
                if isinstance(fact, Started) and fact.by.startswith(CLOCK) and fact.parent is None:
                    started[fact.id] = fact.by.removeprefix(CLOCK)
        self.counts["operations of schedules"] = len(started)
        return started

    def _faults(self) -> list[str]:
        return [f"{one.name}: {fault}" for one in self.processes for fault in one.loop.faults]

    def _calm(self) -> None:
        """Nothing goes wrong any more; a worker for everything is there; whoever paused resumes."""
        self.kill = self.fail = 0.0
        self.world.calm, self.calm_at = True, self.now
        for process in self.processes:
            process.frozen_until = 0.0
        self.say("", "calm")
        helper = self.launch(QUEUES)
        for version in range(
            1, max(one.version for one in self.versions)
        ):  # what cannot be upgraded needs the actions it had
            self.launch(QUEUES, [one for one in self.versions if one.version == version and one not in self.machines])
        end = self.now + CALM_SECONDS
        if self.scheduled:
            self.run(30)  # schedules go on for a while; then they have to end, or operations never would
        for name in [one.name for one in self.store.schedules() if one.next_at < end]:
            self._ask(helper, methodcaller("unschedule", name), f"drop schedule {name}")
        while self.now < end:
            self.run(15)
            page = self.store.search(machine=None, status=(), state=None, cursor=None, limit=1_000)
            held_up = held_up_by_stuck(self.store, page.snapshots)
            open_ones = [one for one in page.snapshots if not one.ended and one.id not in held_up]
            for one in open_ones:
                if one.status == "waiting" and one.state in self.reported[one.machine]:
                    self._ask(helper, methodcaller("report", one.id, "done"), f"report done of {one.id}")
                if one.paused:
                    self._ask(helper, methodcaller("resume", one.id), f"resume {one.id}")
            if not open_ones:
                self.run(5)
                return

    def _event(self) -> Callable[[], None]:
        kinds = [
            self._start,
            self._signal,
            self._signal,
            self._report,
            self._cancel,
            self._person,
            self._person,
            self._freeze,
            self._deploy,
            self._launch,
            self._end,
        ] + [self._schedule] * (2 if self.scheduled else 0)
        return self.random.choice(kinds)

    def _someone(self) -> Process | None:
        living = self._living()
        return self.random.choice(living) if living else None

    def _ask(
        self, process: Process | None, verb: Callable[[Interlock], Awaitable[Any]], what: str, *told: Acknowledged
    ) -> None:
        """Have a caller ask something; note what it was told."""
        if process is None:
            return

        async def ask(interlock: Interlock) -> None:
            try:
                await verb(interlock)
            except InterlockError as error:
                self.say(process.name, f"{what}: {type(error).__name__}")
            else:
                self.say(process.name, f"{what}: done")
                self.told += told

        process.give(ask)

    def _start(self) -> None:
        machine, process = self.random.choice(self.machines), self._someone()
        key = self.random.choice([None, f"key{self.random.randint(0, 9)}"])
        bounds: dict[str, Any] = {"deadline": 30.0} if self.random.random() < 0.1 else {}
        if self.random.random() < 0.15:
            bounds["breakpoints"] = (self.random.choice(list(machine.states)),)
        if self.random.random() < 0.1:
            bounds["delay"] = self.random.uniform(1, 20)
        if self.random.random() < 0.2:
            bounds["on_conflict"] = self.random.choice(["reject", "wait", "preempt"])
        guests = [{"guest": number} for number in range(self.random.randint(0, 3))]
        data = {"of": machine.name, "thing": self.random.choice("ab"), "guests": guests}

        async def start(interlock: Interlock) -> None:
            handle = await interlock.start(
                machine, data, key=None if key is None else f"{machine.name}-{key}", **bounds
            )
            self.operations.append(handle.id)
            self.told.append(Acknowledged("start", handle.id, "" if key is None else f"{machine.name}-{key}"))

        self._ask(process, start, f"start {machine.name} with {key}")

    def _schedule(self) -> None:
        """Somebody sets a schedule up, writes it anew, or drops it."""
        name, process = self.random.choice(["nightly", "hourly"]), self._someone()
        if self.random.random() < 0.2:
            return self._ask(process, methodcaller("unschedule", name), f"drop schedule {name}")
        machine, (cron, timezone) = self.random.choice(self.machines), random_schedule(self.random, self.began)
        policy: OnConflict | None = self.random.choice([None, "reject", "wait", "preempt"])
        data = {"of": machine.name, "thing": self.random.choice("ab"), "guests": []}
        self._ask(
            process,
            lambda interlock: interlock.schedule(
                name, machine, cron, data, timezone=timezone, by=f"{CLOCK}{name}", on_conflict=policy
            ),
            f"schedule {name} ({cron}, {timezone}) of {machine.name}",
        )

    def _operation(self) -> str | None:
        return self.random.choice(self.operations) if self.operations else None

    def _signal(self) -> None:
        operation = self._operation()
        if operation is None:
            return
        event = self.random.choice(["go", "force", "abort", "down", "nonsense"])
        key, hold = f"s{self.random.randint(0, 99)}", self.random.random() < 0.3
        for _ in range(self.random.choice([1, 1, 2])):
            self._ask(
                self._someone(),
                lambda interlock: interlock.signal(operation, event, key=f"{event}-{key}", hold=hold),
                f"signal {event} to {operation}",
                Acknowledged("signal", operation, f"{event}-{key}"),
            )

    def _report(self) -> None:
        """Other code says what came of an operation, true or not."""
        operation = self._operation()
        if operation is None or not self.reports:
            return
        to, key = self.random.choice(["s0", "s1", "s2", "finished", "failed"]), f"r{self.random.randint(0, 9)}"
        self._ask(
            self._someone(),
            lambda interlock: interlock.report(operation, to=to, key=key),
            f"report {to} of {operation}",
        )

    def _cancel(self) -> None:
        operation = self._operation()
        if operation is not None:
            told = Acknowledged("cancel", operation)
            self._ask(self._someone(), lambda interlock: interlock.cancel(operation), f"cancel {operation}", told)

    def _person(self) -> None:
        operation = self._operation()
        if operation is None:
            return
        state = self.random.choice(["s0", "s1", "failed", "finished"])
        verbs: dict[str, Callable[[Interlock], Awaitable[Any]]] = {
            "pause": lambda interlock: interlock.pause(operation),
            "pause before": lambda interlock: interlock.pause(operation, before=("s1",)),
            "resume": lambda interlock: interlock.resume(operation),
            "retry": lambda interlock: interlock.retry(operation, "again"),
            "skip": lambda interlock: interlock.skip(operation, "by hand"),
            "override": lambda interlock: interlock.override(operation, state, "by hand"),
        }
        what = self.random.choice(list(verbs))
        self._ask(self._someone(), verbs[what], f"{what} {operation}")

    def _deploy(self) -> None:
        """A newer version of a machine comes; processes that start from now on have its actions."""
        number = self.random.randrange(len(self.machines))
        old = self.machines[number]
        if self.deploys and old.version < 4 and not self.reported[old.name]:
            self.machines[number] = newer_machine(self.random, old)
            self.versions.append(self.machines[number])
            self._count("versions deployed")
            self.launch(QUEUES)

    def _freeze(self) -> None:
        process = self._someone()
        if process is not None:
            self._freeze_for(process)

    def _freeze_for(self, process: Process) -> None:
        seconds = self.random.choice([1, 4, 8, 20])
        process.frozen_until = self.now + seconds
        self.say(process.name, f"is frozen for {seconds} s")
        self.counts["frozen"] += 1

    def _launch(self) -> None:
        self.launch(self.random.choice([QUEUES, ("",), ("far",)]))

    def _end(self) -> None:
        process = self._someone()
        if process is None:
            return
        if self.random.random() < 0.5:
            self.say(process.name, "is told to stop")
            self.counts["stopped"] += 1
            process.stop()
        else:
            self._count("killed from outside")
            self.say(process.name, "is dead")
            process.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """Play seeds and say what came of them; return 1 if anything does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m interlock.testing.simulate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", default="0..2000", help="from..to (not included)")
    parser.add_argument("--story", action="store_true", help="tell what happened")
    options = parser.parse_args(arguments)
    logging.getLogger("interlock").setLevel(logging.CRITICAL)
    first, _, last = options.seeds.partition("..")
    seeds = range(options.seed, options.seed + 1) if options.seed is not None else range(int(first), int(last))
    began, counts, failed = time.monotonic(), Counter[str](), []
    for seed in seeds:
        simulation = Simulation(seed)
        if simulation.play():
            failed.append(seed)
            sys.stdout.write(f"seed {seed} does not hold:\n" + "".join(f"  {line}\n" for line in simulation.broken))
            sys.stdout.write(f"  replay: python -m interlock.testing.simulate --seed {seed} --story\n")
        if options.story:
            sys.stdout.write("\n".join(simulation.story) + "\n")
        counts += simulation.counts
        counts["operations"] += len(set(simulation.operations))
        counts["decisions"] += simulation.store.position()
        counts["late workers refused by the world"] += simulation.world.refused
        if sys.stderr.isatty():
            sys.stderr.write(f"\rseed {seed + 1 - seeds.start} of {len(seeds)}, {len(failed)} do not hold ")
    sys.stdout.write(f"{len(seeds)} seeds in {time.monotonic() - began:.0f} s, {len(failed)} do not hold\n")
    sys.stdout.write("".join(f"  {count:>9,} {what}\n" for what, count in sorted(counts.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
