"""`guard`: attach a machine to a model's column, whichever ORM the model belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interlock.errors import Refused
from interlock.guards.rules import Mode

if TYPE_CHECKING:
    from interlock.definition.machine import Definition, Machine
    from interlock.guards.rules import Rules

__all__ = ["guard"]


def guard(
    attribute: Any, machine: Definition | type[Machine[Any]], *, mode: Mode = "enforce", audit: Any = None
) -> Rules:
    """Attach a machine to a model's column: from now on it is moved along the machine's edges only.

    Args:
        attribute: ``Model.status`` of a SQLAlchemy 2 or a Django model.
        machine: class or definition.
        mode: ``observe`` counts what would be refused and changes nothing; ``enforce`` raises `IllegalMove` before anything is
            written, and compare-and-sets, so that of two concurrent writers one wins.
        audit: where each move is written in the caller's own transaction: a table of `interlock.guards.sqlalchemy.moves_table`, or a
            Django model derived from `interlock.guards.django.MoveModel`; None writes none.

    Returns the rules in force; ``rules.sightings()`` lists what an observing guard saw.

    Raises `Refused` if the attribute is of neither, or is guarded already.
    """
    home = type(attribute).__module__.partition(".")[0]
    if home == "sqlalchemy":
        from interlock.guards.sqlalchemy import attach as attach_sqlalchemy

        return attach_sqlalchemy(attribute, machine, mode=mode, audit=audit)
    if home == "django":
        from interlock.guards.django import attach as attach_django

        return attach_django(attribute, machine, mode=mode, audit=audit)
    raise Refused(
        f"{attribute!r} is no column of a SQLAlchemy or Django model: write guard(Model.status, machine); "
        "for any other class write `status = Guard(machine)` in its body"
    )
