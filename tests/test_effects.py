"""The stand-in for a fake changes nothing outside of an exploration, and passes everything through."""

from __future__ import annotations

from collections.abc import AsyncIterator

from interlock.exploring.effects import ACTING, effects


class Fake:
    def __init__(self) -> None:
        self.level = 1

    def plain(self, more: int) -> int:
        self.level += more
        return self.level

    async def slow(self) -> int:
        return self.level

    async def several(self) -> AsyncIterator[int]:
        for one in (1, 2):
            yield one


class Noting:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def effect(self, text: str) -> None:
        self.seen.append(text)

    def boundary(self, place: str) -> None:
        self.seen.append(place)


async def test_it_passes_through() -> None:
    fake = Fake()
    watched = effects(fake)
    watched.level = 5
    assert fake.level == 5 and watched.plain(2) == 7 and await watched.slow() == 7
    assert [one async for one in watched.several()] == [1, 2] and repr(watched) == repr(fake)


async def test_calls_are_noted_while_an_action_runs() -> None:
    noting, watched = Noting(), effects(Fake())
    token = ACTING.set(noting)
    try:
        watched.plain(more=1)
        assert await watched.slow() == 2
        assert [one async for one in watched.several()] == [1, 2]
    finally:
        ACTING.reset(token)
    assert noting.seen == ["plain-call", "plain(more=1)", "plain-return", "slow()", "several()"]
