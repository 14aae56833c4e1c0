"""`explore`: every single mishap, then pairs of them, then runs at random, until something does not hold or the budget is used up.

Theory of operation:

1.  The calm run comes first. Its places, and what can happen at each, are the single mishaps; they are played in the order of the places.
2.  Each of these runs comes by places of its own after its mishap: with what can happen there they are the pairs. They are played in an
    order that is spread over all of them, so that a budget which is used up early has still looked everywhere.
3.  Then runs are thrown by dice: up to five mishaps each, by the number of the run. What happened is noted, so it can be played again.
4.  What is found is shrunk (`shrink`), told, and given a test. Nothing is ever said to be proved: the report says what was covered.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import logging
import math
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from interlock.errors import Refused
from interlock.exploring.mishaps import Mishap, Point, read_seed, seed_of
from interlock.exploring.play import Outcome, Play
from interlock.exploring.scenario import Exploration
from interlock.exploring.shrink import shrunk
from interlock.exploring.story import numbered, paste
from interlock.exploring.verdict import Violation
from interlock.exploring.watch import Watch

__all__ = ["Explorer", "Finding", "Report", "explore", "replay", "story_of"]

BUDGET_SECONDS = 30.0
DICE_MISHAPS = 5


@dataclass(frozen=True)
class Finding:
    """What does not hold, and the shortest run that shows it.

    Attributes:
        invariant, answer: which one, and what it said.
        seed: names the run.
        story: what happened, in numbered lines.
        test: a test that plays it again; "" if it is not known how the scenario is imported.
    """

    invariant: str
    answer: str
    seed: str
    story: str
    test: str = ""

    def __str__(self) -> str:
        test = f"\n\nAs a test:\n\n{self.test}" if self.test else ""
        return f"{self.invariant}: {self.answer}\n\n{self.story}\n\nseed: {self.seed}{test}"


@dataclass
class Report:
    """What an exploration covered, and what it found.

    Attributes:
        points: places of the calm run.
        runs: how many were played.
        singles, pairs: how many were played, of how many there are (None: not counted yet).
        dice: how many runs were thrown by dice.
        mishaps: how often each kind took place.
        ends: how operations ended.
        finding: what does not hold.
        cpu_seconds: processor time that was used.
        complete: whether everything up to the depth that was asked for was played.
    """

    depth: int
    points: int = 0
    runs: int = 0
    singles: tuple[int, int | None] = (0, None)
    pairs: tuple[int, int | None] = (0, None)
    dice: int = 0
    mishaps: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    finding: Finding | None = None
    cpu_seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return all(done == of for done, of in (self.singles, self.pairs)[: self.depth])

    def coverage(self) -> str:
        """Return what was covered, in one line."""
        said = [f"{self.runs:,} runs in {self.cpu_seconds:.1f} s", f"{self.points:,} places in the calm run"]
        for name, (done, of) in (("single mishaps", self.singles), ("pairs", self.pairs)):
            if done or (of is not None and self.depth >= (1 if name == "single mishaps" else 2)):
                said.append(f"{done:,} of {'?' if of is None else f'{of:,}'} {name}")
        if self.dice:
            said.append(f"{self.dice:,} runs by dice")
        return ", ".join(said)

    def __str__(self) -> str:
        ends = ", ".join(f"{count:,} {status}" for status, count in self.ends.most_common())
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.mishaps.most_common())
        lines = [f"covered: {self.coverage()}", f"operations ended: {ends or 'none'}", f"mishaps: {kinds or 'none'}"]
        if self.finding is not None:
            return "\n".join([f"found: {self.finding}", "", *lines])
        if not self.complete:
            lines.append("the budget was used up before that depth was covered: give more, or explore again at night")
        return "\n".join(["nothing found, which is no proof", *lines])


class Explorer:
    """Explores a scenario.

    Args:
        exploration: the scenario.
        target: ``module:name`` of it, for the test to paste.
        depth: 1 for single mishaps, 2 for pairs too; 0 for the dice alone.
        runs, seconds: the budget: so many runs, or so much processor time; whichever is used up first.
        first: number of the first run by dice.
        progress: called after every run with the report so far; may be set later.
    """

    def __init__(
        self,
        exploration: Exploration[Any],
        *,
        target: str = "",
        depth: int = 2,
        runs: int | None = None,
        seconds: float | None = None,
        first: int = 0,
        progress: Callable[[Report], None] | None = None,
    ) -> None:
        if depth not in (0, 1, 2):
            raise Refused(f"depth={depth!r}: 0 is dice alone, 1 single mishaps, 2 pairs of them too")
        for name, value in (("runs", runs), ("seconds", seconds)):
            if value is not None and not value > 0:
                raise Refused(f"{name}={value!r}: must be above 0")
        self._exploration = exploration
        self._target = target
        self._runs = runs
        self._seconds = BUDGET_SECONDS if seconds is None and runs is None else seconds
        self._first = first
        self.progress = progress
        self._began = 0.0
        self.report = Report(depth)

    def run(self) -> Report:
        """Explore until something is found or the budget is used up.

        Raises:
            BadScenario, BadInvariant, Refused: it cannot be explored.
        """
        self._began = time.process_time()
        with alone(self._exploration) as watch:
            found = self._search(watch)
            if found is not None:
                self.report.finding = self._told(watch, *found)
        self.report.cpu_seconds = time.process_time() - self._began
        return self.report

    def share(self) -> float:
        """Return how much of the budget is used up, from 0 to 1."""
        by_runs = self.report.runs / self._runs if self._runs else 0.0
        return min(1.0, max(by_runs, self.report.cpu_seconds / self._seconds if self._seconds else 0.0))

    def _told(self, watch: Watch, plan: tuple[Mishap, ...], violation: Violation) -> Finding:
        small = shrunk(self._exploration, watch, plan, violation.invariant)
        outcome = Play(self._exploration, small, watch, telling=True).run()
        if outcome.violation is None:
            raise Refused(
                f"seed `{seed_of(small)}` does not give the same run twice: use the virtual clock that `world` is given, and no other "
                "source of time or chance",
                seed=seed_of(small),
            )
        seed = seed_of(small)
        return Finding(
            outcome.violation.invariant,
            outcome.violation.answer,
            seed,
            numbered(outcome.story),
            paste(self._target, seed, outcome.violation.invariant) if self._target else "",
        )

    def _spent(self) -> bool:
        used = time.process_time() - self._began
        self.report.cpu_seconds = used
        return (self._runs is not None and self.report.runs >= self._runs) or (
            self._seconds is not None and used >= self._seconds
        )

    def _play(self, watch: Watch, plan: tuple[Mishap, ...], **how: Any) -> Outcome:
        outcome = Play(self._exploration, plan, watch, **how).run()
        report = self.report
        report.runs += 1
        report.mishaps.update(mishap.family for mishap in outcome.mishaps)
        if outcome.violation is None:
            report.ends.update(outcome.ends)
        if self.progress is not None:
            self.progress(report)
        return outcome

    def _search(self, watch: Watch) -> tuple[tuple[Mishap, ...], Violation] | None:
        report = self.report
        calm = self._play(watch, (), tracing=True)
        report.points = len(calm.points)
        if calm.violation is not None:
            return (), calm.violation
        if report.depth:
            singles = [mishap for point in calm.points for mishap in point.mishaps()]
            found = self._singles(watch, singles)
            if found is not None or self._spent():
                return found
        return self._by_dice(watch)

    def _singles(self, watch: Watch, singles: Sequence[Mishap]) -> tuple[tuple[Mishap, ...], Violation] | None:
        """Rules 1 and 2."""
        report, numbers, known = self.report, dict[Mishap, int](), list[Mishap]()
        seconds: list[array[int]] = []
        report.singles = (0, len(singles))
        for done, first in enumerate(singles, 1):
            if self._spent():
                return None
            outcome = self._play(watch, (first,), tracing=report.depth > 1)
            report.singles = (done, len(singles))
            if outcome.violation is not None:
                return (first,), outcome.violation
            after = array("L")
            for second in _after(outcome.points, first):
                if second not in numbers:
                    numbers[second] = len(known)
                    known.append(second)
                after.append(numbers[second])
            seconds.append(after)
        if report.depth < 2:
            return None
        total = sum(map(len, seconds))
        report.pairs = (0, total)
        for done, (one, other) in enumerate(_spread(seconds, total), 1):
            if self._spent():
                return None
            plan = (singles[one], known[other])
            outcome = self._play(watch, plan)
            report.pairs = (done, total)
            if outcome.violation is not None:
                return plan, outcome.violation
        return None

    def _by_dice(self, watch: Watch) -> tuple[tuple[Mishap, ...], Violation] | None:
        """Rule 3."""
        while not self._spent():
            outcome = self._play(watch, (), dice=dice(self._first + self.report.dice, max(self.report.points, 10)))
            self.report.dice += 1
            if outcome.violation is not None:
                return tuple(outcome.mishaps), outcome.violation
        return None


def _after(points: Sequence[Point], first: Mishap) -> Iterator[Mishap]:
    """Yield what can happen after the first mishap of a run."""
    begun = False
    for point in points:
        if begun:
            yield from point.mishaps()
        begun = begun or (point.what, point.number) == (first.what, first.number)


def _spread(seconds: Sequence[array[int]], total: int) -> Iterator[tuple[int, int]]:
    """Yield every pair once, spread over all of them; no list of them is made."""
    begins, begin = [], 0
    for after in seconds:
        begins.append(begin)
        begin += len(after)
    stride = max(1, int(total * 0.6180339887))
    while math.gcd(stride, total) > 1:
        stride += 1
    for number in range(total):
        index = number * stride % total
        one = bisect.bisect_right(begins, index) - 1
        yield one, seconds[one][index - begins[one]]


def dice(number: int, points: int) -> Callable[[Point], Sequence[Mishap]]:
    """Return what throws the mishaps of a run by its number: up to five, as many as fit ``points`` places."""
    chance = random.Random(number)
    often = chance.choice([1, 2, 3, 4]) / points
    left = DICE_MISHAPS

    def throw(point: Point) -> Sequence[Mishap]:
        nonlocal left
        if not left or not point.kinds or chance.random() >= often:
            return ()
        left -= 1
        kind, operation = chance.choice(point.kinds)
        return (Mishap(kind, point.what, point.number, operation),)

    return throw


@contextlib.contextmanager
def alone(exploration: Exploration[Any]) -> Iterator[Watch]:
    """Explore alone: with a watch, without the runtime's own log, and with nobody else's random numbers touched."""
    if asyncio._get_running_loop() is not None:
        raise Refused("an exploration has event loops of its own: call it from plain code, not from async code")
    log, state = logging.getLogger("interlock"), random.getstate()
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with Watch(exploration.action_seconds) as watch:
            yield watch
    finally:
        log.setLevel(level)
        random.setstate(state)


def explore(
    exploration: Exploration[Any],
    *,
    depth: int = 2,
    runs: int | None = None,
    seconds: float | None = None,
    first: int = 0,
    target: str = "",
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Explore a scenario; see `Explorer` for the arguments, `Report` for what comes of it.

    Returns:
        The report: ``report.finding`` is None if nothing was found, and ``str(report)`` says what was covered.

    Raises:
        Refused: it cannot be explored; the message says why.
    """
    explorer = partial(Explorer, exploration, target=target, depth=depth, runs=runs, seconds=seconds)
    return explorer(first=first, progress=progress).run()


def replay(exploration: Exploration[Any], seed: str, *, target: str = "") -> Finding | None:
    """Play one run again, by its seed. Returns what does not hold in it, with its story; None if everything does.

    Raises:
        Refused: the seed does not fit the scenario any more: something that it names does not happen.
    """
    plan = read_seed(seed)
    with alone(exploration) as watch:
        outcome = Play(exploration, plan, watch, telling=True).run()
    missing = [str(mishap) for mishap in plan if mishap not in outcome.mishaps]
    if outcome.violation is not None:
        test = paste(target, seed, outcome.violation.invariant) if target else ""
        return Finding(*outcome.violation, seed, numbered(outcome.story), test)
    if missing:
        raise Refused(
            f"seed `{seed}` does not fit: `{'`, `'.join(missing)}` did not happen in this run; the scenario or the actions have changed "
            "since: explore again",
            seed=seed,
            missing=missing,
        )
    return None


def story_of(exploration: Exploration[Any], seed: str) -> str:
    """Return the story of a run, whether everything holds in it or not."""
    with alone(exploration) as watch:
        return numbered(Play(exploration, read_seed(seed), watch, telling=True).run().story)
