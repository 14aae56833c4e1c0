"""A handle: one operation, with the verbs of `Interlock` without its id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from interlock.interpreter.snapshot import Snapshot
from interlock.interpreter.why import Why
from interlock.runtime.actions import typed
from interlock.stores.contract import Progress, Record

if TYPE_CHECKING:
    from interlock.runtime.engine import Interlock

__all__ = ["Handle"]

D = TypeVar("D")


class Handle(Generic[D]):
    """One operation. `Interlock.start` and `Interlock.operation` return it.

    Attributes:
        id: the operation's.
        snapshot: the operation as this handle last saw it; None before it was first asked for.
    """

    def __init__(self, interlock: Interlock, id: str, snapshot: Snapshot | None, data_type: Any) -> None:
        self.id = id
        self.snapshot = snapshot
        self._interlock = interlock
        self._data_type = data_type

    def __repr__(self) -> str:
        seen = f" {self.snapshot.status} in {self.snapshot.state}" if self.snapshot is not None else ""
        return f"<Handle of {self.id}{seen}>"

    def _see(self, snapshot: Snapshot) -> Snapshot:
        self.snapshot = snapshot
        return snapshot

    async def show(self) -> Snapshot:
        """Return the operation as it is."""
        return self._see(await self._interlock.show(self.id))

    async def data(self) -> D:
        """Return its data as it is: an instance of the machine's data type, or a dict."""
        snapshot = await self.show()
        found: D = typed(self._data_type, snapshot.data, f"operation `{self.id}`")
        return found

    async def finished(self, timeout: float | None = None) -> Snapshot:
        """Wait until it has ended, or is stuck and needs a person; ``status`` tells which. After ``timeout`` seconds: `TimeoutError`."""
        return self._see(await self._interlock.finished(self.id, timeout))

    async def history(self, after: int = 0, limit: int = 1_000) -> tuple[Record, ...]:
        """Return its journal from above sequence number ``after``."""
        return await self._interlock.history(self.id, after, limit)

    async def watch(self, after: int | None = None) -> AsyncIterator[Record]:
        """Yield its records as they are written, from its beginning or from ``after``, until it has ended."""
        async for record in self._interlock.watch(self.id, after):
            yield record

    async def why(self) -> Why:
        """Return what it waits for, since when, who holds it, and what can be asked of it now."""
        return await self._interlock.why(self.id)

    async def progress(self) -> Progress | None:
        """Return what its action last said of how far it is."""
        return await self._interlock.progress(self.id)

    async def signal(
        self,
        event: str,
        data: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        hold: bool = False,
        by: str | None = None,
    ) -> Snapshot:
        """Send it an event; see `Interlock.signal`."""
        return self._see(await self._interlock.signal(self.id, event, data, key=key, hold=hold, by=by))

    async def report(
        self,
        event: str = "",
        data: Mapping[str, Any] | None = None,
        *,
        to: str = "",
        key: str = "",
        by: str | None = None,
    ) -> Snapshot:
        """Say what came of a state that other code performs; see `Interlock.report`."""
        return self._see(await self._interlock.report(self.id, event, data, to=to, key=key, by=by))

    async def pause(self, reason: str = "", before: Sequence[str] | None = None, *, by: str | None = None) -> Snapshot:
        """Let the running action finish and start nothing more; or, with ``before``, go on and pause before each of these states."""
        return self._see(await self._interlock.pause(self.id, reason, before, by=by))

    async def resume(self, *, by: str | None = None) -> Snapshot:
        """End a pause."""
        return self._see(await self._interlock.resume(self.id, by=by))

    async def cancel(self, reason: str = "", *, by: str | None = None) -> Snapshot:
        """End the running action, undo what was started, and end as cancelled. Raises `NotPossible` past the pivot."""
        return self._see(await self._interlock.cancel(self.id, reason, by=by))

    async def retry(self, reason: str, *, by: str | None = None) -> Snapshot:
        """Have what is stuck tried again, or what waits for its next attempt tried now."""
        return self._see(await self._interlock.retry(self.id, reason, by=by))

    async def skip(self, reason: str, *, by: str | None = None) -> Snapshot:
        """Declare what is stuck done: a person has done it by hand."""
        return self._see(await self._interlock.skip(self.id, reason, by=by))

    async def override(self, to: str, reason: str, *, by: str | None = None) -> Snapshot:
        """Move it to the state ``to``, whatever the machine says; the history keeps which of its rules this broke."""
        return self._see(await self._interlock.override(self.id, to, reason, by=by))
