"""The committer: grouping, order, errors, closing; with both drivers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from interlock import Refused, StoreFailed, Unavailable
from interlock.interpreter.facts import Started
from interlock.interpreter.snapshot import Snapshot, Waiting
from interlock.runtime.committer import GROUP, Committer
from interlock.stores.contract import Entry, Store
from interlock.stores.memory import MemoryStore
from tests.deliveries import eventually


class Slow(MemoryStore):
    """Notes its groups; its first commit waits until it is let go, every commit fails while ``error`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.let = threading.Event()
        self.let.set()
        self.error: Exception | None = None
        self.poison = ""
        self.closed_by: threading.Thread | None = None

    def commit(self, entries: Sequence[Entry]) -> list[bool]:
        self.groups.append(len(entries))
        self.let.wait(10)
        if self.error is not None:
            raise self.error
        if any(entry.snapshot.id == self.poison for entry in entries):
            raise TypeError("this one has no JSON form")
        return super().commit(entries)

    def close(self) -> None:
        self.closed_by = threading.current_thread()
        super().close()


def entry(id: str, expected: int = 0) -> Entry:
    snapshot = Snapshot(
        id=id, machine="m", version=1, seq=expected + 1, status="waiting", state="a", data={}, started=1.0, since=1.0, changed=1.0,
        phase=Waiting(),
    )  # fmt: skip
    return Entry(snapshot, expected, (Started(id, "m", 1, {}),), 1.0)


@pytest.fixture(params=["thread", "inline"])
def driver(request: pytest.FixtureRequest) -> Any:
    return request.param


async def opened(store: Store, driver: Any) -> Committer:
    committer = Committer(lambda: store, driver)
    await committer.open()
    return committer


async def test_what_is_asked_for_together_is_one_transaction(driver: Any) -> None:
    store = Slow()
    committer = await opened(store, driver)
    won = await asyncio.gather(*(committer.commit(entry(f"op-{n}")) for n in range(50)))
    await committer.close()
    assert (won, store.groups, committer.commits, committer.won) == ([True] * 50, [50], 1, 50)


async def test_what_arrives_during_a_flush_is_the_next_group() -> None:
    store = Slow()
    store.let.clear()
    committer = await opened(store, "thread")
    first = asyncio.ensure_future(committer.commit(entry("first")))
    await eventually(lambda: store.groups)
    rest = asyncio.gather(*(committer.commit(entry(f"op-{n}")) for n in range(GROUP + 10)))
    await asyncio.sleep(0)
    store.let.set()
    assert await first and all(await rest)
    await committer.close()
    assert store.groups == [1, GROUP, 10]


async def test_losers_do_not_disturb_the_group(driver: Any) -> None:
    committer = await opened(MemoryStore(), driver)
    assert await committer.commit(entry("a"))
    assert await asyncio.gather(*(committer.commit(one) for one in (entry("a"), entry("b"), entry("a", 1), entry("a", 1)))) == [
        False, True, True, False,
    ]  # fmt: skip
    assert committer.won == 3
    await committer.close()


async def test_a_read_sees_every_decision_given_before(driver: Any) -> None:
    committer = await opened(MemoryStore(), driver)
    writes = [asyncio.ensure_future(committer.commit(entry(f"op-{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    assert await committer.call(lambda store: store.position()) == 3
    assert [write.result() for write in writes] == [True] * 3
    await committer.close()


async def test_a_store_that_is_unavailable_is_told_to_everybody_in_the_group(driver: Any) -> None:
    store = Slow()
    store.error = StoreFailed("disk full")
    committer = await opened(store, driver)
    errors = await asyncio.gather(*(committer.commit(entry(f"op-{n}")) for n in range(3)), return_exceptions=True)
    assert errors == [store.error] * 3 and store.groups == [3]
    store.error = None
    assert await committer.commit(entry("op-0"))
    await committer.close()


async def test_one_faulty_decision_does_not_fail_the_others(driver: Any) -> None:
    store = Slow()
    store.poison = "op-1"
    committer = await opened(store, driver)
    found = await asyncio.gather(*(committer.commit(entry(f"op-{n}")) for n in range(3)), return_exceptions=True)
    assert found[0] is True and found[2] is True and isinstance(found[1], TypeError)
    await committer.close()


async def test_a_verb_s_error_reaches_its_caller_alone(driver: Any) -> None:
    committer = await opened(MemoryStore(), driver)

    def fails(store: Store) -> None:
        raise LookupError("not there")

    results = await asyncio.gather(committer.call(fails), committer.commit(entry("a")), return_exceptions=True)
    assert isinstance(results[0], LookupError) and results[1] is True
    await committer.close()


async def test_a_caller_that_is_cancelled_does_not_take_its_decision_back(driver: Any) -> None:
    store = Slow()
    committer = await opened(store, driver)
    waiting = asyncio.create_task(committer.commit(entry("a")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await committer.call(lambda store: store.position()) == 1
    await committer.close()


async def test_an_answer_that_fails_does_not_leave_the_rest_without(driver: Any) -> None:
    committer = await opened(MemoryStore(), driver)
    faults: list[Any] = []
    committer.loop.set_exception_handler(lambda loop, fault: faults.append(fault["exception"]))

    def fails(won: Any, error: Any) -> None:
        raise ZeroDivisionError

    committer.post(entry("a"), fails)
    assert await committer.commit(entry("b"))
    assert len(faults) == 1 and isinstance(faults[0], ZeroDivisionError)
    await committer.close()


async def test_close_carries_out_what_was_asked_for(driver: Any) -> None:
    store = Slow()
    committer = await opened(store, driver)
    answers: list[Any] = []
    for n in range(5):
        committer.post(entry(f"op-{n}"), lambda won, error: answers.append(won))
    await committer.close()
    assert answers == [True] * 5
    assert (store.closed_by is threading.current_thread()) is (driver == "inline")
    await committer.close()
    with pytest.raises(Unavailable, match="the store is closed"):
        await committer.commit(entry("late"))


async def test_opening(driver: Any) -> None:
    def fails() -> Store:
        raise StoreFailed("no such directory")

    committer = Committer(fails, driver)
    with pytest.raises(Refused, match="not open yet"):
        await committer.call(lambda store: store.position())
    with pytest.raises(StoreFailed, match="no such directory"):
        await committer.open()
    await committer.close()
