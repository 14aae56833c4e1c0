"""The command `check`: text, JSON and SARIF; what is accepted; exit statuses; what cannot be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from interlock.cli.app import app
from tests.test_check import GOLDEN

Run = Callable[..., Result]
GOOD, BAD, WARNED = (
    str(GOLDEN / name) for name in ("dead-timer.good.yaml", "dead-timer.bad.yaml", "no-timeout.bad.yaml")
)
ACCEPTED = str(GOLDEN / "accepts-nothing.good.yaml")
LIVE = "interlock.compute.live_migration:LiveMigration"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield lambda *words: CliRunner().invoke(app, ["check", *words])


def test_the_text(run: Run) -> None:
    good = run(GOOD)
    assert good.exit_code == 0 and "nothing found in sample version 1: 5 states; explored all there is" in good.output
    bad = run(GOOD, BAD)
    assert bad.exit_code == 1 and f"{BAD}: 3 errors in sample version 1" in bad.output
    assert (
        "  b: has `within` 3h, which never fires: the 2h of group `g` are over before. [error dead-timer]\n"
        in bad.output
    )
    assert "How it gets there: an operation starts in `a`; 24h have passed in `a`.\n" in bad.output
    assert "Make it shorter than the group's timeout.\n" in bad.output


def test_warnings_fail_only_when_asked_to(run: Run) -> None:
    assert run(WARNED).exit_code == 0 and "1 warning in sample" in run(WARNED).output
    assert run(WARNED, "--strict").exit_code == 1
    accepted = run(ACCEPTED, LIVE, "--strict")
    assert accepted.exit_code == 0 and "nothing found (1 accepted)" in accepted.output
    assert "accepted: no-timeout:a (it is ended by hand)" in accepted.output


def test_json(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("machine: odd\nstates: 3\n")
    (tmp_path / "dead.yaml").write_text("machine: dead\nstates: {a: {initial: true}, b: {final: failed}}\n")
    result = run(ACCEPTED, BAD, "odd.yaml", "dead.yaml", "--json")
    assert result.exit_code == 1
    said = json.loads(result.output)
    assert [(one["target"], one["code"], one["state"]) for one in said["found"]] == [
        (BAD, "dead-timer", "a"),
        (BAD, "dead-timer", "b"),
        (BAD, "dead-timer", "g"),
        ("odd.yaml", "illegal-document", ""),
        ("dead.yaml", "dead-end", "a"),
    ]
    assert said["found"][1]["story"] == ["an operation starts in `a`", "24h have passed in `a`"]
    assert set(said["found"][3]) == set(said["found"][0]) and said["found"][4]["severity"] == "error"
    assert said["accepted"][0]["accepted"] == "it is ended by hand"
    assert [(one["target"], one["errors"], one["complete"]) for one in said["checked"]] == [
        (ACCEPTED, 0, True),
        (BAD, 3, True),
    ]


def test_machines_are_checked_beside_each_other(run: Run) -> None:
    one, other = (str(GOLDEN / f"claim-overlap.{kind}.yaml") for kind in ("bad", "beside"))
    assert run(one).exit_code == run(other).exit_code == 0
    assert "[error claim-overlap]" in run(one, other).output


def test_a_budget_that_runs_out_is_said(run: Run) -> None:
    result = run(LIVE, "--budget", "30")
    assert result.exit_code == 0 and "the budget ran out after" in result.output
    assert "nothing is proved about the rest" in result.output and "explored all" not in result.output
    assert json.loads(run(LIVE, "--budget", "30", "--json").output)["checked"][0]["complete"] is False
    assert run(LIVE, "--budget", "0").exit_code == 2


def test_many_findings_of_one_code_are_counted(run: Run, tmp_path: Path) -> None:
    states: dict[str, Any] = {f"s{n}": {"initial": True, "undo": "nothing", "then": "end"} for n in range(30)}
    ends = {"end": {"final": "succeeded"}, "failed": {"final": "failed"}, "cancelled": {"final": "cancelled"}}
    (tmp_path / "many.json").write_text(json.dumps({"machine": "many", "states": states | ends}))
    said = run("many.json").output
    assert said.count("[warning no-timeout]") == 20 and "and 10 more of [no-timeout]: --json lists them all" in said


def test_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(50 << 20)
    for words, says in (
        (["huge.yaml"], "larger than 1,048,576 bytes, the limit of a document"),
        (["nothing.yaml"], "cannot read `nothing.yaml`"),
        ([GOOD, "--json", "--sarif", "-"], "both want standard output"),
        ([GOOD, "--sarif", "/nonexistent/x.sarif"], "cannot write"),
    ):
        result = run(*words)
        assert result.exit_code == 2 and says in result.output, result.output


# SARIF


def test_sarif(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dead.yaml").write_text("machine: dead\nstates:\n  b: {final: failed}\n  a: {initial: true}\n")
    result = run(BAD, ACCEPTED, LIVE, "dead.yaml", "--sarif", "-")
    assert result.exit_code == 1
    log = json.loads(result.output)
    valid(log)
    results = log["runs"][0]["results"]
    assert [one["ruleId"] for one in results] == [
        *["dead-timer"] * 3,
        "no-timeout",
        *["stuck-after-pivot"] * 2,
        "dead-end",
    ]
    assert [one["level"] for one in results] == [*["error"] * 3, *["warning"] * 3, "error"]
    steps = results[1]["codeFlows"][0]["threadFlows"][0]["locations"]
    assert steps[-1]["location"]["message"]["text"] == "24h have passed in `a`"
    assert [("suppressions" in one) for one in results] == [False, False, False, True, True, True, False]
    regions = [one["locations"][0]["physicalLocation"]["region"]["startLine"] for one in results]
    assert regions[:4] == [3, 4, 9, 3] and regions[6] == 4
    live = results[4]["locations"][0]["physicalLocation"]
    assert live["artifactLocation"]["uri"].endswith("compute/live_migration.py") and live["region"]["startLine"] > 50
    wrote = run(BAD, "--sarif", "found.sarif")
    assert (
        "3 errors" in wrote.output
        and len(json.loads((tmp_path / "found.sarif").read_text())["runs"][0]["results"]) == 3
    )


KEYS = {
    "log": {"$schema", "version", "runs"},
    "run": {"tool", "results"},
    "driver": {"name", "semanticVersion", "rules"},
    "rule": {"id", "shortDescription", "defaultConfiguration"},
    "result": {
        "ruleId",
        "ruleIndex",
        "level",
        "message",
        "locations",
        "partialFingerprints",
        "codeFlows",
        "suppressions",
    },
    "location": {"physicalLocation", "logicalLocations", "message"},
}
"""The properties that SARIF 2.1.0 has for these objects, of those that are used here; nothing else may stand in them."""


def valid(log: dict[str, Any]) -> None:
    """Fail unless a log has the shape that the SARIF 2.1.0 schema asks for."""
    assert set(log) <= KEYS["log"] and log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    for one in log["runs"]:
        assert set(one) <= KEYS["run"] and set(one["tool"]) == {"driver"}
        driver = one["tool"]["driver"]
        assert set(driver) <= KEYS["driver"] and driver["name"]
        for rule in driver["rules"]:
            assert set(rule) <= KEYS["rule"] and rule["shortDescription"]["text"].endswith(".")
            assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note", "none")
        for result in one["results"]:
            assert set(result) <= KEYS["result"] and result["level"] in ("error", "warning")
            assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
            assert isinstance(result["message"]["text"], str) and result["message"]["text"]
            assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
            flows = [flow for code in result.get("codeFlows", ()) for flow in code["threadFlows"]]
            steps = [step["location"] for flow in flows for step in flow["locations"]]
            assert all(step["message"]["text"] for step in steps)
            for place in [*result["locations"], *steps]:
                located(place)
            assert all(one["kind"] in ("inSource", "external") for one in result.get("suppressions", ()))


def located(place: dict[str, Any]) -> None:
    assert set(place) <= KEYS["location"]
    physical = place["physicalLocation"]
    assert set(physical) == {"artifactLocation", "region"} and physical["artifactLocation"]["uri"]
    assert physical["region"]["startLine"] >= 1
    assert all(set(one) <= {"name", "fullyQualifiedName"} for one in place["logicalLocations"])
