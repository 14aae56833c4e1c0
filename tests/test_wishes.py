"""`docs/wishes.md` names what shows each wish; it must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from interlock.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "wishes.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]
OPEN = {"19", "24", "26"}


def test_all_28_are_answered_and_what_is_open_says_so() -> None:
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, 29)]
    assert all(len(row) == 4 for row in ROWS)
    assert {row[0] for row in ROWS if "open" in " ".join(row[2:]).split()} == OPEN
    assert "25 are whole; 19, 24 and 26 are open in part" in PAGE


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_shows_a_wish_is_there(row: list[str]) -> None:
    shown = re.findall(r"`([^`]+)`|\]\(([^)]+)\)", f"{row[2]} | {row[3]}")
    assert shown or row[0] in OPEN, "somebody must be able to see it"
    for code, link in shown:
        if link:
            assert (ROOT / "docs" / link).exists(), link
        elif code.startswith("interlock "):
            words = [word for word in code.split()[1:] if re.fullmatch(r"[a-z]+|--[a-z-]+", word)]
            command = [word for word in words if not word.startswith("-")][:1]
            said = CliRunner().invoke(app, [*command, "--help"])
            assert said.exit_code == 0, code
            for option in (word for word in words if word.startswith("-")):
                assert option in said.output, f"`{code}`: {command[0]} has no {option}"
        elif code.startswith(("tests/", "examples/")):
            assert (ROOT / code).exists(), code
        elif code.startswith("make "):
            assert f"\n{code.split()[1]}:" in (ROOT / "Makefile").read_text(), code
