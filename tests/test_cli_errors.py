"""The command line where things go wrong: what it says, with which status, and that nothing was changed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from interlock import Interlock
from tests.test_cli import Run, Service, run, said, started, until, worker

__all__ = ["run", "worker"]

COMMAND = [sys.executable, "-m", "interlock.cli"]


def test_errors_of_usage_are_json_too(run: Run) -> None:
    for words, says in [
        (["list", "--limit", "0"], "Invalid value for '--limit'"),
        (["retry", "0000"], "Missing option '--reason'"),
        (["start", "service:Journey", "name"], "write fields as FIELD=VALUE"),
        (["chek"], "did you mean `check`?"),
    ]:
        error = json.loads(said(run(*words, "--json"), 2))
        assert error["code"] == "usage" and says in error["message"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def (:", "SyntaxError: invalid syntax (hurt.py, line 1)"),
        ("x = 1\nraise RuntimeError('boom')", "RuntimeError: boom ("),
        ("raise SystemExit('bye')", "SystemExit: bye ("),
        ("import interlock_has_no_such_module", "No module named 'interlock_has_no_such_module'"),
    ],
)
def test_a_module_that_cannot_be_imported(run: Run, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "hurt.py").write_text(text)
    for words in (["check", "hurt:X"], ["start", "hurt:X"], ["worker", "hurt:x"]):
        output = said(run(*words), 2)
        sys.modules.pop("hurt", None)
        assert says in output and "Traceback" not in output
    assert not (tmp_path / "ops.db").exists()


def test_a_document_that_is_none_is_something_found(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("machine: odd\nstates: 3\n")
    text = said(run("check", "odd.yaml", "service:Journey"), 1)
    assert "[error illegal-document]" in text and "in journey version 1" in text
    document = json.loads(said(run("check", "odd.yaml", "service:Journey", "--json"), 1))
    assert document["found"][0]["target"] == "odd.yaml" and document["checked"][0]["machine"] == "journey"


def test_files_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    for words in (["draw", "service:Journey"], ["convert", "service:Journey"]):
        assert "cannot write `/nonexistent/x.yaml`: No such file" in said(run(*words, "-o", "/nonexistent/x.yaml"), 2)
    made = json.loads(said(run("convert", "service:Journey", "-o", "j.py", "--json")))
    assert made["wrote"] == "j.py" and made["format"] == "python"
    assert "class Journey(Machine[JourneyData]" in (tmp_path / "j.py").read_text()
    assert "class Journey" in json.loads(said(run("convert", "service:Journey", "--to", "python", "--json")))["text"]


def test_stores_that_keep_nothing_or_are_not_there(run: Run, tmp_path: Path) -> None:
    for words in (["start", "service:Journey", "name=a"], ["list"], ["worker", "service:journey"]):
        assert "a store in memory ends with the command" in said(run(*words, "--store", "memory:"), 2)
    for words in (["list"], ["show", "0123"], ["cancel", "0123"], ["start", "journey", "name=a"]):
        assert f"there is no store at `{tmp_path}/ops.db`" in said(run(*words), 2)
    assert not (tmp_path / "ops.db").exists()


def test_a_machine_by_the_name_that_the_store_knows(run: Run) -> None:
    started(run, "name=a")
    said(run("start", "journey", "name=b", "size=2"))
    assert json.loads(said(run("list", "--json")))["operations"][0]["data"]["size"] == 2
    assert "journie" in said(run("start", "journie", "name=c"), 2)


def test_a_drawing_of_an_operation_is_of_its_own_machine(run: Run) -> None:
    id = started(run, "name=a")
    assert "* packing" in said(run("draw", "service:Journey", "--operation", id))
    assert "is an operation of `journey`, not of service:Hop" in said(run("draw", "service:Hop", "--operation", id), 2)


def test_a_fault_of_ours_is_one_line_unless_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(target: object) -> str:
        raise KeyError("surprise")

    monkeypatch.setattr("interlock.cli.machines.explained", faulty)
    text = said(run("explain", "service:Journey"), 2)
    assert text.startswith("interlock: KeyError: 'surprise'; this should not happen") and text.count("\n") == 1
    assert json.loads(said(run("explain", "service:Journey", "--json"), 2))["code"] == "fault"
    assert isinstance(run("--debug", "explain", "service:Journey").exception, KeyError)


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_it_says_what_to_install(run: Run, missing: str) -> None:
    started(run, "name=a")
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['list']; from interlock.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "the command line needs two libraries: pip install 'interlock[cli]'\n"


def test_a_full_disk(run: Run, tmp_path: Path) -> None:
    first = started(run, "name=a")
    blocks = (tmp_path / "ops.db").stat().st_size // 512 + 8
    limited = ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *COMMAND]
    big = ["start", "service:Journey", f"name={'x' * 100_000}", "--json"]
    ended = subprocess.run([*limited, *big], capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stdout == "", ended.stderr
    error = json.loads(ended.stderr)
    assert error["code"] == "store-failed" and "room" in error["message"] and "Nothing was changed" in error["message"]
    assert [one["id"] for one in json.loads(said(run("list", "--json")))["operations"]] == [first]
    said(run(*big))


def test_what_people_write_steers_no_terminal(run: Run) -> None:
    id = started(run, "name=a", "--by", "ann\nbob")
    said(run("pause", id, "--reason", "x\n\x1b[31mred"))
    for words in (["history", id], ["why", id], ["show", id]):
        text = said(run(*words))
        assert "\x1b" not in text and "\nred" not in text and "\nbob" not in text
    assert "x\\n\\x1b[31mred" in said(run("why", id))


def test_a_long_history_is_told_to_its_end(run: Run, tmp_path: Path) -> None:
    id = started(run, "name=a")

    async def pause_often() -> None:
        async with Interlock(f"sqlite:///{tmp_path}/ops.db?synchronous=NORMAL", committer="inline") as interlock:
            for _ in range(510):
                await interlock.pause(id)
                await interlock.resume(id)

    asyncio.run(pause_often())
    lines = said(run("history", id)).splitlines()
    assert len(lines) == 1022 and lines[-1].endswith("resumed")
    assert len(said(run("history", id, "--after", "1000")).splitlines()) == 22
    reader = subprocess.Popen([*COMMAND, "history", id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert reader.stdout is not None and reader.stderr is not None
    reader.stdout.readline()
    reader.stdout.close()
    assert "Traceback" not in reader.stderr.read()
    reader.stderr.close()
    assert reader.wait(30) == 1


def test_waiting_without_a_worker_says_so_and_ctrl_c_leaves_the_operation(run: Run) -> None:
    words = [*COMMAND, "start", "service:Journey", "name=a", "--wait"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None and waiting.stderr is not None
        id = waiting.stdout.readline().strip()
        assert "waits for a worker: none that is alive serves the default queue" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == 130 and waiting.stderr.read() == "interrupted\n"
    assert until(run, id, "queued")


def test_watching_ends_with_the_operation(run: Run, worker: Service) -> None:
    id = started(run, "name=a")
    until(run, id, "waiting")
    words = [*COMMAND, "watch", id]
    with (
        subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, text=True) as programs,
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as people,
    ):
        assert programs.stdout is not None and people.stdout is not None
        assert json.loads(programs.stdout.readline())["facts"][0]["fact"] == "started"
        assert "started" in people.stdout.readline()
        said(run("signal", id, "go", "--data", '{"note": "soon", "size": 5}', "size=7"))
        lines = programs.stdout.read().splitlines()
        assert json.loads(lines[-1])["facts"][-1]["outcome"] == "succeeded"
        assert "ends in there (succeeded)" in people.stdout.read()
        assert programs.wait(30) == people.wait(30) == 0
    assert json.loads(said(run("show", id, "--json")))["data"] == {"name": "a", "size": 7, "note": "soon"}


def test_watching_leaves_off_where_it_was_told(run: Run, worker: Service) -> None:
    id = started(run, "name=a")
    for words in ([], ["--json"]):
        assert said(run("watch", id, "--until", "waiting", *words)), "it is there, and goes no further by itself"
    assert json.loads(said(run("show", id, "--json")))["status"] == "waiting"
    assert "has no state `wating`, nor is it a status (did you mean `waiting`?)" in said(
        run("watch", id, "--until", "wating"), 2
    )
    assert "name the operation" in said(run("watch", "--until", "waiting"), 2)
    said(run("signal", id, "go", "size=7"))
    for words in ([], ["--json"]):
        said(run("watch", id, "--until", "failed", *words), 1)
        said(run("watch", id, "--until", "there", *words))


def test_a_second_signal_stops_a_worker_at_once(run: Run, worker: Service) -> None:
    id = started(run, "name=slow")
    until(run, id, "running")
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.stdout is not None
    assert "stopping: waiting for what runs" in worker.process.stdout.readline()
    assert worker.stop() == -signal.SIGTERM
    assert "stopping at once" in worker.rest
    assert until(run, id, "running")


def test_a_worker_is_stopped_with_ctrl_c(run: Run, worker: Service) -> None:
    id = started(run, "name=slow")
    until(run, id, "running")
    said(run("cancel", id))
    until(run, id, "cancelled")
    assert worker.stop(signal.SIGINT) == 0 and "stopped" in worker.rest
