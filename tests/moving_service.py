"""An older service for the tests: a table of migrations with a status column, code that writes it, and a machine that fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from interlock import Final, Machine, State, guard
from interlock.guards.sqlalchemy import moves_table


class Moving(Machine[dict[str, Any]], version=1):
    """What the service does, as a machine."""

    queued = State(initial=True, undo="nothing", then="preparing")
    preparing = State(undo=True, then="copying")
    copying = State(undo=True, then="switching", status="copying disk")
    switching = State(pivot=True, then="done")
    done = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Base(DeclarativeBase):
    pass


class Migration(Base):
    __tablename__ = "migrations"
    id: Mapped[int] = mapped_column(primary_key=True)
    guest: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")


MOVES = moves_table(Base.metadata)
TABLE: sa.Table = Base.metadata.tables["migrations"]
RULES = guard(Migration.status, Moving, audit=MOVES)


def database(directory: Path) -> sa.Engine:
    """Return the service's database."""
    engine = sa.create_engine(f"sqlite:///{directory / 'service.db'}")
    Base.metadata.create_all(engine)
    return engine


def create(engine: sa.Engine, guest: str) -> int:
    """Create a migration, as older code does."""
    with Session(engine) as session:
        one = Migration(guest=guest)
        session.add(one)
        session.commit()
        return one.id


def write(engine: sa.Engine, id: int, *statuses: str) -> None:
    """Move a migration, a transaction for each status."""
    for status in statuses:
        with Session(engine) as session:
            session.get_one(Migration, id).status = status
            session.commit()


def read(engine: sa.Engine, id: int) -> str:
    """Return the status that the table holds."""
    with engine.connect() as connection:
        found: str = connection.execute(sa.text("SELECT status FROM migrations WHERE id=:id"), {"id": id}).scalar_one()
        return found


def data(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operation's data from a record's row."""
    return {"guest": row["guest"]}
