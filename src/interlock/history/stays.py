"""How long records stayed somewhere: a histogram in steps of a twelfth, of constant size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Stays"]

_STEP = math.log(2) / 8
"""Eight steps for each doubling: a quantile is off by less than a twentieth."""


@dataclass(slots=True)
class Stays:
    """Durations in seconds, counted by size.

    >>> stays = Stays()
    >>> for seconds in (1, 2, 3, 100): stays.add(seconds)
    >>> stays.count, stays.most, round(stays.quantile(0.5))
    (4, 100, 2)
    """

    count: int = 0
    most: float = 0.0
    least: float = math.inf
    steps: dict[int, int] = field(default_factory=dict)

    def add(self, seconds: float) -> None:
        """Count one stay."""
        self.count += 1
        if seconds > self.most:
            self.most = seconds
        if seconds < self.least:
            self.least = seconds
        step = math.floor(math.log(seconds) / _STEP) if seconds >= 1e-6 else -1_000
        self.steps[step] = self.steps.get(step, 0) + 1

    def quantile(self, share: float) -> float:
        """Return the duration that this share of the stays did not exceed, such as 0.5 for the median; 0 where there were none."""
        left = share * self.count
        for step, count in sorted(self.steps.items()):
            left -= count
            if left <= 0:
                middle = 0.0 if step == -1_000 else math.exp((step + 0.5) * _STEP)
                return min(max(middle, self.least), self.most)
        return self.most
