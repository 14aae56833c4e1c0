"""What is due and a worker cannot move: it passes over it, however much that is, to find what stands behind it."""

from __future__ import annotations

__all__ = ["Passing"]

MOST = 2_000
CALM = 50


class Passing:
    """How far a worker has come in the line of what is due.

    The place is a number, and what stood before it may have left the line meanwhile, so that the next are not seen. So the line is gone
    through again and again: from its head, when the end was seen, or when ``CALM`` looks in a row found all that they saw to be movable.

    Attributes:
        skip: so many at the head of the line are left out of the next look.

    >>> passing = Passing()
    >>> passing.saw(200, 200, passed=200)
    >>> passing.skip, passing.limit(60)
    (200, 260)
    >>> passing.saw(31, 260, passed=30)
    >>> passing.skip, passing.limit(60)
    (0, 90)
    """

    def __init__(self) -> None:
        self.skip = 0
        self._last = 0
        self._since_rest = 0
        self._calm = 0

    def limit(self, room: int) -> int:
        """Return how many to look at, to find ``room`` that can be moved: more where much was passed over."""
        return room + min(self._last, MOST)

    def saw(self, count: int, limit: int, passed: int) -> None:
        """Note that a look at up to ``limit`` saw ``count``, and ``passed`` of them cannot be moved."""
        self._last = passed
        self._since_rest += passed
        self._calm = 0 if passed else self._calm + 1
        if count < limit or self._calm >= CALM:
            self.skip = self._calm = 0
        else:
            self.skip += passed

    @property
    def enough(self) -> bool:
        """Whether so many were passed over that the rest of the line is left for the next time."""
        return self._since_rest >= MOST

    def rest(self) -> None:
        """Note that it waits before it looks again."""
        self._since_rest = 0
