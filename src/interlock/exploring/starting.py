"""What a run starts: operations and schedules, asked for until somebody answers; and the numbers that stories and seeds give to operations.

Theory of operation:

1.  Operations are asked for with keys, by every new process. A schedule is asked for until one process has said that it is there.
2.  An operation's number is its place in the scenario; so is that of the first which a schedule starts. The others come after the
    scenario's last, in the order in which they are started.
3.  Who asked for something is its place in the scenario: that is how a commit tells what it belongs to.
4.  A schedule that has fired often enough is dropped before time goes on. (That is one call of the store: no place of a run is lost by it.)
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from interlock.definition.machine import Definition
from interlock.errors import InterlockError
from interlock.exploring.scenario import Exploration, Scheduled
from interlock.runtime.engine import Interlock
from interlock.stores.contract import Schedule
from interlock.stores.memory import MemoryStore

__all__ = ["Starts"]


class Starts:
    """What was started, and what is still to be.

    Attributes:
        ids: of the operations that were started, by their numbers.
        refused: why something could not be started, by its place in the scenario.
    """

    def __init__(self, exploration: Exploration[Any], store: MemoryStore) -> None:
        self.ids: dict[int, str] = {}
        self.refused: dict[int, InterlockError] = {}
        self._wanted = exploration.operations
        self._store = store
        self._places: dict[int, int] = {}
        self._set_up: set[int] = set()
        self._fired: Counter[int] = Counter()

    @property
    def several(self) -> bool:
        """Whether there may be more than one operation."""
        return len(self._wanted) > 1 or isinstance(self._wanted[0], Scheduled)

    def asked(self) -> list[int]:
        """Rule 1: what a new process is asked for, by its place in the scenario."""
        return [place for place in range(len(self._wanted)) if place not in self.refused and place not in self._set_up]

    async def ask(self, interlock: Interlock, place: int) -> str:
        """Ask for an operation or a schedule; return why it was refused, or ""."""
        start = self._wanted[place]
        try:
            if isinstance(start, Scheduled):
                await interlock.schedule(
                    _name(place), start.machine, start.cron, start.fields, by=str(place), **start.options
                )
                self._set_up.add(place)
            else:
                key = f"operation {place}"
                await interlock.start(start.machine, start.fields, key=key, by=str(place), **start.options)
        except InterlockError as error:
            self.refused[place] = error
            return f"{start!r} is refused: {error}"
        return ""

    def started(self, id: str, by: str) -> int:
        """Note that an operation was started; return its number: rule 2."""
        place = int(by)
        number = place if place not in self.ids else max(len(self._wanted), *(known + 1 for known in self.ids))
        self.ids[number], self._places[number] = id, place
        return number

    def fired(self, schedule: Schedule) -> None:
        """Note that a schedule has started something, or that it was refused."""
        self._fired[int(schedule.by)] += 1

    def definition(self, number: int) -> Definition:
        """Return the machine of an operation that was started."""
        return self._wanted[self._places[number]].definition

    def stop(self) -> None:
        """Rule 4."""
        for place, start in enumerate(self._wanted):
            if isinstance(start, Scheduled) and self._fired[place] >= start.times:
                self._store.drop_schedule(_name(place))

    def complete(self) -> bool:
        """Whether everything was started that will be."""
        return all(place in self.refused or self._over(place) for place in range(len(self._wanted)))

    def _over(self, place: int) -> bool:
        start = self._wanted[place]
        return self._fired[place] >= start.times if isinstance(start, Scheduled) else place in self.ids


def _name(place: int) -> str:
    return f"schedule-{place}"
