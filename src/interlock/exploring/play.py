"""One run: the real runtime with the user's actions on virtual time, and mishaps at their places.

Theory of operation:

1.  Every process has a loop of its own. The first that can go on does one step, until nothing can; then time moves to the next timer.
2.  A step in which a user's function goes on, or something is committed, is a place. A run's places are counted by name. What befalls a
    place is in the plan, or thrown by dice that a random run brings along; in both cases it is noted, so that a plan plays it again.
3.  Mishaps happen before the step, so that a process which dies has done nothing of it. Only `committed` and the places around a plain
    call of a fake lie within a step: there a process dies by an exception, and nothing that it tries afterwards reaches store or fake.
4.  Whenever a process dies or freezes, another one starts, and whoever started operations asks it again for what was not acknowledged.
5.  A signal or cancel at an action's place is given first, and the action goes on a millisecond later.
6.  An operation that waits for nothing but a signal is sent one when nothing else can happen.
7.  Everything is over when all operations are at rest, every process has woken up, and some leases' time has passed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from interlock.errors import InterlockError
from interlock.exploring.actors import Actor
from interlock.exploring.mishaps import Mishap, Point, family_of
from interlock.exploring.outside import queues_of, signals_of
from interlock.exploring.places import COMMIT, place_of
from interlock.exploring.plain import Stepped
from interlock.exploring.scenario import Exploration
from interlock.exploring.starting import Starts
from interlock.exploring.story import Line, fact_words
from interlock.exploring.verdict import BadScenario, Violation, checked, made_world
from interlock.exploring.watch import Hung, Watch
from interlock.interpreter.facts import Started
from interlock.interpreter.possible import possible, signals
from interlock.interpreter.snapshot import Ended, Queued, Snapshot, Stuck, Waiting, timer_at
from interlock.runtime.engine import Interlock
from interlock.stores.contract import Entry, Schedule
from interlock.stores.memory import MemoryStore
from interlock.testing.checks import unruly
from interlock.testing.coverage import Follower
from interlock.testing.process import Killed

__all__ = ["AT_REST", "RETURNS", "RULES", "Outcome", "Play"]

AT_REST = "every operation comes to rest"
RETURNS = "every action returns or awaits"
RULES = "interlock keeps its own rules"
START = 1_000_000.0
STEPS = 200_000
PLACES = 20_000
NUDGES = 50
POSTPONED_SECONDS = 0.001
Dice = Callable[[Point], Sequence[Mishap]]


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        violation: what does not hold, if anything.
        mishaps: those that took place, in order; as a plan they give the same run.
        points: the places that it came by, if they were asked for.
        story: if it was asked for.
        ends: the operations' statuses.
    """

    violation: Violation | None = None
    mishaps: list[Mishap] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    story: list[Line] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


