"""Schedules: operations that start again and again, at the times that a cron expression names.

Theory of operation:

1.  A schedule is a row in the store with the next time at which it is due. Every worker looks for those whose time has come.
2.  One decision starts an operation and moves the schedule on to its next time, and it wins only while the schedule is as it was seen:
    however many workers fire it, and whenever one of them dies or stands still, each time starts one operation, or none if the schedule was
    changed or dropped before. The operation's id follows from the schedule's name and that time.
3.  If nobody was there at several of its times, the last of them is made up for, and the others are left out; the schedule says how many.
4.  What is refused (a claim that is taken, data that no longer fits) is noted in the schedule and logged; the next time comes all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import structs

from interlock.errors import Conflict, InterlockError, Refused, Unavailable
from interlock.interpreter.inputs import Start
from interlock.stores.contract import Schedule, Store

if TYPE_CHECKING:
    from interlock.runtime.worker import Worker

__all__ = ["Schedules", "following", "operation_id"]

log = logging.getLogger("interlock")
EVERY_SECONDS = 1.0
MISSED = 1_000
"""So many missed times are counted; it says "or more" beyond."""


def following(cron: str, timezone: str, after: float) -> float:
    """Return the first time after ``after`` that a cron expression names, in seconds since the epoch.

    Args:
        cron: five fields (minute, hour, day, month, weekday), or six with seconds first.
        timezone: name of the zone in which it is read, such as ``Europe/Berlin``.

    Raises:
        Refused: it is no cron expression, names no time, or there is no such zone, or the library for it is missing.

    >>> following("30 2 * * *", "UTC", 0.0)
    9000.0
    """
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise Refused("schedules need a library: pip install 'interlock[schedules]'") from None
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused(f"schedule: there is no time zone `{timezone}`; name one like Europe/Berlin, or UTC") from None
    try:
        times = (one.timestamp() for one in CronSim(cron, datetime.fromtimestamp(after, zone)))
        return next(at for at in times if at > after)  # when clocks go back, an hour comes twice: it names its first
    except CronSimError as error:
        raise Refused(f'schedule: `{cron}` is no cron expression: {error}; write it like "30 2 * * *"') from None
    except StopIteration:
        raise Refused(f"schedule: `{cron}` names no time in the next 50 years") from None


def operation_id(schedule: Schedule) -> str:
    """Return the id of the operation that a schedule starts at its next time."""
    return f"{schedule.name}@{datetime.fromtimestamp(schedule.next_at, UTC):%Y%m%dT%H%M%SZ}"


class Schedules:
    """Fires the schedules of a store.

    Args:
        worker: whose offers and ledger it uses.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._ledger = worker.ledger
        self._again = 0.0

    def look(self, store: Store, now: float) -> Sequence[Schedule]:
        """Return the schedules whose time has come, and note when to look again; called where the store is."""
        if now < self._again:
            return ()
        known = store.schedules()
        due = [one for one in known if one.next_at <= now]
        self._again = min([now + EVERY_SECONDS, *(one.next_at for one in known if one.next_at > now)])
        return due

    async def fire(self, due: Sequence[Schedule], now: float) -> None:
        """Start what is due."""
        for one in due:
            try:
                await self._fire(one, now)
            except Unavailable as error:
                log.warning("schedule `%s`: trying again: %s", one.name, error)

    async def _fire(self, schedule: Schedule, now: float) -> None:
        last, after, missed = schedule, following(schedule.cron, schedule.timezone, schedule.next_at), 0
        while after <= now and missed < MISSED:
            last, missed = structs.replace(last, next_at=after), missed + 1
            after = following(schedule.cron, schedule.timezone, after)
        if after <= now:
            after = following(schedule.cron, schedule.timezone, now)
        fired = structs.replace(
            schedule, next_at=after, last_at=last.next_at, last=operation_id(last), missed=schedule.missed + missed
        )
        if await self._start(schedule, fired) and missed:
            log.warning(
                "schedule `%s`: nobody was there at %d of its times; the last was made up for", schedule.name, missed
            )

    async def _start(self, schedule: Schedule, fired: Schedule) -> bool:
        """Rule 2; return False if somebody else has fired or changed the schedule meanwhile."""
        id, offer = fired.last, None
        try:
            machine = await self._ledger.definition(schedule.machine)
            offer = self._worker.offer(machine.name, machine.version)
            start = Start(id, schedule.data, by=schedule.by, offer=offer, on_conflict=schedule.on_conflict)
            await self._ledger.submit(id, start, machine, (schedule, fired))
            return True
        except Unavailable as error:
            if not isinstance(error, Conflict) or not error.details.get("exists"):
                raise
            if not await self._ledger.committer.call(lambda store: bool(store.load([id]))):
                return False  # otherwise an operation of this id was there before the schedule: it goes on
        except InterlockError as error:
            log.warning("schedule `%s`: operation `%s` was refused: %s", schedule.name, id, error)
            fired = structs.replace(fired, last=f"refused: {error}")
        finally:
            if offer is not None:
                self._worker.release()
        return await self._ledger.committer.call(lambda store: store.set_schedule(fired, schedule))
