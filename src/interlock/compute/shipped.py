"""Machines that a package ships as documents beside its code. One is read when it is first asked for."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from interlock.definition.document import read_document
from interlock.definition.machine import Definition
from interlock.errors import did_you_mean

__all__ = ["machine", "names"]

_SUFFIX = ".yaml"


def names(package: str) -> list[str]:
    """Return the names of the machines that a package ships, sorted."""
    found = (entry.name for entry in files(package).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))


@cache
def machine(package: str, name: str) -> Definition:
    """Return a machine that a package ships; made to be a module's ``__getattr__``.

    Args:
        package: the dotted name of the package, such as ``interlock.compute.nova``.
        name: of the document, without its suffix.

    Raises:
        AttributeError: there is none of that name; the message names the nearest.
        Refused: reading YAML needs a library that is not installed.

    >>> machine("interlock.compute.nova", "live_migration").name
    'nova-live-migration'
    """
    known = names(package)
    if name not in known:
        raise AttributeError(
            f"`{package}` has no machine `{name}`{did_you_mean(name, known)}; it has {', '.join(known)}"
        )
    return read_document(files(package).joinpath(name + _SUFFIX).read_bytes(), f"{package}:{name}")
