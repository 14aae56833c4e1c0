"""Schedules, explored: each time starts one operation whatever goes wrong; what is careless about the second time is found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from msgspec.structs import replace

from interlock import Refused
from interlock.exploring import play
from interlock.exploring.explore import explore, replay, story_of
from interlock.exploring.scenario import Exploration, Scheduled, Start
from interlock.runtime import schedules
from interlock.stores.contract import Entry
from interlock.stores.memory import MemoryStore
from tests import explored_schedules as m


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [m.read, m.by_hand_too], ids=["alone", "beside what is started by hand"])
def test_no_single_mishap_and_no_pair_of_a_sample_harms_a_schedule(scenario: Exploration[m.Book]) -> None:
    report = explore(scenario, runs=300)
    assert report.finding is None, str(report)
    assert report.singles[0] == report.singles[1] and report.pairs[0] > 50, report.coverage()
    assert {"succeeded", "cancelled"} <= set(report.ends), report.ends


def test_the_calm_run_fires_as_often_as_it_is_told() -> None:
    story = story_of(m.read, "calm")
    assert story.count("started reading") == m.TIMES and "notes schedule-0: first due at 20 s" in story
    assert "[1] commits: started" in story and "[3] commits: started" in story


def test_a_schedule_that_was_set_up_and_not_acknowledged_is_asked_for_again() -> None:
    story = story_of(m.read, "crash@noted.1")
    assert story.count("notes schedule-0: first due") == 2 and story.count("started reading") == m.TIMES, story


def test_what_a_schedule_is_refused_is_one_of_its_times() -> None:
    """Somebody else has the meter: the run ends all the same."""
    held = m.exploring(more=[Start(m.Reading, {"delay": "75s"}, meter="m1")])
    story = story_of(held, "crash@reading.5")
    assert "notes schedule-0: refused: " in story and story.count("started reading") == m.TIMES, story
    assert replay(held, "crash@reading.5") is None


@pytest.mark.parametrize(("book", "mishaps"), [(m.Double, 1), (m.Once, 0)])
def test_carelessness_is_found(book: type[m.Book], mishaps: int) -> None:
    report = explore(m.exploring(book), seconds=10)
    assert report.finding is not None and report.finding.invariant == "sent_when_done", str(report)
    assert report.finding.seed == "calm" if not mishaps else report.finding.seed.count("@") == mishaps


def test_workers_that_fire_one_time_twice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids do not follow from the time, and nobody looks whether the schedule is as it was."""

    class Careless(MemoryStore):
        def commit(self, entries: Sequence[Entry]) -> list[bool]:
            won = super().commit([replace(entry, fires=None) for entry in entries])
            for entry, wins in zip(entries, won, strict=True):
                if wins and entry.fires is not None:
                    self.set_schedule(entry.fires[1], entry.fires[0])
            return won

    monkeypatch.setattr(play, "MemoryStore", Careless)
    numbers = count()
    monkeypatch.setattr(schedules, "operation_id", lambda schedule: f"{schedule.name}@{next(numbers)}")
    report = explore(m.read, seconds=10)
    assert report.finding is not None and report.finding.invariant == "each_time_once", str(report)


def test_what_is_wrong_is_refused_at_the_door() -> None:
    with pytest.raises(Refused, match="once at least, not 0 times"):
        Scheduled(m.Reading, "* * * * *", 0, meter="m1")
    with pytest.raises(Refused, match="Scheduled: the explorer itself gives `by`"):
        Scheduled(m.Reading, "* * * * *", 1, {"by": "ann"}, meter="m1")
    with pytest.raises(Refused, match=r"no operation can be started: .* no cron expression"):
        explore(Exploration(world=m.Book, actions=m.reading, operations=[Scheduled(m.Reading, "sometimes", meter="m")]))
