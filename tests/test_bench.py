"""The benchmark runs and counts; what it measures is not asserted here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.bench.engine import Flat, InFlight, Orphans, in_flight
from interlock.bench.guard import Figures, report
from interlock.bench.machines import some_data
from interlock.bench.moves import SMALL, Drained, Migrations, migrations
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


@pytest.mark.qemu
@pytest.mark.slow
async def test_what_the_engine_adds_to_a_migration_and_its_verbs_are_the_whole_of_it(tmp_path: Path) -> None:
    found = await migrations(tmp_path, SMALL, None, 2, by_agents=False)
    assert found.wall == pytest.approx(found.verbs + found.own) and 0 < found.own < found.wall
    assert found.commits == 6.0, "its start, and one for each step"
    assert found.bare > 0 < found.cpu and found.by_agents is None and found.faults == ()


@pytest.mark.qemu
@pytest.mark.slow
def test_a_migration_is_measured_three_ways_and_a_host_is_drained_of_twenty_guests(tmp_path: Path) -> None:
    words = ["--directory", str(tmp_path), "--moves", "1", "--filled-mib", "8", "--mib-per-second", "8", "--json"]
    command = [sys.executable, "-m", "interlock.cli", "bench", "moves", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    for one in figures["migrations"]:
        assert one["wall"] == pytest.approx(one["verbs"] + one["own"])
        assert one["share"] == pytest.approx(one["own"] / one["wall"])
        assert one["commits"] == 6.0 and one["faults"] == [] and one["by_agents"] > 0
    assert figures["migrations"][0]["bare"] > 0.9, "so long a MiB takes, at that rate, times eight"
    drain = figures["drain"]
    assert drain["status"] == "succeeded"
    assert [drain[name] for name in ("guests", "booted", "moved", "elsewhere", "alive")] == [20] * 5
    assert drain["moves_per_second"] == pytest.approx(20 / drain["seconds"])
    assert not list(tmp_path.iterdir())


def test_the_table_of_moves_says_what_was_missed() -> None:
    slow = Migrations(64, 16 << 20, 10, 4.2, 4.0, 0.2, 6.0, 0.1, 4.1, 0.05, 4.5, ())
    lost = Migrations(8, None, 10, 0.2, 0.1, 0.1, 6.0, 0.1, 0.1, 0.05, None, ("3 lines are missing",))
    text = moves_report([slow, lost], Drained(20, 20, "succeeded", 3.0, 5.0, 20, 19, 20))
    assert "MISSED  a migration of 4.2 s: the engine's own share is under 2%" in text and "0.2 s" not in text
    assert "MISSED  and two agents take less than 2% longer than the script" in text
    quick = moves_report([replace(slow, by_agents=4.15)], None)
    assert "met     and two agents take less than 2% longer than the script" in quick
    assert "met     64 MiB: the guest lived one life" in text and "MISSED  8 MiB: the guest lived one life" in text
    assert "the guest's life: 3 lines are missing" in text
    assert "MISSED  the drain moves all 20" in text and "4.0 moves a second" in text
    assert "met     the drain moves all 20" in moves_report([], Drained(20, 20, "succeeded", 3.0, 5.0, 20, 20, 20))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "QEMU is missing (qemu-system-x86_64, qemu-img)"),
        (("--moves", "-1"), "-1 is no number"),
        (("--filled-mib", "5000"), "filled_mib is 5000, must be between 1 and"),
        (("--mib-per-second", "0"), "nothing would ever move"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    path = {"PATH": str(tmp_path)} if not words else {}
    command = [sys.executable, "-m", "interlock.bench", "moves", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **path}, timeout=60)
    assert done.returncode == 2 and says in done.stderr and done.stdout == ""
