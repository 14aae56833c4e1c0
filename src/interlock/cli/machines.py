"""Commands about machines: draw, explain, convert. A target is ``module:Machine`` or the path of a document."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.app import (
    find,
    imported,
    json_option,
    on_store,
    say_json,
    store_option,
    whole_history,
    write_file,
)
from interlock.definition.document import load, to_document, write_document
from interlock.definition.draw import FORMATS
from interlock.definition.draw import draw as drawn
from interlock.definition.explain import explain as explained
from interlock.definition.machine import Definition, Machine
from interlock.errors import Refused

if TYPE_CHECKING:
    from interlock.interpreter.snapshot import Snapshot
    from interlock.runtime.engine import Interlock

__all__ = ["convert", "draw", "explain", "loaded", "where", "written"]


def written(target: str) -> type[Machine[Any]] | Definition:
    """Return the class that ``module:Machine`` names, with its data's type; a document's definition otherwise."""
    definition = loaded(target)
    module, colon, name = target.partition(":")
    if colon and module in sys.modules:
        found: Any = sys.modules[module]
        for part in name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type) and issubclass(found, Machine):
            return found
    return definition


def loaded(target: str) -> Definition:
    """Return the machine that a target names; modules are looked for in the present directory too."""
    with imported(target):
        return load(target)


@click.command()
@click.argument("target", required=False)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--operation", help="Draw this operation's machine, and where it is.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@store_option
@json_option
def draw(
    target: str | None, form: str, operation: str | None, output: Path | None, store: str, as_document: bool
) -> None:
    """Draw a machine, or where an operation is in its machine.

    With --operation, TARGET may be left out: the operation's own machine is drawn, in the version it runs.

    \b
    Example:  interlock draw volumes:VolumeResize --format svg -o resize.svg
    """
    current: str | None = None
    visited: list[str] = []
    if operation is not None:
        machine, snapshot, visited = on_store(store, lambda interlock: where(interlock, operation))
        current = snapshot.state
        if target is not None and loaded(target).name != machine.name:
            raise Refused(f"{snapshot.id} is an operation of `{machine.name}`, not of {target}: leave TARGET out")
    elif target is not None:
        machine = loaded(target)
    else:
        raise click.UsageError("name a TARGET (module:Machine or a document), or an --operation")
    text = drawn(machine, form, current=current, visited=visited)
    _give(text, output, as_document, {"machine": machine.name, "version": machine.version, "format": form})


def _give(text: str, output: Path | None, as_document: bool, about: dict[str, Any]) -> None:
    """Write what was made to the output, or print it."""
    if output is not None:
        write_file(output, text)
        return say_json({**about, "wrote": str(output)}) if as_document else click.echo(f"wrote {output}")
    return say_json({**about, "text": text}) if as_document else click.echo(text.rstrip("\n"))


async def where(interlock: Interlock, id: str) -> tuple[Definition, Snapshot, list[str]]:
    """Return an operation with its machine and the states it has been in, each once."""
    from interlock.interpreter.facts import Entered

    snapshot = await interlock.show(await find(interlock, id))
    visited: dict[str, None] = {}
    async for record in whole_history(interlock, snapshot.id):
        visited.update((fact.state, None) for fact in record.facts if isinstance(fact, Entered))
    return await interlock.definition(snapshot.machine, snapshot.version), snapshot, list(visited)


@click.command()
@click.argument("target")
@json_option
def explain(target: str, as_document: bool) -> None:
    """Say in words what a machine does: who acts, what if it fails, takes too long, or is cancelled.

    \b
    Example:  interlock explain volumes:VolumeResize
    """
    machine = loaded(target)
    _give(explained(machine), None, as_document, {"machine": machine.name, "version": machine.version})


@click.command()
@click.argument("source")
@click.option(
    "--to", "form", type=click.Choice(["yaml", "json", "python"]), help="Default: by the output's name, else yaml."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@json_option
def convert(source: str, form: str | None, output: Path | None, as_document: bool) -> None:
    """Convert a machine between a Python class, YAML and JSON, without loss.

    \b
    Example:  interlock convert volumes:VolumeResize -o resize.yaml
    """
    machine = loaded(source)
    by_name = {".json": "json", ".py": "python"}.get(output.suffix if output else "", "yaml")
    chosen = form or ("json" if as_document and output is None else by_name)
    if as_document and output is None and chosen == "json":
        return say_json(to_document(machine))
    if chosen == "python":
        from interlock.definition.source import to_python

        text = to_python(machine)
    else:
        text = write_document(machine, chosen)
    _give(text, output, as_document, {"machine": machine.name, "version": machine.version, "format": chosen})
