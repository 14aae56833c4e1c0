"""Plain actions, in step: each runs in a thread of its own, as in a worker, but only while the explorer waits for it.

Between two calls of the fake (see `effects`) it hands back, so a plain function has places to die at, and the same run is always the same.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from interlock.testing.process import Killed

__all__ = ["Stepped", "performed"]

PATIENCE_SECONDS = 1.0


class Stepped:
    """A call in a thread that runs from one boundary to the next.

    >>> said = []
    >>> def speak():
    ...     said.append("one")
    ...     stepped.boundary()
    ...     said.append("two")
    >>> stepped = Stepped(speak)
    >>> stepped.resume(); said, stepped.over
    (['one'], False)
    >>> stepped.resume(); said, stepped.over
    (['one', 'two'], True)
    """

    active: ClassVar[Stepped | None] = None
    """The one that runs now."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.over = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._call = call
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._sent: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def begun(self) -> bool:
        """Whether anything of it ran."""
        return self._thread is not None

    @property
    def ident(self) -> int | None:
        """The thread's number."""
        return None if self._thread is None else self._thread.ident

    def resume(self, error: BaseException | None = None) -> None:
        """Run it to its next boundary, or its end; with ``error``, the boundary where it stands raises that."""
        self._sent = error
        Stepped.active = self
        if self._thread is None:
            run = contextvars.copy_context().run
            self._thread = threading.Thread(target=run, args=(self._run,), name="interlock-explored", daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()
        Stepped.active = None

    def boundary(self) -> None:
        """Hand back. Called in the thread."""
        self._back.release()
        self._go.acquire()
        if self._sent is not None:
            raise self._sent

    def end(self) -> None:
        """End it where it stands."""
        for _ in range(100):
            if not self.begun or self.over:
                return
            self.resume(Killed())

    def give_up(self) -> None:
        """End it although it runs and never hands back."""
        if self.ident is not None and not self.over:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(Killed))
            self.over = self._back.acquire(timeout=PATIENCE_SECONDS)

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error
        finally:
            self.over = True
            self._back.release()


async def performed(stepped: Stepped) -> Any:
    """Perform a plain function in step. Like any plain function it cannot be interrupted once it has begun: it is told, and waited for."""
    error: BaseException | None = None
    while True:
        stepped.resume(error)
        error = None
        if stepped.over:
            break
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            continue
        except Exception as injected:
            error = injected
    if stepped.error is not None:
        raise stepped.error
    return await stepped.result if inspect.isawaitable(stepped.result) else stepped.result
