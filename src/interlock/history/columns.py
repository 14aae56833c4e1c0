"""Which column means what: as named by the caller, else guessed from what the source has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from interlock.errors import Refused, did_you_mean
from interlock.history.plain import plain

__all__ = ["Columns", "Shape"]

Shape = Literal["moves", "values"]

_GUESSES: Mapping[str, Sequence[str]] = {
    "record": (
        "record", "record_id", "instance_uuid", "resource_id", "object_id", "entity_id", "operation_id", "uuid", "key", "id",
    ),
    "before": ("came_from", "from", "from_status", "from_state", "old", "old_status", "old_state", "old_value", "previous"),
    "after": ("went_to", "to", "to_status", "to_state", "new", "new_status", "new_state", "new_value"),
    "value": ("status", "state", "value", "new_status", "new_state", "provision_state", "vm_state"),
    "at": ("at", "time", "timestamp", "created_at", "updated_at", "changed_at", "date", "ts", "@timestamp"),
}  # fmt: skip
_OPTIONS = {"record": "--record", "before": "--from", "after": "--to", "value": "--value", "at": "--at"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns, or of keys; None where it is to be guessed.

    Args:
        record: names whose history a line belongs to.
        before: the value before a move; empty where a record is made.
        after: the value after a move.
        value: the value that a record has from now on, in a history of values instead of moves.
        at: when.

    >>> found = Columns(record="guest").resolved(["seq", "at", "guest", "came_from", "went_to"])
    >>> found.record, found.before, found.after, found.at, found.shape
    ('guest', 'came_from', 'went_to', 'at', 'moves')
    """

    record: str | None = None
    before: str | None = None
    after: str | None = None
    value: str | None = None
    at: str | None = None

    @property
    def shape(self) -> Shape:
        """Whether a line tells a move, or the value that follows the one before."""
        return "values" if self.value is not None else "moves"

    def otherwise(self, there: Sequence[str]) -> str | None:
        """Return the column that could be read as a history of values, of columns that are read as moves."""
        value = _guess("value", there)
        return value if self.shape == "moves" and value not in (self.before, self.after) else None

    def __str__(self) -> str:
        move = f"value `{self.value}`" if self.value is not None else f"from `{self.before}`, to `{self.after}`"
        return plain(f"record `{self.record}`, {move}" + (f", at `{self.at}`" if self.at is not None else ""))

    def resolved(self, there: Sequence[str]) -> Columns:
        """Return the columns to read, all that can be guessed guessed. Without a time there is ``at=None``.

        Args:
            there: the names that the source has.

        Raises:
            Refused: a name it does not have, or nothing that could be meant.
        """
        for one in fields(self):
            name = getattr(self, one.name)
            if name is not None and name not in there:
                raise Refused(
                    f"there is no column `{name}`{did_you_mean(name, there)}; there are {_listed(there)}", column=name
                )
        if self.value is not None and (self.before is not None or self.after is not None):
            raise Refused("--value is for a history of values, --from and --to are for one of moves: name either")
        guess = {what: _guess(what, there) for what in _GUESSES}
        before, after, value = self.before, self.after, self.value
        if value is None:
            before, after = before or guess["before"], after or guess["after"]
            named = self.before is not None or self.after is not None
            if not (before and after):
                if named:
                    lacking = "after" if before else "before"
                    raise Refused(
                        f"no column for {_OPTIONS[lacking]} was named or could be guessed; there are {_listed(there)}"
                    )
                before, after, value = None, None, guess["value"]
                if value is None:
                    raise Refused(
                        f"no column looks like a state: name --value, or --from and --to; there are {_listed(there)}"
                    )
        record = self.record or guess["record"]
        if record is None:
            raise Refused(
                f"no column looks like the name of a record: name it with --record; there are {_listed(there)}"
            )
        return Columns(record, before, after, value, self.at or guess["at"])


def _guess(what: str, there: Sequence[str]) -> str | None:
    by_lower = {name.lower().replace(" ", "_"): name for name in reversed(there)}
    return next((by_lower[word] for word in _GUESSES[what] if word in by_lower), None)


def _listed(there: Sequence[str]) -> str:
    shown = ", ".join(f"`{plain(name, 40)}`" for name in there[:20])
    return f"{shown} and {len(there) - 20} more" if len(there) > 20 else shown or "none"
