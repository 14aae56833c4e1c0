"""Stores by address."""

from __future__ import annotations

from typing import Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from interlock.errors import Refused
from interlock.stores.contract import Store

__all__ = ["open_store"]

_POSSIBLE = "use `memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db`, or a path ending in `.db`"


def open_store(url: str) -> Store:
    """Open a store.

    Args:
        url: ``memory:``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``, with ``?synchronous=NORMAL`` where wanted, or a
            path that ends in ``.db`` or ``.sqlite``.

    Raises:
        Refused: the address names no store we have.
        StoreFailed, StoreNewer: the store cannot be opened.

    >>> open_store("memory:").position()
    0
    """
    if url in ("memory:", "memory://"):
        from interlock.stores.memory import MemoryStore

        return MemoryStore()
    from interlock.stores.sqlite import SqliteStore

    if url.endswith((".db", ".sqlite")) and "://" not in url:
        return SqliteStore(url)
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        later = " (PostgreSQL is not there yet)" if parts.scheme.startswith("postgres") else ""
        raise Refused(f"`{url}` names no store{later}: {_POSSIBLE}")
    path = unquote(parts.path)[1:]
    if parts.netloc or not path:
        raise Refused(f"`{url}` names no file: {_POSSIBLE}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "FULL")
    if options:
        raise Refused(f"`{url}`: unknown option {', '.join(options)}; the one there is: synchronous=FULL or NORMAL")
    return SqliteStore(path, synchronous=cast(Literal["FULL", "NORMAL"], synchronous))
