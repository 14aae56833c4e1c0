"""The pytest plugin: the fixture fails a test with the story, and the marker gives its budget."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = "interlock.exploring.pytest_plugin"
ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import pytest
from tests.racks import forgetful, good

@pytest.mark.explore(runs=12, depth=1)
def test_good(explore):
    report = explore(good)
    assert report.runs == 12 and report.depth == 1
    assert explore(good, runs=3).runs == 3

@pytest.mark.explore(runs=300)
def test_forgetful(explore):
    explore(forgetful)

def test_odd(explore):
    explore(good, rnus=3)

@pytest.mark.explore(3)
def test_odd_marker(explore):
    explore(good)

@pytest.mark.explore(runs=3)
def test_odd_scenario(explore):
    from tests.racks import scenario
    explore(scenario(invariants=[lambda rack: 1 / 0]))
"""


def test_the_fixture_and_the_marker(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-q", "--strict-markers", "-c", "/dev/null", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout
    assert "3 failed, 1 passed, 1 error" in said, said + done.stderr
    assert "nothing_left: disk left behind" in said and "is sent" in said and "from test_it import forgetful" in said
    assert "no option `rnus` (did you mean `runs`?)" in said and "takes names" in said
    assert "it cannot be explored: invariant" in said


def test_loading_it_loads_nothing_of_the_runtime() -> None:
    code = f"import sys, {PLUGIN}; print('interlock.runtime' in str(sorted(sys.modules)), 'msgspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_it_is_named_where_pytest_looks() -> None:
    import tomllib

    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert document["project"]["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
    assert pytest.importorskip(PLUGIN)
