"""``interlock worker``."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.app import imported, json_option, kept, say_json, store_option
from interlock.errors import Refused

if TYPE_CHECKING:
    from interlock.runtime.actions import Actions

__all__ = ["worker"]


def bound(target: str) -> Actions[object]:
    """Return the `Actions` that ``module:name`` names."""
    from interlock.runtime.actions import Actions

    module, colon, name = target.partition(":")
    if not colon or not module or not name:
        raise Refused(f"`{target}`: name actions as module:actions")
    with imported(target):
        found = getattr(import_module(module), name)
    if not isinstance(found, Actions):
        raise Refused(f"`{target}` is {type(found).__name__}, no Actions")
    return found


@click.command()
@click.argument("targets", nargs=-1, metavar="[MODULE:ACTIONS]...")
@click.option(
    "--actions",
    "agents",
    multiple=True,
    metavar="MODULE",
    help="A module of a host agent, such as interlock.compute.qemu: all its actions, over --state-dir.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the agents of a cluster keep what they share.",
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    default=("",),
    help='A queue to serve; may be given often. Default: the default queue, "".',
)
@click.option(
    "--max-running", default=500, show_default=True, type=click.IntRange(1, 100_000), help="Attempts at the same time."
)
@click.option(
    "--lease-seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    help="How long a dead worker is waited for.",
)
@click.option(
    "--grace-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0, 86400),
    help="How long a stop waits for running actions.",
)
@store_option
@json_option
def worker(
    targets: tuple[str, ...],
    agents: tuple[str, ...],
    state_dir: Path | None,
    queues: tuple[str, ...],
    max_running: int,
    lease_seconds: float,
    grace_seconds: float,
    store: str,
    as_document: bool,
) -> None:
    """Perform operations until told to stop.

    SIGTERM or Ctrl-C stops gracefully: nothing new is taken, and running actions are waited for or handed over, as their states
    say. A second signal stops at once; another worker then takes over.

    \b
    Example:  interlock worker volumes:resize --queue "" --queue host:compute-1
              interlock worker --actions interlock.compute.qemu --state-dir /srv/guests --queue host:compute-1
    """
    if not targets and not agents:
        raise click.UsageError("name actions: MODULE:ACTIONS, or --actions MODULE with --state-dir")
    if agents and state_dir is None:
        raise click.UsageError("--actions needs --state-dir: where the agents of a cluster keep what they share")
    with ExitStack() as owned:
        actions = [bound(target) for target in targets]
        for agent in agents:
            assert state_dir is not None
            with imported(agent):
                module = import_module(agent)
            if not hasattr(module, "actions_in"):
                raise Refused(f"`{agent}` is no module of a host agent: it has no `actions_in`")
            owned.enter_context(module.owned_hosts(state_dir, queues))
            actions += module.actions_in(state_dir)
        _serve(actions, queues, max_running, lease_seconds, grace_seconds, store, as_document)


def _serve(
    actions: list[Actions[object]],
    queues: tuple[str, ...],
    max_running: int,
    lease_seconds: float,
    grace_seconds: float,
    store: str,
    as_document: bool,
) -> None:
    import asyncio
    import logging

    from interlock.runtime.engine import Interlock

    logging.basicConfig(
        level=logging.INFO if as_document else logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr
    )

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def told() -> None:
            if stop.is_set():
                sys.stderr.write("stopping at once; another worker takes over what was running\n")
                sys.stderr.flush()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTERM)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told)
        async with Interlock(
            kept(store),
            actions=actions,
            queues=queues,
            max_running=max_running,
            lease_seconds=lease_seconds,
            grace_seconds=grace_seconds,
        ):
            _announce(actions, queues, store, as_document)
            await stop.wait()
            if not as_document:
                click.echo("stopping: waiting for what runs; a second signal stops at once")
        if not as_document:
            click.echo("stopped")

    asyncio.run(serve())


def _announce(actions: list[Actions[object]], queues: tuple[str, ...], store: str, as_document: bool) -> None:
    machines = [f"{one.definition.name} version {one.definition.version}" for one in actions]
    if as_document:
        say_json({"serving": machines, "queues": queues, "store": store})
    else:
        named = ", ".join(queue or "the default queue" for queue in queues)
        click.echo(f"performing {', '.join(machines)} from {named}, in {store}; Ctrl-C stops")
    sys.stdout.flush()
