"""The worked example, run as its page tells it: every command in order, every line of output, every line of the diffs."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_diffs_are_those_of_the_files() -> None:
    steps = sorted(HERE.glob("service_*.py"))
    diffs = re.findall(r"```diff\n(.*?)```", PAGE, re.S)
    assert len(diffs) == len(steps) - 1
    for before, after, diff in zip(steps, steps[1:], diffs, strict=False):
        old, new = before.read_text().splitlines(), after.read_text().splitlines()
        for line in diff.splitlines():
            here, there = (new, old) if line[0] == "+" else (old, new)
            assert line[1:] in here and line[1:] not in there, f"{after.name}: {line}"
