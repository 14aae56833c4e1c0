"""Stores by address."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote

from interlock.errors import Refused
from interlock.stores.contract import Store

__all__ = ["open_store"]

_POSSIBLE = "use `memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db`, or a path ending in `.db` or `.sqlite`"


def open_store(url: str | Store, *, create: bool = True) -> Store:
    """Open a store; one that is open already is returned as it is.

    Args:
        url: ``memory:``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``, or a path that ends in ``.db`` or ``.sqlite``.
            ``sqlite:///relative.db?synchronous=NORMAL`` is faster, and the loss of power may take back the last acknowledged
            transitions; a crash of the process still loses none.
        create: make the store if there is none; otherwise that is refused.

    Raises:
        Refused: the address names no store we have.
        StoreFailed, StoreNewer: the store cannot be opened.

    >>> open_store("memory:").position()
    0
    """
    if not isinstance(url, str):
        return url
    if url in ("memory:", "memory://"):
        from interlock.stores.memory import MemoryStore

        return MemoryStore()
    scheme, colon, rest = url.partition(":")
    if not colon and url.endswith((".db", ".sqlite")):
        return _open_file(url, url, "FULL", create)
    if scheme in ("postgresql", "postgres"):
        raise Refused(f"PostgreSQL is not there yet: {_POSSIBLE}", url=scheme)
    if scheme != "sqlite":
        raise Refused(f"`{url}` names no store: {_POSSIBLE}", url=url)
    return _open_sqlite(url, rest, create)


def _open_sqlite(url: str, rest: str, create: bool) -> Store:
    address, _, query = rest.partition("?")
    path = unquote(address.removeprefix("///"))
    if not address.startswith("///") or not path:
        raise Refused(f"`{url}` names no file: {_POSSIBLE}", url=url)
    options = dict(parse_qsl(query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "FULL")
    if options:
        raise Refused(
            f"`{url}`: unknown option {', '.join(options)}: the one there is `synchronous=FULL` or `NORMAL`", url=url
        )
    return _open_file(url, path, synchronous, create)


def _open_file(url: str, path: str, synchronous: str, create: bool) -> Store:
    from interlock.stores.sqlite import SqliteStore

    if not create and not Path(path).exists():
        raise Refused(
            f"there is no store at `{path}`: name the one you mean, or start an operation or a worker, which make one",
            url=url,
        )
    return SqliteStore(path, synchronous=cast(Literal["FULL", "NORMAL"], synchronous))
