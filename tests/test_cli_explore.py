"""`interlock explore`: exit statuses, JSON, replay, and what it says to those who write something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from interlock.cli.app import app


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["explore", *words])


def test_nothing_found_is_0_and_says_what_was_covered() -> None:
    result = run("tests.racks:good", "--runs", "20")
    assert result.exit_code == 0 and "20 runs" in result.output and "no proof" in result.output


def test_found_is_1_with_story_seed_and_test_and_the_seed_replays() -> None:
    result = run("tests.racks:forgetful", "--budget", "20s", "--json")
    assert result.exit_code == 1, result.output
    document = json.loads(result.output)
    finding = document["found"]
    assert finding["seed"] in finding["test"] and document["single_mishaps"]["of"] > 20
    again = run("tests.racks:forgetful", "--seed", finding["seed"])
    assert again.exit_code == 1 and finding["story"] in again.output
    as_document = run("tests.racks:forgetful", "--seed", finding["seed"], "--json")
    assert json.loads(as_document.output)["found"] == finding


def test_a_run_that_holds_can_be_told() -> None:
    result = run("tests.racks:good", "--seed", "crash@booting.2", "--story")
    assert result.exit_code == 0 and "is killed (kill -9)" in result.output and "nothing found" in result.output
    assert run("tests.racks:good", "--seed", "calm", "--story", "--json").exit_code == 0


def test_a_number_as_seed_begins_the_dice_there() -> None:
    one, other = (run("tests.racks:good", "--depth", "0", "--runs", "15", "--seed", seed, "--json") for seed in "79")
    assert json.loads(one.output)["mishaps"] != json.loads(other.output)["mishaps"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tests.racks"], "module:name"),
        (["tests.racks:gold"], "did you mean `good`"),
        (["tests.racks:Deploy"], "not an Exploration"),
        (["tests.no_such_module:x"], "cannot be imported"),
        (["tests.racks:good", "--budget", "soon"], "is no time"),
        (["tests.racks:good", "--depth", "3"], "0<=x<=2"),
        (["tests.racks:good", "--seed", "crash@x"], "is no mishap"),
        (["tests.racks:good", "--story"], "name it with --seed"),
    ],
)
def test_what_cannot_be_explored_is_2(words: list[str], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 2 and said in result.output, result.output


def test_an_invariant_that_raises_is_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_scenario.py").write_text(
        "from tests.racks import scenario\n"
        "def odd(rack): return 1 / 0\n"
        "exploration = scenario(invariants=[odd])\n"
        "print('loaded')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result = run("odd_scenario:exploration", "--runs", "2", "--json")
    assert result.exit_code == 2 and "bad-invariant" in result.output and "return 1 / 0" in result.output
