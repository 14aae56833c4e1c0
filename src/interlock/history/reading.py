"""Reading what happened, line by line, in constant memory: CSV, JSON lines, or a query to a database.

A line that cannot be read is counted, and the first one kept with its number and what is wrong with it; reading strictly refuses at it.
Values are what is stored: texts as they are, numbers as text.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NamedTuple, Self

from interlock.errors import LimitExceeded, Refused
from interlock.history.columns import Columns, Shape
from interlock.history.plain import plain

__all__ = ["LINE_CHARACTERS", "VALUES", "BadLines", "History", "Step", "epoch"]

VALUES = 500
"""Different values that a column of states may have: more is some other column."""
LINE_CHARACTERS = 1 << 20
"""The longest line; what is longer is read as several, which are bad."""
VALUE_CHARACTERS, RECORD_CHARACTERS = 255, 512
"""The longest value, and the longest name of a record."""
ROW_LINES = 1_000
"""Lines that one row of CSV may have, where texts in quotes have several."""
EVERY = 5_000
"""Lines between two reports of progress."""
_NONE = ("", "NULL", "null", "None", "\\N")
Form = Literal["csv", "jsonl", "sql"]
_FORMS: Mapping[str, Form] = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


class Step(NamedTuple):
    """One line. ``before`` is None where a record is made, and in a history of values; ``at`` is in seconds since the epoch."""

    record: str
    before: str | None
    after: str
    at: float | None


@dataclass(slots=True)
class BadLines:
    """Lines that could not be read: how many, and the first."""

    count: int = 0
    line: int = 0
    reason: str = ""

    def __str__(self) -> str:
        return f"line {self.line:,}: {self.reason}"


class _Lines:
    """Lines for a reader of CSV; those behind the first of the present row can be put back, to be read by themselves.

    A quote that is not closed makes one row of all that follows: only its own line is to be lost.
    """

    def __init__(self, source: Iterator[str], number: int) -> None:
        self.source, self.number = source, number
        self.row: list[str] = []
        self.again: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.row) >= ROW_LINES:
            raise csv.Error(f"a quote is not closed in {ROW_LINES:,} lines")
        line = self.again.pop() if self.again else next(self.source)
        self.row.append(line)
        self.number += 1
        return line

    @property
    def first(self) -> int:
        """The number of the row's first line."""
        return self.number - len(self.row) + 1

    def put_back(self) -> None:
        self.number -= len(self.row) - 1
        self.again.extend(reversed(self.row[1:]))


