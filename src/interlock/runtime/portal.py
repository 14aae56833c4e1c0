"""The portal: an event loop in a thread of its own, for callers that are not async. `interlock.sync` is built on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from interlock.errors import Refused

__all__ = ["Portal"]

T = TypeVar("T")


class Portal:
    """Runs coroutines in a background thread's event loop, and waits for them.

    >>> portal = Portal()
    >>> portal.start()
    >>> portal.call(asyncio.sleep(0, "done"))
    'done'
    >>> portal.stop()
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether its thread runs."""
        return self._loop is not None

    def start(self) -> None:
        """Start the thread."""
        if self._thread is not None:
            raise Refused("this Interlock is open already")
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(loop,), name="interlock-loop", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the loop and the thread. Safe to call twice."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; return what it returned, or raise what it raised. An interrupt cancels it."""
        if self._loop is None or threading.current_thread() is self._thread:
            work.close()
            if self._loop is None:
                raise Refused("this Interlock is not open: use it in a `with` block")
            raise Refused(
                "an async action called a method of interlock.sync, which would wait for itself: use interlock.Interlock there"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield what an async iterator yields."""

        async def following() -> tuple[T] | None:
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return None

        try:
            while (item := self.call(following())) is not None:
                yield item[0]
        finally:
            if self._loop is not None:
                self.call(_close(items))


async def _close(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
