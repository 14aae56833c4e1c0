"""Live migration's actions, explored over the simulated hypervisor: nothing is found; every way of breaking them is."""

from __future__ import annotations

import pytest

from interlock.compute.fake_hypervisor import FakeHypervisor
from interlock.compute.live_migration import live_migration
from interlock.exploring.explore import explore
from interlock.exploring.scenario import Exploration
from tests.explored_moves import (
    A,
    B,
    Forgetful,
    Hasty,
    Hosts,
    Trusting,
    back_later,
    carried,
    carrying,
    exploring,
    moves,
    pulled,
)


@pytest.mark.slow
def test_no_single_mishap_and_no_pair_of_a_sample_harms_a_guest() -> None:
    report = explore(moves, seconds=6)
    assert report.finding is None, str(report)
    assert report.singles[0] == report.singles[1] and report.pairs[0] > 100, report.coverage()
    assert set(report.ends) == {"succeeded", "failed", "cancelled"}, "and none needs a person"


@pytest.mark.slow
def test_no_mishap_in_a_post_copy_doubles_a_guest() -> None:
    report = explore(pulled, depth=1, seconds=6)
    assert report.finding is None and report.singles[0] == report.singles[1], str(report)


@pytest.mark.slow
def test_no_mishap_leaves_half_a_disk_or_two() -> None:
    report = explore(carried, depth=1, seconds=10)
    assert report.finding is None and report.singles[0] == report.singles[1], str(report)
    assert {"succeeded", "failed", "cancelled"} <= set(report.ends)


@pytest.mark.slow
def test_a_move_that_begins_later_waits_for_its_time_and_for_the_guest() -> None:
    report = explore(back_later, depth=1, runs=250)
    assert report.finding is None, str(report)
    assert report.runs > 200 and "succeeded" in report.ends and "stuck" not in report.ends, report.coverage()


def test_a_guest_that_goes_before_its_disk_is_there_is_found() -> None:
    report = explore(carrying(lambda hosts: live_migration(Hasty(hosts.world, (A, B), clock=hosts.clock))), seconds=20)
    assert report.finding is not None and report.finding.invariant == "one_whole_disk_where_it_is"


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_a_long_exploration_finds_nothing() -> None:
    report = explore(moves, seconds=1_200, first=1_000_000)
    assert report.finding is None, str(report)


def broken(kind: type[FakeHypervisor]) -> Exploration[Hosts]:
    return exploring(lambda hosts: live_migration(kind(hosts.world, (A, B), clock=hosts.clock)))


def test_an_undo_that_does_nothing_is_found_and_told_shortly() -> None:
    report = explore(broken(Forgetful), seconds=20)
    assert report.finding is not None and report.finding.invariant == "as_it_was_when_given_up"
    assert report.finding.seed.count("@") == 1 and "preparing" in report.finding.seed
    assert "host-b" in report.finding.answer


@pytest.mark.slow
def test_a_hypervisor_that_looks_at_no_token_is_found() -> None:
    report = explore(broken(Trusting), seconds=20)
    assert report.finding is not None and "freeze" in report.finding.seed
