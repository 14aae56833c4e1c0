"""Three versions of one machine, and their actions, for the processes of `test_upgrade`."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock import Actions, Final, Machine, Operation, Retry, State

SECONDS = 0.15
HOLD = "ROLLOUT_HOLD"
"""Names a file: actions do not end as long as their state, or ``*``, is written in it."""


@dataclass
class Host:
    host: str


@dataclass
class ZonedHost:
    host: str
    zone: str = "z1"


class Rollout(Machine[Host], version=1, name="rollout"):
    """Install a host anew."""

    draining = State(initial=True, undo=True, timeout="1m", then="installing")
    installing = State(undo=True, timeout="1m", then="checking")
    checking = State(on={"healthy": "finishing"}, after={"1s": "finishing"})
    finishing = State(pivot=True, retry=Retry.forever(), timeout="1m", then="installed")
    installed = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Rollout2(Machine[ZonedHost], version=2, name="rollout"):
    """What is written has its own name, and is proved by an action."""

    renames = {"installing": "writing"}

    draining = State(initial=True, undo=True, timeout="2m", then="writing")
    writing = State(undo=True, timeout="1m", then="probing")
    probing = State(undo="nothing", timeout="1m", then="checking")
    checking = State(on={"healthy": "finishing"}, after={"2s": "finishing"})
    finishing = State(pivot=True, retry=Retry.forever(), timeout="1m", then="installed")
    installed = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Rollout3(Machine[ZonedHost], version=3, name="rollout"):
    """The probe is gone again: who is in it goes on as it was."""

    renames = {"installing": "imaging", "writing": "imaging", "checking": "soaking"}

    draining = State(initial=True, undo=True, timeout="2m", then="imaging")
    imaging = State(undo=True, timeout="1m", then="soaking")
    soaking = State(on={"healthy": "finishing"}, after={"2s": "finishing"})
    finishing = State(pivot=True, retry=Retry.forever(), timeout="1m", then="installed")
    installed = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


VERSIONS: tuple[type[Machine[Any]], ...] = (Rollout, Rollout2, Rollout3)


async def _work(op: Operation[Any]) -> None:
    hold = Path(os.environ[HOLD])
    await asyncio.sleep(SECONDS)
    while {"*", op.state} & {*hold.read_text().split()}:
        await asyncio.sleep(SECONDS)


def _bound(machine: type[Machine[Any]]) -> Actions[Any]:
    actions = Actions(machine)
    for row in machine.definition.table.values():
        if row.kind == "acting":
            actions.perform(row.name)(_work)
            if row.undo:
                actions.undo(row.name)(_work)
    return actions


first, second, third = map(_bound, VERSIONS)
"""What is deployed, one after the other."""
