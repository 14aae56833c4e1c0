"""`interlock mine` and `interlock conform`, as people and programs use them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from interlock.cli.app import app
from interlock.definition.document import load
from tests.test_nova import NAMES, TABLES

MOVES = """record,from,to,at
m1,,queued,2026-01-01T00:00:00Z
m1,queued,running,2026-01-01T00:01:00Z
m1,running,post-copy,2026-01-01T00:02:00Z
m1,post-copy,completed,2026-01-01T00:03:00Z
m2,,queued,2026-01-02T00:00:00Z
m2,queued,error,2026-01-02T00:00:01Z
"""
PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "mine-a-history.md"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moves.csv").write_text(MOVES)

    def invoke(*words: str, input: str | None = None) -> Result:
        return CliRunner().invoke(app, list(words), input=input)

    return invoke


def said(result: Result, status: int = 0) -> str:
    assert result.exit_code == status, f"{result.exit_code}: {result.output} {result.exception!r}"
    return result.stdout


def test_what_is_mined_is_a_document_that_loads_and_conforms(run: Run, tmp_path: Path) -> None:
    text = said(run("mine", "moves.csv"))
    assert "queued -> running" in text and "how long records stayed" in text and "2026-01-01T00:01:00Z" in text
    said(run("mine", "moves.csv", "-o", "migration.yaml", "--name", "migration"))
    machine = load(str(tmp_path / "migration.yaml"))
    assert machine.name == "migration" and machine.table["post_copy"].status == "post-copy"
    assert "6 moves are allowed" in said(run("conform", "migration.yaml", "moves.csv"))


def test_python_is_mined_as_well(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(run("mine", "moves.csv", "-o", "mined_moves.py"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "class Moves(Machine" in (tmp_path / "mined_moves.py").read_text()
    said(run("conform", "mined_moves:Moves", "moves.csv"))


def test_standard_input_and_json(run: Run) -> None:
    found = json.loads(said(run("mine", "-", "--json", input=MOVES)))
    assert {(one["from"], one["to"]) for one in found["moves"]} >= {("queued", "running"), ("queued", "error")}
    assert found["machine"]["states"]["queued"]["initial"] is True


def test_violations_are_told_drawn_and_the_status_is_one(run: Run, tmp_path: Path) -> None:
    said(run("mine", "moves.csv", "-o", "m.yaml"))
    (tmp_path / "more.csv").write_text(
        MOVES + "m1,completed,running,2026-01-03T00:00:00Z\nm3,,lost,2026-01-03T00:00:00Z\n"
    )
    text = said(run("conform", "m.yaml", "more.csv", "--draw", "m.svg"), 1)
    assert "completed -> running" in text and "lost" in text and "<svg" in (tmp_path / "m.svg").read_text()
    found = json.loads(said(run("conform", "m.yaml", "more.csv", "--json"), 1))
    assert [(one["from"], one["to"], one["count"]) for one in found["not_allowed"]] == [("completed", "running", 1)]


def test_a_table_of_novas_migrations_is_held_against_the_machine_of_each_type(run: Run, tmp_path: Path) -> None:
    rows = [
        {"record": f"{name} {number} {to}", "from": None if was == "-" else was, "to": to, "migration_type": name}
        for name in NAMES
        for number, moves in enumerate(TABLES[name].values())
        for was, to in moves
    ]
    odd = {"record": "odd", "from": "completed", "to": "running", "migration_type": "live_migration"}
    (tmp_path / "migrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, odd]))
    for name in NAMES:
        said(run("conform", f"interlock.compute.nova:{name}", "migrations.jsonl", "--only", f"migration_type={name}"))
        found = run(
            "conform", f"interlock.compute.nova:{name}", "odd.jsonl", "--only", f"migration_type={name}", "--json"
        )
        assert [one["example"] for one in json.loads(found.stdout)["not_allowed"]] == ["odd"] * (
            name == "live_migration"
        )
    mixed = json.loads(said(run("conform", "interlock.compute.nova:evacuation", "migrations.jsonl", "--json"), 1))
    assert mixed["unknown"] and mixed["not_allowed"], "they are different machines"


def test_what_was_read_and_what_may_be_wrong_with_it_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("id,status,volume,from,to\n1,x,v,a,b\n2,x,v,b,c\n")
    result = run("mine", "two.csv")
    assert "Read as moves: record `id`, from `from`, to `to`." in said(result)
    assert "say --value status" in result.stderr and "does `id` name the line?" in result.stderr
    assert "does `" not in run("mine", "two.csv", "--record", "volume").stderr


def test_the_how_to_page_shows_what_is_said(run: Run, tmp_path: Path) -> None:
    blocks = re.findall(r"```(text|console)(?: file=(\S+))?\n(.*?)```", PAGE.read_text(), re.S)
    output = ""
    for kind, file, text in blocks:
        if file:
            (tmp_path / file).write_text(text)
        elif kind == "console":
            words = text.splitlines()[0].removeprefix("$ interlock ").split()
            result = run(*words)
            assert result.exit_code == ("# exit 1" in text), result.output
            output += result.stdout + (tmp_path / "migration.yaml").read_text()
    shown = [line for kind, file, text in blocks if kind == "text" and not file for line in text.splitlines()]
    assert len(shown) > 15 and set(shown) <= set(output.splitlines())


def test_a_history_of_nothing_conforms_to_nothing(run: Run, tmp_path: Path) -> None:
    said(run("mine", "moves.csv", "-o", "m.yaml"))
    (tmp_path / "head.csv").write_text("record,from,to,at\n")
    (tmp_path / "torn.csv").write_text("record,from,to,at\nm4,queued\n")
    for words in (["mine"], ["conform", "m.yaml"]):
        assert "no good line" in run(*words, "head.csv").stderr and run(*words, "head.csv").exit_code == 2
        assert "the first is line 2: it has 2 columns" in run(*words, "torn.csv").stderr
        assert "6 lines are left out by --only" in run(*words, "moves.csv", "--only", "to=x").stderr


def test_bad_lines_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "torn.csv").write_text(MOVES + "m4,queued\n")
    result = run("mine", "torn.csv")
    assert "1 bad line was left out" in result.stderr and "line 8" in result.stderr and result.exit_code == 0
    assert "line 8" in run("mine", "torn.csv", "--strict").stderr and run("mine", "torn.csv", "--strict").exit_code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mine", "none.csv"], "cannot read `none.csv`"),
        (["mine", "moves.csv", "--record", "recrd"], "did you mean `record`"),
        (["mine", "moves.csv", "--only", "kind"], "write COLUMN=VALUE"),
        (["mine", "sqlite:///none.db", "--query", "SELECT 1"], "there is no database"),
        (["conform", "nothing.yaml", "moves.csv"], "nothing.yaml"),
        (["conform", "interlock.compute.nova:live_migration", "moves.csv", "--format", "svg"], "--draw"),
        (["mine", "moves.csv", "-o", "no/such/place.yaml"], "no/such"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_mend(run: Run, words: list[str], says: str) -> None:
    result = run(*words)
    assert result.exit_code == 2 and says in result.stderr
