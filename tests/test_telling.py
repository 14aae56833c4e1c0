"""Facts as sentences."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from interlock.cli.telling import told
from interlock.interpreter import facts as f

SAMPLES = [
    f.Started("op", "m", 1, {}, by="ann"),
    f.Entered("one", queue="q"),
    f.Entered("end", "final", outcome="failed"),
    f.Issued("w1"),
    f.Performed("odd", {"port": 1}),
    f.AttemptFailed(f.Failure("OSError", "disk full")),
    f.RetryPlanned(5.0),
    f.AttemptLost(),
    f.AttemptLost("handover"),
    f.CutAsked("timeout"),
    f.AttemptCut(),
    f.Asked("event", "done", ("shared",)),
    f.Answered({"shared": True}),
    f.Signalled("go", by="bob"),
    f.SignalHeld("go"),
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
        if isinstance(value, str) and value not in ("", "done", "lapsed", "handover"):
            assert value in sentence, msgspec.to_builtins(fact)
