"""The live view, on a terminal and elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

from msgspec import structs
from rich.console import Console

from interlock.cli.live import Child, LiveView
from interlock.interpreter import inputs as i
from interlock.interpreter.decide import decide
from interlock.interpreter.facts import Parent
from interlock.interpreter.snapshot import Running
from interlock.stores.contract import Progress, Record
from tests.machines import Drain, Migration

MACHINE = Migration.definition
PROGRESS = {
    "checking": Progress("op", 0, 1.0, 7.0, None, "hosts", "[/asked]"),
    "preparing": Progress("op", 0, 1.0, 3.0, 2.0, "", "more than all"),
    "copying": Progress("op", 0, 1.0, 32 << 20, 64 << 20, "bytes", "[bold]\x1b[2Jcopying"),
    "switching": Progress("op", 0, 1.0, 0.0, 0.0, "", ""),
    "cleaning": Progress("op", 0, 1.0, -1.0, 4.0, "", "before the beginning"),
}
OFFER = i.Offer("w1", frozenset({"", "host:a", "host:b"}))


def play(console: Console, prefix: str = "") -> None:
    decision = decide(
        MACHINE, None, i.Start("op", {"instance": "i", "source": "a", "destination": "b"}, offer=OFFER), 0.0
    )
    with LiveView(MACHINE, console, prefix) as view:
        view.update(decision.snapshot, [Record(1, "op", decision.snapshot.seq, 0.0, decision.facts)])
        while isinstance(decision.snapshot.phase, Running):
            token = decision.snapshot.phase.token
            view.update(decision.snapshot, [], replace(PROGRESS[decision.snapshot.state], token=token))
            decision = decide(MACHINE, decision.snapshot, i.Done(token, offer=OFFER), 1.0)
            facts = [Record(2, "op", decision.snapshot.seq, 1.0, decision.facts)]
            view.update(decision.snapshot, facts, Progress("op", token, 1.0, 1.0, 1.0, "", "of the attempt before"))


def test_elsewhere_it_prints_the_facts_a_line_each() -> None:
    out = io.StringIO()
    play(Console(file=out, highlight=False, width=200), "SIMULATED")
    lines = out.getvalue().splitlines()
    assert all(line.startswith("SIMULATED") for line in lines)
    assert "ends in completed (succeeded)" in lines[-1]
    assert sum("attempt 1 is issued" in line for line in lines) == 5


def test_on_a_terminal_it_draws_the_path_and_a_bar() -> None:
    out = io.StringIO()
    play(Console(file=out, force_terminal=True, highlight=False, width=120, color_system=None))
    text = out.getvalue()
    assert "checking ─ [preparing]" in text
    assert " 50% of 64 MiB  [bold]\\x1b[2Jcopying" in text
    assert "7 hosts  [/asked]" in text and "100%  more than all" in text and "  0%  before the beginning" in text


def test_what_an_earlier_attempt_said_is_not_shown() -> None:
    out = io.StringIO()
    play(Console(file=out, force_terminal=True, highlight=False, width=120, color_system=None))
    assert "of the attempt before" not in out.getvalue()


def test_children_are_a_row_each_and_their_changes_a_line() -> None:
    started = decide(
        Drain.definition,
        None,
        i.Start("op", {"host": "a", "source": "a", "destination": "b", "guests": ["x", "y", "z"]}, offer=OFFER),
        0.0,
    )
    running = started.snapshot
    assert isinstance(running.phase, Running)
    moving = decide(Drain.definition, running, i.Done(running.phase.token, offer=OFFER), 1.0).snapshot
    child = decide(
        MACHINE, None, i.Start("op.6.0", {"instance": "i", "source": "a", "destination": "b"}, offer=OFFER), 1.5
    )
    assert isinstance(child.snapshot.phase, Running)
    first = structs.replace(child.snapshot, parent=Parent("op", 0))
    half = Progress("op.6.0", child.snapshot.phase.token, 2.0, 1.0, 2.0)
    waits = Child(structs.replace(child.snapshot, id="op.6.1", status="queued", claims=()), None)
    for terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, highlight=False, width=120, color_system=None)
        with LiveView(Drain.definition, console) as view:
            for _ in range(2):
                view.update(moving, [], None, [Child(first, half), waits])
            view.update(moving, [], None, [waits])
        text = out.getvalue()
        assert text.count("op.6.1: queued in checking") == 1, "a change is told once"
        if terminal:
            assert "━" in text and " 50%" in text and "[checking]" in text and "and 1 more" in text
            assert text.count("x: running in checking") == 1, "it is named by what it was begun for"
        else:
            assert "━" not in text
