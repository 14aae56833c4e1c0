"""What an action is given: the operation as it is, its typed data, and the means to speak while it runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Generator
from typing import Generic, Protocol, TypeVar

from interlock.interpreter.phases import Own

__all__ = ["Listener", "Operation", "Receipt", "Stopping"]

D = TypeVar("D")


class Stopping(Exception):
    """Raised by `Operation.raise_if_stopping`: the action ends early, because it was asked to."""


class Listener(Protocol):
    """Whoever performs an action, as far as the action speaks to it. Called from any thread."""

    def heard(self) -> None:
        """Note that the action is alive."""
        ...

    def reported(self, done: float, total: float | None, unit: str, message: str) -> None:
        """Note how far the action is."""
        ...

    def owning(self, own: Own, gone: bool) -> concurrent.futures.Future[None]:
        """Have it recorded that the operation owns something, or no longer; the future is done when it is."""
        ...


class Receipt:
    """Done when what was said of a resource is recorded: ``await`` it, or `wait` for it in a plain function.

    No attempt succeeds before all that it said is recorded.
    """

    def __init__(self, recorded: concurrent.futures.Future[None]) -> None:
        self._recorded = recorded

    def wait(self) -> None:
        """Wait in a plain function's thread until it is recorded. Raises what refused it."""
        self._recorded.result()

    def __await__(self) -> Generator[object, None, None]:
        return asyncio.wrap_future(self._recorded).__await__()


class Operation(Generic[D]):
    """One attempt at one operation, as its action sees it. Make one by hand to test an action alone.

    Attributes:
        id: the operation.
        machine, version: which machine it runs.
        state: the state that is performed, undone or recovered.
        data: the operation's data, typed; a copy: what the action returns is what is kept.
        key: the same for every attempt of this stay in the state: give it to targets that know idempotency keys.
        token: grows from attempt to attempt: give it to targets that refuse older ones.
        number: of the attempt, from 1.
        recovering: an earlier attempt was cut off, and nobody knows how far it came.
        owned: the resources that the operation owns, in the order in which they were made.

    >>> op = Operation("op-1", "deploy", 1, "building", {"image": "web"})
    >>> op.data["image"], op.stopping
    ('web', False)
    """

    __slots__ = (
        "_listener",
        "_stopping",
        "data",
        "id",
        "key",
        "machine",
        "number",
        "owned",
        "recovering",
        "state",
        "token",
        "version",
    )

    def __init__(
        self,
        id: str,
        machine: str,
        version: int,
        state: str,
        data: D,
        key: str = "",
        token: int = 0,
        number: int = 1,
        recovering: bool = False,
        listener: Listener | None = None,
        owned: tuple[Own, ...] = (),
    ) -> None:
        self.id = id
        self.machine = machine
        self.version = version
        self.state = state
        self.data = data
        self.key = key
        self.token = token
        self.number = number
        self.recovering = recovering
        self.owned = owned
        self._listener = listener
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Operation {self.id} of {self.machine} in {self.state}, attempt {self.number}>"

    @property
    def stopping(self) -> bool:
        """Whether the action is to end as soon as it can. An async action is cancelled as well; a plain function has to look here."""
        return self._stopping

    def raise_if_stopping(self) -> None:
        """Raise `Stopping` if the action is to end. Returning instead would say that the action has done its work."""
        if self._stopping:
            raise Stopping(f"{self.state} of {self.id} was asked to end")

    def stop(self) -> None:
        """Ask the action to end. The engine calls this; tests may."""
        self._stopping = True

    def heartbeat(self) -> None:
        """Say that the action is alive. A state with ``heartbeat`` ends an attempt that is silent for longer."""
        if self._listener is not None:
            self._listener.heard()

    def progress(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        """Say how far the action is; it is a heartbeat too. Not a fact: only the newest is kept, and it may be lost.

        Args:
            done: so much is done.
            total: of so much, if it is known.
            unit: what is counted: ``"bytes"``.
            message: one line for people.
        """
        if self._listener is not None:
            self._listener.reported(done, total, unit, message)

    def owns(self, kind: str, id: str) -> Receipt:
        """Record that the operation owns a resource: say so, and wait for the receipt, before you make it.

        It cannot end before `disowns` was said of it, unless its final state hands over what is of this kind (``Final(hands_over=...)``).

        Args:
            kind: what it is: ``"port-binding"``.
            id: which one.

        >>> op = Operation("op-1", "deploy", 1, "building", {})
        >>> op.owns("disk", "d-7").wait()
        >>> op.owned
        (Own(kind='disk', id='d-7'),)
        """
        own = Own(kind, id)
        if own not in self.owned:
            self.owned = (*self.owned, own)
        return self._told(own, gone=False)

    def disowns(self, kind: str, id: str) -> Receipt:
        """Record that a resource is given back."""
        own = Own(kind, id)
        self.owned = tuple(one for one in self.owned if one != own)
        return self._told(own, gone=True)

    def _told(self, own: Own, gone: bool) -> Receipt:
        if self._listener is not None:
            return Receipt(self._listener.owning(own, gone))
        recorded: concurrent.futures.Future[None] = concurrent.futures.Future()
        recorded.set_result(None)
        return Receipt(recorded)
