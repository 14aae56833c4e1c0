"""The service, observed: nothing else is changed.

python service_1_observe.py DIRECTORY
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from machine import Resizing
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from interlock import guard


class Base(DeclarativeBase):
    pass


class Resize(Base):
    __tablename__ = "resizes"
    id: Mapped[int] = mapped_column(primary_key=True)
    volume: Mapped[str]
    size: Mapped[int]
    status: Mapped[str] = mapped_column(default="requested")


rules = guard(Resize.status, Resizing, mode="observe")


class History(Base):
    __tablename__ = "history"
    id: Mapped[int] = mapped_column(primary_key=True)
    resize: Mapped[int]
    status: Mapped[str]
    at: Mapped[datetime]


def set_status(session: Session, resize: Resize, status: str) -> None:
    resize.status = status
    session.add(History(resize=resize.id, status=status, at=datetime.now(UTC)))
    session.commit()


def request(engine: sa.Engine, volume: Path, size: int) -> int:
    with Session(engine) as session:
        resize = Resize(volume=str(volume), size=size)
        session.add(resize)
        session.flush()
        set_status(session, resize, "requested")
        return resize.id


def grow(engine: sa.Engine, id: int) -> None:
    """Perform one resize."""
    with Session(engine) as session:
        resize = session.get_one(Resize, id)
        try:
            set_status(session, resize, "growing disk")
            if resize.size < Path(resize.volume).stat().st_size:
                raise ValueError("volumes do not shrink")
            os.truncate(resize.volume, resize.size)
            set_status(session, resize, "remounting")
            Path(f"{resize.volume}.mounted").write_text(str(resize.size))
            set_status(session, resize, "done")
        except (OSError, ValueError):
            set_status(session, resize, "error")


def try_again(engine: sa.Engine, id: int) -> None:
    """What somebody once wrote for a colleague: nobody remembers it."""
    with Session(engine) as session:
        resize = session.get_one(Resize, id)
        set_status(session, resize, "requested")
    grow(engine, id)


def main(directory: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{directory / 'service.db'}")
    Base.metadata.create_all(engine)
    for number in range(20):
        volume = directory / f"volume-{number}"
        volume.write_bytes(b"x" * 100)
        id = request(engine, volume, 10 if number == 7 else 200)
        grow(engine, id)
        if number == 7:
            try_again(engine, id)
    with Session(engine) as session:
        counts = sa.select(Resize.status, sa.func.count()).group_by(Resize.status)
        print(dict([*session.execute(counts)]))
    for seen in rules.sightings():
        print(f"{seen.current} -> {seen.wanted}: {seen.count} times, last {seen.record}, at {Path(seen.site).name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
