"""The search: what it covers, what it finds, that it says so, and that it is the same every time."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.errors import Refused
from interlock.exploring.explore import Report, explore, replay, story_of
from interlock.exploring.mishaps import KINDS
from tests.racks import forgetful, good, half, scenario, trusting

GOLDEN = Path(__file__).parent / "golden" / "explored-rack.txt"


def test_a_known_bad_toy_gives_the_golden_story() -> None:
    report = explore(forgetful, depth=1, runs=500, target="tests.racks:forgetful")
    assert report.finding is not None
    assert GOLDEN.read_text() == f"{report.finding}\n"


@pytest.mark.slow
def test_good_actions_hold_under_every_kind_of_mishap() -> None:
    report = explore(good, runs=320)
    assert report.finding is None, str(report)
    assert set(report.mishaps) == set(KINDS)
    assert set(report.ends) == {"succeeded", "failed", "cancelled"}
    done, of = report.pairs
    assert report.singles[0] == report.singles[1] and of is not None and 0 < done < of
    assert not report.complete and "the budget was used up before that depth was covered" in str(report)


def test_every_single_mishap_is_played_and_then_dice_are_thrown() -> None:
    report = explore(good, depth=1, runs=150)
    assert report.finding is None and report.complete and report.runs == 150
    assert report.dice == report.runs - 1 - report.singles[0] > 0
    assert "nothing found, which is no proof" in str(report) and "by dice" in str(report)
    assert "proved" not in str(report)


def test_a_late_worker_whose_token_nobody_checks_is_found() -> None:
    report = explore(trusting, seconds=10)
    assert report.finding is not None and "freeze" in report.finding.seed
    without = explore(scenario(world=trusting.world, without=["freeze", "freeze-late"]), runs=150)
    assert without.finding is None and "freeze" not in without.mishaps


def test_a_bug_that_takes_two_mishaps_is_found_by_pairs() -> None:
    assert explore(half, depth=1, runs=80).finding is None
    report = explore(half, seconds=15)
    assert report.finding is not None and report.finding.seed.count("@") == 2
    assert report.singles[0] == report.singles[1]
    assert replay(half, report.finding.seed) == report.finding


def test_what_is_found_without_any_mishap_is_called_calm() -> None:
    report = explore(scenario(invariants=[lambda rack: not rack.things]), runs=5)
    assert report.finding is not None and report.finding.seed == "calm" and report.runs == 1
    assert report.finding.answer == "it does not hold" and report.finding.test == ""


def test_the_budget_in_seconds_is_kept() -> None:
    report = explore(good, seconds=0.3)
    assert 0.3 <= report.cpu_seconds < 1.5 and report.finding is None


def test_a_seed_always_tells_the_same_story() -> None:
    seed = "freeze@booting.2+cancel@attaching.2"
    assert story_of(good, seed) == story_of(good, seed)
    assert replay(good, seed) is None
    finding = replay(trusting, "freeze-late@booting.2+cancel@booting.3")
    assert finding == replay(trusting, "freeze-late@booting.2+cancel@booting.3") is not None


def test_other_processes_explore_the_same() -> None:
    """Nothing depends on the order of a set."""

    def found(hash_seed: str) -> dict[str, object]:
        command = [sys.executable, "-m", "interlock.cli", "explore", "tests.racks:trusting", "--runs", "400", "--json"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        document: dict[str, object] = json.loads(done.stdout)
        del document["cpu_seconds"]
        return document

    assert found("1") == found("2")


@pytest.mark.parametrize(
    ("seed", "said"),
    [
        ("nonsense", "is no mishap"),
        ("crash@booting", "is no mishap"),
        ("crash@nowhere.1", "did not happen"),
        ("signal-nonsense@booting.2", "did not happen"),
        ("fail@commit.1", "did not happen"),
    ],
)
def test_a_seed_that_does_not_fit_is_refused(seed: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        replay(good, seed)


@pytest.mark.parametrize("options", [{"depth": 3}, {"runs": 0}, {"seconds": -1}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(Refused):
        explore(good, **options)  # type: ignore[arg-type]  # on purpose


def test_it_refuses_to_run_inside_of_an_event_loop() -> None:
    async def inside() -> None:
        explore(good, runs=1)

    with pytest.raises(Refused, match="not from async code"):
        asyncio.run(inside())


def test_progress_is_told_after_every_run() -> None:
    seen: list[int] = []

    def note(report: Report) -> None:
        seen.append(report.runs)

    explore(good, runs=5, progress=note)
    assert seen == [1, 2, 3, 4, 5]
