"""Commands about what older code did: mine a machine from it, hold a machine against it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from interlock.cli.app import json_option, say_json, write_file
from interlock.cli.machines import loaded
from interlock.definition.draw import FORMATS
from interlock.definition.draw import draw as drawn
from interlock.errors import Refused
from interlock.history.columns import Columns
from interlock.history.conform import conform as held
from interlock.history.conform import painted
from interlock.history.mine import RARE_COUNT, RARE_SHARE
from interlock.history.mine import mine as mined
from interlock.history.reading import Form, History
from interlock.history.tally import OPEN, Tally, tally
from interlock.history.telling import (
    about,
    conformance_data,
    conformance_text,
    proposal_data,
    proposal_text,
    reading_notes,
)

__all__ = ["conform", "mine"]

F = TypeVar("F", bound=Callable[..., Any])
SUFFIXES = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot", ".txt": "text"}


def history_options(command: F) -> F:
    """Add what says where a history is, and how to read it."""
    for option in reversed(
        (
            click.argument("source", metavar="HISTORY"),
            click.option("--query", metavar="SQL", help="What to ask the database for; rows in the order of time."),
            click.option("--record", metavar="COLUMN", help="Column (or key) that names the record."),
            click.option("--from", "before", metavar="COLUMN", help="Column of the value before a move."),
            click.option("--to", "after", metavar="COLUMN", help="Column of the value after a move."),
            click.option("--value", metavar="COLUMN", help="Column of successive values, instead of --from and --to."),
            click.option("--at", metavar="COLUMN", help="Column of the time: ISO 8601, or seconds since the epoch."),
            click.option(
                "--only",
                multiple=True,
                metavar="COLUMN=VALUE",
                help="Read these lines only; may be given more than once.",
            ),
            click.option(
                "--form", type=click.Choice(["csv", "jsonl"]), help="Default: by the name, or the first letter."
            ),
            click.option("--strict", is_flag=True, help="Stop at the first bad line, instead of counting them."),
            click.option(
                "--remember",
                type=click.IntRange(min=2),
                default=OPEN,
                show_default=True,
                help="Records whose place is kept in mind.",
            ),
        )
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class _Reading:
    history: History
    tally: Tally


def _counted(source: str, options: dict[str, Any]) -> _Reading:
    """Read a history, with a bar on a terminal."""
    only = {}
    for one in options["only"]:
        name, equals, value = one.partition("=")
        if not equals:
            raise click.UsageError(f"--only {one}: write COLUMN=VALUE")
        only[name] = value
    columns = Columns(options["record"], options["before"], options["after"], options["value"], options["at"])
    form: Form | None = options["form"]
    history = History(source, options["query"], columns, only, form, strict=options["strict"])
    with _watched(history), history:
        counted = tally(history, history.shape, remembered=options["remember"])
    if not counted.lines:
        why = f"; {history.bad.count:,} lines are bad, the first is {history.bad}" if history.bad.count else ""
        why += f"; {history.left_out:,} lines are left out by --only" if history.left_out else ""
        raise Refused(f"nothing was read: the history has no good line{why}")
    return _Reading(history, counted)


@contextmanager
def _watched(history: History) -> Iterator[None]:
    """Show how far it is, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading", total=history.size_bytes)
        history.progress = lambda done: progress.update(bar, completed=done)
        yield


