"""The follower: learns what other processes did to the operations that this one performs or waits for.

The journal's position tells cheaply whether anybody else committed: it has moved further than by what was committed here. Only then are
operations read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

from interlock.errors import InterlockError
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime.committer import Committer
from interlock.runtime.ledger import Ledger
from interlock.stores.contract import Store

__all__ = ["Follower"]

log = logging.getLogger("interlock")
BATCH = 500


class Follower:
    """Follows the journal of a store for one ledger.

    Args:
        performed: the operations that the local worker performs.
        poll_seconds: it looks at least this often.
    """

    def __init__(
        self, committer: Committer, ledger: Ledger, performed: Callable[[], Collection[str]], poll_seconds: float
    ) -> None:
        self._committer = committer
        self._ledger = ledger
        self._performed = performed
        self._poll_seconds = poll_seconds
        self._seen = 0
        self._own = 0
        self._nudge = asyncio.Event()

    def nudge(self) -> None:
        """Look now."""
        self._nudge.set()

    async def begin(self) -> None:
        """Note where the journal is now."""
        await self._committer.call(self._note)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        failing = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._nudge.wait()
            self._nudge.clear()
            concerned = dict.fromkeys([*self._performed(), *self._ledger.awaited])
            if not concerned:
                continue
            try:
                self._ledger.refresh(await self._committer.call(self._look, concerned))
                failing = False
            except InterlockError as error:
                if not failing:
                    log.warning("cannot see what other processes do: %s", error)
                failing = True

    def _note(self, store: Store) -> None:
        self._seen, self._own = store.position(), self._committer.won

    def _look(self, store: Store, concerned: dict[str, None]) -> list[Snapshot]:
        """Return those of ``concerned`` that others may have moved. Runs where the store is, so that its two counts belong together."""
        seen, own = self._seen, self._own
        position, won = store.position(), self._committer.won
        if position - seen <= won - own:
            self._seen, self._own = position, won
            return []
        wanted: list[str] = [*concerned]
        if position - seen <= min(len(wanted), BATCH):
            moved = {record.operation for record in store.tail(seen, BATCH)}
            wanted = [operation for operation in wanted if operation in moved]
        found: list[Snapshot] = []
        for begin in range(0, len(wanted), BATCH):
            found += store.load(wanted[begin : begin + BATCH])
        self._seen, self._own = position, won
        self._committer.heeded |= bool(found)
        return found
