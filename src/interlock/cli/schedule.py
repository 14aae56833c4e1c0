"""The commands schedule, schedules and unschedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from interlock.cli.app import by_option, json_option, on_store, say_json, store_option
from interlock.cli.start import conflict_option, machine_of, values_of
from interlock.definition.machine import definition_of
from interlock.runtime.telling import one_line, when

if TYPE_CHECKING:
    from interlock.definition.declare import OnConflict
    from interlock.runtime.engine import Interlock
    from interlock.stores.contract import Schedule

__all__ = ["schedule", "schedules", "unschedule"]


@click.command()
@click.argument("name")
@click.argument("cron")
@click.argument("target")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--data", metavar="JSON", help="The data as one JSON object; fields given as words come on top.")
@click.option("--timezone", default="UTC", show_default=True, help="In which CRON is read: Europe/Berlin.")
@conflict_option
@by_option
@store_option
@json_option
def schedule(
    name: str,
    cron: str,
    target: str,
    fields: tuple[str, ...],
    data: str | None,
    timezone: str,
    on_conflict: OnConflict | None,
    by: str,
    store: str,
    as_document: bool,
) -> None:
    """Start an operation again and again, at the times that CRON names. A schedule of the same NAME is replaced.

    TARGET and fields are those of `start`. Workers start what is due; what nobody was there for is made up for once.

    \b
    Example:  interlock schedule nightly "30 2 * * *" backups:Backup volume=vol-1 --timezone Europe/Berlin
    """
    machine = machine_of(target)

    async def keep(interlock: Interlock) -> Schedule:
        kind = machine if machine is not None else await interlock.definition(target)
        values = values_of(definition_of(kind), data, fields)
        return await interlock.schedule(name, kind, cron, values, timezone=timezone, on_conflict=on_conflict, by=by)

    made = on_store(store, keep, create=machine is not None)
    if as_document:
        say_json(made)
    else:
        click.echo(f"{made.name}: first at {when(made.next_at)} UTC")


@click.command()
@store_option
@json_option
def schedules(store: str, as_document: bool) -> None:
    """List schedules: when each is due next, and what came of its last time.

    \b
    Example:  interlock schedules
    """
    found = on_store(store, lambda interlock: interlock.schedules())
    if as_document:
        say_json({"schedules": found})
        return
    for one in found:
        last = f"; last {when(one.last_at)} UTC: {one.last}" if one.last_at is not None else ""
        missed = f"; {one.missed} times were missed" if one.missed else ""
        text = f"{one.name}  {one.cron} {one.timezone}  {one.machine}  next {when(one.next_at)} UTC{last}{missed}"
        click.echo(one_line(text))
    if not found:
        click.echo("no schedules")


@click.command()
@click.argument("name")
@store_option
@json_option
def unschedule(name: str, store: str, as_document: bool) -> None:
    """Forget a schedule; what it started goes on.

    \b
    Example:  interlock unschedule nightly
    """
    on_store(store, lambda interlock: interlock.unschedule(name))
    if as_document:
        say_json({"name": name})
