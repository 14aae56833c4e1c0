"""Machines that the tests of several floors share. Together they use every word a machine can be written with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from interlock import Children, Claim, Final, Group, Machine, Retry, Rollback, State, When


@dataclass
class Move:
    instance: str
    source: str
    destination: str
    port: int | None = None


class Migration(Machine[Move], version=1):
    """Move a running guest to another host without stopping it."""

    claims = [Claim("instance:{instance}"), Claim("host:{source}:outgoing", limit=2)]

    checking = State(
        initial=True, undo="nothing", retry=Retry(3), timeout="30s", on={"unsuitable": "refused"}, then="preparing"
    )
    preparing = State(queue="host:{destination}", undo=True, then="copying")
    copying = State(
        queue="host:{source}",
        undo=True,
        heartbeat="10s",
        timeout="30m",
        then="switching",
        on={"abort": Rollback("cancelled"), "force": "switching"},
    )
    switching = State(queue="host:{source}", pivot=True, then="cleaning")
    cleaning = State(queue="host:{source}", retry=Retry.forever(), then="completed")

    completed = Final("succeeded")
    refused = Final("failed")
    failed = Final("failed")
    cancelled = Final("cancelled")

    views = {"v1": {"ACTIVE": ["completed", "refused", "failed", "cancelled"], "MIGRATING": ...}}


@dataclass
class Size:
    server: str
    flavor: str
    shared: bool = False
    notes: list[str] = field(default_factory=list)


class Resize(Machine[Size], version=1):
    """Resize with a person's answer, a durable default answer, a group with a deadline and a conditional exit."""

    stopping = State(
        initial=True,
        undo=True,
        retry=Retry(2, delay="5s", jitter=0),
        cancel="finish",
        then=[When("shared_storage", "starting"), "copying_disk"],
    )
    copying_disk = State(
        undo=True, within="10m", retry=Retry(5, delay="1s", jitter=0, errors={"ValueError": Retry(1)}), then="starting"
    )
    starting = State(
        undo=True, then="verifying", on={"failed": "parked", "odd": [When("shared_storage", "parked"), "verifying"]}
    )
    verifying = State(
        on={"confirm": "confirming", "revert": Rollback("reverted")}, after={"72h": "confirming", "24h": "reminding"}
    )
    reminding = State(
        on={"confirm": "confirming", "revert": Rollback("reverted")}, after={"48h": "confirming"}, cancel="refuse"
    )
    parked = State(on={"again": "starting"}, within="1h")
    confirming = State(pivot=True, retry=Retry(2, delay="1s", jitter=0), timeout="1m", then="resized")
    resized = Final("succeeded")
    reverted = Final("cancelled")
    failed = Final("failed")
    cancelled = Final("cancelled")

    disks = Group("stopping", "copying_disk", on={"host_down": Rollback("failed")}, timeout="20m")
    moving = Group("disks", "starting", on={"timeout": "parked"}, timeout="1h")


@dataclass
class Size2:
    server: str
    flavor: str
    shared: bool = False
    notes: list[str] = field(default_factory=list)
    zone: str = "z1"


class Resize2(Machine[Size2], version=2, name="resize"):
    """The next version of resize: one state is called otherwise, one is new, one is gone, a field is new, times are others."""

    renames = {"copying_disk": "copying"}

    stopping = State(
        initial=True,
        undo=True,
        retry=Retry(2, delay="5s", jitter=0),
        cancel="finish",
        then=[When("shared_storage", "starting"), "copying"],
    )
    copying = State(
        queue="host:{zone}",
        undo=True,
        within="20m",
        retry=Retry(5, delay="1s", jitter=0, errors={"ValueError": Retry(1)}),
        then="starting",
    )
    starting = State(undo=True, then="checking", on={"failed": "parked"})
    checking = State(undo="nothing", then="verifying")
    verifying = State(on={"confirm": "confirming", "revert": Rollback("reverted")}, after={"12h": "confirming"})
    parked = State(on={"again": "starting"}, within="1h")
    confirming = State(pivot=True, retry=Retry(2, delay="1s", jitter=0), timeout="5m", then="resized")
    resized = Final("succeeded")
    reverted = Final("cancelled")
    failed = Final("failed")
    cancelled = Final("cancelled")

    disks = Group("stopping", "copying", on={"host_down": Rollback("failed")}, timeout="30m")
    moving = Group("disks", "starting", on={"timeout": "parked"}, timeout="1h")


class Loop(Machine[dict[str, Any]], version=1):
    """Goes round for ever until somebody stops it; two initial states; leaves nothing behind."""

    working = State(initial=True, undo="nothing", then="working", on={"enough": "finished"})
    idle = State(initial=True, on={"go": "working"}, after={"1m": "working"})
    finished = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Crossing(Machine[dict[str, Any]], version=1):
    """A wait that is past the pivot: nothing but time or a person can end it."""

    leaping = State(initial=True, pivot=True, then="flying")
    flying = State(on={"landed": "down"}, within="1h")
    down = Final("succeeded")


class Guarded(Machine[Any], version=1):
    """A status column that other code writes: several initial values, stored text, few names for events, ends that are left."""

    accepted = State(initial=True, to=["running", "error"])
    running = State(on={"progress": "running"}, to=["post_copy", "completed", "error"])
    post_copy = State(to=["completed", "error"], status="running (post-copy)")
    imported = State(initial=True, to=["accepted"])
    completed = Final("succeeded", to=["completed", "error"])
    error = Final("failed", to=["failed"], status="error!", description="left again when the instance is deleted")
    failed = Final("failed", initial=True)


@dataclass
class Guests:
    host: str
    source: str
    destination: str
    guests: list[Any] = field(default_factory=list)


class Drain(Machine[Guests], version=1):
    """Move every guest off a host, two at a time, and say in the end which did not move."""

    claims = [Claim("host:{host}", on_conflict="wait")]

    disabling = State(initial=True, undo=True, then="moving")
    moving = State(
        children=Children("migration", each="guests", item="instance", limit=2, on_failure="collect"),
        within="2h",
        cancel="finish",
        on={"enough": "drained"},
        then="drained",
    )
    drained = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Evacuate(Machine[Guests], version=1):
    """Children as they come: the first failure stops the rest, and a way back is the parent state's own undo."""

    moving = State(initial=True, children=Children("migration", each="guests"), undo=True, timeout="1h", then="racing")
    racing = State(children=Children("migration", each="guests", join="first"), then="trying", on={"failed": "trying"})
    trying = State(children=Children("migration", each="guests", join="any"), then="moved")
    moved = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


@dataclass
class Guest:
    instance: str


class Delete(Machine[Guest], version=1):
    """Delete a guest, whatever is being done with it; its record stays, its disk does not."""

    claims = [Claim("instance:{instance}", on_conflict="preempt"), Claim("deletions", limit=2, on_conflict="wait")]

    freeing = State(initial=True, undo="nothing", then="removing")
    removing = State(undo=True, then="gone")
    gone = Final("succeeded", hands_over=("record",))
    failed = Final("failed")
    cancelled = Final("cancelled")


ALL = (Migration, Resize, Loop, Crossing, Drain, Evacuate, Delete)
WRITTEN = (*ALL, Guarded)
NEWER = (Resize2,)
