"""Owned resources, explored: no mishap leaves one with nobody; every way of being careless about them is found."""

from __future__ import annotations

import pytest

from interlock.exploring.explore import explore
from tests import explored_ports as p


@pytest.mark.slow
def test_no_single_mishap_and_no_pair_of_a_sample_leaves_a_resource_with_nobody() -> None:
    report = explore(p.ports, seconds=5)
    assert report.finding is None, str(report)
    assert report.singles[0] == report.singles[1] and report.pairs[0] > 100, report.coverage()
    assert {"succeeded", "failed", "cancelled"} <= set(report.ends), report.ends


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_a_long_exploration_finds_nothing() -> None:
    report = explore(p.ports, seconds=1_200, first=1_000_000)
    assert report.finding is None, str(report)


@pytest.mark.parametrize(
    ("replaced", "invariant", "mishaps"),
    [
        ({"bind": p.owns_too_late}, "nothing_is_left_with_nobody", 0),
        ({"unbind": p.forgets_to_disown}, "stuck_over_something", 1),
        ({"unbind": p.disowns_only}, "nothing_is_left_with_nobody", 1),
        ({"unplug": p.looks_for_nothing}, "stuck_over_something", 1),
    ],
    ids=lambda one: ", ".join(act.__name__ for act in one.values()) if isinstance(one, dict) else "",
)
def test_carelessness_is_found(replaced: dict[str, p.Act], invariant: str, mishaps: int) -> None:
    report = explore(p.exploring(**replaced), seconds=10)
    assert report.finding is not None and report.finding.invariant == invariant, str(report)
    assert report.finding.seed.count("@") == mishaps, report.finding.seed
