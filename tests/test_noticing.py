"""How soon what others did is noticed: the pauses between looks, and what counts as news."""

from __future__ import annotations

from interlock.errors import StoreFailed
from interlock.runtime.noticing import PATIENCE, SHORTEST_SECONDS, Noticing
from interlock.stores.memory import MemoryStore
from tests.store_contract import started

SOON = SHORTEST_SECONDS
LONGEST = 0.2


class Watched:
    """A store that anybody may write to, a clock that is set by hand, and who looks."""

    def __init__(self, longest_seconds: float = LONGEST) -> None:
        self.now, self.own, self.down, self._operations = 0.0, 0, False, 0
        self.store = Journal(self)
        self.noticing = Noticing(self.store, lambda: self.own, longest_seconds, lambda: self.now)

    def writes(self) -> None:
        self._operations += 1
        assert self.store.commit([started(f"op-{self._operations}")]) == [True]

    def pause(self) -> float:
        return round(self.noticing.pause(), 9)

    def looks(self, *, heeded: bool = True) -> bool:
        """Look when it is time to."""
        while self.noticing.pause() > 0:
            self.now += self.noticing.pause()
        return self.noticing.look(heeded)


class Journal(MemoryStore):
    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched

    def position(self) -> int:
        if self._watched.down:
            raise StoreFailed("the disk is gone; bring it back")
        return super().position()


def test_what_others_wrote_is_told_once_and_what_was_written_here_is_not() -> None:
    one = Watched()
    assert not one.looks()
    one.writes()
    assert one.looks() and not one.looks()
    one.writes()
    one.own += 1
    assert not one.looks()
    one.writes()
    one.writes()
    one.own += 1
    assert one.looks() and not one.looks()


def test_it_looks_again_only_after_the_pause() -> None:
    one = Watched()
    one.writes()
    assert one.pause() == SOON
    one.now += SOON / 2
    assert not one.noticing.look(heeded=True)
    one.now += SOON / 2
    assert one.noticing.look(heeded=True)


def test_the_pause_is_a_hundredth_of_the_time_in_which_nobody_did_anything() -> None:
    one = Watched()
    seen = {}
    while one.now < 60:
        assert not one.looks()
        seen[one.now] = one.pause()
    assert all(pause == round(max(SOON, min(LONGEST, now / 100)), 9) for now, pause in seen.items())
    assert max(seen.values()) == LONGEST and len(seen) > 300
    one.writes()
    assert one.looks() and one.pause() == SOON


def test_what_is_of_no_concern_is_looked_at_ever_later() -> None:
    one = Watched()
    pauses = []
    for _ in range(PATIENCE + 20):
        one.writes()
        assert one.looks(heeded=False)
        pauses.append(one.pause())
    assert pauses[:PATIENCE] == [SOON] * PATIENCE
    assert pauses[PATIENCE : PATIENCE + 6] == [2 * SOON, 4 * SOON, 8 * SOON, 16 * SOON, LONGEST, LONGEST]
    assert set(pauses[PATIENCE + 6 :]) == {LONGEST}
    one.writes()
    assert one.looks(heeded=True) and one.pause() == SOON


def test_the_questions_that_follow_take_a_tenth_of_the_time_at_most() -> None:
    one = Watched()
    one.writes()
    one.noticing.answered(0.015)
    one.noticing.answered(0.004)
    assert one.looks() and one.pause() == 0.15
    assert not one.looks() and one.pause() == SOON


def test_no_pause_is_longer_than_asked_for() -> None:
    one = Watched(longest_seconds=0.001)
    one.noticing.answered(5.0)
    assert not one.looks() and one.pause() == 0.001


def test_a_store_that_is_away_is_no_news_until_it_is_back() -> None:
    one = Watched()
    one.down = True
    one.writes()
    assert not one.looks() and not one.looks()
    one.down = False
    assert one.looks()
