"""The shortest story: the fewest mishaps that still break the same invariant, and those as early as they can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from interlock.exploring.mishaps import Mishap
from interlock.exploring.play import RETURNS, Play
from interlock.exploring.scenario import Exploration
from interlock.exploring.watch import Watch

__all__ = ["shrunk"]

TRIES = 400


class _Shrinking:
    def __init__(self, exploration: Exploration[Any], watch: Watch, invariant: str) -> None:
        self.exploration, self.watch, self.invariant = exploration, watch, invariant
        self.left = TRIES

    def breaks(self, plan: Sequence[Mishap]) -> bool:
        """Return whether the same invariant breaks, with all of these mishaps and not before them."""
        if self.left <= 0:
            return False
        self.left -= 1
        outcome = Play(self.exploration, plan, self.watch).run()
        same = outcome.violation is not None and outcome.violation.invariant == self.invariant
        return same and len(outcome.mishaps) == len(plan)

    def like(self, plan: Sequence[Mishap], mishap: Mishap) -> Iterator[Mishap]:
        """Yield all mishaps of the same kind that can happen in a run, in the order of its places."""
        if self.left <= 0:
            return
        self.left -= 1
        for point in Play(self.exploration, plan, self.watch, tracing=True).run().points:
            yield from (one for one in point.mishaps() if one.kind == mishap.kind and one.operation == mishap.operation)

    def fewer(self, plan: tuple[Mishap, ...]) -> tuple[Mishap, ...]:
        """Return the fewest: as they are if that breaks, else moved to wherever it does (leaving one out moves the places of others)."""
        for size in range(1, len(plan)):
            for some in combinations(plan, size):
                if self.breaks(some):
                    return some
            for some in combinations(plan, size):
                moved = self._moved((), some)
                if moved is not None:
                    return moved
        return plan

    def _moved(self, placed: tuple[Mishap, ...], rest: tuple[Mishap, ...]) -> tuple[Mishap, ...] | None:
        near = [one for one in self.like(placed, rest[0]) if one.what == rest[0].what]
        for one in near:
            plan = (*placed, one)
            if len(rest) == 1:
                if self.breaks(plan):
                    return plan
            elif (found := self._moved(plan, rest[1:])) is not None:
                return found
        return None

    def earlier(self, plan: tuple[Mishap, ...]) -> tuple[Mishap, ...]:
        """Return the same with each mishap as early as it can be."""
        for index in range(len(plan)):
            before = plan[:index]
            for one in [*self.like(before, plan[index])]:
                if one == plan[index]:
                    break
                moved = (*before, one, *plan[index + 1 :])
                if one not in plan and self.breaks(moved):
                    plan = moved
                    break
        return plan


def shrunk(exploration: Exploration[Any], watch: Watch, plan: tuple[Mishap, ...], invariant: str) -> tuple[Mishap, ...]:
    """Return the smallest plan found that breaks the same invariant.

    What never comes back is left as it is: every try would cost its time.
    """
    if not plan or invariant == RETURNS:
        return plan
    shrinking = _Shrinking(exploration, watch, invariant)
    return shrinking.earlier(shrinking.fewer(plan))
