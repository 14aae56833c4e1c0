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


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "explore(runs, seconds, depth, first): the budget of the fixture `explore` in this test"
    )


@pytest.fixture
def explore(request: pytest.FixtureRequest) -> Explore:
    """Explore a scenario of `interlock.exploring`; the test fails with the shortest story if an invariant does not hold."""
    from interlock.errors import did_you_mean

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
        report = _explored(exploration, _target(request, exploration), chosen)
        if isinstance(report, str):
            pytest.fail(report, pytrace=False)
        if report.finding is not None:
            pytest.fail(str(report), pytrace=False)
        return report

    return run


def _explored(exploration: Exploration[Any], target: str, options: dict[str, Any]) -> Report | str:
    """Return the report, or why there is none."""
    from interlock.errors import Refused
    from interlock.exploring.explore import explore as explored

    try:
        return explored(exploration, target=target, **options)
    except Refused as error:
        return f"it cannot be explored: {error}"


def _target(request: pytest.FixtureRequest, exploration: Exploration[Any]) -> str:
    """Return how the test's module names the scenario, for the test to paste."""
    module = request.module
    return next((f"{module.__name__}:{name}" for name, value in vars(module).items() if value is exploration), "")
