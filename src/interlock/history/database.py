"""Rows of a query, as they come, through SQLAlchemy (the extra ``sqlalchemy``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from interlock.errors import Refused, did_you_mean
from interlock.history.plain import plain

__all__ = ["asked"]

AT_ONCE = 1_000
KINDS = (
    "sqlite",
    "postgresql",
    "postgresql+psycopg",
    "mysql",
    "mysql+pymysql",
    "mariadb",
    "mariadb+pymysql",
    "oracle",
    "mssql",
)


def asked(url: str, query: str | None, open: ExitStack) -> tuple[Sequence[str], Iterator[Any]]:
    """Return a query's column names, and its rows, fetched as they are read. What the query may have changed is not committed.

    Args:
        url: of the database, in SQLAlchemy's form; never shown with its password.
        query: in the database's own SQL.
        open: takes care of the connection.

    Raises:
        Refused: no query, no such database, a missing library, or the database refuses.
    """
    if query is None:
        raise Refused("a database is asked something: add --query 'SELECT ... ORDER BY ...'")
    try:
        import sqlalchemy as sa
        from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError
    except ImportError:
        raise Refused("reading a database needs a library: pip install 'interlock[sqlalchemy]'") from None
    try:
        address = sa.make_url(url)
        shown = address.render_as_string(hide_password=True)
    except SQLAlchemyError:
        raise Refused(
            "the database's URL cannot be read: write it as sqlite:///file.db or postgresql+psycopg://host/name"
        ) from None
    file = address.database if address.get_backend_name() == "sqlite" else None
    if file and not file.startswith(("file:", ":")) and not Path(file).is_file():
        raise Refused(f"there is no database `{file}`: name the file as in sqlite:///file.db")
    try:
        engine = sa.create_engine(address)
        if engine.dialect.is_async:
            raise Refused(
                f"`{shown}` names an asynchronous driver: name another, as in sqlite:// or postgresql+psycopg://"
            )
        open.callback(engine.dispose)
        connection = open.enter_context(engine.connect())
        options = {"stream_results": True, "yield_per": AT_ONCE, "no_parameters": True}
        rows = connection.execution_options(**options).exec_driver_sql(query)
        if not rows.returns_rows:
            raise Refused("the query returns no rows: ask for the history with SELECT")
        open.callback(rows.close)
        return list(rows.keys()), _fetched(rows, shown, SQLAlchemyError)
    except NoSuchModuleError:
        name = address.drivername
        raise Refused(
            f"there is no kind of database `{name}`{did_you_mean(name, KINDS)}; write it as in sqlite:///file.db or "
            "postgresql+psycopg://host/name"
        ) from None
    except SQLAlchemyError as error:
        raise Refused(f"`{shown}` says: {_said(error)}; mend the URL or the query") from None
    except ModuleNotFoundError as error:
        raise Refused(
            f"`{shown}` needs the library `{error.name}`, which is not installed: install that driver"
        ) from None


def _fetched(rows: Any, shown: str, failure: type[Exception]) -> Iterator[Any]:
    try:
        yield from rows
    except failure as error:
        raise Refused(f"`{shown}` says: {_said(error)}; mend the query") from None


def _said(error: Exception) -> str:
    return plain(str(getattr(error, "orig", None) or error).strip().split("\n")[0])
