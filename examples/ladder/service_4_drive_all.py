"""The service, driven: the engine performs every state. Older code only makes the row; what it left half-way is adopted and finished.

python service_4_drive_all.py DIRECTORY
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import sqlalchemy as sa
from machine import Resizing, Volume
from service_2_enforce import Base, moves, request
from service_3_drive_one import data, grow, shrink, unfinished

from interlock import Actions, Interlock, Operation
from interlock.records.records import Records

actions = Actions(Resizing)
actions.perform(Resizing.growing)(grow)
actions.undo(Resizing.growing)(shrink)


@actions.perform(Resizing.requested)
def look(op: Operation[Volume]) -> None:
    if not Path(op.data.volume).exists():
        raise ValueError(f"{op.data.volume} is not there")


@actions.perform(Resizing.remounting)
def remount(op: Operation[Volume]) -> None:
    Path(f"{op.data.volume}.mounted").write_text(str(op.data.size))


async def main(directory: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{directory / 'service.db'}")
    Base.metadata.create_all(engine)
    async with Interlock(f"sqlite:///{directory / 'operations.db'}", actions=[actions]) as interlock:
        async with Records(
            interlock, Resizing, engine, table=Base.metadata.tables["resizes"], status="status", moves=moves, data=data
        ) as records:
            before = len((await interlock.list(Resizing)).snapshots)
            print(f"{await records.adopt_all()} adopted in the middle")
            for number in range(30, 34):
                volume = directory / f"volume-{number}"
                volume.write_bytes(b"x" * 100)
                request(engine, volume, 200)
            while unfinished(engine):
                await asyncio.sleep(0.02)
            assert not records.refused
        for one in sorted((await interlock.list(Resizing)).snapshots, key=lambda one: int(one.record))[before:]:
            print(one.record, one.status)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
