"""Who moves guarded records in this block of code, and why: what an audit row tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

__all__ = ["Reason", "because", "reason_now"]


class Reason(NamedTuple):
    """Why a record was moved, and by whom; empty where nobody said."""

    reason: str = ""
    by: str = ""


_NOW: ContextVar[Reason] = ContextVar("interlock_reason", default=Reason())  # noqa: B039  a tuple does not change


@contextmanager
def because(reason: str, *, by: str = "") -> Iterator[None]:
    """Give the moves made in this block a reason, and who made them; blocks nest, an inner one keeps the outer's ``by``.

    >>> with because("host is to be replaced", by="alice"):
    ...     reason_now()
    Reason(reason='host is to be replaced', by='alice')
    """
    token = _NOW.set(Reason(reason, by or _NOW.get().by))
    try:
        yield
    finally:
        _NOW.reset(token)


def reason_now() -> Reason:
    """Return the reason in force."""
    return _NOW.get()
