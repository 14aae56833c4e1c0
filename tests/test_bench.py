"""The benchmark runs and counts; what it measures is not asserted here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.bench.engine import Flat, InFlight, Orphans, in_flight
from interlock.bench.guard import Figures, report
from interlock.bench.machines import some_data
from interlock.bench.moves import Drained, Moved
from interlock.bench.moves import main as bench_moves
from interlock.bench.moves import report as moves_report
from interlock.bench.peers import SUBJECTS
from interlock.bench.raw import RawLimit, raw_limit
from interlock.bench.report import Measured, as_text


def test_the_data_is_240_bytes() -> None:
    assert len(json.dumps(some_data(), separators=(",", ":"))) == 240


def test_an_operation_of_n_steps_costs_n_plus_one_commits(tmp_path: Path) -> None:
    assert in_flight(tmp_path, 4, 20).commits_per_operation == 6.0


def test_the_raw_limit_counts_what_it_commits(tmp_path: Path) -> None:
    limit = raw_limit(tmp_path, 10, 0.05)
    assert limit.transactions >= 1 and limit.per_second > 0
    assert not list(tmp_path.iterdir())


def test_the_table_says_what_was_missed() -> None:
    runs = [InFlight(50, 100, 4000.0, 0.01, 0.02, 90e-6, 6.0, 200, None, 650.0)]
    measured = Measured(
        "steady", [RawLimit(50, 30_000.0, 100)], runs, Flat({10: 1e-5, 1000: 2e-5}), Orphans(10_000, 0.4, 5.0)
    )
    text = as_text(measured)
    assert "MISSED  50 in flight: under 80 us of CPU a step" in text
    assert "met     50 in flight: at most 700 bytes a step" in text
    assert "MISSED  50 in flight: at least half of the raw grouped limit" in text
    assert "met     orphans: all finished within 6 s" in text
    assert "MISSED  one long operation" in text


@pytest.mark.slow
def test_the_whole_benchmark_in_small(tmp_path: Path) -> None:
    words = [
        "--directory",
        str(tmp_path),
        "--scale",
        "0.02",
        "--orphans",
        "200",
        "--turns",
        "2000",
        "--flush",
        "1ms",
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "interlock.bench", *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [run["concurrent"] for run in figures["in_flight"]] == [1, 50, 500]
    assert all(run["commits_per_operation"] == 6.0 for run in figures["in_flight"])
    assert 5.0 < figures["in_flight"][0]["flushes_per_operation"] < 8.0
    assert 0 < figures["orphans"]["first"] <= figures["orphans"]["all"]
    assert not list(tmp_path.iterdir())


@pytest.mark.qemu
@pytest.mark.slow
def test_moves_of_real_guests_and_a_drain_of_twenty(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "interlock.bench", "moves", "--moves", "1", "--directory", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [one["commits"] for one in figures["moves"]] == [6, 6]
    for one in figures["moves"]:
        assert 0 < one["in_verbs"] < one["wall"] and one["bare"] > 0
        assert one["share"] == (one["wall"] - one["in_verbs"]) / one["wall"]
    assert figures["moves"][0]["in_verbs"] > 3.5, "64 MiB at 16 MiB/s"
    drain = figures["drain"]
    assert drain["guests"] == drain["elsewhere"] == drain["unbroken"] == 20 and drain["hosts"] == 3
    assert not list(tmp_path.iterdir())


def test_the_table_of_moves_says_what_was_missed() -> None:
    run = Moved("a guest", 3, wall=4.0, in_verbs=3.9, bare=3.8, cpu=0.1, bare_cpu=0.05, commits=6)
    text = moves_report([run], Drained(20, 3, 9.0, 20, 19))
    assert "MISSED  less than 2% of the wall time is the engine's own: 2.50%" in text
    assert (
        "MISSED  a drain of 20 guests over 3 hosts completes: 9.0 s, 20 run exactly once elsewhere, 19 without" in text
    )
    assert "MISSED" not in moves_report([replace(run, in_verbs=3.99)], Drained(20, 3, 9.0, 20, 20))


def test_moves_without_qemu_say_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert bench_moves([]) == 2 and "install qemu-system-x86 and qemu-utils" in capsys.readouterr().err


@pytest.mark.slow
def test_the_guard_stands_next_to_its_floor_and_all_its_peers() -> None:
    command = [sys.executable, "-m", "interlock.bench", "guard", "--seconds", "0.02", "--rounds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["missing"] == {}
    found = {one["subject"]: one for one in figures["subjects"]}
    assert [*found] == [*SUBJECTS]
    assert all(one["moves_per_second"] > 1_000 for one in found.values())
    assert found["interlock Guard"]["third_party"] == [] and found["automaton"]["third_party"] != []
    assert found["interlock Guard"]["bytes_per_object"] < 200 < found["transitions"]["bytes_per_object"]


def test_the_guards_table_says_what_was_missed() -> None:
    best = {
        "floor": Figures("floor", 10e6, -40.0, 0.0, ()),
        "interlock Guard": Figures("interlock Guard", 3e6, 300.0, 60.0, ()),
        "transitions": Figures("transitions", 1e6, 6_000.0, 30.0, ("six",)),
    }
    text = report(best, {"automaton": "ModuleNotFoundError: no automaton"})
    assert "met     at least 2,000,000" in text and "MISSED  20 times as fast as transitions" in text
    assert "MISSED  at most 200 bytes" in text and "MISSED  the standard library alone" in text
    assert "automaton              not measured: ModuleNotFoundError" in text and "reaches 30% of it" in text
