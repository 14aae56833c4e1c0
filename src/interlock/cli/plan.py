"""The command plan: what a start would lead to, with nothing changed. Exit status 1 if it would be refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from interlock.cli.app import json_option, on_store, say_json, store_option
from interlock.cli.start import conflict_option, machine_of, values_of
from interlock.definition.duration import duration_text
from interlock.definition.machine import definition_of

if TYPE_CHECKING:
    from interlock.definition.declare import OnConflict
    from interlock.interpreter.plan import Plan, PlannedState
    from interlock.runtime.engine import Interlock

__all__ = ["plan"]


@click.command()
@click.argument("target")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--data", metavar="JSON", help="The data as one JSON object; fields given as words come on top.")
@click.option("--state", help="The initial state, where there are several.")
@conflict_option
@store_option
@json_option
def plan(
    target: str,
    fields: tuple[str, ...],
    data: str | None,
    state: str | None,
    on_conflict: OnConflict | None,
    store: str,
    as_document: bool,
) -> None:
    """Show what a start would lead to now: which states where, which claims, what is refused. Nothing is changed.

    TARGET and fields are those of `start`. The store must be there already, so that nothing is made; `--store memory:` plans as if
    nothing else ran.

    \b
    Example:  interlock plan volumes:VolumeResize volume=vol-1 size_gib=20
    """
    machine = machine_of(target)

    async def look(interlock: Interlock) -> Plan:
        kind = machine if machine is not None else await interlock.definition(target)
        values = values_of(definition_of(kind), data, fields)
        return await interlock.plan(kind, values, state=state, on_conflict=on_conflict)

    found = on_store(store, look, lasting=False)
    if as_document:
        say_json(found)
    else:
        click.echo("\n".join(_lines(found)))
    sys.exit(1 if found.refused else 0)


def _lines(plan: Plan) -> list[str]:
    lines = [f"{plan.machine} version {plan.version}"]
    if plan.refused:
        lines.append(f"refused: {plan.refused}")
    for claim in plan.claims:
        shared = "" if claim.limit == 1 else f", for {claim.limit} at a time"
        taken = f"taken by {', '.join(claim.others)}: {claim.on_conflict}"
        lines.append(f"  claim {claim.name}{shared}: {'free' if claim.free else taken}")
    return lines + [f"  {_told(state)}" for state in plan.states]


def _told(state: PlannedState) -> str:
    notes = [f"queue {state.queue}"] if state.queue else []
    if state.child:
        notes.append(f"{len(state.children)} children of {state.child}")
    if state.timeout is not None:
        notes.append(f"at most {duration_text(state.timeout)} an attempt")
    if state.kind == "acting" and state.attempts != 1:
        notes.append("attempts without limit" if state.attempts is None else f"{state.attempts} attempts")
    if state.undo:
        notes.append("undone if it fails")
    if state.pivot:
        notes.append("the point of no return")
    ways = "; ".join(f"{event}: {', '.join(to)}" for event, to in state.ways.items())
    return f"{state.name} ({', '.join([state.kind, *notes])})" + (f" -> {ways}" if ways else "")
