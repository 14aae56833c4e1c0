"""Scenarios: bad input is refused with what would mend it, and invariants are not trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from interlock import Actions, ActionsMismatch
from interlock.errors import Refused
from interlock.exploring.explore import explore
from interlock.exploring.scenario import Exploration, Signal, Start
from interlock.exploring.verdict import BadInvariant, BadScenario
from tests.racks import Approval, Deploy, Rack, deploy, scenario


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"operations": []}, "needs operations"),
        ({"operations": [Deploy]}, "is no Start"),
        ({"world": Rack()}, "must be a function"),
        ({"invariants": ["never"]}, "is no invariant"),
        ({"lease_seconds": 0}, "must be above 0"),
        ({"without": ["freze"]}, "did you mean `freeze`"),
    ],
)
def test_a_scenario_that_cannot_be_is_refused_when_made(more: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        scenario(**more)


def broken_world() -> Rack:
    raise OSError("no rack")


async def never_ready() -> Rack:
    from asyncio import Event

    await Event().wait()
    return Rack()


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"world": broken_world}, BadScenario, "`broken_world` raised OSError: no rack .*test_scenario.py, line"),
        ({"world": never_ready}, BadScenario, "never gets ready"),
        ({"actions": lambda rack: Actions(Deploy)}, ActionsMismatch, "no action is bound"),
        ({"actions": lambda rack: [3]}, BadScenario, "must return Actions"),
        ({"operations": [Start(Approval)]}, BadScenario, "no actions of `approval`"),
        ({"operations": [Start(Deploy, name=object())]}, BadScenario, "no operation can be started: .*unsupported"),
        ({"signals": ["abrt"]}, Refused, "did you mean `abort`"),
        ({"signals": [Signal("abrt")]}, Refused, "did you mean `abort`"),
    ],
)
def test_a_scenario_that_fails_when_played_is_refused(more: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        explore(scenario(**more), runs=3)


def raises(rack: Rack) -> str | None:
    return str(1 / len(rack.things))


async def waits(rack: Rack) -> None: ...


@pytest.mark.parametrize(
    ("invariant", "said"),
    [
        (raises, "`raises` raised ZeroDivisionError: division by zero .*line .*1 / len"),
        (waits, "`waits` returned coroutine"),
        (lambda rack: 3, "returned int"),
    ],
)
def test_an_invariant_that_does_not_answer_is_its_own_fault(invariant: Callable[..., Any], said: str) -> None:
    with pytest.raises(BadInvariant, match=said):
        explore(scenario(invariants=[invariant]), runs=3)


def test_an_invariant_may_say_nothing_true_or_an_empty_text() -> None:
    fine: list[Callable[..., Any]] = [lambda rack: None, lambda rack: True, lambda rack, operations: ""]
    assert explore(scenario(invariants=fine, at_the_end=fine), runs=3).finding is None


def test_a_world_may_be_async_and_look_at_the_virtual_clock() -> None:
    seen: list[float] = []

    async def world(clock: Callable[[], float]) -> Rack:
        seen.append(clock())
        return Rack()

    exploration = Exploration(world=world, actions=deploy, operations=[Start(Deploy, name="web")])
    assert explore(exploration, runs=2).finding is None
    assert seen == [1_000_000.0, 1_000_000.0]
