"""Journals as `interlock history --json` prints them: read, cut, and put in a machine's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from interlock.definition.machine import Definition
from interlock.errors import Refused
from interlock.interpreter.facts import Started
from interlock.stores.contract import Record

__all__ = ["cut_at", "read_journal", "renamed", "started"]

BYTES = 256 << 20


def read_journal(source: str | Path) -> list[Record]:
    """Return the records of one operation's journal, from its beginning.

    Args:
        source: a path; or the text itself, which begins with ``{``.

    Raises:
        Refused: it cannot be read, or it is not the whole journal of one operation.
    """
    text, name = _text(source)
    records: list[Record] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            records.append(msgspec.json.decode(line, type=Record))
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise Refused(
                f"{name}, line {number}, is no record of a journal: {error}; `interlock history ID --json` prints one"
            ) from None
    if not records:
        raise Refused(f"{name} is empty: `interlock history ID --json` prints a journal")
    _whole(records, name)
    return records


def _text(source: str | Path) -> tuple[str, str]:
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return source, "the journal"
    path = Path(source)
    try:
        if path.stat().st_size > BYTES:
            raise Refused(f"`{path}` is larger than {BYTES >> 20} MiB: that is no operation's journal")
        return path.read_text(), f"`{path}`"
    except OSError as error:
        raise Refused(f"a journal cannot be read from `{path}`: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"`{path}` is no journal: it is not text") from None


def _whole(records: Sequence[Record], name: str) -> None:
    first = records[0].facts[0] if records[0].facts else None
    if not isinstance(first, Started):
        begins = records[0].seq - len(records[0].facts) + 1
        raise Refused(f"{name} begins with fact {begins}, not with the operation's start: give the whole history")
    seq = 0
    for record in records:
        if record.operation != first.id:
            raise Refused(
                f"{name} holds facts of `{first.id}` and of `{record.operation}`: give one operation's history"
            )
        if record.seq != seq + len(record.facts) or not record.facts:
            raise Refused(f"{name} lacks facts between {seq} and {record.seq}: give the whole history")
        if seq and any(isinstance(fact, Started) for fact in record.facts):
            raise Refused(f"{name} starts `{first.id}` twice: give its history once")
        seq = record.seq


def started(records: Sequence[Record]) -> Started:
    """Return the fact that a whole journal begins with."""
    first = records[0].facts[0]
    assert isinstance(first, Started)
    return first


def renamed(records: Sequence[Record], machine: Definition) -> list[Record]:
    """Return a journal as one of this version of the machine. Raises `Refused` if it is of another machine."""
    first = started(records)
    if first.machine != machine.name:
        raise Refused(f"`{first.id}` is an operation of machine `{first.machine}`, not of `{machine.name}`")
    head = records[0]
    facts = (replace(first, version=machine.version), *head.facts[1:])
    return [Record(head.position, head.operation, head.seq, head.at, facts), *records[1:]]


def cut_at(records: Sequence[Record], after: int) -> list[Record]:
    """Return a journal as far as fact number ``after``. Raises `Refused` if no decision ends there."""
    ends = [record.seq for record in records]
    if after in ends:
        return [record for record in records if record.seq <= after]
    near = sorted(ends, key=lambda seq: abs(seq - after))[:2]
    raise Refused(
        f"no decision ends with fact {after}: one decision's facts are kept or left together; "
        f"the nearest ends are {' and '.join(map(str, sorted(near)))}"
    )
