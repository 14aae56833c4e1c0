"""What a worker cannot move does not hide what it can, however much it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Actions, Final, Interlock, Machine, State
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime import passing
from interlock.runtime.passing import CALM, MOST, Passing
from interlock.stores.memory import MemoryStore
from tests.deliveries import eventually

STUCK, MOVABLE, HIDDEN = 0, 1, 2


def looked(line: list[int], place: Passing, room: int) -> None:
    """Look once at a line of what can be moved and what cannot; what can leaves it."""
    limit = place.limit(room)
    seen = line[place.skip :][:limit]
    line[place.skip : place.skip + limit] = [one for one in seen if one == STUCK]
    place.saw(len(seen), limit, seen.count(STUCK))


@given(st.lists(st.tuples(st.sampled_from([STUCK, MOVABLE]), st.integers(1, 700)), max_size=12), st.integers(1, 200))
def test_whatever_can_be_moved_is_found(stretches: list[tuple[int, int]], room: int) -> None:
    line = [one for one, many in stretches for _ in range(many)]
    looks, place = 0, Passing()
    while any(line):
        looked(line, place, room)
        looks += 1
        assert looks < 2 * (sum(many for _, many in stretches) // room + CALM), "it comes to no end"


def test_what_left_the_line_meanwhile_hides_nothing_for_long() -> None:
    """Others take what stood ahead, more always comes behind: the place points past something movable, until it begins anew."""
    place, line = Passing(), [STUCK] * 300 + [HIDDEN]
    looked(line, place, 200)
    assert place.skip == 200
    del line[:200]
    for _ in range(CALM + 3):
        line += [MOVABLE] * 1_000
        looked(line, place, 200)
    assert HIDDEN not in line


def test_so_many_are_passed_over_that_it_rests() -> None:
    place, line = Passing(), [STUCK] * 10 * MOST
    while not place.enough:
        looked(line, place, 500)
    assert MOST <= place.skip < 3 * MOST and place.limit(1) <= MOST + 1
    went_on = place.skip
    place.rest()
    assert [place.enough, place.skip] == [False, went_on], "it goes on where it was"


@dataclass
class Box:
    number: int


def boxes(number: int, state: str) -> type[Machine[Box]]:
    class Boxes(Machine[Box], version=number, name="boxes"):
        locals()[state] = State(initial=True, undo="nothing", then="done")
        done = Final("succeeded")
        failed = Final("failed")
        cancelled = Final("cancelled")

    return Boxes


async def test_stranded_operations_do_not_starve_those_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "MOST", 20)
    old, new = boxes(1, "gone"), boxes(2, "packing")
    actions = Actions(new)

    async def pack(op: Any) -> None:
        pass

    actions.perform("packing")(pack)
    store = f"sqlite:///{tmp_path / 'ops.db'}"
    async with Interlock(store, machines=[old, new], worker=False) as interlock:
        for number in range(150):
            await interlock.start(old, number=number)
        behind = [(await interlock.start(new, number=number)).id for number in range(20)]
    async with Interlock(store, [actions], max_running=5, poll_seconds=0.01) as interlock, asyncio.timeout(20):
        for id in behind:
            assert (await interlock.finished(id)).status == "succeeded"
        assert sum((await interlock.counts()).values()) == 170
        assert (await interlock.counts())["boxes", "gone", "queued"] == 150


class Watched(MemoryStore):
    """Counts how often somebody looks for what is due."""

    looks = 0

    def due(self, *line: Any) -> list[Snapshot]:
        self.looks += 1
        return super().due(*line)


async def test_who_passed_over_all_that_is_due_rests() -> None:
    """As many as one look sees, and none of them movable: the next look sees nothing, and what is due is due all the same."""
    old, new = boxes(1, "gone"), boxes(2, "packing")
    actions, store = Actions(new), Watched()

    async def pack(op: Any) -> None:
        pass

    actions.perform("packing")(pack)
    async with Interlock(store, machines=[old, new], worker=False) as client:
        for number in range(5):
            await client.start(old, number=number)
        async with Interlock(store, [actions], max_running=5, poll_seconds=60) as interlock, asyncio.timeout(20):
            await eventually(lambda: store.looks >= 2)
            for number in range(20):
                await (await interlock.start(new, number=number)).finished(10)
        assert store.looks < 25
