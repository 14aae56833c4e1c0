"""Shrinking: the fewest mishaps, as early as they can be."""

from __future__ import annotations

from interlock.exploring.explore import alone, explore
from interlock.exploring.mishaps import read_seed, seed_of
from interlock.exploring.play import Play
from interlock.exploring.shrink import shrunk
from tests.racks import forgetful, half


def test_what_dice_found_is_shrunk_to_the_two_mishaps_that_it_takes() -> None:
    report = explore(half, depth=0, runs=3_000)
    assert report.finding is not None and report.dice > 1
    assert report.finding.seed.count("@") == 2, report.finding.seed


def test_mishaps_that_do_not_matter_are_left_out_although_that_moves_the_places_of_others() -> None:
    plan = read_seed("crash@booting.2+freeze-late@booting.4+twice-abort@attaching.4+fail@undo-attaching.2")
    with alone(half) as watch:
        outcome = Play(half, plan, watch).run()
        assert outcome.violation is not None and outcome.violation.invariant == "nothing_left"
        small = shrunk(half, watch, plan, "nothing_left")
        assert len(small) == 2 and {one.family for one in small} == {"twice", "fail"}
        again = Play(half, small, watch).run()
    assert again.violation == outcome.violation


def test_a_mishap_is_moved_to_the_earliest_place_that_does_it() -> None:
    plan = read_seed("cancel@commit.3")
    with alone(forgetful) as watch:
        points = Play(forgetful, (), watch, tracing=True).run().points
        last = next(one for one in reversed(points) if ("cancel", 0) in one.kinds and one.what == "attaching")
        plan = read_seed(f"cancel@attaching.{last.number}")
        assert Play(forgetful, plan, watch).run().violation is not None
        small = shrunk(forgetful, watch, plan, "nothing_left")
    assert seed_of(small) <= seed_of(plan) and len(small) == 1
