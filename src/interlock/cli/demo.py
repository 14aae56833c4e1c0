"""``interlock demo``: real guests are moved, the driving process is killed half-way, and what came of it is proved."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

__all__ = ["demo"]

MISSING = "QEMU is missing ({missing}); on Debian: apt-get install qemu-system-x86 qemu-utils"


@click.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep everything here (default: a temporary one).",
)
@click.option("--copy-seconds", default=6.0, show_default=True, help="About how long each copy of memory takes.")
@click.option("--require-qemu", is_flag=True, help="Exit with status 2 instead of simulating when QEMU is missing.")
@click.option("--simulate", is_flag=True, help="Use simulated hosts even where QEMU is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document with every proof instead of the live view.")
def demo(directory: Path | None, copy_seconds: float, require_qemu: bool, simulate: bool, as_json: bool) -> None:
    """Move running guests between two hosts; kill the driver in the middle; prove what came of it.

    One guest is moved while its driver is killed with SIGKILL half-way and started again. A second move loses its destination and is
    rolled back. A third is cancelled by a person. Exit status 0 only if every proof holds.

    \b
    Example:  interlock demo --copy-seconds 4
    """
    from interlock.cli.demo_moves import Stage, play
    from interlock.compute.local import qemu_missing

    missing = qemu_missing()
    if missing and require_qemu:
        click.echo(MISSING.format(missing=", ".join(missing)), err=True)
        sys.exit(2)
    simulated = simulate or bool(missing)
    if simulated and not as_json:
        why = MISSING.format(missing=", ".join(missing)) if missing else "as asked for with --simulate"
        click.echo(f"SIMULATED  Nothing here is real: {why}")
    with ExitStack() as stack:
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="interlock-demo-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        stage = Stage(directory, simulated=simulated, copy_seconds=copy_seconds, quiet=as_json)
        try:
            proofs = asyncio.run(play(stage))
        except (KeyboardInterrupt, asyncio.CancelledError):
            click.echo("interrupted; everything was stopped", err=True)
            sys.exit(130)
    held = all(proof.held for proof in proofs)
    if as_json:
        document = {"simulated": simulated, "held": held, "proofs": [proof._asdict() for proof in proofs]}
        click.echo(json.dumps(document, indent=2))
    sys.exit(0 if held else 1)
