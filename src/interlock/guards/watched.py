"""What every guard on a model's column does alike, whichever ORM the model belongs to: judge steps, say no, say what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from interlock.errors import IllegalMove, Refused
from interlock.guards.rules import Rules

__all__ = ["Move", "Watched"]

Move = tuple[str, str | None, str]
"""One row to be written down: record, value before (None: created), value after."""


class Watched:
    """A guarded column, as far as no ORM is concerned; subclasses say what ``rules``, ``key`` and ``model_name`` are."""

    rules: Rules
    key: str
    """The attribute's name."""

    @property
    def model_name(self) -> str:
        """The name of the model that messages use."""
        raise NotImplementedError

    @property
    def enforces(self) -> bool:
        """Whether an illegal move is refused, not just counted."""
        return self.rules.mode == "enforce"

    def name(self, key: Sequence[object] | None) -> str:
        """Return what messages call the record with this primary key."""
        return f"{self.model_name} {','.join(map(str, key))}" if key and None not in key else f"new {self.model_name}"

    def judge(self, record: str, before: str | None, after: str | None) -> None:
        """Judge one step; from NULL it is a creation."""
        if before is None and after is not None:
            self.rules.create(record, after)
        elif before is not None:
            self.rules.move(record, before, "NULL" if after is None else after)

    def judge_steps(self, record: str, steps: Sequence[str | None]) -> None:
        """Judge one step after the other."""
        for before, after in pairwise(steps):
            self.judge(record, before, after)

    def cannot_judge(self, what: str, instead: str) -> None:
        """Say that a statement cannot be judged: refuse it, or count when observing."""
        where = f"{self.model_name}.{self.key}"
        if self.enforces:
            raise Refused(f"{where}: {what}, which its guard cannot judge; {instead}", machine=self.rules.machine.name)
        self.rules.refuse(where, None, f"(not judged: {what})")

    def lost(self, record: str, read: str | None, found: str | None, wanted: str | None) -> None:
        """Raise `IllegalMove`: the record was moved by somebody else since it was read."""
        allowed = self.rules.targets.get(found or "", frozenset())
        error = IllegalMove(self.rules.machine.name, record, found, wanted or "NULL", sorted(allowed))
        error.message = (
            f"{record}: `{read}` -> `{wanted}` came too late: somebody else has moved it to `{found}`; read it again"
        )
        error.args = (error.message,)
        raise error

    def moves(self, key: Sequence[object] | None, steps: Sequence[str | None]) -> list[Move]:
        """Return the rows to be written down for these steps."""
        record = ",".join("" if part is None else str(part) for part in key or ())
        return [(record, before, after) for before, after in pairwise(steps) if before != after and after is not None]
