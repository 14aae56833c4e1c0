"""``interlock start``."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from interlock.cli.app import by_option, json_option, on_store, say_json, store_option
from interlock.cli.machines import written
from interlock.definition.declare import OnConflict
from interlock.definition.duration import seconds
from interlock.definition.machine import Definition, definition_of
from interlock.errors import IllegalData, Refused, did_you_mean

if TYPE_CHECKING:
    from interlock.interpreter.snapshot import Snapshot
    from interlock.runtime.engine import Handle, Interlock

__all__ = ["conflict_option", "machine_of", "start", "values_of"]

PATIENCE_SECONDS = 2.0
"""After this time a person who waits is told what for."""


def _by_state(words: tuple[str, ...], option: str) -> dict[str, str]:
    found = {}
    for word in words:
        state, equals, value = word.partition("=")
        if not equals or not state or not value:
            raise click.UsageError(f"{option} {word}: write it as STATE=VALUE")
        if state in found:
            raise click.UsageError(f"{option}: `{state}` is given twice")
        found[state] = value
    return found


def _typed(machine: Definition, name: str, text: str) -> Any:
    """Return a word of the command line as the type of its field: text for a string, JSON for anything else.

    Raises:
        IllegalData: the machine's data has no such field.
    """
    if machine.fields is None:
        return _json_or_text(text)
    if name not in machine.fields:
        known = ", ".join(machine.fields) or "none"
        raise IllegalData(
            f"unknown field `{name}`{did_you_mean(name, machine.fields)}; {machine.name}'s fields are {known}",
            field=name,
        )
    types = machine.fields[name].types
    if "null" in types and text == "null":
        return None
    if "string" in types and not set(types) - {"string", "null"}:
        return text
    return _json_or_text(text)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


conflict_option = click.option(
    "--on-conflict",
    type=click.Choice(get_args(OnConflict)),
    help="What to do where others hold what it claims, in place of what the machine says.",
)


@click.command()
@click.argument("target")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--data", metavar="JSON", help="The data as one JSON object; fields given as words come on top.")
@click.option("--key", help="Idempotency key: a second start with it returns the same operation.")
@click.option("--state", help="The initial state, where there are several.")
@click.option(
    "--deadline", metavar="DURATION", help="Roll back if it has not passed the point of no return by then: 2h."
)
@click.option("--timeout", "timeouts", multiple=True, metavar="STATE=DURATION", help="Bound of one attempt in a state.")
@click.option("--within", multiple=True, metavar="STATE=DURATION", help="Bound of the whole stay in a state.")
@click.option("--retries", multiple=True, metavar="STATE=ATTEMPTS", help="Attempts in a state.")
@click.option("--breakpoint", "breakpoints", multiple=True, metavar="STATE", help="Pause before this state.")
@click.option("--delay", metavar="DURATION", help="Begin after this time: 30m.")
@click.option("--at", metavar="TIME", help="Begin at this time: 2027-01-31T02:00+01:00.")
@conflict_option
@click.option("--wait", is_flag=True, help="Wait until it has ended or is stuck; exit status 1 unless it succeeded.")
@by_option
@store_option
@json_option
def start(
    target: str,
    fields: tuple[str, ...],
    data: str | None,
    key: str | None,
    state: str | None,
    deadline: str | None,
    timeouts: tuple[str, ...],
    within: tuple[str, ...],
    retries: tuple[str, ...],
    breakpoints: tuple[str, ...],
    delay: str | None,
    at: str | None,
    on_conflict: OnConflict | None,
    wait: bool,
    by: str,
    store: str,
    as_document: bool,
) -> None:
    """Start an operation. A worker performs it; this command only records it.

    TARGET is module:Machine, a document, or the name of a machine that the store knows. Values are read as their fields' types: text for a
    string, JSON for anything else.

    \b
    Example:  interlock start volumes:VolumeResize volume=vol-1 size_gib=20 --wait
    """
    bounds: dict[str, Any] = {
        "deadline": None if deadline is None else _duration(deadline, "--deadline"),
        "timeouts": {name: _duration(text, "--timeout") for name, text in _by_state(timeouts, "--timeout").items()},
        "within": {name: _duration(text, "--within") for name, text in _by_state(within, "--within").items()},
        "delay": None if delay is None else _duration(delay, "--delay"),
        "at": None if at is None else _time(at),
        "on_conflict": on_conflict,
        "retries": {name: _count(text) for name, text in _by_state(retries, "--retries").items()},
    }

    machine = machine_of(target)

    async def begin(interlock: Interlock) -> Snapshot:
        kind = machine if machine is not None else await interlock.definition(target)
        values = values_of(definition_of(kind), data, fields)
        operation = await interlock.start(kind, values, key=key, state=state, breakpoints=breakpoints, by=by, **bounds)
        if not as_document:
            click.echo(operation.id)
        after = await _ended(interlock, operation, as_document) if wait else await operation.show()
        if wait and not as_document:
            why = "" if after.status == "succeeded" else f": {(await operation.why()).waits_for}"
            click.echo(f"{after.status} in {after.state}" + why.replace(": nothing: it", ": it"), err=True)
        return after

    snapshot = on_store(store, begin, create=machine is not None)
    if as_document:
        say_json(snapshot)
    sys.exit(1 if wait and snapshot.status != "succeeded" else 0)


async def _ended(interlock: Interlock, operation: Handle[Any], silent: bool) -> Snapshot:
    """Wait for an operation; say what for, if it takes long."""
    try:
        return await operation.finished(PATIENCE_SECONDS)
    except TimeoutError:
        if not silent:
            click.echo(f"waits for {(await interlock.why(operation.id)).waits_for}", err=True)
    return await operation.finished()


def values_of(machine: Definition, data: str | None, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return the data that ``--data`` and words like ``field=value`` give, the words on top."""
    try:
        values = json.loads(data) if data is not None else {}
    except ValueError as error:
        raise Refused(f"--data is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise Refused('--data must be a JSON object: {"field": value}')
    words: dict[str, Any] = {}
    for word in fields:
        name, equals, text = word.partition("=")
        if not equals:
            raise click.UsageError(f"`{word}`: write fields as FIELD=VALUE")
        if name in words:
            raise click.UsageError(f"`{word}`: `{name}` is given twice")
        words[name] = _typed(machine, name, text)
    return {**values, **words}


def machine_of(target: str) -> Any:
    """Return the machine that a command's TARGET writes out; None if it is the name of one in the store."""
    by_name = ":" not in target and not Path(target).exists() and not Path(target).suffix
    return None if by_name else written(target)


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"--at: {error}; write it like 2027-01-31T02:00+01:00") from None
    return found if found.tzinfo else found.astimezone()


def _duration(text: str, option: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise click.UsageError(f"--retries: `{text}` is no number of attempts, from 1")
    return int(text)
