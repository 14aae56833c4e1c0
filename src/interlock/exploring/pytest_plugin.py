"""For pytest: the fixture ``explore``, and a marker that gives its budget.

    @pytest.mark.explore(runs=500, depth=1)
    def test_the_shop(explore):
        explore(exploration)

The fixture plays until something is found or the budget is used up, and fails the test with the story. Without a marker it plays single
mishaps and pairs for ten seconds. It returns the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from interlock.exploring.explore import Report
    from interlock.exploring.scenario import Exploration

__all__ = ["Explore", "explore", "pytest_configure"]

SECONDS = 10.0
OPTIONS = ("runs", "seconds", "depth", "first")


class Explore(Protocol):
    """What the fixture ``explore`` is: call it with a scenario."""

    def __call__(self, exploration: Exploration[Any], **options: Any) -> Report:
        """Explore; ``runs``, ``seconds``, ``depth`` and ``first`` go before the marker's."""
        ...


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "explore(runs, seconds, depth, first): the budget of the fixture `explore` in this test"
    )


@pytest.fixture
def explore(request: pytest.FixtureRequest) -> Explore:
    """Explore a scenario of `interlock.exploring`; the test fails with the shortest story if an invariant does not hold."""
    from interlock.errors import Refused, did_you_mean
    from interlock.exploring.explore import explore as explored

    marker = request.node.get_closest_marker("explore")
    marked = dict(marker.kwargs) if marker is not None else {}
    if marker is not None and marker.args:
        pytest.fail("@pytest.mark.explore takes names: runs=..., seconds=..., depth=..., first=...", pytrace=False)

    def run(exploration: Exploration[Any], **options: Any) -> Report:
        chosen = {**marked, **options}
        for name in chosen:
            if name not in OPTIONS:
                pytest.fail(f"explore: no option `{name}`{did_you_mean(name, OPTIONS)}", pytrace=False)
        if "runs" not in chosen:
            chosen.setdefault("seconds", SECONDS)
        refused = ""
        try:
            report = explored(exploration, target=_target(request, exploration), **chosen)
        except Refused as error:
            refused = f"it cannot be explored: {error}"
        if refused:  # outside of the except block: the story of how it was refused helps nobody
            pytest.fail(refused, pytrace=False)
        if report.finding is not None:
            pytest.fail(str(report), pytrace=False)
        return report

    return run


def _target(request: pytest.FixtureRequest, exploration: Exploration[Any]) -> str:
    """Return how the test's module names the scenario, for the test to paste."""
    module = request.module
    return next((f"{module.__name__}:{name}" for name, value in vars(module).items() if value is exploration), "")
