"""Histories: read line by line from every kind of source, and counted in constant memory; bad lines are counted, never silent."""

from __future__ import annotations

import csv
import json
import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import LimitExceeded, Refused
from interlock.history.columns import Columns
from interlock.history.reading import RECORD_CHARACTERS, ROW_LINES, VALUES, History, Step, epoch
from interlock.history.stays import Stays
from interlock.history.tally import START, tally

MOVES = [
    Step("v1", None, "free", 0.0),
    Step("v2", None, "free", 1.0),
    Step("v1", "free", "used", 60.0),
    Step("v1", "used", "free", 61.0),
    Step("v2", "free", "gone", 3601.0),
]


def read(source: Path | str, **options: object) -> tuple[list[Step], History]:
    with History(str(source), **options) as history:  # type: ignore[arg-type]  # a test's own words
        return list(history), history


def csv_of(steps: list[Step], separator: str = ",") -> str:
    head = separator.join(["record", "from", "to", "at"]) + "\n"
    return head + "".join(separator.join([s.record, s.before or "", s.after, str(s.at)]) + "\n" for s in steps)


# Where it comes from


@pytest.mark.parametrize(("name", "separator"), [("h.csv", ","), ("h.csv", ";"), ("h.tsv", "\t"), ("history", ",")])
def test_csv_of_any_separator(tmp_path: Path, name: str, separator: str) -> None:
    file = tmp_path / name
    file.write_text("\ufeff" + csv_of(MOVES, separator))
    steps, history = read(file)
    assert steps == MOVES and history.shape == "moves" and (history.form, history.lines) == ("csv", 6)
    assert not history.bad.count and history.size_bytes == file.stat().st_size


def test_json_lines_with_nested_keys(tmp_path: Path) -> None:
    lines = [{"who": {"id": s.record}, "old": s.before, "new": s.after, "time": s.at} for s in MOVES]
    file = tmp_path / "h.log"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    steps, history = read(file, columns=Columns(record="who.id", before="old", after="new"))
    assert steps == MOVES and history.form == "jsonl"
    _, astray = read(file, columns=Columns(record="who.it"))
    assert (astray.bad.count, astray.bad.reason) == (5, "no record is named")
    assert len(read(file, columns=Columns(record="who.id"), only={"who.id": "v1"})[0]) == 3


def test_successive_values_become_moves(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    file.write_text("uuid,status,at\n" + "".join(f"{s.record},{s.after},{s.at}\n" for s in MOVES))
    steps, history = read(file)
    assert history.shape == "values" and {step.before for step in steps} == {None}
    assert tally(steps, "values").moves.keys() == tally(MOVES).moves.keys()


def test_a_query_to_a_database(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "service.db") as db:
        db.execute("CREATE TABLE move (volume TEXT, came_from TEXT, went_to TEXT, at REAL)")
        db.executemany("INSERT INTO move VALUES (?, ?, ?, ?)", MOVES)
    db.close()
    url = f"sqlite:///{tmp_path}/service.db"
    steps, history = read(url, query="SELECT * FROM move ORDER BY at", columns=Columns(record="volume"))
    assert steps == MOVES and history.lines == 5
    for query, says in [
        ("SELECT * FROM elsewhere", "no such table"),
        ("DELETE FROM move", "returns no rows"),
        (None, "--query"),
    ]:
        with pytest.raises(Refused, match=says):
            read(url, query=query)
    assert len(read(url, query="SELECT * FROM move", columns=Columns(record="volume"))[0]) == 5, "nothing was deleted"


def test_a_query_to_a_real_server_is_read_as_it_comes(postgresql: str) -> None:
    engine = sa.create_engine(postgresql)
    with engine.begin() as db:
        db.execute(
            sa.text(
                "CREATE TABLE move AS SELECT n AS id, 's' || n % 7 AS status, now() AS at FROM generate_series(1, 5000) n"
            )
        )
    engine.dispose()
    steps, history = read(postgresql, query="SELECT * FROM move ORDER BY id")
    assert len(steps) == 5_000 and steps[0].at and steps[0].at > 1e9 and history.shape == "values"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///nowhere.db", "there is no database `nowhere.db`"),
        ("postgresql+psycopg://nobody:secret@127.0.0.1:1/x", "says: "),
        ("oracle+oracledb://u:secret@h/x", r"needs the library `oracledb`|says: "),
        ("postgres://u:secret@h/x", "no kind of database `postgres` .did you mean `postgresql`"),
        ("mysql+nosuchdriver://a/b", "no kind of database"),
        ("sqlite+aiosqlite://", "asynchronous driver"),
        ("://", "cannot be read"),
    ],
)
def test_a_database_that_is_not_there(url: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        read(url, query="SELECT 1")
    assert "secret" not in caught.value.message


# What is wrong with it


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b,c\n1,2,3\n", "no column looks like a state"),
        ("status,at\nx,1\n", "no column looks like the name of a record"),
    ],
)
def test_a_file_that_says_nothing_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "h.csv"
    file.write_text(text)
    with pytest.raises(Refused, match=says):
        read(file)


