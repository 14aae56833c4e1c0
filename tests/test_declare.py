"""The words a machine is written with, and what is refused while writing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from interlock import Children, Claim, Final, Group, IllegalMachine, Machine, Retry, Rollback, State, When
from interlock.definition.declare import Branch, exit_of


def test_targets_have_one_shape() -> None:
    end = Final("failed", name="gone")
    assert exit_of("a") == (Branch("a"),)
    assert exit_of(end) == (Branch("gone"),)
    assert exit_of(Rollback(end)) == (Branch("gone", rollback=True),)
    assert exit_of([When("c", Rollback("gone")), "a"]) == (Branch("gone", True, "c"), Branch("a"))


@pytest.mark.parametrize("target", [5, None, 3.5, {"a": "b"}])
def test_what_is_no_target(target: Any) -> None:
    with pytest.raises(TypeError, match="is no target"):
        exit_of(target)


def test_a_state_has_no_name_inside_its_class() -> None:
    early = State(undo="nothing", then="end")
    with pytest.raises(TypeError, match="write the name as a string"):
        State(initial=True, undo="nothing", then=early)


NESTED: Any = When("d", "a")


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (State, {"then": 5}, "5 is no target"),
        (State, {"then": [["a"]]}, "a list of targets holds no other list"),
        (State, {"then": When("c", NESTED)}, "a When leads to one state"),
        (State, {"on": 5}, "State(on=5): expected targets by event"),
        (State, {"on": {1: "a"}}, "expected targets by event"),
        (State, {"to": "queued"}, "State(to='queued'): expected a list of states"),
        (State, {"after": ["72h"]}, "expected targets by duration"),
        (State, {"after": {"60s": "a", "1m": "b"}}, "one of the durations stands twice"),
        (State, {"after": {"soon": "a"}}, "`soon` is no duration"),
        (State, {"initial": "yes"}, "State(initial='yes'): expected True or False"),
        (State, {"retry": 3}, "State(retry=3): expected a Retry, such as Retry(3)"),
        (State, {"undo": 1}, 'State(undo=1): expected True or "nothing"'),
        (State, {"undo": "none"}, "State(undo='none')"),
        (State, {"queue": 5}, "State(queue=5): expected text"),
        (State, {"children": "plan"}, "State(children='plan')"),
        (State, {"timeout": "soon"}, "`soon` is no duration"),
        (Final, {"outcome": None}, "Final(outcome=None): expected text"),
        (Final, {"outcome": "failed", "to": "queued"}, "Final(to='queued'): expected a list of states"),
        (Claim, {"name": "x", "limit": "2"}, "Claim(limit='2'): expected a whole number"),
        (Children, {"machine": "m", "limit": True}, "Children(limit=True)"),
        (Retry, {"attempts": "3"}, "Retry(attempts='3')"),
        (Retry, {"errors": {"OSError": 3}}, "expected the name of a class, and a Retry"),
        (Group, {"on": ["x"]}, "Group(on=['x'])"),
    ],
)
def test_a_value_of_another_kind_is_refused_where_it_is_written(make: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        make(**options)
    assert says in str(refusal.value)


def test_a_state_can_be_copied_under_a_new_name() -> None:
    state = State(undo="nothing", then="b", on={"x": "c"}, after={"1m": "c"}, to=["c"], timeout="3s", name="a")
    copy = dataclasses.replace(state, name="z")
    assert copy.name == "z" and dataclasses.replace(copy, name="a") == state


def test_done_is_said_once() -> None:
    with pytest.raises(TypeError, match="the same thing twice"):
        State(then="a", on={"done": "b"})


@pytest.mark.parametrize(
    "options",
    [{"attempts": 0}, {"attempts": -1}, {"attempts": True}, {"factor": 0.5}, {"jitter": 2}, {"delay": "soon"}],
)
def test_bad_retries(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"Retry\(|is no duration"):
        Retry(**options)


def test_waits_grow_to_their_limit() -> None:
    retry = Retry(9, delay="2s", factor=3, max_delay="20s")
    assert [retry.wait(attempt) for attempt in range(1, 5)] == [2.0, 6.0, 18.0, 20.0]
    assert Retry.forever().wait(10_000) == 60.0


def test_the_nearest_class_decides() -> None:
    retry = Retry(3, errors={"OSError": Retry(5), "ConnectionError": Retry(7)})
    assert retry.for_error(["ConnectionResetError", "ConnectionError", "OSError", "Exception"]).attempts == 7
    assert retry.for_error(["ValueError", "Exception"]).attempts == 3


def test_kinds_follow_from_what_is_declared() -> None:
    assert State(then="a").kind == "acting"
    assert State(on={"done": ["a"]}).kind == "acting"
    assert State(on={"go": "a"}).kind == State(after={"1s": "a"}).kind == State(to=["a"]).kind == "waiting"


def test_one_object_one_name() -> None:
    shared = State(undo="nothing", then="end")
    with pytest.raises((IllegalMachine, RuntimeError)) as refusal:

        class Twice(Machine[Any], version=1):
            one = shared
            two = shared
            end = Final("succeeded")

    assert "same object" in str(refusal.value) or "same object" in str(refusal.value.__cause__)


def test_a_machine_is_not_instantiated() -> None:
    class Small(Machine[Any], version=1):
        a = State(initial=True, on={"go": "end"})
        end = Final("succeeded")

    with pytest.raises(TypeError, match="operations of it are started"):
        Small()
