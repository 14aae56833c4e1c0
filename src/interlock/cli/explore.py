"""``interlock explore``: a user's own actions in virtual time, crashed everywhere."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any

import click

from interlock.cli.app import imported, json_option, say_json
from interlock.errors import Refused, did_you_mean
from interlock.exploring.explore import BUDGET_SECONDS, Explorer, Finding, Report, replay, story_of
from interlock.exploring.scenario import Exploration

__all__ = ["explore"]

_EXAMPLE = "exploration = Exploration(world=FakeWorld, actions=make_actions, operations=[Start(Machine, ...)], invariants=[...])"


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a budget in seconds: ``30``, ``30s`` or ``5m``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", value)
    if found is None or not float(found[1]) > 0:
        raise click.BadParameter(f"{value!r} is no time: write 30s, 5m or 1h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


@click.command()
@click.argument("target")
@click.option("--budget", callback=_seconds, help=f"Processor time: 30s, 5m, 1h.  [default: {BUDGET_SECONDS:g}s]")
@click.option("--runs", type=click.IntRange(1), help="So many runs, in place of a time.")
@click.option(
    "--depth",
    type=click.IntRange(0, 2),
    default=2,
    show_default=True,
    help="1: every single mishap; 2: pairs of them too; 0: dice alone.",
)
@click.option("--seed", help="Play one run again, by the seed that was printed; or a number: dice begin with that run.")
@click.option("--story", is_flag=True, help="With --seed: tell what happened even if everything holds.")
@json_option
def explore(
    target: str,
    budget: float | None,
    runs: int | None,
    depth: int,
    seed: str | None,
    story: bool,
    as_document: bool,
) -> None:
    """Run your own actions against your own fakes in virtual time, and crash them everywhere.

    TARGET is module:name of an Exploration: a fake world, your actions over it, operations to start, and invariants. Every place of a run
    is tried with every mishap: crashes, frozen workers that wake up late, failures, hangs, cancels, signals; then pairs of them; then runs
    by dice. What breaks an invariant is shrunk to the shortest story, with a seed that plays it again and a test to paste. Exit status: 0
    nothing was found, 1 something was, 2 it cannot be explored.

    \b
    Example:  interlock explore shop:exploration --budget 1m
    """
    exploration = found(target)
    if story and (seed is None or seed.isdecimal()):
        raise click.UsageError("--story tells one run: name it with --seed")
    if seed is not None and not seed.isdecimal():
        sys.exit(_replayed(exploration, target, seed, story, as_document))
    explorer = Explorer(exploration, target=target, depth=depth, runs=runs, seconds=budget, first=int(seed or 0))
    report = explorer.run() if as_document or not sys.stderr.isatty() else _watched(explorer)
    if as_document:
        say_json(_document(target, report))
    else:
        click.echo(str(report))
    sys.exit(1 if report.finding is not None else 0)


def found(target: str) -> Exploration[Any]:
    """Return the scenario that ``module:name`` names; raises `Refused`."""
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise Refused(f"`{target}`: write module:name of an Exploration, such as shop:exploration", target=target)
    with imported(target):
        loaded = import_module(module)
    one = getattr(loaded, name, None)
    if isinstance(one, Exploration):
        return one
    known = [key for key, value in vars(loaded).items() if isinstance(value, Exploration)]
    if one is None:
        there = f"; it has {', '.join(known)}" if known else f"; write one: {_EXAMPLE}"
        raise Refused(f"`{module}` has no `{name}`{did_you_mean(name, known)}{there}", target=target)
    raise Refused(
        f"`{target}` is {type(one).__name__}, not an Exploration; write one beside it: {_EXAMPLE}", target=target
    )


def _watched(explorer: Explorer) -> Report:
    """Explore with a bar on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("exploring"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("", total=1.0)
        explorer.progress = lambda report: bar.update(line, completed=explorer.share(), description=report.coverage())
        return explorer.run()


def _replayed(exploration: Exploration[Any], target: str, seed: str, story: bool, as_document: bool) -> int:
    finding = replay(exploration, seed, target=target)
    told = story_of(exploration, seed) if story and finding is None else ""
    if as_document:
        say_json({"target": target, "seed": seed, "found": _finding(finding), **({"story": told} if told else {})})
    elif finding is not None:
        click.echo(f"found: {finding}")
    else:
        click.echo(f"{told}\n\nseed {seed}: nothing found" if told else f"seed {seed}: nothing found")
    return 1 if finding is not None else 0


def _finding(finding: Finding | None) -> dict[str, str] | None:
    if finding is None:
        return None
    return {
        "invariant": finding.invariant,
        "answer": finding.answer,
        "seed": finding.seed,
        "story": finding.story,
        "test": finding.test,
    }


def _document(target: str, report: Report) -> dict[str, Any]:
    return {
        "target": target,
        "found": _finding(report.finding),
        "depth": report.depth,
        "complete": report.complete,
        "runs": report.runs,
        "places": report.points,
        "single_mishaps": {"played": report.singles[0], "of": report.singles[1]},
        "pairs": {"played": report.pairs[0], "of": report.pairs[1]},
        "dice": report.dice,
        "mishaps": dict(report.mishaps),
        "ends": dict(report.ends),
        "cpu_seconds": round(report.cpu_seconds, 3),
    }
