"""The command group, and what all commands share: errors in one line, exit statuses, JSON, the store.

Exit status 0: fine. 1: something was found (a fault in a machine, an operation that did not succeed). 2: it could not run. 130: Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from interlock.errors import InterlockError, Refused, Unknown, as_json, did_you_mean

if TYPE_CHECKING:
    from interlock.runtime.engine import Interlock
    from interlock.stores.contract import Record

__all__ = [
    "LazyGroup",
    "app",
    "by_option",
    "find",
    "imported",
    "json_option",
    "kept",
    "on_store",
    "say_json",
    "store_option",
    "whole_history",
    "write_file",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
SHORTEST = 4
"""Letters of an id that must be written at least: a slip of the finger should not name an operation."""

COMMANDS = {
    "demo": "interlock.cli.demo:demo",
    "check": "interlock.cli.check:check",
    "compare": "interlock.cli.compare:compare",
    "draw": "interlock.cli.machines:draw",
    "explain": "interlock.cli.machines:explain",
    "convert": "interlock.cli.machines:convert",
    "mine": "interlock.cli.mining:mine",
    "conform": "interlock.cli.mining:conform",
    "guard": "interlock.cli.guard:guard",
    "explore": "interlock.cli.explore:explore",
    "plan": "interlock.cli.plan:plan",
    "start": "interlock.cli.start:start",
    "schedule": "interlock.cli.schedule:schedule",
    "schedules": "interlock.cli.schedule:schedules",
    "unschedule": "interlock.cli.schedule:unschedule",
    "worker": "interlock.cli.worker:worker",
    "list": "interlock.cli.looking:list_operations",
    "show": "interlock.cli.looking:show",
    "watch": "interlock.cli.looking:watch",
    "history": "interlock.cli.looking:history",
    "why": "interlock.cli.looking:why",
    "owned": "interlock.cli.looking:owned",
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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.params.get("debug"):
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except click.ClickException as error:
            if not ctx.obj:
                raise  # click says it, with the usage
            _fail({"code": "usage", "message": error.format_message()}, True)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            sys.exit(130)
        except InterlockError as error:
            _fail(as_json(error), ctx.obj)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("rich"):
                raise
            _fail(_unforeseen(error), ctx.obj)
        except Exception as error:
            _fail(_unforeseen(error), ctx.obj)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interlock")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error: interlock --debug COMMAND ...")
def app(debug: bool) -> None:
    """Guard and drive long-running operations with one state machine definition.

    Operations are named by their id, or by its beginning, from four letters on. Exit status: 0 fine; 1 something was found, such as a
    fault of a machine or an operation that did not succeed; 2 it could not run, and standard error says why.
    """


def _fail(error: Mapping[str, Any], as_document: bool) -> NoReturn:
    """End with status 2, saying what happened and what to do next; on standard error."""
    click.echo(json.dumps(error, default=str) if as_document else f"interlock: {error['message']}", err=True)
    sys.exit(2)


def _unforeseen(error: Exception) -> dict[str, str]:
    """Say an error that has no message of ours: the world's if it is the system's, a fault of ours otherwise."""
    if isinstance(error, OSError):
        return {"code": "system", "message": f"the system said: {error}; mend that and try again"}
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return {"code": "fault", "message": f"{what}; this should not happen: `interlock --debug ...` shows where it did"}


@contextmanager
def imported(target: str) -> Iterator[None]:
    """Turn whatever a module does while it is imported into `Refused`; modules of the present directory are found."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    except InterlockError:
        raise
    except (Exception, SystemExit) as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
        if isinstance(error, SyntaxError):
            place = ""  # its message says where
        raise Refused(
            f"`{target}` cannot be imported: {type(error).__name__}: {error}{place}; mend the module", target=target
        ) from error


def write_file(path: Path, text: str) -> None:
    """Write what a command made; raises `Refused` where that cannot be."""
    try:
        path.write_text(text)
    except OSError as error:
        raise Refused(f"cannot write `{path}`: {error.strerror}; name another file with -o", path=str(path)) from None


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_document", is_flag=True, help="Print JSON, for programs; errors too.")(command)


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
    import getpass

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


def kept(store: str) -> str:
    """Return a store's address; raises `Refused` if what is written there is gone when the command ends."""
    if store in ("memory:", "memory://"):
        raise Refused(
            "a store in memory ends with the command that opened it: name one that stays, --store sqlite:///interlock.db"
        )
    return store


def on_store(store: str, work: Callable[[Interlock], Awaitable[T]], *, create: bool = False, lasting: bool = True) -> T:
    """Open a store, do something with it, and return what came of it.

    Args:
        create: make the store if there is none.
        lasting: what is written has to stay: a store in memory is refused.
    """
    import asyncio

    from interlock.runtime.engine import Interlock
    from interlock.stores.opening import open_store

    if lasting:
        kept(store)

    async def run() -> T:
        opened = open_store(store, create=create)
        async with Interlock(opened, committer="inline", by=login(), poll_seconds=0.1) as interlock:
            return await work(interlock)

    return asyncio.run(run())


async def whole_history(interlock: Interlock, id: str, after: int = 0) -> AsyncIterator[Record]:
    """Yield all records of an operation, however many there are."""
    while records := await interlock.history(id, after):
        for record in records:
            yield record
        after = records[-1].seq


async def find(interlock: Interlock, id: str) -> str:
    """Return the one operation whose id is or begins with ``id``; raises `Unknown`, with the ids that begin so."""
    with suppress(Unknown):
        return (await interlock.show(id)).id
    if len(id) < SHORTEST:
        raise Unknown(f"no operation `{id}`; write at least {SHORTEST} letters of an id", operation=id)
    found: list[str] = []
    cursor = None
    while True:
        page = await interlock.list(cursor=cursor, limit=500)
        found += [snapshot.id for snapshot in page.snapshots if snapshot.id.startswith(id)]
        cursor = page.cursor
        if cursor is None:
            break
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"`{one}`" for one in found[:5])
        raise Unknown(f"{len(found)} operations begin with `{id}`: {listed}; write more of the id", operation=id)
    raise Unknown(f"no operation `{id}` in this store; `interlock list` shows those it has", operation=id)
