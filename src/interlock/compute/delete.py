"""Delete: whatever runs on a guest is cancelled, the guest is switched off, and it and its disk are no more.

| state | performs | undo |
|---|---|---|
| checking | where it runs, if it does | nothing |
| stopping | it is switched off | start it as it was |
| deleting | its disk is deleted: the point of no return | - |
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from interlock import Actions, Claim, Event, Final, Machine, Operation, Retry, State, When
from interlock.compute.fleet import Fleet
from interlock.compute.hypervisor import Guest, HostUnreachable, Unsuitable
from interlock.compute.steps import AT_ONCE, permit

__all__ = ["Death", "Delete", "delete"]


@dataclass
class Death:
    """The data of a deletion.

    Attributes:
        instance: name of the guest.
        host: where it runs, or a host that can delete its disk.
        runs: whether it runs there.
        before: what it was made as.
        reason: why it cannot be deleted, if it cannot.
    """

    instance: str
    host: str = ""
    runs: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class Delete(Machine[Death], version=1):
    """Delete a guest; what runs on it is cancelled and undone first."""

    claims = [Claim("instance:{instance}", on_conflict="preempt")]

    checking = State(
        initial=True,
        undo="nothing",
        retry=Retry(3),
        timeout="30s",
        on={"unsuitable": "refused"},
        then=[When("it_runs", "stopping"), "deleting"],
        description="where it runs, if it does",
    )
    stopping = State(
        queue="host:{host}",
        undo=True,
        retry=Retry(3, errors=AT_ONCE),
        timeout="2m",
        then="deleting",
        description="it is switched off",
    )
    deleting = State(
        queue="host:{host}",
        pivot=True,
        retry=Retry.forever(),
        timeout="10m",
        then="completed",
        description="its disk is deleted",
    )

    completed = Final("succeeded", description="nothing of it is there")
    refused = Final("failed", description="there is no such guest")
    failed = Final("failed", description="it is as it was")
    cancelled = Final("cancelled", description="it is as it was")

    views = {"v1": {"DELETED": ["completed"], "ACTIVE": ["refused", "failed", "cancelled"], "DELETING": ...}}


def delete(fleet: Fleet) -> Actions[Death]:
    """Return the actions of `Delete` over a fleet."""
    actions = Actions(Delete)

    @actions.perform(Delete.checking)
    async def check(op: Operation[Death]) -> Event | dict[str, Any]:
        instance = op.data.instance
        try:
            before = await fleet.made_as(instance)
        except Unsuitable as unsuitable:
            return Event("unsuitable", reason=str(unsuitable))
        states = await fleet.where(instance)
        host = next(iter(states), None) or await answering(fleet, instance)
        return {"host": host, "runs": bool(states), "before": asdict(before)}

    @actions.when("it_runs")
    def it_runs(op: Operation[Death]) -> bool:
        return op.data.runs

    @actions.perform(Delete.stopping)
    async def switch_off(op: Operation[Death]) -> None:
        await fleet.stop(op.data.instance, op.data.host, permit(op))

    @actions.undo(Delete.stopping)
    async def start_as_it_was(op: Operation[Death]) -> None:
        await fleet.start(Guest(**op.data.before), op.data.host, permit(op))

    @actions.perform(Delete.deleting)
    async def unmake(op: Operation[Death]) -> None:
        await fleet.unmake(op.data.instance, op.data.host, permit(op))

    return actions


async def answering(fleet: Fleet, instance: str) -> str:
    """Return a host that answers; raises `HostUnreachable` if none does."""
    for host in fleet.hosts:
        try:
            await fleet.guests_on(host)
        except HostUnreachable:
            continue
        return host
    raise HostUnreachable("no host answers", host="any host", instance=instance, mend="try again")
