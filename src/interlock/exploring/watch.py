"""Notices code that never comes back: a loop without an `await` stops everything, virtual time too.

A signal of the interval timer comes every so often; if no step ended in between, the code that runs is interrupted by an exception. Only
the main thread of a process can be interrupted so; elsewhere nothing is explored.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from interlock.errors import Refused
from interlock.exploring.plain import Stepped

__all__ = ["Hung", "Watch"]


class Hung(BaseException):
    """Raised inside of code that does not come back."""


class Watch:
    """Use it in a ``with`` block around many steps; call `beat` after each.

    Attributes:
        where: the place of the code that did not come back; "" while all of it does.
    """

    def __init__(self, seconds: float) -> None:
        self.where = ""
        self._seconds = seconds
        self._since = 0.0
        self._before: Any = None
        self._earlier = (0.0, 0.0)
        self._began = 0.0

    def __enter__(self) -> Watch:
        if threading.current_thread() is not threading.main_thread():
            raise Refused(
                "actions are explored in the main thread only: code that never comes back could not be stopped elsewhere"
            )
        self._began = time.monotonic()
        self._before = signal.signal(signal.SIGALRM, self._alarm)
        self.beat()
        self._earlier = signal.setitimer(signal.ITIMER_REAL, self._seconds / 4, self._seconds / 4)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        rest, interval = self._earlier
        if rest:  # somebody else's timer goes on as if it had not been interrupted
            signal.setitimer(signal.ITIMER_REAL, max(rest - (time.monotonic() - self._began), 0.001), interval)

    def beat(self) -> None:
        """Note that a step ended."""
        self._since = time.monotonic()
        self.where = ""

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._since < self._seconds:
            return
        if Stepped.active is not None and Stepped.active.ident is not None:
            frame = sys._current_frames().get(Stepped.active.ident, frame)
        if frame is not None:
            code = frame.f_code
            self.where = f"`{code.co_name}` ({code.co_filename}, line {frame.f_lineno})"
        raise Hung
