"""Every error that Interlock raises, in one tree, each with the data a caller needs to act on it.

    InterlockError
    ├── Refused                 the caller's: asked for something that cannot be; nothing was changed
    │   ├── IllegalMachine      a machine contradicts itself or leaves a question open
    │   ├── IllegalDocument     a document is not a machine
    │   ├── IllegalMove         a guarded record may not go there
    │   ├── IllegalData         data does not fit the machine's type
    │   ├── ActionsMismatch     the actions given and the machine's declarations differ
    │   ├── ClaimTaken          what the operation claims is held by others: carries by whom
    │   ├── NotPossible         right request, wrong moment: carries what is possible now
    │   ├── KeyReused           an idempotency key came back with another request
    │   ├── LimitExceeded       larger, longer or more than the limit in force
    │   └── Unknown             no such machine, state or operation
    └── Unavailable             the world's: the store could not do it; try again or mend the store
        ├── Conflict            somebody else moved the operation first
        ├── StaleToken          the attempt was taken over; its outcome no longer counts
        ├── StoreNewer          the store was written by a newer Interlock
        └── StoreFailed         disk full, file locked, not a store, ...

`Fail` and `RetryAfter` are not errors of Interlock: a user's action raises them to say how its own failure is to be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "ActionsMismatch",
    "ClaimTaken",
    "Conflict",
    "Fail",
    "Fault",
    "IllegalData",
    "IllegalDocument",
    "IllegalMachine",
    "IllegalMove",
    "InterlockError",
    "KeyReused",
    "LimitExceeded",
    "NotPossible",
    "Refused",
    "RetryAfter",
    "StaleToken",
    "StoreFailed",
    "StoreNewer",
    "Unavailable",
    "Unknown",
    "did_you_mean",
]


NEAR = 1_000
"""Among more known words than this the nearest is not looked for: it would take longer than the answer is worth."""
SHOWN = 50


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean `x`?)"`` for the nearest known word, or an empty string.

    >>> did_you_mean("preparng", ["preparing", "copying"])
    ' (did you mean `preparing`?)'
    >>> did_you_mean("zzz", ["preparing"])
    ''
    """
    import difflib

    words = list(known)
    near = difflib.get_close_matches(wanted, words, n=1) if len(words) <= NEAR else []
    return f" (did you mean `{near[0]}`?)" if near else ""


class InterlockError(Exception):
    """Base of every error of Interlock. ``code`` is stable and fit for programs; ``details`` is what it says as data."""

    code = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details


class Refused(InterlockError):
    """The request cannot be granted as it stands. Nothing was changed."""

    code = "refused"


class Fault(NamedTuple):
    """One thing wrong with a machine: a stable code, where, what is wrong, and what would mend it."""

    code: str
    where: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.mend} [{self.code}]"


class IllegalMachine(Refused):
    """A machine contradicts itself or leaves a question open; ``faults`` lists everything that is wrong, not only the first."""

    code = "illegal-machine"

    def __init__(self, machine: str, faults: Sequence[Fault]) -> None:
        lines = "\n".join(f"  - {fault}" for fault in faults[:SHOWN])
        if len(faults) > SHOWN:
            lines += f"\n  - and {len(faults) - SHOWN:,} more"
        super().__init__(
            f"machine `{machine}` cannot be built:\n{lines}",
            machine=machine,
            faults=[fault._asdict() for fault in faults],
        )
        self.machine = machine
        self.faults = tuple(faults)


class IllegalDocument(Refused):
    """A document does not describe a machine: not YAML or JSON, a wrong key, a wrong kind of value, or too large."""

    code = "illegal-document"


class IllegalMove(Refused):
    """A guarded record may not move from ``current`` to ``wanted``; ``allowed`` says where it may go.

    ``current`` is None when a record was to be created as ``wanted``. ``known`` is False if no state is stored as ``wanted``.
    """

    code = "illegal-move"

    def __init__(
        self, machine: str, record: str, current: str | None, wanted: str, allowed: Iterable[str], *, known: bool = True
    ) -> None:
        self.current, self.wanted, self.allowed, self.record = current, wanted, tuple(allowed), record
        possible = ", ".join(f"`{name}`" for name in self.allowed)
        if current is None:
            what = f"does not let a record begin as `{wanted}`; it may begin as {possible}"
        else:
            what = f"does not allow `{current}` -> `{wanted}`; from `{current}` it may go {f'to {possible}' if possible else 'nowhere'}"
        unknown = "" if known else f"; no state is stored as `{wanted}`{did_you_mean(wanted, self.allowed)}"
        super().__init__(
            f"{record}: machine `{machine}` {what}{unknown}",
            machine=machine,
            record=record,
            current=current,
            wanted=wanted,
            allowed=list(self.allowed),
        )


class IllegalData(Refused):
    """Data does not fit the machine's type; the message names the field."""

    code = "illegal-data"


class ActionsMismatch(Refused):
    """The actions given to a worker and what its machine declares do not match."""

    code = "actions-mismatch"


class NotPossible(Refused):
    """The operation cannot do that now; ``possible`` lists what it can do."""

    code = "not-possible"

    def __init__(self, message: str, possible: Iterable[str] = (), **details: Any) -> None:
        self.possible = tuple(possible)
        tail = f"; possible now: {', '.join(self.possible)}" if self.possible else "; nothing is possible now"
        super().__init__(message + tail, possible=list(self.possible), **details)


class ClaimTaken(Refused):
    """The operation was not started: others hold what it claims. ``details`` names the ``claim`` and its ``holders``."""

    code = "claim-taken"


class KeyReused(Refused):
    """An idempotency key came back with a different request than the one it first stood for."""

    code = "key-reused"


class LimitExceeded(Refused):
    """Something is larger, longer or more than the limit in force; the message names limit and setting."""

    code = "limit-exceeded"


class Unknown(Refused):
    """No such machine, state or operation."""

    code = "unknown"


class Unavailable(InterlockError):
    """The world's fault, not the caller's: the store could not do what was right to ask."""

    code = "unavailable"


class Conflict(Unavailable):
    """Somebody else moved the operation first; read it again and decide anew."""

    code = "conflict"


class StaleToken(Unavailable):
    """The attempt was taken over by another; its outcome is not recorded and its side effects should be refused."""

    code = "stale-token"


class StoreNewer(Unavailable):
    """The store's schema is newer than this Interlock understands; nothing was read or changed."""

    code = "store-newer"


class StoreFailed(Unavailable):
    """The store's device or file failed; what was not acknowledged did not happen."""

    code = "store-failed"


class Fail(Exception):
    """Raised by an action: this failed and trying again is of no use.

    >>> raise Fail("host has no CPU of that kind")
    Traceback (most recent call last):
    interlock.errors.Fail: host has no CPU of that kind
    """


class RetryAfter(Exception):
    """Raised by an action: this failed; try again after ``seconds`` (it still counts as an attempt)."""

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(message or f"try again after {seconds:g} s")
        self.seconds = seconds


def as_json(error: InterlockError) -> Mapping[str, Any]:
    """Return an error as plain data: ``{"code", "message", **details}``.

    >>> as_json(Unknown("no operation `x`", operation="x"))
    {'code': 'unknown', 'message': 'no operation `x`', 'operation': 'x'}
    """
    return {"code": error.code, "message": error.message, **error.details}
