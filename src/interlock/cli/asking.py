"""Commands that ask something of an operation: signal, pause, resume, cancel, and what mends one that is stuck."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from interlock.cli.app import by_option, find, json_option, on_store, say_json, store_option
from interlock.cli.start import values_of

if TYPE_CHECKING:
    from interlock.interpreter.snapshot import Snapshot
    from interlock.runtime.engine import Interlock

__all__ = ["cancel", "override", "pause", "resume", "retry", "signal", "skip"]

REASON = click.option("--reason", default="", help="Why; kept in the history.")
NEEDED = click.option("--reason", required=True, help="Why; kept in the history.")


def _ask(store: str, id: str, as_document: bool, what: Callable[[Interlock, str], Awaitable[Snapshot]]) -> None:
    async def ask(interlock: Interlock) -> Snapshot:
        return await what(interlock, await find(interlock, id))

    snapshot = on_store(store, ask)
    if as_document:
        say_json(snapshot)
    else:
        click.echo(f"{snapshot.id}: {snapshot.status} in {snapshot.state}")


@click.command()
@click.argument("id")
@click.argument("event")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--data", metavar="JSON", help="The payload as one JSON object; fields given as words come on top.")
@click.option("--key", default="", help="Idempotency key: a second signal with it changes nothing.")
@click.option("--hold", is_flag=True, help="Keep it until a state accepts it.")
@by_option
@store_option
@json_option
def signal(
    id: str,
    event: str,
    fields: tuple[str, ...],
    data: str | None,
    key: str,
    hold: bool,
    by: str,
    store: str,
    as_document: bool,
) -> None:
    """Send an event to an operation. What is not possible now is refused, with what is.

    \b
    Example:  interlock signal 01j9 confirm
    """

    async def send(interlock: Interlock, whole: str) -> Snapshot:
        snapshot = await interlock.show(whole)
        machine = await interlock.definition(snapshot.machine, snapshot.version)
        return await interlock.signal(whole, event, values_of(machine, data, fields), key=key, hold=hold, by=by)

    _ask(store, id, as_document, send)


@click.command()
@click.argument("id")
@click.option(
    "--before", multiple=True, metavar="STATE", help="Go on, and pause before this state; may be given often."
)
@REASON
@by_option
@store_option
@json_option
def pause(id: str, before: tuple[str, ...], reason: str, by: str, store: str, as_document: bool) -> None:
    """Let the running action finish, and start nothing more.

    \b
    Example:  interlock pause 01j9 --before switching
    """
    _ask(store, id, as_document, lambda interlock, whole: interlock.pause(whole, reason, before or None, by=by))


@click.command()
@click.argument("id")
@by_option
@store_option
@json_option
def resume(id: str, by: str, store: str, as_document: bool) -> None:
    """End a pause.

    \b
    Example:  interlock resume 01j9
    """
    _ask(store, id, as_document, lambda interlock, whole: interlock.resume(whole, by=by))


@click.command()
@click.argument("id")
@REASON
@by_option
@store_option
@json_option
def cancel(id: str, reason: str, by: str, store: str, as_document: bool) -> None:
    """End the running action, undo what was started, and end as cancelled. Refused past the point of no return.

    \b
    Example:  interlock cancel 01j9 --reason "wrong host"
    """
    _ask(store, id, as_document, lambda interlock, whole: interlock.cancel(whole, reason, by=by))


@click.command()
@click.argument("id")
@NEEDED
@by_option
@store_option
@json_option
def retry(id: str, reason: str, by: str, store: str, as_document: bool) -> None:
    """Try what is stuck again, or what waits for its next attempt at once.

    \b
    Example:  interlock retry 01j9 --reason "the disk was replaced"
    """
    _ask(store, id, as_document, lambda interlock, whole: interlock.retry(whole, reason, by=by))


@click.command()
@click.argument("id")
@NEEDED
@by_option
@store_option
@json_option
def skip(id: str, reason: str, by: str, store: str, as_document: bool) -> None:
    """Declare done (or undone) what is stuck: it was done by hand.

    \b
    Example:  interlock skip 01j9 --reason "port deleted by hand"
    """
    _ask(store, id, as_document, lambda interlock, whole: interlock.skip(whole, reason, by=by))


@click.command()
@click.argument("id")
@click.argument("state")
@NEEDED
@by_option
@store_option
@json_option
def override(id: str, state: str, reason: str, by: str, store: str, as_document: bool) -> None:
    """Move an operation to a state, whatever its machine says; the history keeps which rules that broke.

    \b
    Example:  interlock override 01j9 completed --reason "the guest runs there"
    """
    _ask(store, id, as_document, lambda interlock, whole: interlock.override(whole, state, reason, by=by))
