"""The command `check`: machines held against what every machine promises, before one of them runs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.app import json_option, say_json, write_file
from interlock.cli.machines import loaded
from interlock.errors import IllegalDocument, IllegalMachine

if TYPE_CHECKING:
    from interlock.checking.check import Report
    from interlock.checking.finding import Finding
    from interlock.definition.machine import Definition

__all__ = ["Checked", "check"]

SHOWN = 20
"""Findings of one code that are printed for a machine."""


@dataclass(frozen=True)
class Checked:
    """One target: its machine and its report, or why there is no machine."""

    target: str
    name: str
    findings: tuple[Finding, ...]
    machine: Definition | None = None
    report: Report | None = None

    @property
    def errors(self) -> list[Finding]:
        """What breaks a promise."""
        return [one for one in self.findings if one.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """What the machine does not accept."""
        return [one for one in self.findings if one.severity == "warning" and not one.accepted]

    @property
    def accepted(self) -> list[Finding]:
        """What it does."""
        return [one for one in self.findings if one.accepted]


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings that are not accepted, too.")
@click.option("--sarif", metavar="FILE", help="Write SARIF 2.1.0, for code hosts; - prints it instead of the text.")
@click.option(
    "--budget",
    type=click.IntRange(1, 5_000_000),
    default=50_000,
    show_default=True,
    metavar="N",
    help="Situations of a machine that are explored at most; about 2 kB and a third of a millisecond each.",
)
@json_option
def check(targets: tuple[str, ...], strict: bool, sarif: str | None, budget: int, as_document: bool) -> None:
    """Prove what machines promise, or show the shortest way to where they break it.

    Everything that the interpreter can do with a machine is explored: outcomes, failures, timeouts, signals, cancels, pauses and lost
    workers at every moment. Machines named together are held against each other: their claims, and the children that one starts of another.
    What an operator would want to know is a warning, which a machine accepts with a reason in its `accepts`. Exit status 1 if there is an
    error (with --strict: or a warning); 2 if a target cannot be read.

    \b
    Example:  interlock check deploy.yaml volumes:VolumeResize
    """
    if as_document and sarif == "-":
        raise click.UsageError("--json and --sarif - both want standard output: give --sarif a file")
    every = _checked(targets, budget)
    if sarif is not None:
        from interlock.cli.sarif import sarif_log

        text = json.dumps(sarif_log(every), indent=2) + "\n"
        click.echo(text, nl=False) if sarif == "-" else write_file(Path(sarif), text)
    if as_document:
        say_json(_document(every))
    elif sarif != "-":
        for one in every:
            _say(one)
    bad = any(one.errors or (strict and one.warnings) for one in every)
    sys.exit(1 if bad else 0)


def _checked(targets: tuple[str, ...], budget: int) -> list[Checked]:
    """Load all targets first, so that each is checked beside the others."""
    from interlock.checking.check import check as checked
    from interlock.checking.check import refused
    from interlock.checking.explore import Budget
    from interlock.checking.finding import Finding

    every: list[Checked] = []
    for target in targets:
        try:
            machine = loaded(target)
        except IllegalMachine as illegal:
            every.append(Checked(target, illegal.machine, refused(illegal.faults)))
        except IllegalDocument as illegal:
            mend = "`interlock convert` writes documents in the right form; the schema of machines describes it."
            every.append(Checked(target, "", (Finding(illegal.code, "error", "", illegal.message, (), mend),)))
        else:
            every.append(Checked(target, machine.name, (), machine))
    known = [one.machine for one in every if one.machine is not None]
    done = []
    for one in every:
        if one.machine is not None:
            with _watched(one.target, budget) as watch:
                report = checked(one.machine, Budget(budget, 20 * budget), known, watch)
            one = Checked(one.target, one.name, report.findings, one.machine, report)
        done.append(one)
    return done


@contextmanager
def _watched(target: str, budget: int) -> Iterator[Callable[[int], None] | None]:
    """Show how far it is, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"exploring {target}", total=budget)
        yield lambda count: progress.update(bar, completed=count)


def _document(every: list[Checked]) -> dict[str, Any]:
    def listed(one: Checked, findings: list[Finding]) -> list[dict[str, Any]]:
        return [{"target": one.target, "machine": one.name, **asdict(finding)} for finding in findings]

    return {
        "found": [line for one in every for line in listed(one, [*one.errors, *one.warnings])],
        "accepted": [line for one in every for line in listed(one, one.accepted)],
        "checked": [
            {
                "target": one.target,
                "machine": one.report.machine,
                "version": one.report.version,
                "errors": len(one.errors),
                "warnings": len(one.warnings),
                "explored": one.report.explored,
                "decisions": one.report.decisions,
                "complete": one.report.complete,
                "note": one.report.note,
            }
            for one in every
            if one.report is not None
        ],
    }


def _say(one: Checked) -> None:
    about = f"{one.name} version {one.report.version}: " if one.report else ""
    if one.machine is not None and one.report is not None:
        about += f"{len(one.machine.states):,} states; {one.report.note}"
    counts = [(len(one.errors), "error"), (len(one.warnings), "warning")]
    found = ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts if count) or "nothing found"
    if one.accepted:
        found += f" ({len(one.accepted)} accepted)"
    click.echo(f"{one.target}: {found}{' in ' + about if about else ''}")
    shown: Counter[str] = Counter()
    for finding in [*one.errors, *one.warnings]:
        shown[finding.code] += 1
        if shown[finding.code] > SHOWN:
            continue
        where = f"{finding.state}: " if finding.state else ""
        click.echo(f"  {where}{finding.what}. [{finding.severity} {finding.code}]")
        if finding.story:
            click.echo(f"      How it gets there: {'; '.join(finding.story)}.")
        click.echo(f"      {finding.mend}")
    for code, count in shown.items():
        if count > SHOWN:
            click.echo(f"  and {count - SHOWN:,} more of [{code}]: --json lists them all")
    for finding in one.accepted:
        click.echo(f"  accepted: {finding.code}{':' + finding.state if finding.state else ''} ({finding.accepted})")
