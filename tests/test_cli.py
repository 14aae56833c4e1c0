"""The command line, as people and programs use it: the real program, in processes of its own where it matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from interlock.cli.app import COMMANDS, app

SERVICE = '''
import asyncio
from dataclasses import dataclass
from interlock import Actions, Final, Machine, Operation, Retry, Rollback, State


@dataclass
class Trip:
    name: str
    size: int = 1
    note: str | None = None


class Journey(Machine[Trip], version=1):
    """Pack, wait for a word, go."""

    packing = State(initial=True, undo=True, then="waiting")
    waiting = State(on={"go": "leaving", "stay": Rollback("cancelled")}, after={"1h": "leaving"})
    leaving = State(pivot=True, then="there")
    there = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


journey = Actions(Journey)


@journey.perform("packing")
async def pack(op: Operation[Trip]) -> None:
    if op.data.name == "slow":
        await asyncio.sleep(3600)


@journey.undo("packing")
async def unpack(op: Operation[Trip]) -> None: ...


@journey.perform("leaving")
async def leave(op: Operation[Trip]) -> None:
    if op.data.name == "ill":
        raise OSError("no strength")


unbound = Actions(Journey)


class Hop(Machine[Trip], version=1):
    jumping = State(initial=True, undo="nothing", then="over")
    over = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


hop = Actions(Hop)
hop.perform("jumping")(leave)
'''
BAD = "machine: bad\nstates:\n  a: {initial: true, then: bb}\n  b: {final: succeeded}\n"

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "bad.yaml").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("INTERLOCK_STORE", f"sqlite:///{tmp_path}/ops.db")
    monkeypatch.delitem(sys.modules, "service", raising=False)

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    yield invoke
    sys.modules.pop("service", None)


def said(result: Result, status: int = 0) -> str:
    assert result.exit_code == status, f"{result.exit_code}: {result.output} {result.exception!r}"
    return result.output


class Service:
    """A worker process on the fixture's store."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "interlock.cli", "worker", "service:journey", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.rest = self.process.communicate(timeout=30)[0]
        return self.process.returncode


@pytest.fixture
def worker(run: Run) -> Iterator[Service]:
    service = Service()
    yield service
    if service.process.poll() is None:
        service.stop(signal.SIGKILL)


def started(run: Run, *words: str) -> str:
    return said(run("start", "service:Journey", *words)).split()[0]


def until(run: Run, id: str, status: str) -> dict[str, Any]:
    """Return the operation once it has a status: the program itself waits, at most for a while."""
    for _ in range(400):
        snapshot: dict[str, Any] = json.loads(said(run("show", id, "--json")))
        if snapshot["status"] == status:
            return snapshot
    raise AssertionError(f"{id} is {snapshot['status']}, not {status}")


def test_every_command_has_help_with_an_example(run: Run) -> None:
    assert "there are demo, check" in run("nothing").output
    for name in COMMANDS:
        if name != "bench":
            text = said(run(name, "--help"))
            assert f"interlock {name}" in text.split("Example:")[1]


def test_check(run: Run) -> None:
    assert "3 warnings in journey version 1: 6 states" in said(run("check", "service:Journey"))
    text = said(run("check", "service:Journey", "bad.yaml"), 1)
    assert "leads to `bb`, which is no state" in text and "[error unknown-target]" in text
    found = json.loads(said(run("check", "bad.yaml", "--json"), 1))["found"]
    assert {fault["code"] for fault in found} == {"unknown-target"} and found[0]["target"] == "bad.yaml"
    assert "did you mean" in said(run("chek", "bad.yaml"), 2)
    assert "cannot read `nothing.yaml`" in said(run("check", "nothing.yaml"), 2)


