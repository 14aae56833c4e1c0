"""A worker in a process of its own, which a test kills: ``python -m tests.killed_worker STORE NAME ...``

It starts an operation for each name, says on its output when all of them are being driven, and drives on for ever.
"""

from __future__ import annotations

import asyncio
import sys

from interlock import Interlock, Operation
from tests.deliveries import Delivery, Depot, Parcel


async def main(store: str, names: list[str]) -> None:
    depot, driven = Depot(), asyncio.Event()
    count = 0

    async def drive(op: Operation[Parcel]) -> None:
        nonlocal count
        count += 1
        if count == len(names):
            driven.set()
        await asyncio.Event().wait()

    depot.do["perform driving"] = drive
    async with Interlock(store, [depot.actions()]) as interlock:
        for name in names:
            await interlock.start(Delivery, name=name, key=name)
        await driven.wait()
        print("driving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
