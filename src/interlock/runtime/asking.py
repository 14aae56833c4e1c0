"""What people and programs ask of an operation: the part of `Interlock` that moves one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interlock.errors import Refused
from interlock.interpreter import inputs as i
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime.ledger import Ledger
from interlock.runtime.limits import Limits

__all__ = ["Asking"]


class Asking:
    """The verbs of `Interlock` that move an operation. Each returns the operation as it is then."""

    _ledger: Ledger
    _limits: Limits
    _by: str

    async def signal(
        self,
        id: str,
        event: str,
        data: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        hold: bool = False,
        by: str | None = None,
    ) -> Snapshot:
        """Send an event to an operation.

        Args:
            data: added to the operation's data.
            key: a second signal with the same key is a no-op.
            hold: if the present state does not accept it and a state ahead does, keep it until then.

        Raises:
            NotPossible: the operation does not accept it now; ``possible`` says what it does.
            IllegalData, LimitExceeded, Unknown: nothing was changed.
        """
        payload = self._limits.plain(data or {}, f"signal `{event}`")
        self._limits.text("key_characters", key, "idempotency key")
        return await self._ledger.submit(id, i.Signal(event, payload, key, hold, self._who(by)))

    async def report(
        self,
        id: str,
        event: str = "",
        data: Mapping[str, Any] | None = None,
        *,
        to: str = "",
        key: str = "",
        by: str | None = None,
    ) -> Snapshot:
        """Say what came of a state that other code performs: the event, or the state that its record moved to.

        Args:
            event: ``done``, ``failed``, or another event of the present state.
            data: added to the operation's data.
            to: instead of an event: the state; where the operation is already there, nothing happens.
            key: a second report with the same key is a no-op.

        Raises:
            NotPossible: the engine performs the present state itself, or no exit leads there.
            IllegalData, LimitExceeded, Unknown: nothing was changed.
        """
        if bool(event) == bool(to):
            raise Refused("report either an event, or to= the state that the record moved to")
        payload = self._limits.plain(data or {}, "report")
        self._limits.text("key_characters", key, "idempotency key")
        return await self._ledger.submit(id, i.Report(event, to, payload, key, self._who(by)))

    async def pause(
        self, id: str, reason: str = "", before: Sequence[str] | None = None, *, by: str | None = None
    ) -> Snapshot:
        """Let the running action finish and start nothing more; or, with ``before``, go on and pause before each of these states."""
        who, why = self._who(by), self._reason(reason)
        return await self._ledger.submit(id, i.Pause(who, why, None if before is None else tuple(before)))

    async def resume(self, id: str, *, by: str | None = None) -> Snapshot:
        """End a pause."""
        return await self._ledger.submit(id, i.Resume(self._who(by)))

    async def cancel(self, id: str, reason: str = "", *, by: str | None = None) -> Snapshot:
        """End the running action, undo what was started, and end as cancelled. Raises `NotPossible` past the pivot."""
        return await self._ledger.submit(id, i.Cancel(self._who(by), self._reason(reason)))

    async def retry(self, id: str, reason: str, *, by: str | None = None) -> Snapshot:
        """Have what is stuck tried again, or what waits for its next attempt tried now."""
        return await self._ledger.submit(id, i.Retry(self._who(by), self._reason(reason)))

    async def skip(self, id: str, reason: str, *, by: str | None = None) -> Snapshot:
        """Declare what is stuck done: a person has done it by hand."""
        return await self._ledger.submit(id, i.Skip(self._who(by), self._reason(reason)))

    async def override(self, id: str, to: str, reason: str, *, by: str | None = None) -> Snapshot:
        """Move an operation to the state ``to``, whatever the machine says; the history keeps which of its rules this broke."""
        return await self._ledger.submit(id, i.Override(to, self._who(by), self._reason(reason)))

    def _who(self, by: str | None) -> str:
        return self._limits.text("by_characters", self._by if by is None else by, "by")

    def _reason(self, reason: str) -> str:
        return self._limits.text("reason_characters", reason, "reason")