def test_a_file_that_is_not_there_and_one_that_is_no_file(tmp_path: Path) -> None:
    for source in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(Refused, match="cannot read"):
            read(source)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (Columns(record="recrd"), "did you mean `record`"),
        (Columns(value="to", before="from"), "either"),
        (Columns(before="from", after="nope"), "there is no column `nope`"),
    ],
)
def test_a_column_that_is_not_there(tmp_path: Path, columns: Columns, says: str) -> None:
    file = tmp_path / "h.csv"
    file.write_text(csv_of(MOVES))
    with pytest.raises(Refused, match=says):
        read(file, columns=columns)


def test_bad_lines_are_counted_and_the_first_is_told(tmp_path: Path) -> None:
    good = csv_of(MOVES)
    file = tmp_path / "h.csv"
    file.write_bytes(good.encode() + b"v9,free,used,someday\nv9,free\n,free,used,1\nv9,free,,1\nv9,free,\xff\xfe,1\n")
    steps, history = read(file)
    assert steps == MOVES and (history.bad.count, history.bad.line) == (5, 7) and "someday" in history.bad.reason
    with pytest.raises(Refused, match=r"line 7 of .* is bad: `someday` is no time"):
        read(file, strict=True)


@pytest.mark.parametrize("form", [None, "csv", "jsonl"])
@pytest.mark.parametrize("junk", [Random(1).randbytes(200_000), b"{" + Random(2).randbytes(200_000), b"\x00" * 9])
def test_binary_junk_is_no_history(tmp_path: Path, junk: bytes, form: str | None) -> None:
    file = tmp_path / "junk"
    file.write_bytes(junk)
    with pytest.raises(Refused, match=r"not text in UTF-8|no line that is a JSON object"):
        read(file, form=form)


def test_what_is_nearly_a_history_is_refused_with_the_mend(tmp_path: Path) -> None:
    file = tmp_path / "h.json"
    file.write_text('[\n{"id": 1, "status": "a"},\n{"id": 1, "status": "b"}\n]')
    with pytest.raises(Refused, match=r"is one JSON array: .* `jq -c"):
        read(file)
    file.write_text(csv_of(MOVES), encoding="utf-16")
    with pytest.raises(Refused, match=r"export the history .* in UTF-8"):
        read(file, form="csv")


def test_nothing_in_a_message_steers_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    file.write_text("\x1b[31mid,status\n1,a\n")
    with pytest.raises(Refused) as caught:
        read(file)
    assert caught.value.message.isprintable() and r"`\x1b[31mid`" in caught.value.message
    file.write_text("id,status,at\n1,a,\x1b[31m\n")
    assert read(file)[1].bad.reason.startswith(r"`\x1b[31m` is no time")