def test_draw_explain_convert(run: Run, tmp_path: Path) -> None:
    assert "> packing" in said(run("draw", "service:Journey"))
    said(run("draw", "service:Journey", "--format", "svg", "-o", "journey.svg"))
    assert (tmp_path / "journey.svg").read_text().startswith("<svg")
    assert "- A cancel:" in said(run("explain", "service:Journey"))
    said(run("convert", "service:Journey", "-o", "journey.yaml"))
    said(run("convert", "journey.yaml", "-o", "journey.json"))
    assert json.loads(said(run("convert", "service:Journey", "--json"))) == json.loads(
        (tmp_path / "journey.json").read_text()
    )
    assert "class Journey(Machine[JourneyData]" in said(run("convert", "journey.yaml", "--to", "python"))
    assert "TARGET" in said(run("draw"), 2)


def test_an_operation_from_start_to_end(run: Run, worker: Service) -> None:
    assert worker.first.startswith("performing journey version 1 from the default queue")
    id = started(run, "name=7", "size=3", "--by", "ann", "--key", "trip-1")
    assert started(run, "name=7", "size=3", "--key", "trip-1") == id
    snapshot = until(run, id, "waiting")
    assert snapshot["data"] == {"name": "7", "size": 3, "note": None} and snapshot["by"] == "ann"
    shown = said(run("show", id[:14]))
    assert (
        "* waiting" in shown
        and "+ packing" in shown
        and "possible: signal go, signal stay, cancel, pause, override" in shown
    )
    assert "waits for a signal: go, stay" in said(run("why", id))
    assert "* waiting" in said(run("draw", "--operation", id))
    assert "signal `leave`" not in said(run("signal", id, "go", "note=soon", "--by", "bob"))
    until(run, id, "succeeded")
    text = said(run("history", id))
    assert "started by ann: journey version 1" in text and "signal go by bob, with note='soon'" in text
    records = [json.loads(line) for line in said(run("history", id, "--json")).splitlines()]
    assert records[0]["facts"][0]["fact"] == "started" and records[-1]["seq"] > records[0]["seq"]
    assert json.loads(said(run("watch", id, "--json")).splitlines()[-1])["facts"][-1]["state"] == "there"
    assert "ends in there (succeeded)" in said(run("watch", id))


def test_start_waits(run: Run) -> None:
    service = Service("service:hop")
    assert "succeeded in over" in run("start", "service:Hop", "name=a", "--wait").stderr
    result = run("start", "service:Hop", "name=ill", "--wait")
    assert result.exit_code == 1 and "failed in failed" in result.stderr
    assert service.stop() == 0


def test_a_stuck_operation_is_mended(run: Run, worker: Service) -> None:
    assert json.loads(
        said(run("start", "service:Journey", "name=ill", "--retries", "packing=2", "--breakpoint", "waiting", "--json"))
    )
    page = json.loads(said(run("list", "--json")))
    id = page["operations"][0]["id"]
    until(run, id, "paused")
    assert "paused in leaving" in said(run("signal", id, "go"))
    said(run("resume", id))
    result = said(run("why", until(run, id, "stuck")["id"]), 1)
    assert "waits for a person: `leaving` failed: OSError: no strength" in result
    assert id in said(run("list", "--stuck"))
    assert "Missing option '--reason'" in said(run("retry", id), 2)
    assert "succeeded in there" in said(run("skip", id, "--reason", "carried"))
    assert "no operations" in said(run("list", "--stuck"))


def test_pause_cancel_override(run: Run) -> None:
    id = started(run, "name=a")
    assert "paused in packing" in said(run("pause", id, "--reason", "lunch"))
    assert "possible now: cancel, resume, override" in said(run("signal", id, "go"), 2)
    assert "queued in packing" in said(run("resume", id))
    assert "is not paused" in said(run("resume", id), 2)
    assert "queued in packing" in said(run("pause", id, "--before", "leaving"))
    assert "cancelled in cancelled" in said(run("cancel", id, "--reason", "rain"))
    error = json.loads(said(run("cancel", id, "--json"), 2))
    assert error["code"] == "not-possible" and error["possible"] == []
    other = started(run, "name=b")
    assert "succeeded in there" in said(run("override", other, "there", "--reason", "walked"))
    assert "this broke a rule" in said(run("history", other))


