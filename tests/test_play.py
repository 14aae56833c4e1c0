"""One run: every kind of mishap does what it says, at its place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from interlock import Operation
from interlock.exploring.explore import alone, explore
from interlock.exploring.mishaps import read_seed
from interlock.exploring.play import AT_REST, RETURNS, Outcome, Play
from interlock.exploring.scenario import Exploration, Start
from tests.racks import Approval, Data, Deploy, Rack, TrustingRack, good, replaced, scenario


def played(seed: str, exploration: Exploration[Any] = good, **how: Any) -> Outcome:
    with alone(exploration) as watch:
        outcome = Play(exploration, read_seed(seed), watch, telling=True, **how).run()
    assert outcome.violation is None, outcome.violation
    return outcome


def told(outcome: Outcome) -> str:
    return "\n".join(f"{line.who} {line.what}" for line in outcome.story)


@pytest.mark.parametrize(
    ("seed", "ends", "said"),
    [
        ("calm", "succeeded", "p0 commits: performed; entered live, outcome succeeded"),
        ("crash@booting.2", "succeeded", "p0 *** is killed (kill -9)\np1 starts\np1 commits: attempt lost"),
        ("crash@booting.3", "succeeded", "p0 booting: start(3)\np0 *** is killed (kill -9)"),
        ("crash@commit.1", "succeeded", "p0 *** is killed (kill -9)\np1 starts\np1 commits: started deploy"),
        ("crash@committed.1", "succeeded", "issued p0.1\np0 *** is killed (kill -9)\np1 starts"),
        ("freeze@booting.2", "succeeded", "p0 wakes up\np0 booting: start(3)"),
        ("freeze-late@booting.2", "succeeded", "outcome succeeded\np0 wakes up\np0 booting: start(3)"),
        ("freeze-late@booting.2+wake@attaching.2", "succeeded", "p0 booting: start raises TooOld"),
        ("fail@booting.2", "failed", "booting raises Injected: injected by the explorer\np0 commits: attempt failed"),
        ("lost@attaching.4", "failed", "attach(6)\np0 *** attaching is done, and its answer is lost"),
        ("hang@attaching.2", "failed", "attaching gets no answer for two hours\np0 commits: cut asked timeout"),
        ("cancel@attaching.2", "cancelled", "a cancel is sent\np0 commits: cancel accepted"),
        ("signal-abort@attaching.2", "cancelled", "signal abort is sent\np0 commits: signalled abort"),
        ("twice-abort@attaching.2", "cancelled", "signal abort is refused: operation `1`"),
        ("cancel@attaching.2+fail@undo-attaching.2", "cancelled", "*** the undo of attaching gets an error"),
    ],
)
def test_a_mishap_does_what_it_says(seed: str, ends: str, said: str) -> None:
    outcome = played(seed)
    assert outcome.mishaps == list(read_seed(seed))
    assert outcome.ends == [ends] and said in told(outcome), told(outcome)


def test_a_trace_says_what_can_happen_where() -> None:
    points = {(one.what, one.number): dict(one.kinds) for one in played("calm", tracing=True).points}
    assert set(points["committed", 1]) == {"crash"}
    assert set(points["commit", 1]) == {"crash", "freeze", "freeze-late"}
    assert set(points["booting", 2]) == {"crash", "freeze", "freeze-late", "fail", "hang", "cancel"}
    assert {"signal-abort", "twice-abort", "lost"} <= set(points["attaching", 4])
    assert "lost" not in points["attaching", 2]


def test_a_plain_call_within_async_code_is_a_place_to_die_and_to_fail_at() -> None:
    async def boot(rack: Rack, op: Operation[Data]) -> None:
        rack.start(op.token)

    mixed = scenario(replaced("perform", "booting", boot))
    assert "start(3)" not in told(played("crash@start-call.1", mixed))
    after = told(played("crash@start-return.1", mixed))
    assert "start(3)\np0 *** is killed" in after and "start(5)" in after
    assert played("fail@start-return.1", mixed).ends == ["failed"]


def test_an_operation_that_waits_for_a_signal_is_sent_one() -> None:
    def actions(rack: Rack) -> Any:
        from interlock import Actions

        made = Actions(Approval)

        @made.perform(Approval.asking, inline=True)
        def ask(op: Operation[Data]) -> None: ...

        return made

    waiting = scenario(actions, operations=[Start(Approval, name="a")], at_the_end=[])
    assert played("calm", waiting).ends == ["failed"]
    yes = scenario(actions, operations=[Start(Approval, name="a")], at_the_end=[], signals=["yes"])
    assert played("calm", yes).ends == ["succeeded"]
    assert played("cancel@committed.1+cancel@commit.2", yes).ends == ["cancelled"]


def test_several_operations_are_told_apart() -> None:
    two = scenario(
        invariants=[], at_the_end=[], operations=[Start(Deploy, name="a"), Start(Deploy, name="b")], world=TrustingRack
    )
    outcome = played("cancel:1@booting.2", two)
    assert outcome.ends == ["succeeded", "cancelled"] and "[2] a cancel is sent" in told(outcome)


async def spins(rack: Rack, op: Operation[Data]) -> None:
    while True:
        pass


def spins_plainly(rack: Rack, op: Operation[Data]) -> None:
    while True:
        pass


@pytest.mark.parametrize("action", [spins, spins_plainly])
def test_an_action_that_never_returns_is_found_and_named(action: Callable[[Rack, Operation[Data]], Any]) -> None:
    report = explore(scenario(replaced("perform", "booting", action), action_seconds=0.3), runs=50)
    assert report.finding is not None and report.finding.invariant == RETURNS
    assert f"`{action.__name__}`" in report.finding.answer and "test_play.py" in report.finding.answer
    assert not [one for one in threading.enumerate() if one.name == "interlock-explored"]


async def goes_round(rack: Rack, op: Operation[Data]) -> None:
    from asyncio import sleep

    while True:
        await sleep(0)


def test_an_action_that_goes_round_for_ever_is_found() -> None:
    report = explore(scenario(replaced("perform", "booting", goes_round)), runs=50)
    assert report.finding is not None and report.finding.invariant == AT_REST
    assert "running in booting" in report.finding.answer and len(report.finding.story) < 10_000
