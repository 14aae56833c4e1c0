"""``interlock bench``: hands its words to `interlock.bench`."""

from __future__ import annotations

import sys

import click

__all__ = ["bench"]


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def bench(words: tuple[str, ...]) -> None:
    """Measure durable steps per second next to the device's own limit; `interlock bench --help` shows the options.

    `interlock bench guard` measures a guarded assignment next to its floor and to the peers that are installed; `interlock bench moves` the
    engine's own share of a live migration of real guests, and a drain.
    """
    from interlock.bench.__main__ import main

    sys.exit(main(words))
