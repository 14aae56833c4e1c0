"""The virtual loop runs asyncio's own machinery, one handle at a time."""

from __future__ import annotations

import asyncio

import pytest

from interlock.testing.loop import VirtualLoop


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(loop: VirtualLoop, time: Time) -> None:
    """Let everything happen that will."""
    loop.run_ready()
    while (at := loop.next_timer()) is not None:
        time.now = at
        loop.run_ready()


def test_timers_come_in_order_and_time_stands_still_between() -> None:
    time, said = Time(), []
    loop = VirtualLoop(time)

    async def speak(after: float) -> None:
        await asyncio.sleep(after)
        said.append((after, asyncio.get_running_loop().time()))

    for after in (3.0, 1.0, 2.0):
        loop.create_task(speak(after))
    run(loop, time)
    assert said == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


def test_timeouts_events_and_waits_work() -> None:
    time, said = Time(), []
    loop = VirtualLoop(time)

    async def patient(event: asyncio.Event) -> str:
        async with asyncio.timeout(10):
            await event.wait()
        return "in time"

    async def impatient() -> None:
        event = asyncio.Event()
        task = asyncio.ensure_future(patient(event))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        event.set()
        said.append((await task, asyncio.get_running_loop().time()))

    loop.create_task(impatient())
    run(loop, time)
    assert said == [("in time", 5.0)]


def test_a_step_runs_one_handle() -> None:
    said: list[int] = []
    loop = VirtualLoop(lambda: 0.0)
    for number in range(3):
        loop.call_soon(said.append, number)
    loop.call_soon(said.append, 99).cancel()
    loop.step()
    assert said == [0] and loop.ready()
    loop.run_ready()
    assert said == [0, 1, 2] and not loop.ready()
    with pytest.raises(AssertionError, match="nothing can run"):
        loop.step()


def test_a_loop_that_is_never_stepped_again_runs_no_finally_until_it_is_dropped() -> None:
    said: list[str] = []
    loop = VirtualLoop(lambda: 0.0)

    async def work() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            said.append("finally")
            await asyncio.sleep(1)

    task = loop.create_task(work())
    loop.run_ready()
    assert not task.done() and said == []
    loop.dispose()
    assert said == ["finally"] and not loop.ready()


def test_what_went_wrong_is_kept() -> None:
    loop = VirtualLoop(lambda: 0.0)
    loop.call_soon(lambda: 1 / 0)
    loop.run_ready()
    assert loop.is_running() and not loop.is_closed() and not loop.get_debug(), "what asyncio asks of a loop"
    assert isinstance(loop.faults[0]["exception"], ZeroDivisionError)
