"""Commands that print guards for what Interlock does not run itself."""

from __future__ import annotations

from typing import get_args

import click

from interlock.cli.app import json_option, say_json
from interlock.cli.machines import loaded
from interlock.guards.sql import sql_guard, written
from interlock.guards.sql_words import Dialect

__all__ = ["guard"]


@click.group()
def guard() -> None:
    """Print guards that hold a database to a machine, whoever writes.

    \b
    Example:  interlock guard sql volumes:Volume --table volumes --column status --key id --dialect postgresql
    """


@guard.command()
@click.argument("target", metavar="MACHINE")
@click.option("--table", required=True, help="TABLE or SCHEMA.TABLE; a part with a dot in it goes in double quotes.")
@click.option("--column", required=True, help="The guarded column.")
@click.option("--dialect", required=True, metavar="DIALECT", help=f"One of {', '.join(get_args(Dialect))}, mariadb.")
@click.option("--key", multiple=True, help="A column of the primary key; may be given more than once.")
@click.option("--audit", metavar="TABLE", help="Write a row for every move into this table; made if it is not there.")
@click.option("--remove", "part", flag_value="remove", help="Print what takes the guard away.")
@click.option("--find", "part", flag_value="find", help="Print a query for the rows that are already illegal.")
@click.option("--all", "part", flag_value="all", help="Print all three; the removal commented out.")
@json_option
def sql(
    target: str,
    table: str,
    column: str,
    dialect: str,
    key: tuple[str, ...],
    audit: str | None,
    part: str | None,
    as_document: bool,
) -> None:
    """Print the triggers that let a column move along a machine's edges only.

    The script goes into the database's own client, as often as you like; with --json, each statement by itself goes through a driver,
    all in one transaction. Nothing is connected to. What the guard does not see is listed with it.

    \b
    Example:  interlock guard sql volumes:Volume --table volumes --column status --key id --dialect sqlite | sqlite3 -bail volumes.db
    """
    machine = loaded(target)
    made = sql_guard(machine, table=table, column=column, dialect=dialect, key=key, audit=audit)
    parts = ["find", "create", "remove"] if part == "all" else [part or "create"]
    if not as_document:
        return click.echo(written(made, machine, parts), nl=False)
    statements = {"create": made.create, "remove": made.remove, "find": (made.find,)}
    about = {"machine": machine.name, "version": machine.version, "dialect": made.dialect}
    say_json({**about, **{one: statements[one] for one in parts}, "not_closed": made.not_closed})