@click.command()
@history_options
@click.option("--name", help="The machine's name.  [default: the file's]")
@click.option(
    "--python", "form_of_machine", flag_value="python", help="Print a Python class instead of a YAML document."
)
@click.option(
    "--rare-share",
    type=click.FloatRange(0, 100),
    default=RARE_SHARE * 100,
    show_default=True,
    metavar="PERCENT",
    help="A move is rare if fewer of the records that came to a state left it so, ...",
)
@click.option(
    "--rare-count",
    type=click.IntRange(min=0),
    default=RARE_COUNT,
    show_default=True,
    metavar="N",
    help="... and fewer than this many times.",
)
@click.option("--keep-rare", is_flag=True, help="Leave rare moves in the machine.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@json_option
def mine(
    source: str,
    name: str | None,
    form_of_machine: str | None,
    rare_share: float,
    rare_count: int,
    keep_rare: bool,
    output: Path | None,
    as_document: bool,
    **options: Any,
) -> None:
    """Propose a machine from what happened.

    HISTORY is a file of CSV or JSON lines, - for standard input, or a database's URL with --query. A line tells a move (record, from,
    to, at), or the value that a record has from then on (record, value, at). Columns are guessed if they are not named. What the machine
    rests on stands above it as comments: how often each move was made, when first and last, an example, how long states lasted; and, left
    out of the machine, moves so rare that they look like accidents.

    \b
    Example:  interlock mine moves.csv > volume.yaml
              interlock mine postgresql+psycopg://host/db --query \\
                  "SELECT resize AS record, status, at FROM history ORDER BY id" --python
    """
    form = form_of_machine or ("python" if output is not None and output.suffix == ".py" else "yaml")
    reading = _counted(source, options)
    history, counted = reading.history, reading.tally
    found = mined(
        counted,
        name or ("mined" if "://" in source or source == "-" else Path(source).stem),
        rare_share=rare_share / 100,
        rare_count=rare_count,
        keep_rare=keep_rare,
    )
    rule = f"fewer than {rare_count:,} times, and by fewer than {rare_share:g} % of the records that came to the state"
    data = proposal_data(found, counted, history)
    if output is not None or not as_document:
        text = proposal_text(found, counted, history, form, rule)
        if output is None:
            click.echo(text, nl=False)
        else:
            write_file(output, text)
    if as_document:
        return say_json({**data, **({"wrote": str(output)} if output else {})})
    states, edges = len(found.machine.states), sum(before != "" for before, _ in found.kept)
    left = len(found.rare) + len(found.behind)
    click.echo(
        f"{states} states and {edges} edges, {left} rare moves left out, from {about(history, counted)}", err=True
    )
    for note in reading_notes(history, counted):
        click.echo(f"note: {note}", err=True)
    if output is not None:
        click.echo(f"wrote {output}", err=True)


@click.command()
@click.argument("target", metavar="MACHINE")
@history_options
@click.option("--partial", is_flag=True, help="The history begins in the middle: a record's first value is no making.")
@click.option(
    "--draw",
    "drawing",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the machine into this file, its ways as wide as they were used, violations in red.",
)
@click.option("--format", "form_of_drawing", type=click.Choice(FORMATS), help="Default: by the file's name, else svg.")
@json_option
def conform(
    target: str,
    source: str,
    partial: bool,
    drawing: Path | None,
    form_of_drawing: str | None,
    as_document: bool,
    **options: Any,
) -> None:
    """Say where what happened is not what a machine allows.

    MACHINE is module:Machine or a document; HISTORY is as for `interlock mine`. Exit status 1 if a move is not allowed, a record was made
    in a state that is not initial, or a value is unknown.

    \b
    Example:  interlock conform volume.yaml moves.csv --draw volume.svg
              interlock conform interlock.compute.nova:live_migration migrations.jsonl --only migration_type=live-migration
    """
    machine = loaded(target)
    if form_of_drawing and drawing is None:
        raise Refused("--format is the drawing's: name its file with --draw")
    reading = _counted(source, options)
    history, counted = reading.history, reading.tally
    found = held(machine, counted, partial=partial)
    data = conformance_data(found, counted, history)
    if drawing is not None:
        form = form_of_drawing or SUFFIXES.get(drawing.suffix.lower(), "svg")
        write_file(drawing, drawn(machine, form, edges=painted(found, counted.again)))
        data["wrote"] = str(drawing)
    if as_document:
        say_json(data)
    else:
        click.echo(conformance_text(found, counted, history), nl=False)
        if drawing is not None:
            click.echo(f"wrote {drawing}")
    sys.exit(0 if found.holds else 1)