def test_a_quote_that_is_not_closed_loses_its_own_line_only(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    good = [f'r{number},a,{number},"two\nlines"\n' for number in range(ROW_LINES)]
    stray = 'r,"b,1,torn\n'
    for at, more, line in [(10, [], 22), (10, [stray], 22), (len(good), [], 2 * len(good) + 2)]:
        rows = good.copy()
        rows.insert(at, stray)
        file.write_text("id,status,at,note\n" + "".join([*rows, *more]))
        steps, history = read(file)
        assert len(steps) == len(good), (at, more)
        assert (history.bad.count, history.bad.line) == (1 + len(more), line), history.bad
        assert history.lines == 1 + 2 * len(good) + 1 + len(more)


def test_what_two_stray_quotes_enclose_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    good = [f"r{number},a,{number}\n" for number in range(20)]
    file.write_text("id,status,at\n" + "".join([*good[:5], 'r,"b,1\n', *good[5:15], 'r,"b,2\n', *good[15:]]))
    steps, history = read(file)
    assert {step.record for step in steps} >= {f"r{number}" for number in range(20)}
    assert history.bad.line == 7 and history.bad.reason == "a quote is not closed"


def test_names_and_values_that_cannot_be_ones_are_bad(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    rows: list[tuple[object, object]] = [
        ("r", "a"), ("r" * (RECORD_CHARACTERS + 1), "a"), ("r", "b" * 256), ("r", ["a"]), ({"r": 1}, "a"), ("r", "a\nb"),
        (7, 1), (7, 1.5),
    ]  # fmt: skip
    file.write_text("".join(json.dumps({"id": record, "status": value}) + "\n" for record, value in rows))
    steps, history = read(file)
    assert [(step.record, step.after) for step in steps] == [("r", "a"), ("7", "1"), ("7", "1.5")]
    assert history.bad.count == 5 and "at most 512" in history.bad.reason


def test_of_two_ways_to_read_it_the_other_is_known(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    file.write_text("id,status,from,to\n1,x,a,b\n")
    assert (read(file)[1].shape, read(file)[1].otherwise) == ("moves", "status")
    assert read(file, columns=Columns(before="from", after="to"))[1].otherwise is None, "who names them has chosen"
    steps, history = read(file, columns=Columns(value="status"))
    assert (history.shape, history.otherwise, steps[0].after) == ("values", None, "x")


def test_a_column_with_too_many_values_is_not_a_state(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    file.write_text("id,status\n" + "".join(f"r{number},value {number}\n" for number in range(VALUES + 2)))
    with pytest.raises(LimitExceeded, match="is it the one with the state"):
        read(file)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    file.write_text("id,status,kind\na,x,live\nb,y,cold\na,z,live\n")
    steps, history = read(file, only={"kind": "live"})
    assert [step.after for step in steps] == ["x", "z"] and history.left_out == 1
    with pytest.raises(Refused, match="no column `knd`"):
        read(file, only={"knd": "live"})


def test_times_of_all_kinds() -> None:
    assert epoch("") is None is epoch("NULL")
    assert epoch("2026-01-01") == epoch("2026-01-01T00:00:00+00:00") == epoch(1767225600) == epoch("1767225600000000")
    assert (
        epoch(date(2026, 1, 1)) == epoch(datetime(2026, 1, 1)) == epoch(datetime(2026, 1, 1, tzinfo=UTC)) == 1767225600
    )
    for wrong in ("soon", True, object(), "1e30"):
        with pytest.raises(ValueError, match="is no time"):
            epoch(wrong)


WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufffd\ufeff"), min_size=1, max_size=12
)


@given(
    st.lists(st.tuples(WORDS, st.sampled_from(["a b", 'c"d', "e,f", "g;h"]), WORDS | st.just("two\nlines")), min_size=1)
)
def test_what_is_written_as_csv_is_read_as_it_was(rows: list[tuple[str, str, str]]) -> None:
    with TemporaryDirectory() as place:
        file = Path(place) / "h.csv"
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([("record", "status", "note"), *rows])
        steps, history = read(file)
    assert [(step.record, step.after) for step in steps] == [row[:2] for row in rows] and not history.bad.count


# In numbers


def test_moves_stays_and_first_and_last() -> None:
    found = tally(MOVES)
    assert {pair: use.count for pair, use in found.moves.items()} == {
        (START, "free"): 2, ("free", "used"): 1, ("used", "free"): 1, ("free", "gone"): 1,
    }  # fmt: skip
    assert (found.moves[START, "free"].first, found.moves[START, "free"].last) == (0.0, 1.0)
    assert found.stays["free"].count == 2 and found.stays["free"].most == 3600.0 and found.records == 2
    assert found.resting == {"free": ["v1"], "gone": ["v2"]}


def test_a_record_that_jumps_is_a_gap_not_a_move() -> None:
    found = tally([Step("v1", None, "free", 0.0), Step("v1", "used", "gone", 1.0)])
    assert found.gaps is not None and found.gaps.count == 1 and ("free", "used") not in found.moves


def test_times_that_go_back_are_counted() -> None:
    assert tally([Step("v1", None, "free", 5.0), Step("v1", "free", "used", 1.0)]).unordered == 1


def test_memory_is_bounded_and_what_was_forgotten_is_told() -> None:
    steps = [Step(f"r{number}", None, "a", 0.0) for number in range(1_000)]
    steps += [Step(f"r{number}", None, "b", 1.0) for number in range(1_000)]
    few = tally(steps, "values", remembered=100)
    assert few.forgotten >= 900 and few.moves[START, "a"].count == 1_000
    assert few.moves.get((START, "b")) is None or few.moves[START, "b"].count < 50, "who comes back is not made anew"
    assert tally(steps, "values").moves["a", "b"].count == 1_000
    with pytest.raises(LimitExceeded):
        tally([], remembered=1)


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=200))
def test_quantiles_are_near(durations: list[float]) -> None:
    stays = Stays()
    for one in durations:
        stays.add(one)
    middle = sorted(durations)[(len(durations) - 1) // 2]
    assert middle * 0.9 <= stays.quantile(0.5) <= middle * 1.1
    assert stays.quantile(1.0) <= stays.most == max(durations)
