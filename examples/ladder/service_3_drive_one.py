"""The service, partly driven: the engine grows the disk; older code still does the rest, and reads the same status column.

python service_3_drive_one.py DIRECTORY
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from machine import Resizing, Volume
from service_2_enforce import Base, Resize, moves, request, set_status
from sqlalchemy.orm import Session

from interlock import Actions, Interlock, Operation
from interlock.records.records import Records

actions = Actions(Resizing, reported=["requested", "remounting"])


@actions.perform(Resizing.growing)
def grow(op: Operation[Volume]) -> dict[str, int]:
    before = op.data.before or Path(op.data.volume).stat().st_size
    if op.data.size < before:
        raise ValueError("volumes do not shrink")
    os.truncate(op.data.volume, op.data.size)
    return {"before": before}


@actions.undo(Resizing.growing)
def shrink(op: Operation[Volume]) -> None:
    if op.data.before is not None:
        os.truncate(op.data.volume, op.data.before)


def older_code(engine: sa.Engine) -> None:
    """What is left of it: it looks for its statuses, as it always did."""
    with Session(engine) as session:
        for resize in session.scalars(sa.select(Resize).where(Resize.status == "requested")).all():
            set_status(session, resize, "growing disk")
        for resize in session.scalars(sa.select(Resize).where(Resize.status == "remounting")).all():
            Path(f"{resize.volume}.mounted").write_text(str(resize.size))
            set_status(session, resize, "done")


def data(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"volume": row["volume"], "size": row["size"]}


def unfinished(engine: sa.Engine) -> int:
    with Session(engine) as session:
        ends = ["done", "error", "cancelled"]
        return session.scalar(sa.select(sa.func.count()).where(Resize.status.not_in(ends))) or 0


async def main(directory: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{directory / 'service.db'}")
    Base.metadata.create_all(engine)
    async with Interlock(f"sqlite:///{directory / 'operations.db'}", actions=[actions]) as interlock:
        async with Records(
            interlock, Resizing, engine, table=Base.metadata.tables["resizes"], status="status", moves=moves, data=data
        ) as records:
            for number in range(20, 24):
                volume = directory / f"volume-{number}"
                volume.write_bytes(b"x" * 100)
                request(engine, volume, 10 if number == 22 else 200)
            while unfinished(engine):
                older_code(engine)
                await asyncio.sleep(0.02)
            for one in (await interlock.list(Resizing)).snapshots:  # what the older code wrote last is on its way to them
                await interlock.finished(one.id)
            assert not records.refused
        for one in sorted((await interlock.list(Resizing)).snapshots, key=lambda one: int(one.record)):
            print(one.record, one.status + (f": {one.failure.message}" if one.failure else ""))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
