"""A worker's session: its name, its lease, and who else's lease has lapsed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from interlock.errors import InterlockError
from interlock.runtime.clock import Clock, is_gone
from interlock.runtime.committer import Committer
from interlock.stores.contract import Lease, Store

__all__ = ["Session"]

log = logging.getLogger("interlock")
FROZEN_SECONDS = 3_600.0


class Session:
    """Keeps a lease; begins anew, under a new name, when it could not be kept.

    Args:
        new_name: returns a name that no worker ever had.
        lease: what is recorded, but for name and time.
        lease_seconds: how long a lease holds; it is renewed every third of that.
    """

    def __init__(
        self, committer: Committer, clock: Clock, new_name: Callable[[], str], lease: Lease, lease_seconds: float
    ) -> None:
        self.name = ""
        self.on_lost: Callable[[str], None] = lambda name: None
        self.on_begun: Callable[[str], None] = lambda name: None
        self._committer = committer
        self._clock = clock
        self._new_name = new_name
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._until = 0.0
        self._lost_names: list[str] = []
        self._keeping: asyncio.Task[None] | None = None

    def holds(self) -> bool:
        """Return whether the lease holds now."""
        return self._clock.now() < self._until

    async def start(self) -> None:
        """Take a lease. Raises `Unavailable`."""
        await self._begin()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Give the lease back, unless something is still performed under it: then it is left to lapse."""
        if self._keeping is None:
            return
        keeping, self._keeping = self._keeping, None
        keeping.cancel()
        await asyncio.wait([keeping])
        self._until = 0.0
        try:
            left = await self._committer.call(_give_back, self.name)
        except InterlockError as error:
            log.error("worker %s could not give its lease back, it lapses by itself: %s", self.name, error)
            return
        if left:
            log.error("worker %s stopped with an operation still in its hands: `%s`", self.name, left)

    def lapsed(self, leases: Sequence[Lease], now: float) -> list[Lease]:
        """Return those of ``leases`` that no longer hold: their time is over, or their process on this machine is gone."""
        return [one for one in leases if one.worker != self.name and (one.until < now or is_gone(one.process))]

    @staticmethod
    def forgettable(lease: Lease, now: float) -> bool:
        """Return whether nothing can be issued under a lapsed lease any more.

        A worker that was only frozen may wake up in the middle of a commit: until it surely has not, its lease is kept, lapsed, so
        that whatever it issued is found.
        """
        return lease.until + FROZEN_SECONDS < now or is_gone(lease.process)

    async def _begin(self) -> None:
        name = self._new_name()
        until = self._clock.now() + self._lease_seconds
        await self._committer.call(_renew, replace(self._lease, worker=name, until=until))
        self.name, self._until = name, until
        self.on_begun(name)

    async def _keep(self) -> None:
        pause = self._lease_seconds / 3
        while True:
            await asyncio.sleep(pause)
            pause = self._lease_seconds / 3
            try:
                if not self.holds():
                    await self._begin_anew()
                elif not await self._renewed():
                    pause = self._lease_seconds / 20
            except InterlockError as error:
                log.warning("worker %s: its lease could not be renewed; trying on: %s", self.name, error)
                pause = self._lease_seconds / 20

    async def _renewed(self) -> bool:
        now = self._clock.now()
        lease = replace(self._lease, worker=self.name, until=now + self._lease_seconds)
        try:
            await asyncio.wait_for(self._committer.call(_renew, lease), self._until - now)
        except TimeoutError:
            return False
        self._until = lease.until
        return True

    async def _begin_anew(self) -> None:
        """The lease is lost. The old name stays in the store, lapsed, so that whatever was issued under it is found."""
        old, self.name = self.name, ""
        if old:
            self._until = 0.0
            self._lost_names = [*self._lost_names, old]
            self.on_lost(old)
        for name in self._lost_names:
            await self._committer.call(_renew, replace(self._lease, worker=name, until=self._clock.now(), process=""))
        self._lost_names = []
        await self._begin()


def _renew(store: Store, lease: Lease) -> None:
    store.renew(lease)


def _give_back(store: Store, worker: str) -> str:
    left = store.held(worker, 1)
    if left:
        return left[0].id
    store.retire(worker)
    return ""
