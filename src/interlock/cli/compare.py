"""The command `compare`: what changed between two versions of a machine, and what that means for the operations in flight."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import click

from interlock.cli.app import json_option, on_store, say_json
from interlock.cli.machines import loaded
from interlock.definition.compare import Change, Comparison, mistaken
from interlock.definition.compare import compare as compared
from interlock.definition.document import to_document
from interlock.errors import Refused, Unknown
from interlock.interpreter.snapshot import Status
from interlock.interpreter.status import STATUS
from interlock.interpreter.upgrade import stranded

if TYPE_CHECKING:
    from interlock.definition.machine import Definition
    from interlock.interpreter.snapshot import Snapshot
    from interlock.runtime.engine import Interlock

__all__ = ["compare"]

EXAMPLES = 3
LIVE: tuple[Status, ...] = tuple(status for status in get_args(Status) if STATUS.moves[status])


@dataclass
class _Live:
    """Live operations of one version in one state, that have the same lot."""

    version: int
    state: str
    verdict: str
    reason: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--store", metavar="URL", help="Look at the live operations in this store, too.")
@json_option
def compare(old: str, new: str, store: str | None, as_document: bool) -> None:
    """Compare two versions of a machine: what changed, and what becomes of operations in flight.

    OLD and NEW are module:Machine or documents. Without a store every state is judged for what an operation there may have done; with one,
    each live operation, of whatever version, is judged for what it has done. Exit status 1 if any would be stranded: it cannot be upgraded
    where it is, and goes on in the version it has, which the newer actions may not be able to perform.

    \b
    Example:  interlock compare resize-1.yaml shop.machines:Resize --store sqlite:///ops.db
    """
    before, after = loaded(old), loaded(new)
    found = compared(before, after)
    live = None if store is None else on_store(store, lambda interlock: _looked_at(interlock, before, after))
    lost = found.stranded if live is None else [one for one in live if one.verdict == "stranded"]
    if as_document:
        say_json({**_plain(found), **({} if live is None else {"live": [asdict(one) for one in live]})})
    else:
        click.echo("\n".join([*_told(found, before, after), *(_told_live(live) if live is not None else ())]))
    sys.exit(1 if lost else 0)


async def _looked_at(interlock: Interlock, old: Definition, new: Definition) -> list[_Live]:
    """Judge every live operation of the machine that runs an older version."""
    found: dict[tuple[int, str, str, str], _Live] = {}
    versions = {old.version: old}
    for name, version in await interlock.machines():
        if name == new.name and version <= new.version:
            versions[version] = await interlock.definition(name, version)
    for given in (old, new):
        if to_document(versions.get(given.version, given)) != to_document(given):
            what = f"version {given.version} of machine `{given.name}` has another content in this store"
            raise Refused(f"{what}: give the changed machine a new version", machine=given.name, version=given.version)
    fault = mistaken([*versions.values()], new)
    if fault:
        raise Refused(fault, machine=new.name)
    cursor: str | None = None
    while True:
        page = await interlock.list(new.name, LIVE, cursor=cursor, limit=500)
        for one in page.snapshots:
            if one.version not in versions:
                versions[one.version] = await _kept(interlock, new.name, one.version)
            verdict, reason = _judged(versions[one.version], new, one)
            lot = found.setdefault(
                (one.version, one.state, verdict, reason), _Live(one.version, one.state, verdict, reason)
            )
            lot.count += 1
            if len(lot.examples) < EXAMPLES:
                lot.examples.append(one.id)
        cursor = page.cursor
        if cursor is None:
            return sorted(found.values(), key=lambda lot: (lot.version, lot.state, lot.verdict, lot.reason))


async def _kept(interlock: Interlock, name: str, version: int) -> Definition:
    try:
        return await interlock.definition(name, version)
    except Unknown as error:
        raise Unknown(f"{error.message}; operations of it are in the store", machine=name) from None


def _judged(own: Definition, new: Definition, snapshot: Snapshot) -> tuple[str, str]:
    if own.version >= new.version:
        return ("same", "") if own.version == new.version else ("newer", f"it runs version {own.version} already")
    reason = stranded(own, new, snapshot)
    return ("stranded", reason) if reason else (_verdict(compared(own, new), snapshot), "")


def _verdict(found: Comparison, snapshot: Snapshot) -> str:
    if snapshot.rollback:
        return "same"  # it is undone in the version it has, and every undo is there
    verdict = found.states[snapshot.state].verdict
    return "changed" if verdict == "stranded" else verdict  # what may have been in its way is not


def _plain(found: Comparison) -> dict[str, Any]:
    return {
        "machine": found.machine,
        "old": found.old,
        "new": found.new,
        "states": [asdict(change) for change in found.states.values()],
        "added": list(found.added),
        "data": list(found.data),
        "claims": list(found.claims),
    }


def _told(found: Comparison, old: Definition, new: Definition) -> Iterator[str]:
    yield f"{found.machine}: version {found.old} to version {found.new}"
    yield from (f"  data: {why}" for why in found.data)
    yield from (f"  claims: {what}" for what in found.claims)
    for change in found.states.values():
        if change.verdict == "same":
            continue
        arrow = f" -> {change.to}" if change.to not in ("", change.state) else ""
        yield f"  {change.state}{arrow}: {change.verdict}"
        yield from (f"      {line}" for line in _lines(change, found.added, old, new))
    same = sum(change.verdict == "same" for change in found.states.values())
    yield f"  {same} of {len(found.states)} states are the same" + (
        f"; new: {', '.join(found.added)}" if found.added else ""
    )


def _lines(change: Change, added: Sequence[str], old: Definition, new: Definition) -> Iterator[str]:
    yield from change.what
    if change.unsafe:
        yield change.unsafe
    if change.verdict == "stranded" and not change.to:
        alike = [name for name in added if new.table[name].kind == old.table[change.state].kind]
        if alike:
            yield f'needs renames: if it is one of {", ".join(alike)} now, say renames = {{"{change.state}": "{alike[0]}"}}'
    for step in change.lost:
        yield f"`{step}` may have been started, and version {new.version} cannot undo it"
    if change.claims:
        yield f"what an operation holds is not what version {new.version} claims: {change.claims}"
    if change.verdict == "stranded":
        goes = (
            f"waits for workers with version {old.version}'s actions: {change.waits}"
            if change.waits
            else "goes on as before"
        )
        yield f"an operation here {goes}"


def _told_live(live: Sequence[_Live]) -> Iterator[str]:
    if not live:
        yield "no live operation"
        return
    yield "live operations"
    for one in live:
        why = f": {one.reason}" if one.reason else ""
        examples = f" ({', '.join(one.examples)}{', ...' if one.count > len(one.examples) else ''})"
        yield f"  {one.count:>6,}  version {one.version} in {one.state}: {one.verdict}{why}{examples if one.reason else ''}"
    lost = sum(one.count for one in live if one.verdict == "stranded")
    yield f"{lost:,} of {sum(one.count for one in live):,} would be stranded"
