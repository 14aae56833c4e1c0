"""Coverage of a machine's ways: what is counted, from where, how it is kept and painted; and the gate for our own machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from interlock import Final, Group, Machine, Refused, Rollback, State, When
from interlock.cli.app import app
from interlock.compute.live_migration import LiveMigration
from interlock.definition.draw import FORMATS, draw
from interlock.stores.contract import Record
from interlock.testing import CRASHES, Coverage, Kit, Way, collecting
from interlock.testing.coverage import implied_ways, ways_of
from tests.machines import ALL
from tests.scenario import replay as played

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
MOVE = {"instance": "vm-1", "source": "a", "destination": "b"}


class Parcel(Machine[dict[str, Any]], version=1):
    """One of each kind of way."""

    packing = State(initial=True, undo=True, timeout="1h", then="packed", on={"broken": "failed"})
    packed = State(
        on={"send": [When("heavy", "by_truck"), "sent"], "drop": Rollback("cancelled")}, after={"2h": "sent"}
    )
    by_truck = State(undo="nothing", cancel="refuse", on={"failed": "packed"}, then="sent")
    sent = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")

    carried = Group("packed", "by_truck", timeout="9h")


def counted(machine: Any, coverage: Coverage) -> dict[str, int]:
    return {str(way): times for way, times in coverage.counts(machine).items()}


def test_the_ways_of_a_machine() -> None:
    assert [str(way) for way in ways_of(Parcel)] == [
        "packing -> packed (done)",
        "packing -> failed (broken)",
        "packed -> by_truck (send)",
        "packed -> sent (send)",
        "packed -> cancelled (drop)",
        "packed -> sent (after 2h)",
        "by_truck -> sent (done)",
        "by_truck -> packed (failed)",
        "packing -> failed (failed)",
        "packing -> failed (timeout)",
        "packing -> cancelled (cancel)",
        "packed -> failed (timeout)",
        "packed -> cancelled (cancel)",
        "by_truck -> failed (timeout)",
    ]


def test_each_way_is_counted_under_its_own_name() -> None:
    with collecting() as coverage:
        drive()
    assert coverage.missing(Parcel) == () and coverage.percent(Parcel) == 100
    counts = counted(Parcel, coverage)
    assert counts.pop("packing -> packed (done)") == 8 and counts.pop("packed -> by_truck (send)") == 5
    assert counts.pop("by_truck -> packed (failed)") == 2 == counts.pop("by_truck -> failed (timeout)")
    assert set(counts.values()) == {1}, counts
    assert list(coverage.lines()) == ["parcel, version 1: 14 of 14 ways taken"]


def drive() -> None:
    """Take every way of `Parcel`."""
    for event in ("broken", ""):
        kit = Kit(Parcel)
        kit.stub("packing", event=event) if event else kit.stub("packing", raises=OSError("no"))
        kit.start().expect(status="failed")
    kit = Kit(Parcel)
    kit.stub("packing", hangs=True)
    op = kit.start()
    kit.start().cancel()
    kit.advance("1h")
    op.expect(status="failed", undone=["packing"])
    kit = Kit(Parcel)
    kit.stub_condition("heavy", False, True)
    for act in ("send", "drop", "cancel", "wait"):
        op = kit.start()
        if act == "cancel":
            op.cancel()
        elif act == "wait":
            kit.advance("2h")
        else:
            op.signal(act)
        op.expect(state="sent" if act in ("send", "wait") else "cancelled")
    truck()


def truck() -> None:
    kit = Kit(Parcel)
    kit.stub("by_truck", OSError("flat tyre"), None, takes="8h")
    op, late = kit.start(), kit.start()
    op.signal("send")
    late.signal("send")
    kit.advance("8h")
    op.expect(state="packed")
    op.signal("send")
    kit.advance("59m")
    late.expect(state="packed")
    kit.advance("1m")
    late.expect(state="failed", visited=["packing", "packed", "by_truck", "packed", "failed"])
    op.expect(state="failed")
    kit.stub("by_truck", None)
    op = kit.start()
    op.signal("send")
    op.expect(state="sent")
    kit.stub("by_truck", hangs=True)
    op = kit.start()
    op.signal("send")
    kit.advance("9h")
    op.expect(state="failed")


def test_a_group_takes_a_waiting_state_away() -> None:
    class Slow(Machine[dict[str, Any]], version=1):
        resting = State(initial=True, on={"go": "over"})
        over = Final("succeeded")
        failed = Final("failed")
        both = Group("resting", timeout="1h")

    with collecting() as coverage:
        kit = Kit(Slow)
        kit.start()
        kit.advance("1h")
    assert counted(Slow, coverage) == {"resting -> failed (timeout)": 1}


def test_a_crash_is_no_way_and_what_a_person_overrides_is_none() -> None:
    with collecting() as coverage:
        kit = Kit(Parcel)
        kit.stub("packing", CRASHES, None)
        op = kit.start()
        kit.restart()
        op.override("by_truck")
    assert counted(Parcel, coverage) == {"packing -> packed (done)": 1, "by_truck -> sent (done)": 1}


def test_a_deadline_is_counted_and_never_missed() -> None:
    with collecting() as coverage:
        kit = Kit(Parcel)
        op = kit.start(deadline="1m")
        kit.advance("1m")
        op.expect(status="failed")
    assert counted(Parcel, coverage)["packed -> failed (deadline)"] == 1
    assert all(way.event != "deadline" for way in ways_of(Parcel))
    assert "!" not in draw(Parcel.definition, "text", edges=coverage.edges(Parcel), also=coverage.also(Parcel))


def test_what_a_journal_brought_along_is_not_what_the_test_did() -> None:
    before = Kit(Parcel).start()
    with collecting() as coverage:
        kit = Kit(Parcel)
        op = kit.resume(before)
        op.signal("drop")
    assert counted(Parcel, coverage) == {"packed -> cancelled (drop)": 1}


def test_every_way_of_the_scenarios_is_one_that_the_machine_has() -> None:
    """The interpreter takes no way that `ways_of` does not know; and of those that children and claims bring none is named amiss."""
    coverage, seen = Coverage(), set[str]()
    for path in SCENARIOS:
        _, _, scenario = played(path)
        for machine, decisions in scenario.decisions:
            seq, records = 0, []
            for at, facts in decisions:
                seq += len(facts)
                records.append(Record(seq, "op", seq, at, facts))
            coverage.add_journal(machine, records)
    for one in ALL:
        machine = one.definition
        strange = [way for way in coverage.counts(machine) if way not in ways_of(machine) and way.event != "deadline"]
        assert not strange, f"{machine.name}: {', '.join(map(str, strange))}"
        seen |= {f"{machine.name}: {way}" for way in coverage.counts(machine)}
    assert {
        "drain: moving -> drained (done)",
        "drain: moving -> drained (enough)",
        "drain: moving -> failed (timeout)",
        "drain: moving -> cancelled (cancel)",
        "evacuate: racing -> trying (failed)",
        "resize: stopping -> cancelled (cancel)",
        "resize: verifying -> reminding (after 24h)",
    } <= seen


# Collecting


def test_nothing_is_counted_but_while_it_is_collected() -> None:
    earlier = Kit(Parcel)
    op = earlier.start()
    with collecting() as coverage:
        op.signal("drop")
    assert counted(Parcel, coverage) == {"packed -> cancelled (drop)": 1}
    with collecting() as outer:
        kit = Kit(Parcel)
        with collecting() as inner:
            op = kit.start()
        op.signal("drop")
    op2 = kit.start()
    assert op2.state == "packed"
    assert counted(Parcel, inner) == {"packing -> packed (done)": 1}
    assert counted(Parcel, outer) == {"packing -> packed (done)": 1, "packed -> cancelled (drop)": 1}


def test_the_explorer_and_a_store_are_counted_too() -> None:
    from interlock.exploring.explore import explore
    from tests.racks import good

    with collecting() as coverage:
        explore(good, runs=20)
    (line,) = coverage.lines()
    assert "ways taken" in line and not line.split(": ")[1].startswith("0 ")

    kit = Kit(Parcel)
    kit.start().signal("drop")
    stored = Coverage()
    stored.add_store(kit._stage.store)
    assert counted(Parcel, stored) == {"packing -> packed (done)": 1, "packed -> cancelled (drop)": 1}


# Files and drawings


def test_a_file_is_read_as_it_was_written_and_added_up(tmp_path: Path) -> None:
    coverage = Coverage()
    coverage.add(Parcel, Way("packing", "packed", "done"), 3)
    coverage.save(tmp_path / "c.json")
    again = Coverage.load(tmp_path / "c.json")
    again.merge(Coverage.load(tmp_path / "c.json"))
    assert counted(Parcel, again) == {"packing -> packed (done)": 6}
    assert repr(again) == "<Coverage of parcel version 1>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read from .*: No such file"),
        ("hello", "is no coverage file: "),
        ("[]", "JSON of something else; pytest --interlock-coverage FILE"),
        ('{"interlock-coverage": 2}', "in format 2; this release reads 1"),
        ('{"interlock-coverage": 1, "machines": [{"machine": "a"}]}', "JSON of something else"),
        ('{"interlock-coverage": 1, "machines": [{"machine": "a", "version": 1, "ways": [3]}]}', "JSON of something"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "c.json").write_text(text)
    with pytest.raises(Refused, match=said):
        Coverage.load(tmp_path / "c.json")
    done = CliRunner().invoke(app, ["draw", "tests.machines:Migration", "--coverage", str(tmp_path / "c.json")])
    assert done.exit_code == 2


def test_a_machine_of_which_nothing_is_known_is_refused() -> None:
    class Other(Machine[dict[str, Any]], version=2, name="parcel"):
        here = State(initial=True, on={"go": "there"})
        there = Final("succeeded")

    class Parsel(Machine[dict[str, Any]], version=1):
        here = State(initial=True, on={"go": "there"})
        there = Final("succeeded")

    with pytest.raises(Refused, match="covers no machine at all"):
        Coverage().counts(Parcel)
    coverage = Coverage()
    coverage.know(Parcel)
    assert coverage.counts(Parcel) == {} and len(coverage.missing(Parcel)) == len(ways_of(Parcel))
    with pytest.raises(Refused, match="version 1 of it, not version 2"):
        coverage.missing(Other)
    with pytest.raises(Refused, match=r"covers parcel .did you mean `parcel`"):
        coverage.percent(Parsel)


def test_what_was_taken_is_painted_green_and_counted_and_the_rest_red_and_dashed() -> None:
    coverage = Coverage()
    coverage.add(Parcel, Way("packing", "packed", "done"), 1204)
    coverage.add(Parcel, Way("packed", "sent", "send"), 2)
    edges, also = coverage.edges(Parcel), coverage.also(Parcel)
    text = draw(Parcel.definition, "text", edges=edges, also=also)
    assert "  packing -> packed     1,204×\n" in text and "  packed -> sent        send 2×\n" in text
    assert "  packed -> sent        after 2h never\n" in text, "the same two states, and another way"
    assert "  packing -> failed     failed never, timeout never\n" in text and "!" not in text
    dot = draw(Parcel.definition, "dot", edges=edges, also=also)
    assert '"packing" -> "packed" [label="1,204×", style=solid, color="#1a7f37"' in dot
    assert '"packed" -> "sent" [label="after 2h never", style=dashed, color="#d1242f"' in dot
    svg = draw(Parcel.definition, "svg", edges=edges, also=also)
    assert svg.count("stroke:#1a7f37") == 2 and svg.count("stroke:#d1242f") == len(
        {(way.source, way.target) for way in coverage.missing(Parcel)}
    ) + len(["packing -> failed, by an event that rolls nothing back"])


def test_every_machine_is_painted_in_every_format() -> None:
    for machine in (*(one.definition for one in ALL), LiveMigration.definition):
        coverage = Coverage()
        coverage.know(machine)
        assert {way.event for way in coverage.also(machine)} <= {"failed", "timeout", "cancel"}
        for format in FORMATS:
            drawn = draw(machine, format, edges=coverage.edges(machine), also=implied_ways(machine))
            assert "never" in drawn and "not in the machine" not in drawn


def test_the_command_paints_and_says_what_is_missing(tmp_path: Path) -> None:
    file = str(tmp_path / "c.json")
    with collecting() as coverage:
        Kit(LiveMigration).start(**MOVE)
    coverage.save(file)
    target = "interlock.compute.live_migration:LiveMigration"
    said = CliRunner().invoke(app, ["draw", target, "--coverage", file, "--coverage", file])
    assert said.exit_code == 0 and "checking -> preparing   2×\n" in said.output
    ways = len(ways_of(LiveMigration))
    assert f"5 of {ways} ways taken" in said.output
    said = CliRunner().invoke(app, ["draw", target, "--coverage", file, "--json"])
    document = json.loads(said.output)["coverage"]
    assert document["taken"][0] == {"from": "checking", "to": "preparing", "event": "done", "times": 1}
    assert {"from": "copying", "to": "cancelled", "event": "abort"} in document["missing"]
    assert document["percent"] == round(500 / ways, 1) and len(document["missing"]) == ways - 5


# Under pytest

TESTS = """
from interlock.compute.live_migration import LiveMigration
from interlock.testing import Kit
import pytest

@pytest.mark.parametrize("answers", [{}, {"raises": OSError("no")}])
def test_it(answers):
    kit = Kit(LiveMigration)
    if answers:
        kit.stub("copying", **answers)
    kit.start(instance="vm-1", source="a", destination="b")
"""


def run_pytest(tmp_path: Path, file: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "interlock.exploring.pytest_plugin", "-q", "-c", "/dev/null"]
    command += [f"--interlock-coverage={file}", str(tmp_path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_pytest_writes_a_file(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, str(tmp_path / "c.json"))
    ways = len(ways_of(LiveMigration))
    assert done.returncode == 0 and f"live-migration, version 1: 6 of {ways} ways taken" in done.stdout, done.stdout
    coverage = Coverage.load(tmp_path / "c.json")
    assert coverage.counts(LiveMigration)[Way("checking", "preparing", "done")] == 2
    assert coverage.counts(LiveMigration)[Way("copying", "failed", "failed")] == 1
    done = run_pytest(tmp_path, str(tmp_path / "nowhere" / "c.json"))
    assert done.returncode == 4 and "there is no directory" in done.stderr
    assert msgspec.json.decode((tmp_path / "c.json").read_bytes())["interlock-coverage"] == 1
