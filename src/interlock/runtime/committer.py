"""The committer: the one owner of a store. Whatever arrived while a transaction was being flushed is the next one.

Theory of operation:

1.  Everything that touches the store goes through one committer.
2.  All decisions that are there are one group, one transaction, one flush; whatever else was asked for comes after them, in order, so that
    a read sees every decision that was given before it. Nothing waits for company: a group begins as soon as the last one is over.
3.  The driver ``thread`` has a thread of its own that owns the store, so that a flush never stops the event loop. It is handed one list
    for each group, and hands one back. The driver ``inline`` does the same on the loop, after everything that is ready has run: for
    programs that do one thing, and for tests and simulations that must not depend on a second thread.
4.  An answer is given by callback, once, on the loop. Who no longer waits for an answer changes nothing about what was committed.
5.  The thread looks now and then whether others have moved operations (`interlock.runtime.noticing`), and calls ``noticed`` on the loop.
    The driver ``inline`` leaves that to those who poll.
6.  A transaction that failed changed nothing: everybody in its group is told, and the next group is tried anew. Only where the store did
    not say that it is unavailable, each decision of the group is tried alone, so that a faulty one does not fail the others.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from interlock.errors import Refused, Unavailable
from interlock.runtime.noticing import Noticing
from interlock.stores.contract import Entry, Store

__all__ = ["Answer", "Committer", "Driver"]

T = TypeVar("T")
Driver = Literal["thread", "inline"]
Answer = Callable[[Any, BaseException | None], None]
"""Called with a result and None, or with None and the error."""

GROUP = 1_000
_Call = tuple[Callable[..., Any], tuple[Any, ...]]
_Item = tuple["Entry | _Call", Answer]
_Outcome = tuple[Any, "BaseException | None"]


class Committer:
    """Owns a store while it is open.

    Args:
        open_store: called once, by whoever will own the store: the writer thread, or the loop's.
        driver: ``thread`` or ``inline``.
        poll_seconds: at least so often the thread looks whether others have moved operations.

    Attributes:
        noticed: called on the loop when others have moved operations.
        heeded: set to True when what others did was of concern here.
        commits: how many transactions there were.
        won: how many decisions were committed.
    """

    def __init__(self, open_store: Callable[[], Store], driver: Driver = "thread", poll_seconds: float = 0.2) -> None:
        if driver not in ("thread", "inline"):
            raise ValueError(f"committer={driver!r}: it is `thread` or `inline`")
        self._open_store = open_store
        self._driver = driver
        self._poll_seconds = poll_seconds
        self._store: Store | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Item] = deque()
        self._busy = False
        self._planned = False
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None
        self._inbox: queue.SimpleQueue[list[_Item] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.noticed: Callable[[], None] = _nobody_cares
        self.heeded = False
        self.commits = 0
        self.won = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop on which answers are given."""
        if self._loop is None:
            raise Refused("the store is not open yet: use Interlock in an `async with` block")
        return self._loop

    async def open(self) -> None:
        """Open the store; raises what opening raises."""
        self._loop = asyncio.get_running_loop()
        if self._driver == "inline":
            self._store = self._open_store()
            return
        opened: asyncio.Future[None] = self.loop.create_future()
        self._thread = threading.Thread(target=self._serve, args=(opened,), name="interlock-committer", daemon=True)
        self._thread.start()
        try:
            await opened
        except BaseException:
            self._inbox.put(None)
            self._thread.join()
            raise

    async def close(self) -> None:
        """Carry out what was asked for, then close the store. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        if self._store is None:
            return
        if self._waiting or self._busy:
            self._idle = self.loop.create_future()
            await self._idle
        if self._thread is None:
            self._store.close()
        else:
            self._closed = self.loop.create_future()
            self._inbox.put(None)
            await self._closed
            self._thread.join()
        self._store = None

    async def commit(self, entry: Entry) -> bool:
        """Commit one decision; return whether it won its compare-and-set. It stands even if the caller is cancelled meanwhile."""
        future: asyncio.Future[bool] = self.loop.create_future()
        self.post(entry, _answer_to(future))
        return await future

    async def call(self, verb: Callable[..., T], *arguments: Any) -> T:
        """Call ``verb(store, *arguments)`` after every decision that was given before; return its result."""
        future: asyncio.Future[T] = self.loop.create_future()
        self.post((verb, arguments), _answer_to(future))
        return await future

    def post(self, item: Entry | _Call, answer: Answer) -> None:
        """Have a decision committed, or a verb called; ``answer`` is called on the loop."""
        if self._closing or self._store is None:
            error = Unavailable("the store is closed")
            self.loop.call_soon(answer, None, error)
            return
        self._waiting.append((item, answer))
        if not self._busy and not self._planned:
            self._planned = True
            self.loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Rule 2: begin a group with what is there."""
        self._planned = False
        if self._busy or not self._waiting:
            return
        waiting = self._waiting
        group = [waiting.popleft() for _ in range(min(len(waiting), GROUP))]
        self._busy = True
        if self._thread is None:
            assert self._store is not None
            self._ended(group, self._carry_out(self._store, group))
        else:
            self._inbox.put(group)

    def _ended(self, group: list[_Item], outcomes: list[_Outcome]) -> None:
        self._busy = False
        if self._waiting and not self._planned:
            if self._thread is None:
                self._planned = True
                self.loop.call_soon(self._begin)
            else:
                self._begin()
        for (_, answer), (result, error) in zip(group, outcomes, strict=True):
            try:
                answer(result, error)
            except Exception as fault:  # one fault must not leave the rest of the group without an answer
                self.loop.call_exception_handler({"message": "an answer of the committer failed", "exception": fault})
        if self._idle is not None and not self._waiting and not self._busy and not self._idle.done():
            self._idle.set_result(None)

    def _serve(self, opened: asyncio.Future[None]) -> None:
        """The writer thread."""
        try:
            store = self._store = self._open_store()
        except BaseException as error:  # whoever opens is told, whatever it was
            self.loop.call_soon_threadsafe(_give, opened, None, error)
            return
        self.loop.call_soon_threadsafe(_give, opened, None, None)
        noticing = Noticing(store, lambda: self.won, self._poll_seconds)
        while (group := self._next_group(noticing.pause())) is not None:
            try:
                if group:
                    begun = time.monotonic()
                    outcomes = self._carry_out(store, group)
                    self.loop.call_soon_threadsafe(self._ended, group, outcomes)
                    if not any(isinstance(item, Entry) for item, _ in group):
                        noticing.answered(time.monotonic() - begun)
                if noticing.look(self.heeded):
                    self.heeded = False
                    self.loop.call_soon_threadsafe(self.noticed)
            except RuntimeError:
                break  # the loop was closed under us: nobody is left who could be answered
        failure: BaseException | None = None
        try:
            store.close()
        except Exception as fault:  # told to whoever closes
            failure = fault
        if self._closed is not None:
            self.loop.call_soon_threadsafe(_give, self._closed, None, failure)

    def _next_group(self, patience_seconds: float) -> list[_Item] | None:
        """Return what is asked next, nothing if that takes longer than ``patience_seconds``, or None when the committer closes."""
        try:
            return self._inbox.get(timeout=patience_seconds)
        except queue.Empty:
            return []

    def _carry_out(self, store: Store, group: list[_Item]) -> list[_Outcome]:
        entries = [item for item, _ in group if isinstance(item, Entry)]
        decided = iter(self._commit(store, entries) if entries else ())
        outcomes: list[_Outcome] = []
        for item, _ in group:
            if isinstance(item, Entry):
                outcomes.append(next(decided))
                continue
            verb, arguments = item
            try:
                outcomes.append((verb(store, *arguments), None))
            except Exception as error:
                outcomes.append((None, error))
        return outcomes

    def _commit(self, store: Store, entries: list[Entry]) -> list[_Outcome]:
        try:
            won = store.commit(entries)
        except Unavailable as error:
            return [(None, error)] * len(entries)
        except Exception as error:  # ours or the store's fault: find out whose entry it is, so that the others go on
            if len(entries) == 1:
                return [(None, error)]
            return [outcome for entry in entries for outcome in self._commit(store, [entry])]
        self.commits += 1
        self.won += sum(won)
        self.heeded |= any(won)
        return [(one, None) for one in won]


def _nobody_cares() -> None:
    pass


def _answer_to(future: asyncio.Future[Any]) -> Answer:
    def answer(result: Any, error: BaseException | None) -> None:
        _give(future, result, error)

    return answer


def _give(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
