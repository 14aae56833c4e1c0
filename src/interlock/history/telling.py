"""What was mined, and what conforming found, in words and as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from interlock.definition.document import to_document, write_document
from interlock.definition.duration import duration_text
from interlock.history.conform import Conformance
from interlock.history.mine import Proposal
from interlock.history.plain import plain
from interlock.history.reading import History
from interlock.history.stays import Stays
from interlock.history.tally import START, Tally, Use

__all__ = ["about", "conformance_data", "conformance_text", "proposal_data", "proposal_text", "reading_notes"]

NEW = "(new)"
CELL = 90
UsesByPair = Mapping[tuple[str, str], Use]


def proposal_text(found: Proposal, tally: Tally, history: History, form: str, rule: str) -> str:
    """Return a proposed machine, with what is behind it as comments.

    Args:
        form: ``yaml``, or ``python``.
        rule: what was called rare, in words.
    """
    if form == "python":
        from interlock.definition.source import to_python

        document = to_python(found.machine)
    else:
        document = write_document(found.machine, "yaml")
    lines = [f"# {plain(line)}".rstrip() for line in _proposal_lines(found, tally, history, rule)]
    return "\n".join([*lines, "", document])


def _proposal_lines(found: Proposal, tally: Tally, history: History, rule: str) -> Iterator[str]:
    yield f"Mined from {about(history, tally)}."
    yield f"Read as {history.shape}: {history.columns}."
    yield "To be checked by somebody who knows: that the final states are ends, how each ends (guessed from its name),"
    yield "which states records begin in; and every move below that surprises you."
    for value in found.met:
        yield f"`{value}` is called initial because records were first met in it, and no move leads there."
    for value, count in found.resting.items():
        yield f"`{value}` is called final, though it is left again, because {count:,} records stayed there."
    yield from (f"Note: {note}." for note in reading_notes(history, tally))
    yield ""
    yield from _uses("moves", found.kept)
    if found.rare or found.behind:
        yield ""
        yield from _uses(f"left out as rare ({rule})", found.rare)
        if found.behind:
            yield from _uses("left out because only these lead there", found.behind)
    if tally.stays:
        yield ""
        yield from _stays(tally.stays)


def proposal_data(found: Proposal, tally: Tally, history: History) -> dict[str, Any]:
    """Return a proposal as plain data."""
    return {
        "machine": to_document(found.machine),
        "moves": _uses_data(found.kept),
        "rare": _uses_data(found.rare),
        "behind_rare": _uses_data(found.behind),
        "initial_as_met": list(found.met),
        "final_yet_left": dict(found.resting),
        "stays": _stays_data(tally.stays),
        "history": _history_data(history, tally),
    }


def conformance_text(found: Conformance, tally: Tally, history: History) -> str:
    """Return what a history says about a machine, in words."""
    return "".join(f"{plain(line)}\n" for line in _conformance_lines(found, tally, history))


def _conformance_lines(found: Conformance, tally: Tally, history: History) -> Iterator[str]:
    machine = found.machine
    yield f"{machine.name}, version {machine.version}, against {about(history, tally)}"
    yield f"read as {history.shape}: {history.columns}"
    if found.refused:
        yield ""
        yield from _uses("moves that the machine does not allow", found.refused)
    if found.made:
        yield ""
        yield from _uses(
            "records made in a state that is not initial", {(START, to): use for to, use in found.made.items()}
        )
    if found.strangers:
        yield ""
        yield "states that the machine does not know"
        rows = [
            (
                f"`{one.value}`",
                f"{one.count:,} came",
                f"{one.resting:,} {'is' if one.resting == 1 else 'are'} in it",
                f"such as {', '.join(one.records)}",
            )
            for one in found.strangers
        ]
        yield from _table(rows)
    if found.unused:
        yield ""
        yield "edges that nothing took"
        yield from (f"  {before or NEW} -> {after}" for before, after in found.unused)
    if found.lasted:
        yield ""
        yield from _stays(found.lasted)
    yield ""
    yield from (f"Note: {note}." for note in reading_notes(history, tally))
    good = sum(use.count for use in found.allowed.values())
    bad = sum(use.count for use in [*found.refused.values(), *found.made.values()])
    yield f"{good:,} {'move is' if good == 1 else 'moves are'} allowed, {bad:,} {'is' if bad == 1 else 'are'} not"


def conformance_data(found: Conformance, tally: Tally, history: History) -> dict[str, Any]:
    """Return what a history says about a machine, as plain data."""
    return {
        "machine": found.machine.name,
        "version": found.machine.version,
        "holds": found.holds,
        "not_allowed": _uses_data(found.refused),
        "made_wrong": _uses_data({(START, to): use for to, use in found.made.items()}),
        "unknown": [
            {"value": one.value, "count": one.count, "resting": one.resting, "records": list(one.records)}
            for one in found.strangers
        ],
        "unused": [{"from": before or None, "to": after} for before, after in found.unused],
        "allowed": _uses_data(found.allowed),
        "stays": _stays_data(found.lasted),
        "history": _history_data(history, tally),
    }


def about(history: History, tally: Tally) -> str:
    """Return how much was read, about whom, and from when to when."""
    times = [at for use in tally.moves.values() for at in (use.first, use.last) if at is not None]
    when = f", {_time(min(times))} to {_time(max(times))}" if times else ""
    return f"{_many(tally.lines, 'line')} about {_many(tally.records, 'record')}{when}"


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def reading_notes(history: History, tally: Tally) -> list[str]:
    """Return what may make the numbers wrong."""
    notes, columns = [], history.columns
    if history.bad.count:
        were = "line was" if history.bad.count == 1 else "lines were"
        notes.append(f"{history.bad.count:,} bad {were} left out, the first is {history.bad}")
    if history.otherwise is not None:
        notes.append(
            f"`{plain(history.otherwise)}` could be a history of values: to read that instead, say --value {plain(history.otherwise)}"
        )
    if tally.lines == tally.records > 1 and tally.met:
        notes.append(
            f"each line is about another record: does `{columns.record}` name the line? Name the record's with --record"
        )
    if history.left_out:
        notes.append(f"{history.left_out:,} lines were left out by --only")
    if columns.at is None:
        notes.append("there is no column of times: how long states last is not known")
    if tally.gaps is not None:
        gaps = tally.gaps
        notes.append(
            f"{gaps.count:,} moves began elsewhere than where their record was last seen (the first: {gaps.example}); lines are missing, "
            "or not in the order of time"
        )
    if tally.unordered:
        notes.append(
            f"{tally.unordered:,} lines have an earlier time than the one before, of the same record: sort by time"
        )
    if tally.forgotten:
        notes.append(
            f"{tally.forgotten:,} times a record came back after so many others that its place was forgotten: how long it stayed is not in "
            "the figures"
            + (", and its first value was not judged" if history.shape == "values" else "")
            + "; raise --remember"
        )
    if tally.again:
        again = sum(tally.again.values())
        notes.append(f"{again:,} lines left the value as it was, and are no moves")
    return notes


# Tables


def _uses(title: str, uses: UsesByPair) -> Iterator[str]:
    if not uses:
        return
    rows: list[Sequence[str]] = [("", "times", "first", "last", "example")]
    for (before, after), use in uses.items():
        rows.append((f"{before or NEW} -> {after}", f"{use.count:,}", _time(use.first), _time(use.last), use.example))
    yield title
    yield from _table(rows)


def _stays(stays: Mapping[str, Stays]) -> Iterator[str]:
    yield "how long records stayed in a state before they left it"
    rows: list[Sequence[str]] = [("", "times", "median", "95 %", "longest")]
    for value, one in stays.items():
        quantiles = (one.quantile(0.5), one.quantile(0.95), one.most)
        rows.append((value, f"{one.count:,}", *(_span(seconds) for seconds in quantiles)))
    yield from _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with their columns in line, numbers to the right."""
    rows = [[plain(cell, CELL) for cell in row] for row in rows]
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        yield f"  {'  '.join(cells)}".rstrip()


