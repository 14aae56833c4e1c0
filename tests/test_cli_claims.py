"""What of claims, delayed starts and owned resources is seen and asked on the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from interlock import Actions, Interlock, Operation
from interlock.cli.app import app
from tests.test_between import Bind, Guest, binder

MOVE = ["tests.test_between:Move", "guest=web-1"]
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("INTERLOCK_STORE", f"sqlite:///{tmp_path}/ops.db")

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    yield invoke


def said(result: Result, status: int = 0) -> str:
    assert result.exit_code == status, f"{result.exit_code}: {result.output} {result.exception!r}"
    return result.output


def test_a_taken_claim_is_refused_and_waited_for_and_explained(run: Run) -> None:
    first = said(run("start", *MOVE)).strip()
    assert f"is held by `{first}`" in said(run("start", *MOVE), 2)
    refused = json.loads(said(run("start", *MOVE, "--json"), 2))
    assert refused["code"] == "claim-taken" and refused["holders"] == [first]
    waiting = said(run("start", *MOVE, "--on-conflict", "wait")).strip()
    assert f"claim `guest:web-1`: it is held by `{first}`; it is the next" in said(run("why", waiting))
    assert "reject, wait, preempt" in said(run("start", *MOVE, "--on-conflict", "shove"), 2).replace("'", "")
    said(run("cancel", first))
    assert "its claims, which a worker is about to take" in said(run("why", waiting))


def test_a_plan_changes_nothing_and_says_what_would_be_refused(run: Run, tmp_path: Path) -> None:
    assert "there is no store" in said(run("plan", *MOVE), 2) and not (tmp_path / "ops.db").exists()
    text = said(run("plan", *MOVE, "--store", "memory:"))
    assert (
        "claim guest:web-1: free" in text
        and "claim leaving:a, for 2 at a time: free" in text
        and "moving (acting" in text
    )
    first = said(run("start", *MOVE)).strip()
    text = said(run("plan", "move", "guest=web-1"), 1)
    assert f"taken by {first}: reject" in text and "refused: " in text
    found = json.loads(said(run("plan", *MOVE, "--on-conflict", "wait", "--json")))
    assert found["refused"] == "" and found["claims"][0]["others"] == [first]
    assert len(json.loads(said(run("list", "--json")))["operations"]) == 1
    assert "its data has no `guest`" in said(run("plan", MOVE[0], "guest="), 1)


def test_a_start_begins_later(run: Run) -> None:
    for when in (["--delay", "30m"], ["--at", "2100-01-31T02:00+01:00"], ["--at", "2100-01-31T02:00"]):
        one = said(run("start", *MOVE, *when)).strip()
        assert "it begins at" in said(run("why", one))
    for wrong in (["--delay", "soon"], ["--at", "tomorrow"], ["--at", "2100-01-31T02:00Z", "--delay", "1m"]):
        assert run("start", *MOVE, *wrong).exit_code == 2
    assert len(json.loads(said(run("list", "--json")))["operations"]) == 3


def test_what_is_owned_is_listed(run: Run, tmp_path: Path) -> None:
    assert "there is no store" in said(run("owned"), 2)

    async def bind(op: Operation[Guest]) -> None:
        await op.owns("port", f"p-{op.data.guest}")

    async def leave_two() -> list[str]:
        actions: Actions[Guest] = binder(bind)
        async with Interlock(f"sqlite:///{tmp_path}/ops.db", [actions]) as interlock:
            ops = [await interlock.start(Bind, guest=f"web-{number}") for number in range(2)]
            for op in ops:
                assert (await op.finished(10)).status == "stuck"
            return sorted(op.id for op in ops)

    ids = asyncio.run(leave_two())
    text = said(run("owned"))
    assert all(f"{id}  bind stuck in bound" in text for id in ids) and "port p-web-0" in text
    assert [one["id"] for one in json.loads(said(run("owned", "--json")))["operations"]] == ids
    page = said(run("owned", "--limit", "1"))
    assert page.splitlines()[-1] == f"more: --after {ids[0]}" and ids[1] in said(run("owned", "--after", ids[0]))
    for id in ids:
        said(run("skip", id, "--reason", "unbound by hand"))
    assert said(run("owned")) == "no operation owns anything\n"
