"""The command group, and what all commands share: errors in one line, exit statuses, JSON, the store.

Exit status 0: fine. 1: something was found (a fault in a machine, an operation that did not succeed). 2: it could not run.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, NoReturn, TypeVar

import click

from interlock import Interlock, InterlockError, Unknown
from interlock.errors import as_json, did_you_mean

__all__ = ["LazyGroup", "app", "by_option", "fail", "find", "json_option", "on_store", "say_json", "store_option"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

COMMANDS = {
    "demo": "interlock.cli.demo:demo",
    "check": "interlock.cli.machines:check",
    "draw": "interlock.cli.machines:draw",
    "explain": "interlock.cli.machines:explain",
    "convert": "interlock.cli.machines:convert",
    "start": "interlock.cli.start:start",
    "worker": "interlock.cli.worker:worker",
    "list": "interlock.cli.looking:list_operations",
    "show": "interlock.cli.looking:show",
    "watch": "interlock.cli.looking:watch",
    "history": "interlock.cli.looking:history",
    "why": "interlock.cli.looking:why",
    "signal": "interlock.cli.asking:signal",
    "pause": "interlock.cli.asking:pause",
    "resume": "interlock.cli.asking:resume",
    "cancel": "interlock.cli.asking:cancel",
    "retry": "interlock.cli.asking:retry",
    "skip": "interlock.cli.asking:skip",
    "override": "interlock.cli.asking:override",
    "bench": "interlock.cli.bench:bench",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named: `--help` of one does not load the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            ctx.fail(f"no command `{cmd_name}`{did_you_mean(cmd_name, COMMANDS)}; there are {', '.join(COMMANDS)}")
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InterlockError as error:
            if ctx.params.get("debug"):
                raise
            fail(error, "--json" in sys.argv or bool(ctx.find_root().meta.get("json")))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interlock")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
def app(debug: bool) -> None:
    """Guard and drive long-running operations with one state machine definition.

    Operations are named by their id, or by the beginning of one. Exit status: 0 fine, 1 something was found, 2 it could not run.
    """


def fail(error: InterlockError, as_document: bool) -> NoReturn:
    """End with status 2, saying what happened and what to do next; on standard error."""
    click.echo(json.dumps(as_json(error), default=str) if as_document else f"interlock: {error.message}", err=True)
    sys.exit(2)


def _note_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        ctx.find_root().meta["json"] = True
    return value


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_document", is_flag=True, callback=_note_json, help="Print JSON, for programs.")(
        command
    )


def store_option(command: F) -> F:
    """Add ``--store``."""
    return click.option(
        "--store",
        envvar="INTERLOCK_STORE",
        default="sqlite:///interlock.db",
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="Where operations live.",
    )(command)


def login() -> str:
    """Return who is at the keyboard."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def by_option(command: F) -> F:
    """Add ``--by``."""
    return click.option("--by", default=login, show_default="your login name", help="Who asks; kept in the history.")(
        command
    )


def say_json(thing: Any) -> None:
    """Print one thing as one line of JSON."""
    import msgspec

    click.echo(msgspec.json.encode(thing).decode())


def on_store(store: str, work: Callable[[Interlock], Awaitable[T]]) -> T:
    """Open a store, do something with it, and return what came of it."""

    async def run() -> T:
        async with Interlock(store, committer="inline", by=login(), poll_seconds=0.1) as interlock:
            return await work(interlock)

    return asyncio.run(run())


async def find(interlock: Interlock, id: str) -> str:
    """Return the one operation whose id is or begins with ``id``; raises `Unknown`, with the ids that begin so."""
    found: list[str] = []
    cursor = None
    while True:
        page = await interlock.list(cursor=cursor, limit=500)
        ids = [snapshot.id for snapshot in page.snapshots]
        if id in ids:
            return id
        found += [one for one in ids if one.startswith(id)]
        cursor = page.cursor
        if cursor is None:
            break
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"`{one}`" for one in found[:5])
        raise Unknown(f"{len(found)} operations begin with `{id}`: {listed}; write more of the id", operation=id)
    raise Unknown(f"no operation `{id}` in this store; `interlock list` shows those it has", operation=id)
