"""Journals held against today's machine, and operations taken up from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from interlock import Actions, Definition, Final, Interlock, Machine, Refused, Retry, Rollback, State
from interlock.cli.app import app
from interlock.compute.live_migration import LiveMigration
from interlock.interpreter.facts import Entered, Fact, Issued
from interlock.stores.contract import Record
from interlock.testing import HANGS, Kit, NoLongerFits, replay
from interlock.testing.simulate import Simulation
from tests.machines import NEWER
from tests.scenario import replay as played

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
MOVE = {"instance": "vm-1", "source": "a", "destination": "b"}


class Build(Machine[dict[str, Any]], version=1):
    """As it was when the journals were written."""

    fetching = State(initial=True, undo=True, retry=Retry(2), then="making")
    making = State(undo=True, timeout="1m", then="live", on={"skip": "live", "drop": Rollback("cancelled")})
    live = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Tuned(Machine[dict[str, Any]], version=2, name="build"):
    """Other times and queues only, and one state more that the journals did not meet."""

    fetching = State(initial=True, undo=True, queue="fast", retry=Retry(2, delay="9s"), timeout="1h", then="making")
    making = State(
        undo=True, timeout="2m", then="live", on={"skip": "live", "drop": Rollback("cancelled"), "park": "parked"}
    )
    parked = State(on={"go": "making"})
    live = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Proven(Machine[dict[str, Any]], version=3, name="build"):
    """A state came in between, a signal is gone, and one attempt is all."""

    fetching = State(initial=True, undo="nothing", then="making")
    making = State(undo=True, then="testing", on={"drop": Rollback("cancelled")})
    testing = State(undo="nothing", then="live")
    live = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


def build(*answers: Any, signal: str = "") -> str:
    kit = Kit(Build)
    kit.stub("making", *(answers or (None,)))
    op = kit.start()
    if signal:
        op.signal(signal)
    kit.finish(op)
    return op.history


def test_every_journal_of_the_simulator_fits_the_machine_that_wrote_it() -> None:
    decisions = 0
    for seed in range(40):
        simulation = Simulation(seed)
        assert not simulation.play()
        found = simulation.store.search(machine=None, status=(), state=None, cursor=None, limit=1_000).snapshots
        for snapshot in found:
            records = simulation.store.journal(snapshot.id, 0, 100_000)
            text = "\n".join(msgspec.json.encode(record).decode() for record in records)
            *older, newest = [one for one in simulation.versions if one.name == snapshot.machine]
            replayed = replay(newest, text, older=older)
            assert replayed.snapshot == snapshot
            decisions += replayed.decisions
    assert decisions > 500


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_journal_of_the_scenarios_fits(path: Path) -> None:
    """Every fact and every input of the interpreter comes before it here."""
    _, _, scenario = played(path)
    for machine, decisions in scenario.decisions:
        newer = [one.definition for one in NEWER if one.definition.name == machine.name]
        *older, today = [machine, *newer]
        assert replay(today, journal_of(decisions), older=older).decisions == len(decisions)


def journal_of(decisions: list[tuple[float, tuple[Fact, ...]]]) -> str:
    seq, lines = 0, []
    for position, (at, facts) in enumerate(decisions, 1):
        seq += len(facts)
        lines.append(msgspec.json.encode(Record(position, "op", seq, at, facts)).decode())
    return "\n".join(lines)


def test_times_queues_and_new_ways_do_not_disturb_a_journal() -> None:
    for journal in (
        build(),
        build(OSError("no")),
        build(HANGS, signal="skip"),
        build(HANGS, signal="drop"),
        build(HANGS),
    ):
        assert replay(Build, journal).version == 1
        assert replay(Tuned, journal).snapshot.ended


@pytest.mark.parametrize(
    ("journal", "seq", "then", "now"),
    [
        (build(), 3, "attempt 1 is issued", "attempt 1 is issued"),  # with nothing to undo
        (build(HANGS, signal="skip"), 3, "attempt 1", "attempt 1"),
    ],
)
def test_the_first_fact_that_no_longer_fits_is_told(journal: str, seq: int, then: str, now: str) -> None:
    with pytest.raises(NoLongerFits) as found:
        replay(Proven, journal)
    assert found.value.seq == seq and then in str(found.value) and f"the machine says now: {now}" in str(found.value)


def test_what_the_machine_says_in_its_place() -> None:
    class Longer(Machine[dict[str, Any]], version=4, name="build"):
        fetching = State(initial=True, undo=True, then="making")
        making = State(undo=True, then="testing", on={"drop": Rollback("cancelled")})
        testing = State(undo="nothing", then="live")
        live = Final("succeeded")
        failed = Final("failed")
        cancelled = Final("cancelled")

    with pytest.raises(NoLongerFits, match="enters testing") as found:
        replay(Longer, build())
    assert isinstance(found.value.fact, Entered) and found.value.fact.state == "live"
    assert isinstance(found.value.instead, Entered) and found.value.instead.state == "testing"
    with pytest.raises(NoLongerFits, match="no event `skip`"):
        replay(Longer, build(HANGS, signal="skip"))
    with pytest.raises(NoLongerFits, match=r"another attempt is planned.*\n.*rolls back to failed"):
        replay(Build, patient())


def patient() -> str:
    """A journal in which `fetching` was tried three times."""

    class Patient(Machine[dict[str, Any]], version=1, name="build"):
        fetching = State(initial=True, undo=True, retry=Retry(3), then="live")
        live = Final("succeeded")
        failed = Final("failed")
        cancelled = Final("cancelled")

    kit = Kit(Patient)
    kit.stub("fetching", OSError("1"), OSError("2"), None)
    op = kit.start()
    kit.finish(op)
    return op.history


def test_a_journal_that_was_tampered_with_does_not_fit() -> None:
    lines = build().splitlines()
    with pytest.raises(NoLongerFits, match=r"(?s)fact 8.*ends in failed.*now: ends in live"):
        replay(Build, "\n".join([*lines[:2], lines[2].replace('"live"', '"failed"')]))
    without = lines[1].replace('{"fact":"performed"},', "").replace('"seq":6', '"seq":5')
    with pytest.raises(NoLongerFits, match="fact 4"):
        replay(Build, "\n".join([lines[0], without]))


async def test_what_the_command_prints_is_replayed(tmp_path: Path) -> None:
    actions = Actions(Build)
    actions.perform("fetching")(lambda op: {"size": 1})
    actions.perform("making")(lambda op: None)
    actions.undo("fetching")(lambda op: None)
    actions.undo("making")(lambda op: None)
    url = f"sqlite:///{tmp_path}/ops.db"
    async with Interlock(url, actions=[actions]) as interlock:
        op = await interlock.start(Build)
        await op.finished(timeout=30)
    import asyncio

    said = await asyncio.to_thread(CliRunner().invoke, app, ["history", op.id, "--store", url, "--json"])
    path = tmp_path / "journal.jsonl"
    path.write_text(said.output)
    assert replay(Build, path).snapshot.data == {"size": 1}
    assert replay(Build, str(path)).decisions == 3


# Taking operations up


def test_an_operation_is_taken_up_where_its_journal_ends() -> None:
    before = Kit(LiveMigration)
    before.stub("copying", hangs=True)
    old = before.start(**MOVE)
    kit = Kit(LiveMigration)
    recovered = []
    kit.stub_recover("copying", runs=lambda op: recovered.append(op.data.instance))
    op = kit.resume(old)
    op.expect(status="succeeded")
    assert recovered == ["vm-1"] and op.facts[: len(old.facts)] == old.facts
    assert replay(LiveMigration, op.history).snapshot == op.snapshot


def test_an_operation_is_taken_up_from_a_fact_and_by_another_version() -> None:
    journal = build(OSError("no"))
    kit = Kit(Tuned)
    with pytest.raises(Refused, match=r"is over: failed in failed; .*after="):
        kit.resume(journal)
    op = kit.resume(journal, after=6)
    op.expect(status="succeeded", visited=["fetching", "making", "live"])
    assert op.snapshot.version == 2
    with pytest.raises(Refused, match="in this kit already"):
        kit.resume(journal, after=3)
    with pytest.raises(Refused, match=r"no decision ends with fact 4: .*nearest ends are 3 and 6"):
        Kit(Tuned).resume(journal, after=4)
    assert [fact.worker for fact in op.facts if isinstance(fact, Issued)][:2] == ["w1.1"] * 2


def test_the_clock_goes_on_from_the_journal() -> None:
    before = Kit(Build)
    before.stub("fetching", OSError("1"), OSError("2"))
    old = before.start()
    before.advance("500ms")
    kit = Kit(Build)
    kit.stub("fetching", returns={"at": "last"})
    op = kit.resume(old)
    op.expect(status="queued")
    kit.advance("2s")
    op.expect(status="succeeded", data={"at": "last"})


def test_a_state_that_is_gone_is_refused() -> None:
    before = Kit(Tuned)
    before.stub("making", event="park")
    parked = before.start()
    parked.expect(status="waiting", state="parked")
    with pytest.raises(Refused, match="parked"):
        Kit(Proven).resume(parked)
    with pytest.raises(Refused, match="machine `build`, not of `live-migration`"):
        Kit(LiveMigration).resume(parked)
    assert isinstance(Tuned.definition, Definition)
