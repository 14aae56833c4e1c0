"""What each child of a parent state is given, from the parent's data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from interlock.definition.declare import Children

__all__ = ["MAX_CHILDREN", "child_data", "items_of", "room_of"]

MAX_CHILDREN = 1_000


def items_of(children: Children, data: Mapping[str, Any]) -> list[dict[str, Any]] | str:
    """Return what each child is given, or why there is nothing to give."""
    if children.each is None:
        return [{}]
    value = data.get(children.each)
    listed = [] if value is None else value
    if not isinstance(listed, list | tuple):
        return f"`{children.each}` holds {type(value).__name__}, not a list"
    if len(listed) > MAX_CHILDREN:
        return f"`{children.each}` has {len(listed):,} items; a state has at most {MAX_CHILDREN:,} children"
    items = []
    for number, item in enumerate(listed):
        if isinstance(item, Mapping):
            items.append({str(name): value for name, value in item.items()})
        elif children.item is not None:
            items.append({children.item: item})
        else:
            return (
                f"item {number} of `{children.each}` is {type(item).__name__}, not a mapping of the child's fields; "
                "Children(item=...) names the field that a plain value fills"
            )
    return items


def room_of(children: Children, data: Mapping[str, Any]) -> int | str:
    """Return how many children may run at the same time, or why nobody can say."""
    limit = children.limit
    if limit is None:
        return MAX_CHILDREN
    value = data.get(limit) if isinstance(limit, str) else limit
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return f"`{limit}` is {value!r}, not a whole number from 1: so many children are to run at the same time"
    return value


def child_data(children: Children, data: Mapping[str, Any], index: int, known: Collection[str]) -> dict[str, Any]:
    """Return what a child is started with: its item, and those of the parent's fields that it has too.

    Args:
        known: the fields of the child's data.
    """
    items = items_of(children, data)
    item = items[index] if not isinstance(items, str) and index < len(items) else {}
    return {**{name: value for name, value in data.items() if name in known and name != children.each}, **item}
