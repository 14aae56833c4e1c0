"""Commands that look at operations: list, show, watch, history, why."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from interlock.cli.app import find, json_option, on_store, say_json, store_option, whole_history
from interlock.cli.machines import where
from interlock.definition.draw import draw
from interlock.definition.duration import duration_text
from interlock.errors import Refused, did_you_mean
from interlock.interpreter.possible import possible
from interlock.interpreter.status import STATUS
from interlock.runtime.telling import one_line, told, when

if TYPE_CHECKING:
    from interlock.definition.machine import Definition
    from interlock.interpreter.snapshot import Snapshot
    from interlock.runtime.engine import Interlock
    from interlock.stores.contract import Page, Record

__all__ = ["history", "list_operations", "owned", "show", "watch", "why"]


def ago(at: float) -> str:
    """Return how long ago something was."""
    return duration_text(float(max(0, round(time.time() - at))))


@click.command("list")
@click.option("--machine", help="Only of this machine.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(list(STATUS.states)),
    help="Only with this status; may be given often.",
)
@click.option("--state", help="Only in this state.")
@click.option("--stuck", is_flag=True, help="Only what needs a person.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", help="Continue a list.")
@store_option
@json_option
def list_operations(
    machine: str | None,
    statuses: tuple[str, ...],
    state: str | None,
    stuck: bool,
    limit: int,
    cursor: str | None,
    store: str,
    as_document: bool,
) -> None:
    """List operations, newest first.

    \b
    Example:  interlock list --stuck
    """
    wanted = ("stuck",) if stuck else statuses
    page = on_store(store, lambda interlock: interlock.list(machine, wanted, state, cursor, limit))  # type: ignore[arg-type]  # click chose from these
    if as_document:
        say_json({"operations": page.snapshots, "cursor": page.cursor})
    else:
        _table(page)


def _table(page: Page) -> None:
    from rich.console import Console
    from rich.table import Table

    if not page.snapshots:
        click.echo("no operations")
        return
    table = Table("operation", "machine", "state", "status", "for", "age", box=None, pad_edge=False)
    for one in page.snapshots:
        table.add_row(one.id, one.machine, one.state, one.status, ago(one.changed), ago(one.started))
    width = None if sys.stdout.isatty() else 1_000
    Console(highlight=False, markup=False, emoji=False, width=width).print(table)
    if page.cursor is not None:
        click.echo(f"more: --cursor {page.cursor}")


@click.command()
@click.argument("id")
@store_option
@json_option
def show(id: str, store: str, as_document: bool) -> None:
    """Show one operation: where it is, its data, and what can be asked of it.

    \b
    Example:  interlock show 01j9
    """

    async def look(interlock: Interlock) -> str:
        if as_document:
            say_json(await interlock.show(await find(interlock, id)))
            return ""
        machine, snapshot, visited = await where(interlock, id)
        lines = [
            f"{snapshot.id}  {snapshot.status} in {snapshot.state}, since {when(snapshot.changed)} UTC",
            draw(machine, "text", current=snapshot.state, visited=visited),
            one_line(f"started {when(snapshot.started)} UTC{f' by {snapshot.by}' if snapshot.by else ''}"),
            f"data: {json.dumps(snapshot.data)}",
        ]
        if snapshot.steps and not snapshot.ended:
            lines.append(f"to undo if it fails: {', '.join(reversed(snapshot.steps))}")
        lines += [
            f"timer {name}: {when(at)} UTC" for name, at in sorted(snapshot.timers.items(), key=lambda timer: timer[1])
        ]
        lines.append(f"possible: {', '.join(possible(machine, snapshot)) or 'nothing, it is over'}")
        return "\n".join(lines)

    text = on_store(store, look)
    if text:
        click.echo(text)


@click.command()
@click.argument("id")
@click.option("--after", default=0, type=click.IntRange(0), help="Only above this sequence number.")
@store_option
@json_option
def history(id: str, after: int, store: str, as_document: bool) -> None:
    """Tell everything that happened to an operation, a fact a line.

    \b
    Example:  interlock history 01j9
    """

    async def look(interlock: Interlock) -> None:
        async for record in whole_history(interlock, await find(interlock, id), after):
            _say(record, as_document)

    on_store(store, look)


def _say(record: Record, as_document: bool, operation: bool = False) -> None:
    if as_document:
        say_json(record)
        return
    first = record.seq - len(record.facts) + 1
    for number, fact in enumerate(record.facts):
        named = f"{record.operation}  " if operation else ""
        click.echo(f"{when(record.at)}  {named}{first + number:>5}  {told(fact)}")


@click.command()
@click.argument("id", required=False)
@click.option("--until", metavar="STATE|STATUS", default="", help="Leave off as soon as the operation is there.")
@store_option
@json_option
def watch(id: str | None, until: str, store: str, as_document: bool) -> None:
    """Follow one operation until it ends, or all of them from now on.

    Exit status 1 if the operation ended and did not succeed, or with --until, ended elsewhere. One that is stuck is followed on: a person
    may mend it.

    \b
    Example:  interlock watch 01j9 --until verifying
    """
    if until and id is None:
        raise click.UsageError("--until: name the operation that is to come there")

    async def follow(interlock: Interlock) -> Snapshot | None:
        if id is None:
            async for record in interlock.watch():
                _say(record, as_document, operation=True)
                sys.stdout.flush()
            return None
        whole = await find(interlock, id)
        machine = await _machine_of(interlock, whole)
        known = [*machine.table, *STATUS.states]
        if until and until not in known:
            raise Refused(f"{machine.name} has no state `{until}`, nor is it a status{did_you_mean(until, known)}")
        if not as_document:
            return await _follow(interlock, whole, machine, until)
        async for record in interlock.watch(whole):
            _say(record, True)
            sys.stdout.flush()
            if until and until in _at(snapshot := await interlock.show(whole)):
                return snapshot
        return await interlock.show(whole)

    try:
        snapshot = on_store(store, follow)
    except KeyboardInterrupt:
        sys.exit(0)
    sys.exit(0 if snapshot is None or (until or "succeeded") in _at(snapshot) else 1)


def _at(snapshot: Snapshot) -> tuple[str, str]:
    return snapshot.state, snapshot.status


async def _machine_of(interlock: Interlock, id: str) -> Definition:
    snapshot = await interlock.show(id)
    return await interlock.definition(snapshot.machine, snapshot.version)


async def _follow(interlock: Interlock, id: str, machine: Definition, until: str) -> Snapshot:
    import asyncio

    from interlock.cli.live import LiveView, children_of

    seen = 0
    with LiveView(machine) as view:
        while True:
            records = await interlock.history(id, after=seen)
            snapshot = await interlock.show(id)
            view.update(snapshot, records, await interlock.progress(id), await children_of(interlock, snapshot))
            seen = records[-1].seq if records else seen
            if seen >= snapshot.seq and (snapshot.ended or until in _at(snapshot)):
                return snapshot
            await asyncio.sleep(0.1)


@click.command()
@click.argument("id")
@store_option
@json_option
def why(id: str, store: str, as_document: bool) -> None:
    """Say what an operation waits for, who holds it, what comes next, and what can be asked of it.

    Exit status 1 if it needs a person.

    \b
    Example:  interlock why 01j9
    """

    async def look(interlock: Interlock) -> None:
        answer = await interlock.why(await find(interlock, id))
        timers = sorted((await interlock.show(answer.operation)).timers.items(), key=lambda timer: timer[1])
        if as_document:
            say_json(answer)
        else:
            click.echo(
                f"{answer.operation} ({answer.machine} version {answer.version}): {answer.status} in {answer.state}"
            )
            click.echo(one_line(f"waits for {answer.waits_for}"))
            click.echo(f"since {when(answer.since)} UTC, {ago(answer.since)} ago")
            if answer.held_by:
                until = f", lease until {when(answer.held_until)} UTC" if answer.held_until is not None else ""
                click.echo(f"held by {answer.held_by}{until}")
            if answer.next_at is not None:
                click.echo(f"the clock moves it at {when(answer.next_at)} UTC")
            for name, at in timers:
                click.echo(f"- timer {name} is set for {when(at)} UTC")
            for detail in answer.details:
                if not detail.startswith("timer "):  # these tell the time to programs
                    click.echo(one_line(f"- {detail}"))
            click.echo(f"possible: {', '.join(answer.possible) or 'nothing'}")
        sys.exit(1 if answer.status == "stuck" else 0)

    on_store(store, look)


@click.command()
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@click.option("--after", default="", help="Continue a list: the last operation of the page before.")
@store_option
@json_option
def owned(limit: int, after: str, store: str, as_document: bool) -> None:
    """List what operations own that have not ended: who has to give back what.

    \b
    Example:  interlock owned
    """
    found = on_store(store, lambda interlock: interlock.owned(after, limit))
    if as_document:
        say_json({"operations": found})
    for one in () if as_document else found:
        for own in one.owned:
            click.echo(one_line(f"{own.kind} {own.id}  {one.id}  {one.machine} {one.status} in {one.state}"))
    if not found and not as_document:
        click.echo("no operation owns anything")
    elif len(found) == limit and not as_document:
        click.echo(f"more: --after {found[-1].id}")
