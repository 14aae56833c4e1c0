"""Mishaps: what goes wrong, or comes from outside, and at which place of a run. Together they name a run: its seed.

| kind | what happens at the place |
|---|---|
| crash | the process is killed, as with kill -9; another one starts |
| freeze | the process stops, another one starts; it goes on when that one has begun to act |
| freeze-late | the same; it goes on when all else is over |
| wake | the process that is frozen goes on |
| fail | the action gets an error in place of the answer that it waits for |
| lost | the action does its last step, and its answer is lost: an error in its place |
| hang | the action gets no answer for two hours |
| cancel | the operation is cancelled |
| signal-NAME, twice-NAME | the signal is sent to the operation; twice |
| other-first | another process goes first |

A place is a name and a number: ``copying.2`` is before the second time that the action of `copying` goes on, ``undo-copying.1`` before
the undo's first; ``commit.3`` is before the third commit, ``committed.3`` after it; ``stop-call.1`` and ``stop-return.1`` are before and
after the first call of a fake's `stop` (see `effects`). Numbers count from the run's beginning, so a seed always means the same run.
"""

from __future__ import annotations

from typing import NamedTuple

from interlock.errors import Refused

__all__ = ["CALM", "KINDS", "Mishap", "Point", "family_of", "read_seed", "seed_of"]

CALM = "calm"
KINDS = ("crash", "freeze", "freeze-late", "wake", "fail", "lost", "hang", "cancel", "signal", "twice", "other-first")


class Mishap(NamedTuple):
    """One mishap: its kind, its place, and for cancels and signals the operation's number (0 is the first).

    >>> str(Mishap("cancel", "copying", 2)), str(Mishap("signal-abort", "commit", 1, 1))
    ('cancel@copying.2', 'signal-abort:1@commit.1')
    """

    kind: str
    what: str
    number: int
    operation: int = 0

    @property
    def family(self) -> str:
        """Its kind, without the signal's name."""
        return family_of(self.kind)

    def __str__(self) -> str:
        which = f":{self.operation}" if self.operation else ""
        return f"{self.kind}{which}@{self.what}.{self.number}"


class Point(NamedTuple):
    """A place that a run came by, and what can happen there: kinds, with the operation's number."""

    what: str
    number: int
    kinds: tuple[tuple[str, int], ...]

    def mishaps(self) -> list[Mishap]:
        """Return what can happen there."""
        return [Mishap(kind, self.what, self.number, operation) for kind, operation in self.kinds]


def family_of(kind: str) -> str:
    """Return a kind without a signal's name.

    >>> family_of("twice-abort"), family_of("freeze-late")
    ('twice', 'freeze-late')
    """
    return kind if kind in KINDS else kind.partition("-")[0]


def seed_of(mishaps: tuple[Mishap, ...]) -> str:
    """Return the name of the run with these mishaps.

    >>> seed_of((Mishap("crash", "copying", 2), Mishap("cancel", "commit", 4)))
    'crash@copying.2+cancel@commit.4'
    >>> seed_of(())
    'calm'
    """
    return "+".join(map(str, mishaps)) or CALM


def read_seed(seed: str) -> tuple[Mishap, ...]:
    """Return the mishaps that a seed names; raises `Refused`.

    >>> read_seed("crash@copying.2+cancel:1@commit.4")[1].operation
    1
    """
    if seed == CALM:
        return ()
    found = []
    for part in seed.split("+"):
        kind, at, place = part.partition("@")
        kind, _, operation = kind.partition(":")
        what, dot, number = place.rpartition(".")
        if not (at and dot and kind and what and number.isdecimal() and (operation or "0").isdecimal()):
            example = "crash@copying.2+cancel@commit.4"
            raise Refused(f"seed `{seed}`: `{part}` is no mishap; a seed is `{CALM}`, or like `{example}`", seed=seed)
        found.append(Mishap(kind, what, int(number), int(operation or 0)))
    return tuple(found)
