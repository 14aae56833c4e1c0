"""The watch interrupts what does not come back, and leaves everybody else's timer as it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from interlock.errors import Refused
from interlock.exploring.watch import Hung, Watch


@pytest.fixture(autouse=True)
def timer() -> Iterator[None]:
    """Whatever timer the test runner has set goes on afterwards."""
    handler, rest = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *rest)


def test_code_that_never_comes_back_is_interrupted_and_named() -> None:
    with Watch(0.1) as watch:
        with pytest.raises(Hung):
            while True:
                pass
        assert "test_code_that_never_comes_back" in watch.where and "test_watch.py" in watch.where
        watch.beat()
        assert watch.where == ""


def test_another_timer_goes_on() -> None:
    rang: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with Watch(5) as watch:
        watch.beat()
    while not rang:
        signal.sigtimedwait([], 0.01)
    assert rang == [signal.SIGALRM]


def test_only_the_main_thread_can_be_watched() -> None:
    said: list[str] = []

    def other() -> None:
        try:
            Watch(1).__enter__()
        except Refused as error:
            said.append(error.message)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert said and "main thread" in said[0]
