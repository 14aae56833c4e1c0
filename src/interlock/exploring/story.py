"""Stories: what happened in a run, in numbered lines, and a test to paste that plays it again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import structs

from interlock.interpreter.facts import Fact, Failure, Started

__all__ = ["Line", "fact_words", "numbered", "paste"]

VALUE_CHARACTERS = 120


class Line(NamedTuple):
    """One line: virtual seconds since the beginning, whose doing it is, and what happened."""

    at: float
    who: str
    what: str


def fact_words(fact: Fact) -> str:
    """Return a fact in words: its name, and whatever it says.

    >>> from interlock.interpreter.facts import Issued, Undone
    >>> fact_words(Undone("copying")), fact_words(Issued("p1.1", number=2, recover=True))
    ('undone copying', 'issued p1.1, number 2, recover')
    """
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(fact).__name__).lower()
    return f"{name} {', '.join(_said(fact))}".rstrip()


def _said(fact: Fact) -> Iterator[str]:
    if isinstance(fact, Started):
        yield fact.machine
        return
    for number, field in enumerate(structs.fields(fact)):
        value = getattr(fact, field.name)
        if field.name in ("until", "timers", "key", "at", "by", "step", "kind") or value in (
            field.default,
            None,
            "",
            {},
        ):
            continue
        if isinstance(value, Failure):
            yield _short(f"{value.kind}: {value.message}" if value.message else value.kind)
        elif value is True:
            yield field.name
        else:
            yield _short(str(value) if number == 0 else f"{field.name} {_plain(value)}")


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _short(text: str) -> str:
    line = text if text.isprintable() else ascii(text)[1:-1]
    return line if len(line) <= VALUE_CHARACTERS else f"{line[: VALUE_CHARACTERS - 1]}…"


def numbered(lines: list[Line]) -> str:
    """Return a story as text.

    >>> print(numbered([Line(0.0, "p0", "starts"), Line(12.5, "", "all is at rest")]))
      1      0.000 s  p0  starts
      2     12.500 s      all is at rest
    """
    wide = max((len(one.who) for one in lines), default=0)
    return "\n".join(
        f"{number:>3} {one.at:>10.3f} s  {one.who:<{wide}}  {one.what}" for number, one in enumerate(lines, 1)
    )


def paste(target: str, seed: str, invariant: str) -> str:
    """Return a test that plays a run again.

    >>> print(paste("shop:exploration", "crash@selling.2", "nothing_sold_twice"))
    from interlock.exploring.explore import replay
    from shop import exploration
    <BLANKLINE>
    <BLANKLINE>
    def test_nothing_sold_twice() -> None:
        assert replay(exploration, "crash@selling.2") is None
    """
    module, _, name = target.partition(":")
    test = re.sub(r"\W+", "_", invariant).strip("_").lower()
    return (
        f"from interlock.exploring.explore import replay\nfrom {module} import {name}\n\n\n"
        f'def test_{test}() -> None:\n    assert replay({name}, "{seed}") is None'
    )
