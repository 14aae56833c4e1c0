"""``interlock demo``: real guests are moved, the driving process is killed half-way, and what came of it is proved."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.cli.demo_moves import Proof, Stage

__all__ = ["demo"]

CLUSTER = ("resize", "evacuate", "drain")
MISSING = "QEMU is missing ({missing}); on Debian: apt-get install qemu-system-x86 qemu-utils"


@click.command()
@click.argument("scene", type=click.Choice(["migrate", "resize", "evacuate", "drain", "all"]), default="migrate")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep everything here (default: a temporary one).",
)
@click.option("--copy-seconds", default=6.0, show_default=True, help="About how long each copy of memory takes.")
@click.option("--require-qemu", is_flag=True, help="Exit with status 2 instead of simulating when QEMU is missing.")
@click.option("--simulate", is_flag=True, help="Use simulated hosts even where QEMU is there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document with every proof instead of the live view.")
def demo(
    scene: str, directory: Path | None, copy_seconds: float, require_qemu: bool, simulate: bool, as_json: bool
) -> None:
    """Move running guests between hosts; kill whoever drives in the middle; prove what came of it.

    migrate: one guest is moved while its driver is killed with SIGKILL half-way and started again; a second move loses its destination
    and is rolled back; a third is cancelled by a person. The others play on a cluster of three hosts with an agent each, for which QEMU
    has to be there. resize: reverted, then confirmed. evacuate: a host is dead, its guest goes on elsewhere, and the host comes back.
    drain: a host is emptied while whoever drives is killed. Exit status 0 only if every proof holds.

    \b
    Example:  interlock demo --copy-seconds 4
              interlock demo drain
    """
    from interlock.cli.demo_moves import Stage
    from interlock.compute.local import qemu_missing

    missing = qemu_missing()
    if missing and require_qemu:
        click.echo(MISSING.format(missing=", ".join(missing)), err=True)
        sys.exit(2)
    if scene != "migrate" and (missing or simulate):
        why = MISSING.format(missing=", ".join(missing)) if missing else "leave --simulate out"
        click.echo(f"`{scene}` runs on real QEMU hosts only: {why}", err=True)
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
            proofs = asyncio.run(_scenes(scene, stage))
        except (KeyboardInterrupt, asyncio.CancelledError):
            click.echo("interrupted; everything was stopped", err=True)
            sys.exit(130)
    held = all(proof.held for proof in proofs)
    if as_json:
        document = {"simulated": simulated, "held": held, "proofs": [proof._asdict() for proof in proofs]}
        click.echo(json.dumps(document, indent=2))
    sys.exit(0 if held else 1)


async def _scenes(scene: str, stage: Stage) -> Sequence[Proof]:
    from interlock.cli.demo_cluster import play_cluster
    from interlock.cli.demo_moves import play

    if scene == "migrate":
        return await play(stage)
    if scene != "all":
        return await play_cluster(stage, [scene])
    proofs = await play(stage)
    return [*proofs, *await play_cluster(stage.beside("cluster"), CLUSTER)]
