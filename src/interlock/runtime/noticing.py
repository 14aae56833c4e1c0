"""How soon it is noticed that others have moved operations: at once where that concerns this process, ever later where it does not.

The journal's position tells: it has moved further than by what was committed here. Whoever is handed operations by others will be handed
more in a moment, so the pause before the next look is short.

-   While nobody does anything it is a hundredth of that time: what is handed over after a long copy is noticed within a hundredth of it.
-   A process that is not concerned does not follow the rush of its neighbour: after some looks at what others did that led to nothing here
    the pause doubles with every further one.
-   It is never so short that the questions that follow take more than a tenth of the time of the store's owner.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from interlock.stores.contract import Store

__all__ = ["Noticing"]

SHORTEST_SECONDS = 0.01
IDLE_SHARE = 100
BUSY_SHARE = 10
PATIENCE = 16
"""So many moves of others may be of no concern before the pause doubles: a live migration of others is six."""
_MOST_DOUBLINGS = 30


class Noticing:
    """Tells whether others have moved operations of a store since it was asked last. Belongs to whoever owns the store.

    Args:
        store: its journal is looked at.
        won: returns how many decisions were committed here.
        longest_seconds: no pause is longer.
        clock: seconds that never go back.
    """

    def __init__(
        self, store: Store, won: Callable[[], int], longest_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._won, self._longest_seconds, self._clock = store, won, longest_seconds, clock
        self._unheeded = 0
        self._slowest_seconds = 0.0
        self._foreign = -1
        self._moved = self._next = clock()
        self.look(heeded=True)

    def pause(self) -> float:
        """Return the seconds until `look` looks again."""
        return max(0.0, self._next - self._clock())

    def answered(self, seconds: float) -> None:
        """Note how long the store's owner took to answer questions."""
        self._slowest_seconds = max(self._slowest_seconds, seconds)

    def look(self, heeded: bool) -> bool:
        """Return whether others have moved operations since the last look; False before it is time to look again.

        Args:
            heeded: whether what they did before was of any concern here.
        """
        now = self._clock()
        if now < self._next:
            return False
        try:
            foreign = self._store.position() - self._won()
        except Exception:  # whoever asks the store for more is told why
            foreign = self._foreign
        moved = foreign != self._foreign
        if moved:
            self._unheeded = 0 if heeded else self._unheeded + 1
            self._moved = now
        doubled = SHORTEST_SECONDS * 2.0 ** min(_MOST_DOUBLINGS, max(0, self._unheeded - PATIENCE))
        pause = max(doubled, (now - self._moved) / IDLE_SHARE, self._slowest_seconds * BUSY_SHARE)
        self._next = now + min(pause, self._longest_seconds)
        self._foreign, self._slowest_seconds = foreign, 0.0
        return moved
