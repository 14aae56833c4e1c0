"""The worked example, run as its page tells it: every command in order, every line of output, every line of the diffs."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.history.mine import mine
from interlock.history.reading import History
from interlock.history.tally import tally

HERE = Path(__file__).parent.parent / "examples" / "ladder"
PAGE = (HERE / "README.md").read_text()


@pytest.mark.slow
def test_the_page_is_what_happens(tmp_path: Path) -> None:
    place = Path(shutil.copytree(HERE, tmp_path / "ladder"))
    bin = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    check = doctest.OutputChecker()
    ran = 0
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.S):
        for command, says in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            done = subprocess.run(
                command,
                shell=True,
                cwd=place,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            assert check.check_output(says, done.stdout, doctest.ELLIPSIS), f"{command}\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran >= 7
    assert (place / "data" / "volume-left.mounted").read_text() == "200", "the one that was left half-way is finished"
    assert (place / "data" / "volume-22").stat().st_size == 100, "what failed is as it was"


def test_what_is_mined_is_what_the_example_goes_on_with_but_for_the_forgotten_way(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, HERE / "service_0_before.py", tmp_path], check=True, capture_output=True, timeout=120
    )
    query = "SELECT resize AS record, status, at FROM history ORDER BY id"
    with History(f"sqlite:///{tmp_path}/service.db", query) as history:
        mined = mine(tally(history, history.shape)).machine
    resizing = runpy.run_path(str(HERE / "machine.py"))["Resizing"].definition
    stored = {row.status: name for name, row in resizing.table.items()}
    moves = {
        (mined.table[before].status, mined.table[after].status)
        for before in mined.moves
        for after in mined.moves[before]
    }
    assert {row.status for row in mined.table.values()} == set(stored) - {"cancelled"}, "nobody ever cancelled one"
    assert {mined.table[name].status for name in mined.initial} == {"requested"} == set(resizing.initial)
    refused = {(before, after) for before, after in moves if not resizing.allows(stored[before], stored[after])}
    assert refused == {("error", "requested")}, "the way that nobody remembers"
    declared = {
        (row.status, resizing.table[to.to].status) for row in resizing.table.values() for _, to in row.targets()
    }
    assert declared <= moves, "and every way that is driven later was seen"


def test_the_diffs_are_those_of_the_files() -> None:
    steps = sorted(HERE.glob("service_*.py"))
    diffs = re.findall(r"```diff\n(.*?)```", PAGE, re.S)
    assert len(diffs) == len(steps) - 1
    for before, after, diff in zip(steps, steps[1:], diffs, strict=False):
        old, new = before.read_text().splitlines(), after.read_text().splitlines()
        for line in diff.splitlines():
            here, there = (new, old) if line[0] == "+" else (old, new)
            assert line[1:] in here and line[1:] not in there, f"{after.name}: {line}"
