"""Resize: give a guest another amount of memory and CPUs, try it, and keep it or go back.

| state | performs | undo |
|---|---|---|
| checking | it runs on its host, and the size is one that a guest can have | nothing |
| stopping | it is switched off | start it as it was |
| saving | a snapshot of its disk | bring the disk back to it, and delete it |
| starting | it starts with its new size | switch it off |
| verifying | waits for `confirm` or `revert`; unanswered for a day, for what the request said | - |
| confirming | the snapshot is deleted: the point of no return | - |

`revert` is nothing but the rollback: the guest is what and where it was, with the disk of the moment at which it was stopped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from interlock import Actions, Claim, Event, Final, Machine, Operation, Retry, Rollback, State, When
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Guest, Unsuitable
from interlock.compute.steps import AT_ONCE, permit, running, snapshots_fit

__all__ = ["NewSize", "Resize", "resize"]


@dataclass
class NewSize:
    """The data of a resize.

    Attributes:
        instance, host: names of the guest and of the host it runs on.
        memory_mib, cpus: its new size.
        unanswered: what happens when nobody answers in time.
        before: what it was made as.
        reason: why it cannot have that size, if it cannot.
    """

    instance: str
    host: str
    memory_mib: int
    cpus: int
    unanswered: Literal["confirm", "revert"] = "confirm"
    before: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class Resize(Machine[NewSize], version=1):
    """Give a guest another size, try it, and keep it or go back."""

    claims = [Claim("instance:{instance}")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then="stopping",
        description="it runs on its host, and the size is one that a guest can have",
    )
    stopping = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="saving",
        description="it is switched off",
    )
    saving = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="10m",
        then="starting",
        description="a snapshot of its disk is taken",
    )
    starting = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="verifying",
        description="it starts with its new size",
    )
    verifying = State(
        on={"confirm": "confirming", "revert": Rollback("cancelled")},
        after={"24h": [When("reverts_unanswered", Rollback("cancelled")), "confirming"]},
        description="somebody tries it, and answers confirm or revert",
    )
    confirming = State(
        queue="host:{host}",
        pivot=True,
        retry=Retry.forever(),
        timeout="10m",
        then="completed",
        description="the snapshot is deleted",
    )

    completed = Final("succeeded", description="it runs with its new size")
    refused = Final("failed", description="it cannot have that size; nothing was begun")
    failed = Final("failed", description="it runs as it was, with the disk that it had")
    cancelled = Final("cancelled", description="it runs as it was, with the disk that it had")

    views = {
        "v1": {
            "ACTIVE": ["completed", "refused", "failed", "cancelled"],
            "VERIFY_RESIZE": ["verifying"],
            "RESIZE": ...,
        }
    }


def resize(fleet: Fleet) -> Actions[NewSize]:
    """Return the actions of `Resize` over a fleet."""
    actions = Actions(Resize)

    @actions.perform(Resize.checking)
    async def check(op: Operation[NewSize]) -> Event | dict[str, Any]:
        try:
            before = await fleet.made_as(op.data.instance)
            wanted(op.data, before)
            snapshots_fit(before, op.data.host)
            await running(fleet, op.data.instance, op.data.host)
        except (Unsuitable, ValueError) as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        return {"before": asdict(before)}

    @actions.perform(Resize.stopping)
    async def switch_off(op: Operation[NewSize]) -> None:
        await fleet.stop(op.data.instance, op.data.host, permit(op))

    @actions.undo(Resize.stopping)
    async def start_as_it_was(op: Operation[NewSize]) -> None:
        await fleet.start(Guest(**op.data.before), op.data.host, permit(op))

    @actions.perform(Resize.saving)
    async def save(op: Operation[NewSize]) -> None:
        await fleet.save(op.data.instance, op.data.host, op.id, permit(op))

    @actions.undo(Resize.saving)
    async def restore(op: Operation[NewSize]) -> None:
        await fleet.restore(op.data.instance, op.data.host, op.id, permit(op))

    @actions.perform(Resize.starting)
    async def start(op: Operation[NewSize]) -> None:
        await fleet.start(wanted(op.data, Guest(**op.data.before)), op.data.host, permit(op))

    @actions.undo(Resize.starting)
    async def switch_off_again(op: Operation[NewSize]) -> None:
        await fleet.stop(op.data.instance, op.data.host, permit(op))

    @actions.when("reverts_unanswered")
    def reverts(op: Operation[NewSize]) -> bool:
        return op.data.unanswered == "revert"

    @actions.perform(Resize.confirming)
    async def forget(op: Operation[NewSize]) -> None:
        await fleet.forget(op.data.instance, op.data.host, op.id, permit(op))

    return actions


def wanted(data: NewSize, before: Guest) -> Guest:
    """Return the guest with its new size; raises ValueError where a guest cannot have it."""
    return replace(before, memory_mib=data.memory_mib, cpus=data.cpus)
