"""The SQLite store: all that any store promises, and what is its own: processes, kills, full disks, size."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.errors import Refused, StoreFailed
from interlock.interpreter.snapshot import Snapshot, fold
from interlock.stores.contract import Entry, Lease, Progress
from interlock.stores.sqlite import SqliteStore
from tests.claims_contract import ClaimsContract
from tests.house import ROOT
from tests.store_contract import MACHINES, SEARCH, StoreContract, five_steps, running, started, stepped
from tests.store_writer import RACED, open_all


class TestSqlite(StoreContract, ClaimsContract):
    @pytest.fixture
    def store(self, path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(path)
        yield store
        store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


def test_everything_is_there_again_after_a_close(path: Path) -> None:
    entries = five_steps("a")
    store = SqliteStore(path)
    store.commit(entries)
    store.renew(Lease("w1", 5.0))
    store.define("moving", 1, {"states": {}})
    store.report([Progress("a", 3, 1.0, 2.0)])
    store.close()
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    again = SqliteStore(path)
    assert again.load(["a"]) == [entries[-1].snapshot] and len(again.tail(0, 10)) == 6
    assert again.leases() == [Lease("w1", 5.0)] and again.definitions() == [("moving", 1)]
    assert again.progress("a") == Progress("a", 3, 1.0, 2.0)
    again.close()


def test_a_store_is_handed_to_the_thread_that_will_own_it(path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    store = SqliteStore(path)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(store.commit, [started("a")]).result() == [True]
        thread.submit(store.close).result()


@pytest.mark.parametrize(("setting", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_commits_are_flushed_as_was_asked_and_reports_do_not_change_that(path: Path, setting: str, level: int) -> None:
    store = SqliteStore(path, synchronous="FULL" if setting == "FULL" else "NORMAL")
    asked: list[str] = []
    store._db.set_trace_callback(asked.append)
    store.report([Progress("a", 3, 1.0, 2.0)])
    store.renew(Lease("w1", 5.0))
    assert [sql for sql in asked if "synchronous" in sql] == [
        "PRAGMA synchronous=NORMAL",
        f"PRAGMA synchronous={setting}",
    ] * 2
    with pytest.raises(sqlite3.IntegrityError):
        store._unflushed("INSERT INTO lease VALUES (?, NULL, '', '', '', 1, '')", [("w",)])
    assert store._rows("PRAGMA synchronous") == [(level,)]
    assert store._rows("PRAGMA journal_mode") == [("wal",)]
    store.close()


def test_another_reader_sees_progress_and_leases_at_once(path: Path) -> None:
    store, reader = SqliteStore(path), SqliteStore(path)
    store.report([Progress("a", 3, 1.0, 2.0)])
    store.renew(Lease("w1", 5.0))
    assert reader.progress("a") == Progress("a", 3, 1.0, 2.0) and reader.leases() == [Lease("w1", 5.0)]
    store.close()
    reader.close()


def test_size_a_step(path: Path) -> None:
    store = SqliteStore(path, synchronous="NORMAL")
    empty = path.stat().st_size
    operations = [five_steps(f"{number:032x}") for number in range(400)]
    for group in zip(*operations, strict=True):
        assert all(store.commit(group))
    store.close()
    assert (path.stat().st_size - empty) / (400 * 5) <= 450


def test_nothing_that_is_asked_often_reads_the_whole_table(path: Path) -> None:
    store = SqliteStore(path)
    plans: list[str] = []

    def explain(sql: str) -> None:
        if sql.startswith("SELECT"):
            other = sqlite3.connect(path)
            plans.extend(f"{row[3]} | {sql}" for row in other.execute(f"EXPLAIN QUERY PLAN {sql}"))
            other.close()

    store._db.set_trace_callback(explain)
    store.load(["a"])
    store.due(MACHINES, ["q"], 1.0, 10)
    store.next_due(MACHINES, ["q"])
    store.held("w", 10)
    store.journal("a", 0, 10)
    store.tail(0, 10)
    store.position()
    store.search(**{**SEARCH, "cursor": "5"})
    store.search(**{**SEARCH, "status": ["stuck"]})
    assert len(plans) >= 10
    assert [plan for plan in plans if plan.startswith("SCAN operation") or "TEMP B-TREE" in plan] == []
    store.close()


# Other processes


def _run(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.store_writer", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def _check_journals(store: SqliteStore) -> dict[str, Snapshot]:
    """Return all operations, after folding the whole journal anew gave each of them."""
    folded: dict[str, Snapshot] = {}
    for record in store.tail(0, 1_000_000):
        snapshot = folded.get(record.operation)
        for fact in record.facts:
            snapshot = fold(snapshot, fact, record.at)
        assert snapshot is not None and snapshot.seq == record.seq
        folded[record.operation] = snapshot
    assert {one.id: one for one in store.load([*folded])} == folded
    assert sum(store.counts().values()) == len(folded)
    return folded


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for lines in (1, 300, 2_000, 57):
        with _run("endless", str(path)) as writer:
            assert writer.stdout is not None
            said = list(itertools.islice(writer.stdout, lines))
            os.kill(writer.pid, signal.SIGKILL)
            said += writer.stdout.readlines()
        assert writer.returncode == -signal.SIGKILL
        whole = [line.split() for line in said if line.endswith("\n")]
        acknowledged.update((id, int(seq)) for id, seq in whole)
        store = SqliteStore(path)
        assert store._rows("PRAGMA integrity_check") == [("ok",)]
        operations = _check_journals(store)
        store.close()
        assert {id for id, seq in acknowledged.items() if id not in operations or operations[id].seq < seq} == set()
        assert len(operations) >= len(acknowledged) > 0


@pytest.mark.slow
def test_each_compare_and_set_is_won_by_one_process(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([running(id) for id in RACED])
    racers = [_run("race", str(path), f"w{number}", "200") for number in range(3)]
    said = [racer.communicate()[0].splitlines() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    won = [line for lines in said for line in lines]
    assert len(won) == len(set(won))
    operations = _check_journals(store)
    store.close()
    for id in RACED:
        assert sorted(int(line.split()[1]) for line in won if line.startswith(id)) == [
            *range(6, operations[id].seq + 1, 3)
        ]
    assert sum(1 for lines in said if lines) >= 2, "one process won everything: there was no race"


@pytest.mark.slow
def test_many_processes_may_make_the_same_store(tmp_path: Path) -> None:
    many = 6
    paths = [str(tmp_path / f"{number}.db") for number in range(40)]
    of = multiprocessing.get_context("spawn")
    said, together = of.Queue(), of.Barrier(many, timeout=60)
    openers = [of.Process(target=open_all, args=(paths, together, said)) for _ in range(many)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert [opener.exitcode for opener in openers] == [0] * many
    assert [said.get(timeout=60) for _ in openers] == [[0] * len(paths)] * many


# What the world does to a file


def test_a_file_that_another_process_keeps_locked(path: Path) -> None:
    store = SqliteStore(path, busy_seconds=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        StoreFailed, match=r"another process wrote to it for more than 0\.05 s: .*stop it or wait"
    ) as one:
        store.commit([started("a")])
    assert str(path) in str(one.value) and one.value.details["sqlite"] == "SQLITE_BUSY"
    with pytest.raises(StoreFailed, match="another process"):
        store.report([Progress("a", 1, 1.0, 1.0)])
    assert store.load(["a"]) == []
    other.execute("ROLLBACK")
    other.close()
    assert store.commit([started("a")]) == [True]
    store.close()


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match=r"unable to open .*: the directory `.*/nowhere` does not exist: make it"):
        SqliteStore(tmp_path / "nowhere" / "operations.db")
    assert [*tmp_path.iterdir()] == []


def test_a_directory_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="it is a directory: name a file in it"):
        SqliteStore(tmp_path)


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("name: moving\n" * 100)
    with pytest.raises(StoreFailed, match=r"file is not a database: this is no store: name another file"):
        SqliteStore(path)
    assert path.read_text() == "name: moving\n" * 100


def test_a_synchronous_that_there_is_not(path: Path) -> None:
    with pytest.raises(Refused, match="synchronous='OFF': a SQLite store is FULL or NORMAL"):
        SqliteStore(path, synchronous="OFF")  # type: ignore[arg-type]  # the wrong value is what is tested
    assert not path.exists()


def test_memory_of_sqlite_itself_is_no_store() -> None:
    with pytest.raises(StoreFailed, match="no write-ahead log there; name a file on a local file system"):
        SqliteStore(":memory:")


def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    with pytest.raises(StoreFailed, match="this store was closed: open it again"):
        store.position()
    with pytest.raises(StoreFailed, match="was closed"):
        store.commit([started("a")])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB, mounted for the test; without the right to mount there is none."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "interlock-test", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root, and the right to mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(store: SqliteStore) -> tuple[list[Entry], list[Entry], StoreFailed]:
    """Commit groups until the store can take no more; return what it took, what it did not, and what it said."""
    took: list[Entry] = []
    for turn in range(10_000):
        group = [running(f"op-{turn}-{number}") for number in range(10)]
        group += [stepped(entry.snapshot, "two") for entry in group]
        try:
            assert all(store.commit(group))
        except StoreFailed as error:
            return took, group, error
        took += group
    raise AssertionError("it never was full")


def _check_full(store: SqliteStore, took: list[Entry], lost: list[Entry]) -> None:
    newest = {entry.snapshot.id: entry.snapshot for entry in took}
    assert took and _check_journals(store) == newest
    assert store.load([entry.snapshot.id for entry in lost]) == []


def test_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "operations.db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    store = SqliteStore(path)
    took, lost, error = _fill(store)
    assert "room" in str(error) and str(path) in str(error) and "Nothing was changed" in str(error)
    _check_full(store, took, lost)
    with pytest.raises(StoreFailed, match="room"):
        store.commit(lost)
    ballast.unlink()
    assert all(store.commit(lost))
    store.close()
    again = SqliteStore(path)
    _check_full(again, took + lost, [])
    again.close()


def test_a_full_quota(path: Path) -> None:
    store = SqliteStore(path)
    store._db.execute("PRAGMA max_page_count=60")
    took, lost, error = _fill(store)
    assert error.details["sqlite"] == "SQLITE_FULL" and "the disk or its quota is full: make room" in str(error)
    _check_full(store, took, lost)
    store._db.execute("PRAGMA max_page_count=1000")
    assert all(store.commit(lost))
    store.close()


def test_a_disk_on_which_there_is_no_room_to_make_a_store(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes((1 << 20) - 8192))
    with pytest.raises(StoreFailed, match="room"):
        SqliteStore(small_disk / "operations.db")


def test_a_disk_that_may_not_be_written(small_disk: Path) -> None:
    path = small_disk / "operations.db"
    store = SqliteStore(path)
    store.commit([started("a")])
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreFailed, match=r"see that the file and its directory may be (read and )?written"):
        SqliteStore(path).commit([started("b")])
    with pytest.raises(StoreFailed, match=r"see that the file and its directory may be (read and )?written"):
        SqliteStore(small_disk / "other.db")
