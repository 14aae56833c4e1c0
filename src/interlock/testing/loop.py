"""An event loop on virtual time that runs one handle when it is told to. One for each simulated process.

A process that is killed is a loop that is never stepped again: no ``finally`` runs, as with kill -9. A process that is frozen is a loop
that is not stepped for a while; when it goes on, everything that came due meanwhile comes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from interlock.errors import InterlockError

__all__ = ["VirtualLoop"]

# To type checkers the base is anything: a loop here has what the runtime uses of one, and none of the rest.
_Loop: Any = asyncio.AbstractEventLoop


class VirtualLoop(_Loop):  # type: ignore[misc]  # see above
    """A loop without threads, sockets or a clock of its own.

    Args:
        clock: returns the virtual time in seconds.

    >>> import asyncio
    >>> now = [0.0]
    >>> loop = VirtualLoop(lambda: now[0])
    >>> said = []
    >>> async def speak():
    ...     await asyncio.sleep(5)
    ...     said.append(loop.time())
    >>> made = loop.create_task(speak())
    >>> loop.run_ready(); loop.next_timer()
    5.0
    >>> now[0] = 5.0
    >>> loop.run_ready(); said
    [5.0]
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[Any]] = []
        self.faults: list[dict[str, Any]] = []

    # What the runtime uses

    def time(self) -> float:
        return self._clock()

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Part of what asyncio asks of a loop; cancelled timers are passed over when they come up."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        made: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        self._tasks.append(made)
        return made

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(context)

    # What the simulator uses

    def next_timer(self) -> float | None:
        """Return when the next timer comes up, or None."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def ready(self) -> bool:
        """Return whether something can run now."""
        now = self.time()
        while (at := self.next_timer()) is not None and at <= now:
            self._ready.append(heapq.heappop(self._timers)[2])
        while self._ready and self._ready[0].cancelled():
            self._ready.popleft()
        return bool(self._ready)

    def step(self) -> None:
        """Run the one handle that is next."""
        assert self.ready(), "nothing can run"
        asyncio._set_running_loop(self)
        try:
            self._ready.popleft()._run()
        finally:
            asyncio._set_running_loop(None)

    def following(self) -> asyncio.Handle:
        """Return the handle that is next."""
        assert self.ready(), "nothing can run"
        return self._ready[0]

    def postpone(self, seconds: float) -> None:
        """Have the handle that is next come up later, as if what it waited for had taken so much longer."""
        heapq.heappush(self._timers, (self.time() + seconds, next(self._numbers), cast(Any, self._ready.popleft())))

    def run_ready(self) -> None:
        """Run everything that can run at the present time."""
        while self.ready():
            self.step()

    def dispose(self) -> None:
        """Drop what never ran to its end, as the end of a process does, without letting it say anything more."""
        asyncio._set_running_loop(self)
        try:
            for task in self._tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own way
                if not task.done():
                    _close(task.get_coro())
                elif not task.cancelled():
                    task.exception()
        finally:
            asyncio._set_running_loop(None)
            self._tasks.clear()
            self._ready.clear()
            self._timers.clear()


def _close(coroutine: Any) -> None:
    """Close a coroutine whose ``finally`` blocks may wait for something once more."""
    for _ in range(100):
        with contextlib.suppress(RuntimeError, asyncio.CancelledError, InterlockError, SystemExit):
            coroutine.close()
            return
