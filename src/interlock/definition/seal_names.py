"""Sealing what a machine calls its states elsewhere: public names by API version, and what earlier versions called them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from interlock.errors import Fault, did_you_mean

if TYPE_CHECKING:
    from interlock.definition.machine import Definition

__all__ = ["renames", "views"]


def views(definition: Definition) -> Iterator[Fault]:
    for version, names in definition.views.items():
        where = f"view `{version}`"
        given = Counter(name for members in names.values() if members is not ... for name in members)
        for name, count in given.items():
            if name not in definition.states:
                mend = f"Name a state{did_you_mean(name, definition.states)}."
                yield Fault("view-unknown", where, f"names `{name}`, which is no state", mend)
            elif count > 1:
                yield Fault("view-twice", where, f"gives `{name}` two public names", "Keep one.")
        rest = sum(members is ... for members in names.values())
        missing = [name for name in definition.states if name not in given]
        if rest > 1:
            mend = "Only one name can stand for all the rest."
            yield Fault("view-twice", where, "gives `...` to two public names", mend)
        if missing and not rest:
            listed = ", ".join(f"`{name}`" for name in missing[:20]) + (" and more" if len(missing) > 20 else "")
            mend = "Add them, or give one name `...` for all the rest."
            yield Fault("view-missing", where, f"has no public name for {listed}", mend)


def renames(definition: Definition) -> Iterator[Fault]:
    if definition.renames and definition.version == 1:
        mend = "Give the changed machine version=2, or leave `renames` out."
        yield Fault("rename-first", "`renames`", "says what an earlier version called states, in version 1", mend)
    for old, new in definition.renames.items():
        where = f"rename of `{old}`"
        if old in definition.states:
            mend = "Only a name that is gone can have become another; take it out."
            yield Fault("rename-source", where, f"says that it is `{new}` now, and `{old}` is still a state", mend)
        if new not in definition.states:
            mend = f"Name a state of this version{did_you_mean(new, definition.states)}."
            yield Fault("rename-target", where, f"leads to `{new}`, which is no state", mend)