class Play:
    """Plays one run.

    Args:
        exploration: the scenario.
        plan: what happens where.
        watch: notices code that never comes back.
        dice: what else happens at a place, for random runs.
        tracing: note the places that the run comes by.
        telling: note the story.
    """

    kill = fail = 0.0

    def __init__(
        self,
        exploration: Exploration[Any],
        plan: Sequence[Mishap],
        watch: Watch,
        *,
        dice: Dice | None = None,
        tracing: bool = False,
        telling: bool = False,
    ) -> None:
        random.seed(0)
        self.exploration = exploration
        self.random = random.Random(0)
        self.outcome = Outcome()
        self.now = START
        self.store = MemoryStore()
        self.actors: list[Actor] = []
        self.plain: list[Stepped] = []
        self.inner: Mishap | None = None
        self.over = False
        self._watch, self._dice, self._tracing, self._telling = watch, dice, tracing, telling
        self._plan: dict[tuple[str, int], list[Mishap]] = {}
        for mishap in plan:
            self._plan.setdefault((mishap.what, mishap.number), []).append(mishap)
        self._counts: Counter[str] = Counter()
        self._signals = signals_of(exploration)
        self._starts = Starts(exploration, self.store)
        self._names: dict[str, str] = {}
        self._seen, self._snapshots = -1, tuple[Snapshot, ...]()
        self._postponed: object = None
        self._committed = False
        self._steps = 0
        self._nudges = 0
        self.world = made_world(exploration, lambda: self.now)
        self.queues = queues_of(exploration)

    # What others ask and tell

    def new_id(self) -> str:
        raise AssertionError("operations are started with keys")

    def name_of(self, id: str) -> str:
        """Return how the story calls an operation: not at all if there is only one."""
        return self._names.get(id, "")

    def say(self, actor: Actor | None, what: str, mishap: bool = False) -> None:
        if not self._telling:
            return
        for number, id in self._starts.ids.items():
            what = what.replace(id, f"{number + 1}")
        self.outcome.story.append(
            Line(self.now - START, actor.name if actor else "", f"*** {what}" if mishap else what)
        )

    def take(self, mishap: Mishap) -> None:
        """Note that a mishap took place."""
        self.outcome.mishaps.append(mishap)

    def committed(self, actor: Actor, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        self._committed = True
        for entry in entries:
            first = entry.facts[0]
            # A child is started by whoever started its parent; it is no operation of the scenario.
            if isinstance(first, Started) and entry.snapshot.parent is None:
                number = self._starts.started(entry.snapshot.id, first.by)
                if self._starts.several:
                    self._names[entry.snapshot.id] = f"[{number + 1}] "
            if entry.fires is not None:
                self._starts.fired(entry.fires[1])
            self.say(actor, f"{self.name_of(entry.snapshot.id)}commits: {'; '.join(map(fact_words, entry.facts))}")
        if self.inside("committed", ("crash",)):
            actor.die()
            raise Killed

    def noted(self, actor: Actor, schedule: Schedule) -> None:
        self._committed = True
        if schedule.last_at is None:
            self.say(actor, f"notes {schedule.name}: first due at {schedule.next_at - START:,.0f} s")
        else:
            self._starts.fired(schedule)
            self.say(actor, f"notes {schedule.name}: {schedule.last}")
        if self.inside("noted", ("crash",)):
            actor.die()
            raise Killed

    def inside(self, what: str, kinds: Sequence[str]) -> list[Mishap]:
        """Return what befalls a place within a step; these mishaps take place."""
        point = self._arrived(what, lambda: tuple((kind, 0) for kind in kinds))
        befall = [mishap for mishap in self._befall(point) if mishap.kind in kinds][:1]
        self.outcome.mishaps += befall
        return befall

    # The run

    def run(self) -> Outcome:
        """Play it to its end."""
        outcome = self.outcome
        try:
            self._launch()
            self._go_on()
            if outcome.violation is None:
                self._check(self.exploration.at_the_end)
            if outcome.violation is None and (wrong := next(unruly(self.store), "")):
                outcome.violation = Violation(RULES, wrong)
        except Hung:
            outcome.violation = Violation(RETURNS, f"{self._watch.where or 'an action'} did not come back")
        finally:
            if outcome.violation is not None:
                self.say(None, f"!!! {outcome.violation.invariant}: {outcome.violation.answer}")
            self._telling = False
            self._dispose()
        outcome.ends = [one.status for one in self._operations()]
        return outcome

    def _dispose(self) -> None:
        Follower(self.store).read()
        for stepped in self.plain:
            if self._watch.where:
                stepped.give_up()
            else:
                stepped.end()
        for actor in self.actors:
            actor.view.dead = True
            actor.process.loop.dispose()

    def _go_on(self) -> None:
        end: float | None = None
        while self.outcome.violation is None:
            actor = next((one for one in self.actors if one.runs and one.process.loop.ready()), None)
            if actor is not None:
                self._step(actor)
                if self._steps > STEPS or self._counts.total() > PLACES:
                    return self._unrest()
                continue
            self._starts.stop()
            resting = self._resting()
            if resting and (frozen := [one for one in self.actors if one.frozen]):
                for one in frozen:
                    self._wake(one)
                end = None
                continue
            if not resting and self._nudged():
                continue
            if resting and end is None:
                end = self.now + 3 * self.exploration.lease_seconds
            timers = [at for one in self.actors if one.runs and (at := one.process.loop.next_timer()) is not None]
            if end is not None and min(timers, default=end) >= end:
                return
            self.now = max(self.now, min(timers))

    def _step(self, actor: Actor) -> None:
        process = actor.process
        what = place_of(process.loop.following())
        if what is not None and process.loop.following() is not self._postponed and not self._befalls(actor, what):
            return
        if what is not None:
            self._postponed = None
        self._committed, self.over = False, False
        self._steps += 1
        self._watch.beat()
        process.step()
        if self._watch.where:
            raise Hung
        self.inner = None
        if self._tracing and self.over and what is not None and what != COMMIT:
            index = next(i for i in range(len(self.outcome.points) - 1, -1, -1) if self.outcome.points[i].what == what)
            point = self.outcome.points[index]
            self.outcome.points[index] = Point(point.what, point.number, (*point.kinds, *self._wanted((("lost", 0),))))
        if what is None and not self._committed:
            return
        if what not in (None, COMMIT):
            for one in self.actors:
                if one.frozen == "freeze" and one is not actor:
                    self._wake(one)
        self._check(self.exploration.invariants)
        if process.dead:
            self._launch()

    def _check(self, invariants: Sequence[Callable[..., Any]]) -> None:
        if invariants and self.outcome.violation is None:
            self.outcome.violation = checked(invariants, self.world, self._operations)

    # Places and what befalls them

    def _arrived(self, what: str, kinds: Callable[[], tuple[tuple[str, int], ...]]) -> Point:
        self._counts[what] += 1
        wanted = self._tracing or self._dice is not None
        point = Point(what, self._counts[what], self._wanted(kinds()) if wanted else ())
        if self._tracing:
            self.outcome.points.append(point)
        return point

    def _wanted(self, kinds: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
        without = self.exploration.without
        return tuple(one for one in kinds if family_of(one[0]) not in without) if without else kinds

    def _befall(self, point: Point) -> Sequence[Mishap]:
        planned = self._plan.get((point.what, point.number), [])
        return planned or (self._dice(point) if self._dice is not None else ())

    def _kinds(self, actor: Actor, what: str) -> tuple[tuple[str, int], ...]:
        """Return what can befall a place before its step."""
        kinds = [("crash", 0), ("freeze", 0), ("freeze-late", 0)]
        if what != COMMIT:
            kinds += [("fail", 0), ("hang", 0)]
        if what != COMMIT and self._dice is not None:
            kinds.append(("lost", 0))  # a trace tells only afterwards whether it was the action's last step
        others = [one for one in self.actors if one is not actor]
        if any(one.frozen for one in others):
            kinds.append(("wake", 0))
        if any(one.runs and one.process.loop.ready() for one in others):
            kinds.append(("other-first", 0))
        for number, id in sorted(self._starts.ids.items()):
            snapshot = next(one for one in self._operations() if one.id == id)
            machine = self._starts.definition(number)
            if "cancel" in possible(machine, snapshot):
                kinds.append(("cancel", number))
            for event in signals(machine, snapshot) & self._signals.keys():
                kinds += [(f"signal-{event}", number), (f"twice-{event}", number)]
        return tuple(kinds[:3] + sorted(kinds[3:]))

    def _befalls(self, actor: Actor, what: str) -> bool:
        """Rule 3; return whether the step is done now."""
        point = self._arrived(what, lambda: self._kinds(actor, what))
        self.inner, done = None, True
        for mishap in self._befall(point):
            kind = mishap.kind
            if kind in ("fail", "hang", "lost"):
                self.inner = mishap if what != COMMIT else None
                continue
            others = [one for one in self.actors if one is not actor]
            if kind == "wake" and not any(one.frozen for one in others):
                continue
            if kind == "crash":
                actor.die()
                self._launch()
                done = False
            elif kind in ("freeze", "freeze-late"):
                actor.frozen = kind
                self.say(actor, "is frozen", True)
                self._launch()
                done = False
            elif kind == "wake":
                for one in others:
                    if one.frozen:
                        self._wake(one)
            elif kind == "other-first":
                if not any(one.runs and one.process.loop.ready() for one in others):
                    continue
                self.actors.remove(actor)
                self.actors.append(actor)
                self._postponed = actor.process.loop.following()
                self.say(actor, "lets another process go first", True)
                done = False
            elif not self._ask(actor, mishap):
                continue
            elif what != COMMIT:
                self._postponed = actor.process.loop.following()
                actor.process.loop.postpone(POSTPONED_SECONDS)
                done = False
            self.take(mishap)
            break
        return done

    def _wake(self, actor: Actor) -> None:
        actor.frozen = ""
        self.say(actor, "wakes up")

    # What comes from outside

    def _launch(self) -> None:
        actor = Actor(self, f"p{len(self.actors)}")
        self.actors.append(actor)
        self.say(actor, "starts")
        process = actor.process
        while process.interlock is None:
            if not process.loop.ready():
                raise BadScenario(f"{actor.name} cannot start with these actions")
            process.step()
        for place in self._starts.asked():
            process.give(lambda interlock, place=place: self._start(interlock, place))  # type: ignore[misc]  # a default that mypy cannot see

    async def _start(self, interlock: Interlock, place: int) -> None:
        if refused := await self._starts.ask(interlock, place):
            self.say(None, refused)

    def _ask(self, actor: Actor, mishap: Mishap) -> bool:
        """Give a cancel or a signal to an operation, through a process; return whether there is such a thing."""
        id = self._starts.ids.get(mishap.operation)
        verb, _, event = mishap.kind.partition("-")
        signal = self._signals.get(event)
        if id is None or not (mishap.kind == "cancel" or (verb in ("signal", "twice") and signal)):
            return False
        times = " twice" if verb == "twice" else ""
        self.say(None, f"{self.name_of(id)}{'a cancel' if signal is None else f'signal {event}'} is sent{times}", True)

        async def ask(interlock: Interlock) -> None:
            try:
                if signal is None:
                    await interlock.cancel(id, by="explorer")
                else:
                    await interlock.signal(id, signal.event, signal.data, by="explorer")
            except InterlockError as error:
                self.say(
                    None,
                    f"{self.name_of(id)}{'the cancel' if signal is None else f'signal {event}'} is refused: {error}",
                )

        for _ in range(2 if verb == "twice" else 1):
            actor.process.give(ask)
        return True

    def _nudged(self) -> bool:
        """Rule 6."""
        for number, id in sorted(self._starts.ids.items()):
            snapshot = next(one for one in self._operations() if one.id == id)
            if not isinstance(snapshot.phase, Waiting) or timer_at(snapshot) is not None:
                continue
            machine = self._starts.definition(number)
            events = [event for event in self._signals if event in signals(machine, snapshot)]
            runs = next((one for one in self.actors if one.runs), None)
            if not events or runs is None or self._nudges >= NUDGES:
                continue
            event = events[self._nudges % len(events)]
            self._nudges += 1
            return self._ask(runs, Mishap(f"signal-{event}", "", 0, number))
        return False

    # Where operations are

    def _operations(self) -> tuple[Snapshot, ...]:
        position = self.store.position()
        if position != self._seen:
            ids = [id for _, id in sorted(self._starts.ids.items())]
            by_id = {one.id: one for one in self.store.load(ids)}
            self._snapshots, self._seen = tuple(by_id[id] for id in ids), position
        return self._snapshots

    def _resting(self) -> bool:
        operations = self._operations()
        if len(self._starts.refused) == len(self.exploration.operations) and not operations:
            raise BadScenario(f"no operation can be started: {self._starts.refused[0]}")
        self._served(operations)
        return self._starts.complete() and all(isinstance(one.phase, Ended | Stuck) for one in operations)

    def _served(self, operations: Sequence[Snapshot]) -> None:
        for one in operations:
            if isinstance(one.phase, Queued) and one.phase.queue not in self.queues:
                served = ", ".join(f"`{queue}`" for queue in self.queues)
                raise BadScenario(
                    f"no worker serves queue `{one.phase.queue}` (they serve {served}): name it in Exploration(queues=[...])"
                )

    def _unrest(self) -> None:
        self._served(
            self.store.search(machine=None, status=(), state=None, cursor=None, limit=1_000).snapshots
        )  # children
        where = ", ".join(
            f"{self.name_of(one.id)}is {one.status} in {one.state}"
            for one in self._operations()
            if not isinstance(one.phase, Ended | Stuck)
        )
        hours = (self.now - START) / 3600
        self.outcome.violation = Violation(AT_REST, f"after {hours:.1f} hours, {where or 'nothing was started'}")
