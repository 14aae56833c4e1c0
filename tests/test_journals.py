"""Wrong journal files: each is refused with what is wrong and what to give instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.compute.live_migration import LiveMigration
from interlock.errors import Refused
from interlock.testing import Kit
from interlock.testing.journals import cut_at, read_journal, renamed, started

OP = Kit(LiveMigration).start(instance="vm-1", source="a", destination="b")
LINES = OP.history.splitlines()


def test_a_journal_is_read_from_a_file_and_from_text(tmp_path: Path) -> None:
    (tmp_path / "j").write_text(OP.history)
    records = read_journal(tmp_path / "j")
    assert records == read_journal(OP.history) == read_journal(str(tmp_path / "j"))
    assert started(records).id == OP.id and records[-1].seq == OP.snapshot.seq
    assert [record.seq for record in cut_at(records, 7)] == [4, 7]
    assert renamed(records, LiveMigration.definition) == records


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"code": "unknown"}', "line 1, is no record of a journal: .*history ID --json"),
        (LINES[0] + "\nhello", "line 2, is no record"),
        ("\n".join(LINES[1:]), "begins with fact 5, not with the operation's start"),
        ("\n".join([LINES[0], LINES[2]]), "lacks facts between 4 and 11"),
        ("\n".join([LINES[0], LINES[1].replace("op-1", "op-2")]), "facts of `op-1` and of `op-2`"),
        ("\n".join([LINES[0], LINES[0].replace('"seq":4', '"seq":8')]), "starts `op-1` twice"),
        (LINES[0].replace('"fact":"issued"', '"fact":"tissued"'), "line 1, is no record"),
    ],
)
def test_what_is_no_journal_is_refused(text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read_journal(text)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "yaml").write_text("states: {}\n")
    for name, said in {"gone": "cannot be read", "empty": "is empty", "bytes": "not text", "yaml": "no record"}.items():
        with pytest.raises(Refused, match=said):
            read_journal(tmp_path / name)
    with pytest.raises(Refused, match="cannot be read"):
        read_journal(tmp_path)