def test_what_does_not_fit_is_refused_at_the_door(run: Run) -> None:
    for words, says in [
        (["name=a", "sise=3"], "unknown field `sise` (did you mean `size`?)"),
        (["name=a", "size=many"], "field `size` must be integer"),
        (["size=3"], "field `name` is missing"),
        (["name"], "write fields as FIELD=VALUE"),
        (["name=a", "--data", "["], "--data is no JSON"),
        (["name=a", "--deadline", "soon"], "is no duration"),
        (["name=a", "--retries", "packing=0"], "is no number of attempts"),
        (["name=a", "--timeout", "packin=3s"], "has no state `packin` (did you mean `packing`?)"),
        (["name=a", "--state", "leaving"], "do not start in `leaving`; they start in packing"),
        (["name=a", "--breakpoint", "nowhere"], "has no state `nowhere`"),
    ]:
        assert says in said(run("start", "service:Journey", *words), 2)
    assert "no operations" in said(run("list"))
    assert "cannot import `service:Nothing`" in said(run("start", "service:Nothing"), 2)
    assert "`name` is given twice" in said(run("start", "service:Journey", "name=a", "name=b"), 2)
    twice = ["--timeout", "packing=1s", "--timeout", "packing=2s"]
    assert "`packing` is given twice" in said(run("start", "service:Journey", "name=a", *twice), 2)
    assert "must be integer, not string" in said(run("start", "service:Journey", "name=a", "size=Infinity"), 2)
    assert "no operations" in said(run("list"))


def test_ids_may_be_shortened(run: Run) -> None:
    first, second = started(run, "name=a"), started(run, "name=b")
    assert first in said(run("show", first))
    assert "at least 4 letters" in said(run("cancel", first[:3]), 2)
    shared = os.path.commonprefix([first, second])  # noqa: RUF071  # of text, not of paths
    assert f"2 operations begin with `{shared}`" in said(run("show", shared), 2)
    assert "no operation `zz`" in said(run("show", "zz"), 2)


def test_a_store_that_cannot_be_opened(run: Run, tmp_path: Path) -> None:
    assert "nowhere" in said(run("list", "--store", "sqlite:////nowhere/x.db"), 2)
    (tmp_path / "text.db").write_text("no database, but long enough to be read as one " * 50)
    assert "text.db" in said(run("list", "--store", "text.db"), 2)
    assert "names no store" in said(run("list", "--store", "mongodb://x"), 2)


def test_a_worker_stops_gracefully_and_says_what_does_not_fit(run: Run) -> None:
    service = Service()
    assert service.stop() == 0 and "stopped" in service.rest
    command = [sys.executable, "-m", "interlock.cli", "worker"]
    refused = subprocess.run([*command, "service:unbound"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "no action is bound to it" in refused.stderr
    nothing = subprocess.run([*command, "service:Journey"], capture_output=True, text=True, check=False)
    assert nothing.returncode == 2 and "no Actions" in nothing.stderr


def test_a_killed_worker_is_taken_over(run: Run) -> None:
    first = Service()
    id = started(run, "name=slow")
    held = until(run, id, "running")
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    second = Service()
    try:
        for _ in range(400):
            snapshot = json.loads(said(run("show", id, "--json")))
            if snapshot["phase"].get("worker") != held["phase"]["worker"] and snapshot["status"] == "running":
                break
        assert snapshot["phase"]["recover"] is True
        assert "running in packing" in said(run("cancel", id))
        until(run, id, "cancelled")
    finally:
        second.stop(signal.SIGKILL)


def test_help_does_not_load_what_it_does_not_need() -> None:
    code = "import sys; from interlock.cli.app import app; app(['start', '--help'], standalone_mode=False); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'interlock.compute" not in out and "'qemu" not in out and "'fast_sugiyama'" not in out
