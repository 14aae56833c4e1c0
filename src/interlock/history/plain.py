"""Texts out of a history, as a terminal may show them."""

from __future__ import annotations

__all__ = ["plain"]


def plain(text: str, most: int | None = None) -> str:
    """Return a text as one line, whatever it holds: nothing in it leaves its line, or moves a terminal's cursor.

    Args:
        text: of a history.
        most: characters; what is longer is cut off.

    >>> plain("went\\x1b[31m\\nwrong"), plain("in a very long state", 12)
    ('went\\\\x1b[31m\\\\nwrong', 'in a very...')
    """
    line = text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return line if most is None or len(line) <= most else f"{line[: most - 3]}..."
