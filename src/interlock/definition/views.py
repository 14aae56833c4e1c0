"""A machine's views in words: for each API version, which public name stands for which states, and what differs between versions.

Sealing has made sure that every view gives every state exactly one public name (`view-missing`, `view-twice`, `view-unknown`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from interlock.definition.machine import Definition

__all__ = ["explain_views", "views_document"]


def views_document(definition: Definition) -> dict[str, Any]:
    """Return a machine's views as plain data.

    ``views``: states by public name, by API version; ``differs``: public names by API version, for each state that has not the same one in
    all of them; ``changes``: from each version to the next, the states that are named otherwise, and the names that are new and gone.

    >>> from interlock import Final, Machine, State
    >>> class Door(Machine[dict[str, str]], version=1):
    ...     shut = State(initial=True, on={"push": "open"})
    ...     open = Final("succeeded")
    ...     views = {"v1": {"DOOR": ...}, "v2": {"SHUT": ["shut"], "OPEN": ...}}
    >>> views_document(Door.definition)["differs"]
    {'shut': {'v1': 'DOOR', 'v2': 'SHUT'}, 'open': {'v1': 'DOOR', 'v2': 'OPEN'}}
    """
    views = {version: _by_name(definition, version) for version in definition.views}
    names = {state: {version: definition.view(state, version) for version in views} for state in definition.states}
    return {
        "views": views,
        "differs": {state: by for state, by in names.items() if len(set(by.values())) > 1},
        "changes": [
            {
                "from": one,
                "to": other,
                "states": {state: [by[one], by[other]] for state, by in names.items() if by[one] != by[other]},
                "new": [name for name in views[other] if name not in views[one]],
                "gone": [name for name in views[one] if name not in views[other]],
            }
            for one, other in pairwise(views)
        ],
    }


def _by_name(definition: Definition, version: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in definition.views[version]}
    for state in definition.states:
        found[definition.view(state, version)].append(state)
    return found


def explain_views(definition: Definition) -> str:
    """Return a machine's views in words, as Markdown."""
    return "\n".join(_lines(definition)) + "\n"


def _lines(definition: Definition) -> Iterator[str]:
    yield f"# {definition.name}, version {definition.version}: public names"
    yield ""
    if not definition.views:
        yield "It has no views: its states are shown by their own names, in every API version."
        return
    yield f"Each of its {len(definition.states)} states has exactly one public name in every API version."
    document = views_document(definition)
    changes = {change["to"]: change for change in document["changes"]}
    for version, names in document["views"].items():
        yield ""
        yield f"## {version}"
        yield ""
        if version in changes:
            yield from _change(changes[version])
            yield ""
        yield "| public name | states |"
        yield "|---|---|"
        for name, states in names.items():
            yield f"| {name} | {', '.join(f'`{state}`' for state in states) or 'none: it is never shown'} |"
    if len(document["views"]) > 1:
        yield ""
        yield from _differences(list(document["views"]), document["differs"])


def _change(change: dict[str, Any]) -> Iterator[str]:
    words = [f"`{state}` was {was}, is {now}" for state, (was, now) in change["states"].items()]
    words += [f"{name} is new" for name in change["new"]]
    words += [f"{name} is gone" for name in change["gone"]]
    yield f"Since {change['from']}: {'; '.join(words) or 'nothing is named otherwise'}."


def _differences(versions: list[str], differs: dict[str, dict[str, str]]) -> Iterator[str]:
    yield "## What differs"
    yield ""
    if not differs:
        yield "Every state has the same public name in all versions."
        return
    yield f"| state | {' | '.join(versions)} |"
    yield f"|---|{'---|' * len(versions)}"
    for state, names in differs.items():
        yield f"| `{state}` | {' | '.join(names[version] for version in versions)} |"
