"""What people and programs ask about schedules: the part of `Interlock` that keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.definition.data import fit
from interlock.definition.declare import OnConflict
from interlock.definition.machine import Definition, Machine, definition_of
from interlock.errors import Conflict, Refused, Unknown, did_you_mean
from interlock.runtime.asking import Asking
from interlock.runtime.clock import Clock
from interlock.runtime.committer import Committer
from interlock.runtime.schedules import following
from interlock.runtime.starting import policy
from interlock.stores.contract import Schedule

__all__ = ["Scheduling"]

NAME_CHARACTERS = 100


class Scheduling(Asking):
    """The verbs of `Interlock` that concern schedules."""

    _committer: Committer
    _clock: Clock

    async def schedule(
        self,
        name: str,
        machine: type[Machine[Any]] | Definition | str,
        cron: str,
        data: Mapping[str, Any] | None = None,
        *,
        timezone: str = "UTC",
        on_conflict: OnConflict | None = None,
        by: str | None = None,
        **fields: Any,
    ) -> Schedule:
        """Start an operation again and again; a schedule of the same name is replaced. Workers see to it.

        Each operation's id is ``name@20270131T020000Z``: it is started once, whoever is there to do it. If nobody is, the last time that
        was missed is made up for when somebody comes.

        Args:
            name: of the schedule: letters, digits, ``-``, ``_`` and ``.``.
            machine: of which; at each time in the newest version that the store knows.
            cron: when: ``"30 2 * * *"``.
            data: what each operation is started with.
            timezone: in which ``cron`` is read.
            on_conflict: what to do about claims that others hold, in place of what the machine says.

        Raises:
            Refused: it is no name, no cron expression, no time zone; or the data does not fit. Nothing is changed.
        """
        if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii():
            raise Refused(f"schedule: `{name}` is no name; use letters, digits, `-`, `_` and `.`")
        if len(name) > NAME_CHARACTERS:
            raise Refused(f"schedule: the name has {len(name)} characters, at most {NAME_CHARACTERS}")
        if isinstance(machine, str):
            definition = await self._ledger.definition(machine)
        else:
            definition = definition_of(machine)
            await self._ledger.define(definition)
        where = f"schedule `{name}` of `{definition.name}`"
        given = self._limits.plain({**(data or {}), **fields}, where)
        fit(definition.fields, given, where)
        now = self._clock.now()
        made = Schedule(
            name=name, machine=definition.name, cron=cron, timezone=timezone, data=given, by=self._who(by),
            on_conflict=policy(on_conflict), next_at=following(cron, timezone, now),
        )  # fmt: skip
        for _ in range(10):
            before = next((one for one in await self.schedules() if one.name == name), None)
            if await self._committer.call(lambda store, was=before: store.set_schedule(made, was)):
                return made
        raise Conflict(f"schedule `{name}` is changed by others again and again: try again")

    async def schedules(self) -> tuple[Schedule, ...]:
        """Return all schedules, by name."""
        return tuple(await self._committer.call(lambda store: store.schedules()))

    async def unschedule(self, name: str) -> None:
        """Forget a schedule; what it started goes on. Raises `Unknown`."""
        if not await self._committer.call(lambda store: store.drop_schedule(name)):
            known = [one.name for one in await self.schedules()]
            raise Unknown(
                f"there is no schedule `{name}`{did_you_mean(name, known)}; there are {', '.join(known) or 'none'}"
            )