@dataclass(slots=True)
class History:
    """A source of steps, to be read once: ``with History("moves.csv") as history: for step in history: ...``.

    Args:
        source: a file's path, ``-`` for standard input, or a database's URL.
        query: what to ask the database for, rows in the order of time.
        columns: what columns mean; the rest is guessed.
        only: keep the lines in which these columns have these values.
        form: ``csv`` or ``jsonl``; by default told from the file's name, or else its first letter.
        strict: refuse at the first bad line.
        otherwise: (found) a column that could be read as a history of values, where nothing was named and moves are read.
        progress: is told now and then how many bytes were read (lines, for a database).

    Raises:
        Refused: the source cannot be read, a column is not there, or a line is bad and ``strict``.
        LimitExceeded: more different values than a column of states has.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     file = Path(place) / "moves.csv"
    ...     _ = file.write_text("record,from,to,at\\nv1,,free,2026-01-01T00:00:00Z\\nv1,free,used,1767225660\\nv2\\n")
    ...     with History(str(file)) as history:
    ...         for step in history:
    ...             print(step)
    ...     print(history.bad)
    Step(record='v1', before=None, after='free', at=1767225600.0)
    Step(record='v1', before='free', after='used', at=1767225660.0)
    line 4: it has 1 column, the first line has 4
    """

    source: str
    query: str | None = None
    columns: Columns = field(default_factory=Columns)
    only: Mapping[str, str] = field(default_factory=dict)
    form: Form | None = None
    strict: bool = False
    progress: Callable[[int], None] | None = None
    lines: int = 0
    left_out: int = 0
    bad: BadLines = field(default_factory=BadLines)
    otherwise: str | None = None
    _open: ExitStack = field(default_factory=ExitStack, repr=False)
    _lines: _Lines = field(default_factory=lambda: _Lines(iter(()), 0), repr=False)
    _rows: Iterator[Any] = field(default_factory=lambda: iter(()), repr=False)
    _pick: Callable[[Any], tuple[Any, Any, Any, Any]] | None = field(default=None, repr=False)
    _keep: Callable[[Any], bool] | None = field(default=None, repr=False)
    _known: dict[str, str] = field(default_factory=dict, repr=False)
    _read: Callable[[], int] = field(default=lambda: 0, repr=False)

    @property
    def shape(self) -> Shape:
        """Whether lines tell moves or values."""
        return self.columns.shape

    @property
    def size_bytes(self) -> int | None:
        """How long the source is, where that is known."""
        path = Path(self.source)
        return path.stat().st_size if self.query is None and self.source != "-" and path.is_file() else None

    def __enter__(self) -> Self:
        try:
            if self.query is not None or "://" in self.source:
                self._begin_sql()
            else:
                self._begin_file()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    # What there is to read

    def _begin_sql(self) -> None:
        from interlock.history.database import asked

        self.form = "sql"
        names, self._rows = asked(self.source, self.query, self._open)
        self._by_place(names)
        self._read = lambda: self.lines

    def _begin_file(self) -> None:
        try:
            source = sys.stdin.buffer if self.source == "-" else Path(self.source).open("rb")  # noqa: SIM115  closed with the rest
            raw: IO[bytes] = source if self.source == "-" else self._open.enter_context(source)
        except OSError as error:
            why = error.strerror or error
            raise Refused(f"cannot read `{self.source}`: {why}; name a file, - or a database's URL") from None
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")
        self._open.callback(text.detach)
        lines: Iterator[str] = iter(partial(text.readline, LINE_CHARACTERS), "")
        if raw.seekable():
            self._read = raw.tell
        first = next((line for line in lines if self._counted(line)), "")
        if not first:
            raise Refused(f"`{self.source}` is empty: a history has at least one line")
        if "\0" in first or "\ufffd" in first:
            raise Refused(f"`{self.source}` is not text in UTF-8: export the history as CSV or JSON lines, in UTF-8")
        suffix = Path(self.source).suffix.lower()
        if first.lstrip().startswith("[") and (self.form or _FORMS.get(suffix)) != "csv":
            raise Refused(f"`{self.source}` is one JSON array: write an object a line, as `jq -c '.[]'` does")
        self.form = self.form or _FORMS.get(suffix) or ("jsonl" if first.lstrip().startswith("{") else "csv")
        if self.form == "jsonl":
            self._begin_json(first, lines)
        else:
            tabs = suffix == ".tsv" or ("\t" in first and "," not in first)
            comma = "\t" if tabs else ";" if first.count(";") > first.count(",") else ","
            names = [name.strip() for name in next(csv.reader([first], delimiter=comma), [])]
            self._lines = _Lines(lines, self.lines)
            self._rows = csv.reader(self._lines, delimiter=comma)
            self._by_place(names)

    def _counted(self, line: str) -> bool:
        self.lines += 1
        return bool(line.strip())

    def _begin_json(self, first: str, rest: Iterator[str]) -> None:
        """Guess what keys mean from the first line that is an object."""
        held = [first]
        names: list[str] | None = None
        outer: Mapping[str, Any] = {}
        line: str | None = first
        while line is not None and names is None and len(held) <= 1_000:
            try:
                outer = _object(line)
                names = list(_keys(outer))
            except ValueError:
                line = next(rest, None)
                held += [line] if line is not None else []
        if names is None:
            raise Refused(
                f'`{self.source}` has no line that is a JSON object such as {{"record": ...}} among its first {len(held):,}'
            )
        columns = self._resolve([*names, *(one for one in self._named() if "." in one)])
        keys = [columns.record, columns.before, columns.value or columns.after, columns.at]

        def path_of(key: str) -> list[str]:
            return [key] if key in outer else key.split(".")

        paths = [None if key is None else path_of(key) for key in keys]

        def pick(row: Any) -> tuple[Any, Any, Any, Any]:
            record, before, after, at = (None if path is None else _at(row, path) for path in paths)
            return record, before, after, at

        self._pick = pick
        if self.only:
            wanted = [(path_of(key), value) for key, value in self.only.items()]
            self._keep = lambda row: all(str(_at(row, path)) == value for path, value in wanted)
        self.lines -= 1
        self._rows = (line for part in (held, rest) for line in part)

    def _named(self) -> list[str]:
        of = self.columns
        return [name for name in (of.record, of.before, of.after, of.value, of.at) if name is not None]

    def _resolve(self, names: Sequence[str]) -> Columns:
        guessed = self.columns.before is None and self.columns.after is None
        self.columns = columns = self.columns.resolved(names)
        self.otherwise = columns.otherwise(names) if guessed else None
        return columns

    def _by_place(self, names: Sequence[str]) -> None:
        columns = self._resolve(names)
        for name in self.only:
            if name not in names:
                Columns(record=name).resolved(names)
        place = {name: number for number, name in reversed(list(enumerate(names)))}
        record, after = place[columns.record or ""], place[columns.value or columns.after or ""]
        before = None if columns.before is None else place[columns.before]
        at = None if columns.at is None else place[columns.at]
        count = len(names)

        def pick(row: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
            if len(row) != count:
                had = f"{len(row)} column" + ("s" if len(row) != 1 else "")
                raise ValueError(f"it has {had}, the first line has {count}")
            return row[record], None if before is None else row[before], row[after], None if at is None else row[at]

        self._pick = pick
        if self.only:
            wanted = [(place[name], value) for name, value in self.only.items()]
            self._keep = lambda row: all(number < len(row) and str(row[number]) == value for number, value in wanted)

    # Reading it

    def __iter__(self) -> Iterator[Step]:
        if self._pick is None:
            raise Refused("open a history before reading it: `with History(...) as history`")
        pick, keep, known, progress = self._pick, self._keep, self._known, self.progress
        moves = self.shape == "moves"
        for line, row in self._numbered():
            if progress is not None and not line % EVERY:
                progress(self._read())
            try:
                if keep is not None and not keep(row):
                    self.left_out += 1
                    continue
                record, before, after, at = pick(row)
                after = known.get(after) or self._value(after)
                if moves:
                    before = known.get(before) or (None if before is None or before in _NONE else self._value(before))
                if type(record) is not str or not 0 < len(record) <= RECORD_CHARACTERS:
                    record = _text(record, "no record is named", "the record's name", RECORD_CHARACTERS)
                if at is not None:
                    at = epoch(at)
            except (ValueError, TypeError) as error:  # of the latter: what cannot be looked up, a list or an object
                self._refuse(line, str(error) if isinstance(error, ValueError) else "its value is no text or number")
                continue
            yield Step(record, before, after, at)
        if progress is not None:
            progress(self._read())

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        if self.form == "csv":
            yield from self._csv_rows()
        elif self.form == "jsonl":
            for line in self._rows:
                self.lines += 1
                if not line.isspace():
                    try:
                        row = _object(line)
                    except ValueError as error:
                        self._refuse(self.lines, str(error))
                        continue
                    yield self.lines, row
        else:
            for row in self._rows:
                self.lines += 1
                yield self.lines, row

    def _csv_rows(self) -> Iterator[tuple[int, Any]]:
        lines = self._lines
        while True:
            try:
                for row in self._rows:
                    several = len(lines.row) > 1
                    if several and (torn := self._torn(row)):
                        self._refuse(lines.first, torn)
                        lines.put_back()
                    elif row:
                        yield lines.first if several else lines.number, row
                    lines.row.clear()
                    self.lines = lines.number
                return
            except csv.Error as error:
                self._refuse(lines.first, f"no CSV: {error}")
                lines.put_back()
                lines.row.clear()

    def _torn(self, row: Sequence[str]) -> str | None:
        """Return what is wrong with a row of several lines, if it is none."""
        assert self._pick is not None
        try:
            record, before, after, _ = self._pick(row)
        except ValueError:
            return "a quote is not closed, or it has too few columns"
        return "a quote is not closed" if "\n" in f"{record}{before}{after}" else None

    def _value(self, value: Any) -> str:
        """Return a value as it is stored, and remember it."""
        text = _text(value, "its value is empty", "its value", VALUE_CHARACTERS)
        if "\ufffd" in text:
            raise ValueError(f"`{text}` is no UTF-8")
        if "\n" in text or "\r" in text:
            raise ValueError(f"`{text}` has a line break")
        if text in self._known:
            return self._known[text]
        if len(self._known) >= VALUES:
            column = self.columns.value or self.columns.after
            raise LimitExceeded(
                f"column `{column}` has more than {VALUES:,} different values: is it the one with the state? Name another, or "
                "change the query",
                column=column,
            )
        self._known[text] = sys.intern(text)
        return text

    def _refuse(self, line: int, reason: str) -> None:
        reason = plain(reason, 200)
        if self.strict:
            raise Refused(
                f"line {line:,} of `{self.source}` is bad: {reason}; mend it, or read without --strict", line=line
            )
        if not self.bad.count:
            self.bad.line, self.bad.reason = line, reason
        self.bad.count += 1


def epoch(at: Any) -> float | None:
    """Return a time in seconds since the epoch; None for nothing at all.

    Takes ISO 8601 (without a zone: UTC), a date and time, and numbers: seconds, or milliseconds, microseconds and nanoseconds where they
    are so large that they can only be that.

    Raises:
        ValueError: it is no time.

    >>> epoch("2026-01-01T00:00:00Z"), epoch("2026-01-01 01:00:00,5+01:00"), epoch(1767225600000)
    (1767225600.0, 1767225600.5, 1767225600.0)
    """
    if type(at) is str:
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            if at.strip() in _NONE:
                return None
            try:
                return _unit(float(at))
            except ValueError:
                raise ValueError(f"`{at}` is no time: ISO 8601, or seconds since the epoch") from None
        if at.isdigit():  # 20260101 may be a day, 1767225600 is not
            return _unit(float(at)) if len(at) > 8 else moment.replace(tzinfo=UTC).timestamp()
        return moment.timestamp() if moment.tzinfo is not None else moment.replace(tzinfo=UTC).timestamp()
    if isinstance(at, datetime):
        return at.timestamp() if at.tzinfo is not None else at.replace(tzinfo=UTC).timestamp()
    if isinstance(at, date):
        return datetime(at.year, at.month, at.day, tzinfo=UTC).timestamp()
    if isinstance(at, bool) or not hasattr(at, "__float__"):
        raise ValueError(f"{at!r} is no time: ISO 8601, or seconds since the epoch")
    return _unit(float(at))


def _unit(number: float) -> float:
    if not -1e20 < number < 1e20:
        raise ValueError(f"{number!r} is no time: ISO 8601, or seconds since the epoch")
    for least, scale in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)):
        if abs(number) >= least:
            return number / scale
    return number


def _text(value: Any, empty: str, what: str, most: int) -> str:
    if value is None or value == "":
        raise ValueError(empty)
    if isinstance(value, list | dict | bytes):
        raise ValueError(f"{what} is neither text nor number: {str(value)[:60]}")
    text = str(value)
    if len(text) > most:
        raise ValueError(f"{what} has {len(text):,} characters, at most {most} are read: {text[:60]}")
    return text


def _object(line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except RecursionError:
        raise ValueError("its JSON is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError('it is JSON, but no object such as {"record": ...}')
    return found


def _keys(row: Mapping[str, Any]) -> Iterable[str]:
    """Yield the keys of an object, those of objects in it with dots."""
    for key, value in row.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in value)


def _at(row: Any, path: Sequence[str]) -> Any:
    for key in path:
        row = row.get(key) if isinstance(row, dict) else None
    return row