def _time(at: float | None) -> str:
    if at is None:
        return "-"
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"


def _span(seconds: float) -> str:
    """Return a duration with about three digits.

    >>> _span(0.01234), _span(59.96), _span(3725.4), _span(1_000_000)
    ('0.0123s', '1m', '1h2m', '278h')
    """
    if seconds < 59.95:
        return f"{float(f'{seconds:.3g}'):g}s"
    if seconds > 86_400 * 9_999:
        return f"{seconds / 86_400:,.0f}d"
    unit = 1 if seconds < 3600 else 60 if seconds < 86_400 else 3600
    return duration_text(float(round(seconds / unit) * unit))


def _uses_data(uses: UsesByPair) -> list[dict[str, Any]]:
    return [
        {
            "from": before or None,
            "to": after,
            "count": use.count,
            "first": None if use.first is None else _time(use.first),
            "last": None if use.last is None else _time(use.last),
            "example": use.example,
        }
        for (before, after), use in uses.items()
    ]


def _stays_data(stays: Mapping[str, Stays]) -> dict[str, Any]:
    def rounded(seconds: Iterable[float]) -> list[float]:
        return [float(f"{one:.4g}") for one in seconds]

    found = {}
    for value, one in stays.items():
        median, high, most = rounded((one.quantile(0.5), one.quantile(0.95), one.most))
        found[value] = {"count": one.count, "median_seconds": median, "p95_seconds": high, "longest_seconds": most}
    return found


def _history_data(history: History, tally: Tally) -> dict[str, Any]:
    bad, columns = history.bad, history.columns
    return {
        "shape": history.shape,
        "columns": {
            "record": columns.record,
            "from": columns.before,
            "to": columns.after,
            "value": columns.value,
            "at": columns.at,
        },
        "lines": tally.lines,
        "records": tally.records,
        "bad": {"count": bad.count, "first_line": bad.line, "reason": bad.reason} if bad.count else None,
        "left_out": history.left_out,
        "notes": reading_notes(history, tally),
    }
