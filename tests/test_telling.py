"""Facts as sentences."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from interlock.interpreter import facts as f
from interlock.runtime.telling import told

SAMPLES = [
    f.Started("op", "m", 1, {}, by="ann"),
    f.Postponed("one", 9.0),
    f.ClaimsAwaited("one", (f.Holding("guest:1"),), preempts=("guest:1",)),
    f.Claimed((f.Holding("guest:1"),)),
    f.Entered("many", "parent", children=7),
    f.ChildIssued(1, "op.1.1"),
    f.ChildEnded(1, "failed", "no room"),
    f.ChildrenStopped("one failed", "failed"),
    f.Owned("port", "7"),
    f.Disowned("port", "7"),
    f.Entered("one", queue="q"),
    f.Entered("end", "final", outcome="failed"),
    f.Issued("w1"),
    f.Performed("odd", {"port": 1}),
    f.AttemptFailed(f.Failure("OSError", "disk full")),
    f.RetryPlanned(5.0),
    f.AttemptLost(),
    f.AttemptLost("handover"),
    f.AttemptLost("adopted"),
    f.Reported("done", "two", by="older code"),
    f.Reported("done", data={"port": 1}),
    f.Upgraded(2, "two"),
    f.CutAsked("timeout"),
    f.AttemptCut(),
    f.Asked("event", "done", ("shared",)),
    f.Answered({"shared": True}),
    f.Signalled("go", by="bob"),
    f.SignalHeld("go"),
    f.Reported("", "two", {"x": 1}, "k", "nova"),
    f.TimerFired("within"),
    f.CancelAccepted("bob", "wrong host"),
    f.Deferred("timer", "within"),
    f.RollbackBegan("failed", "because"),
    f.UndoPlanned("one", "q"),
    f.Undone("one"),
    f.Paused("bob"),
    f.Resumed("bob"),
    f.BreakpointsSet(("two",)),
    f.GotStuck("no-exit", "no way"),
    f.Retried("bob", "again"),
    f.Skipped("bob", "by hand"),
    f.Overrode("two", "bob", "known", ("no edge",)),
]


def test_every_kind_of_fact_has_a_sentence() -> None:
    assert {type(fact) for fact in SAMPLES} == set(get_args(f.Fact))


@pytest.mark.parametrize("fact", SAMPLES, ids=lambda fact: type(fact).__name__)
def test_what_a_fact_holds_is_in_its_sentence(fact: f.Fact) -> None:
    sentence = told(fact)
    assert sentence and "\n" not in sentence
    for name in ("by", "reason", "event", "timer", "to"):
        value = getattr(fact, name, "")
        if isinstance(value, str) and value not in ("", "done", "lapsed", "handover", "adopted"):
            assert value in sentence, msgspec.to_builtins(fact)


def test_what_would_steer_a_terminal_is_written_out() -> None:
    assert told(f.Paused("bob", "x\n\x1b[31mred")) == "paused by bob: x\\n\\x1b[31mred"
    assert told(f.AttemptFailed(f.Failure("OSError", "né\r"))) == "the attempt failed: OSError: né\\r"


def test_long_values_are_cut_off_and_times_are_told() -> None:
    sentence = told(f.Performed(data={"log": "x" * 100_000}))
    assert len(sentence) < 300 and sentence.endswith("… (100002 characters)")
    assert "not before 1970-01-01 00:00:05.000 UTC" in told(f.RetryPlanned(5.0))
