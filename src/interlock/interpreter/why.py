"""`why`: what an operation waits for, since when, who holds it, what comes next, and what can be asked of it now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from interlock.definition.compare import unable
from interlock.definition.machine import Definition
from interlock.interpreter.because import because
from interlock.interpreter.children import child_id
from interlock.interpreter.claims import blocked, family
from interlock.interpreter.facts import Fact, Overrode
from interlock.interpreter.inputs import Standing
from interlock.interpreter.possible import possible
from interlock.interpreter.snapshot import Beginning, Ended, Joining, Queued, Running, Snapshot, Status, Stuck, timer_at
from interlock.interpreter.upgrade import performable, upgradable

__all__ = ["LeaseLike", "Load", "Why", "why", "written_for"]


class LeaseLike(Protocol):
    """What `why` needs to know of a worker's lease."""

    @property
    def worker(self) -> str: ...
    @property
    def until(self) -> float: ...
    @property
    def queues(self) -> tuple[str, ...]: ...
    @property
    def machines(self) -> tuple[str, ...]: ...
    @property
    def max_running(self) -> int: ...
    @property
    def versions(self) -> tuple[int, ...]: ...


class Load(msgspec.Struct, frozen=True):
    """How busy those are who could perform an operation's next attempt.

    Attributes:
        running: how many attempts each worker performs now.
        before: how many operations are due in the same queue before this one.
        more: there are more than were counted.
        standing: who holds and who waits for what it claims.
        children: the status of each child that is not over, by its id; None for one that is not there yet.
        last: of an operation that is over, the facts that led to its end.
    """

    running: Mapping[str, int] = {}
    before: int = 0
    more: bool = False
    standing: Standing = {}
    children: Mapping[str, str | None] = {}
    last: tuple[Fact, ...] = ()


class Why(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to `why`.

    Attributes:
        operation, machine, version, state, status: what it is about.
        since: when it last moved, seconds since the epoch.
        waits_for: one sentence: what has to happen next.
        held_by, held_until: the worker that performs it, and when its lease lapses unless renewed.
        next_at: when the clock moves it next, if it does.
        details: everything else worth knowing, a sentence each.
        possible: what can be asked of it now.
    """

    operation: str
    machine: str
    version: int
    state: str
    status: Status
    since: float
    waits_for: str
    held_by: str = ""
    held_until: float | None = None
    next_at: float | None = None
    details: tuple[str, ...] = ()
    possible: tuple[str, ...] = ()


def written_for(lease: LeaseLike, machine: str) -> int:
    """Return the version of a machine that a worker's actions were written for; 0 if that is not known."""
    return dict(zip(lease.machines, lease.versions, strict=False)).get(machine, 0)


def why(
    machine: Definition | None,
    snapshot: Snapshot,
    leases: Sequence[LeaseLike],
    now: float,
    load: Load | None = None,
    written: Mapping[int, Definition] | None = None,
) -> Why:
    """Explain an operation.

    Args:
        machine: its definition; None if nobody knows it.
        snapshot: the operation.
        leases: all workers' leases, lapsed ones included.
        now: seconds since the epoch.
        load: how busy the workers are, if that is known.
        written: the versions of the machine that workers' actions were written for.
    """
    phase, details = snapshot.phase, []
    held_by, held_until, next_at = "", None, timer_at(snapshot)
    live = [lease for lease in leases if lease.until >= now]
    if isinstance(phase, Ended):
        what = "was cancelled" if phase.outcome == "cancelled" else phase.outcome
        cause = because(load.last) if load is not None and phase.outcome != "succeeded" else ""
        details += [_moved(fact) for fact in (load.last if load else ()) if isinstance(fact, Overrode)]
        by_a_person = cause.startswith("it was cancelled")
        waits_for = (
            f"nothing: {cause}" if by_a_person else f"nothing: it {what}" + (f", because {cause}" if cause else "")
        )
    elif isinstance(phase, Stuck):
        waits_for = f"a person: {phase.reason}"
    elif isinstance(phase, Running):
        held_by = phase.worker
        held_until = next((lease.until for lease in leases if lease.worker == held_by), None)
        waits_for = _running(phase, held_by, held_until, now)
        if phase.cut:
            details.append(
                f"the attempt was asked to end ({phase.cut}) and has not acknowledged it yet; a plain function cannot be interrupted"
            )
    elif snapshot.paused:
        who = f" by {snapshot.paused.by}" if snapshot.paused.by else ""
        waits_for = f"a resume: it was paused{who}" + (f" ({snapshot.paused.reason})" if snapshot.paused.reason else "")
    elif isinstance(phase, Beginning):
        waits_for = _beginning(phase, snapshot, now, load or Load())
    elif isinstance(phase, Joining):
        waits_for = _joining(phase, snapshot, load or Load())
    elif isinstance(phase, Queued):
        waits_for = _queued(machine, phase, snapshot, live, now, load or Load(), written or {})
        if phase.ready_at > now:
            next_at = phase.ready_at if next_at is None else min(next_at, phase.ready_at)
    elif machine is not None and machine.table[snapshot.state].kind == "acting":
        waits_for = f"a report: other code performs `{snapshot.state}`"
    else:
        exits = [] if machine is None else [name for name in machine.table[snapshot.state].exits if name != "timeout"]
        waits_for = f"a signal: {', '.join(exits)}" if exits else "time to pass" if next_at is not None else "an event"
    details += _details(machine, snapshot)
    if machine is not None and not snapshot.ended:
        details += _versions(machine, snapshot, now, [one for _, one in sorted((written or {}).items())])
    can = possible(machine, snapshot) if machine else ()
    return Why(
        snapshot.id, snapshot.machine, snapshot.version, snapshot.state, snapshot.status, snapshot.changed, waits_for, held_by, held_until,
        next_at, tuple(details), can,
    )  # fmt: skip


def _moved(fact: Overrode) -> str:
    broke = f", which broke: {'; '.join(fact.broke)}" if fact.broke else ""
    return f"{fact.by or 'somebody'} moved it to `{fact.to}` ({fact.reason}){broke}"


def _beginning(phase: Beginning, snapshot: Snapshot, now: float, load: Load) -> str:
    if not snapshot.claims:
        return f"its time: it begins at {phase.ready_at:.3f}" if phase.ready_at > now else "a worker to begin it"
    taken = blocked(snapshot.claims, load.standing, snapshot.id, family(snapshot))
    if not taken:
        return "its claims, which a worker is about to take"
    claim, others = taken[0]
    holders = ", ".join(f"`{one.operation}`" for one in others if one.held) or "nobody yet"
    line = sum(not one.held for one in others)
    asked = ", which was asked to end" if claim.name in snapshot.preempts else ""
    more = f"; {len(taken) - 1} more claims are not free" if len(taken) > 1 else ""
    return f"claim `{claim.name}`: it is held by {holders}{asked}; {f'{line} wait before it' if line else 'it is the next'}{more}"


def _joining(phase: Joining, snapshot: Snapshot, load: Load) -> str:
    over = phase.succeeded + phase.failed
    told = f"{over} of {phase.total} are over" + (f", {phase.failed} did not succeed" if phase.failed else "")
    names = [
        f"`{child_id(snapshot, index)}` ({load.children.get(child_id(snapshot, index)) or 'to be started'})"
        for index in phase.live[:3]
    ]
    more = f" and {len(phase.live) - 3} more" if len(phase.live) > 3 else ""
    verb = "its children to stop" if phase.stopping else "its children"
    return f"{verb}: {', '.join(names)}{more}; {told}"


def _running(phase: Running, worker: str, until: float | None, now: float) -> str:
    what = {"perform": "the action", "undo": "the undo", "choose": "the conditions"}[phase.kind]
    if until is None or until < now:
        return f"another worker to take over {what} of `{phase.state}`: the lease of {worker} has lapsed"
    return f"{what} of `{phase.state}` to end (attempt {phase.number}, by {worker})"


def _queued(
    machine: Definition | None,
    phase: Queued,
    snapshot: Snapshot,
    live: Sequence[LeaseLike],
    now: float,
    load: Load,
    written: Mapping[int, Definition],
) -> str:
    what = {"perform": "", "undo": "the undo of ", "choose": "the conditions of "}[phase.kind]
    step = f"{what}`{phase.state}`"
    queue = f"queue `{phase.queue}`" if phase.queue else "the default queue"
    if machine is None:
        return f"a definition: nobody knows `{snapshot.machine}` version {snapshot.version}"
    if phase.ready_at > now:
        return f"the time of attempt {snapshot.attempts + 1} of {step}"
    able = sorted(
        (lease for lease in live if phase.queue in lease.queues and snapshot.machine in lease.machines),
        key=lambda lease: lease.worker,
    )
    if not able:
        return f"a worker: none that is alive serves {queue} for `{snapshot.machine}`"
    lacks: dict[int, str] = {}
    for lease in able:
        own = written.get(written_for(lease, snapshot.machine))
        if own is not None and not performable(machine, own, snapshot, now):
            lacks[own.version] = unable(machine, own, phase.kind, phase.state)
    able = [lease for lease in able if written_for(lease, snapshot.machine) not in lacks]
    if not able:
        theirs = "; ".join(f"of those for version {version}, {lack}" for version, lack in sorted(lacks.items()))
        return (
            f"a worker whose actions can make the attempt of {step} as version {machine.version} has it: none that is alive and "
            f"serves {queue} can ({theirs}). Run one with the actions of version {machine.version}, or move the operation by hand"
        )
    if all(load.running.get(lease.worker, 0) >= lease.max_running for lease in able):
        full = ", ".join(f"{one.worker} performs {load.running[one.worker]} of {one.max_running}" for one in able[:3])
        line = f"{load.before}{' or more' if load.more else ''} before it" if load.before else "it is the next"
        return f"a place to begin {step}: {queue} is full ({full}; {line})"
    return f"a free worker to begin {step} ({queue}; {len(able)} alive: {', '.join(one.worker for one in able[:3])})"


def _versions(machine: Definition, snapshot: Snapshot, now: float, written: Sequence[Definition]) -> list[str]:
    """Say whether it will be upgraded to the newest version that a worker has actions for."""
    newest = written[-1] if written else machine
    if newest.version <= machine.version:
        return []
    reason = upgradable(machine, newest, snapshot, now)
    if reason is None:
        return [
            f"it runs version {machine.version} and is upgraded to version {newest.version} at its next commit by a worker that has it"
        ]
    return [f"it runs version {machine.version}, and is not upgraded to version {newest.version} here: {reason}"]


def _details(machine: Definition | None, snapshot: Snapshot) -> list[str]:
    details = []
    if snapshot.failure and not snapshot.ended:
        details.append(f"the last failure: {snapshot.failure.kind}: {snapshot.failure.message}".rstrip(": "))
    if snapshot.pending:
        what = {
            "event": f"`{snapshot.pending.name}`",
            "timer": f"timer {snapshot.pending.name}",
            "cancel": "the cancel",
        }
        when = "its children are over" if isinstance(snapshot.phase, Joining) else "the attempt has ended"
        details.append(f"{what[snapshot.pending.cause]} is carried out when {when}")
    if snapshot.rollback:
        left = ", ".join(f"`{step}`" for step in reversed(snapshot.steps)) or "nothing"
        details.append(
            f"rolling back to `{snapshot.rollback.to}` because {snapshot.rollback.cause}; left to undo: {left}"
        )
    for name, at in sorted(snapshot.timers.items(), key=lambda timer: timer[1]):
        details.append(f"timer `{name}` is set for {at:.3f}")
    details += [f"signal `{held.event}` is held until a state accepts it" for held in snapshot.held]
    if machine is not None and not snapshot.ended and machine.table[snapshot.state].past_pivot:
        details.append("it is past the point of no return")
    if snapshot.claims and not isinstance(snapshot.phase, Beginning):
        details.append("it holds " + ", ".join(f"`{claim.name}`" for claim in snapshot.claims))
    if snapshot.owned:
        details.append("it owns " + ", ".join(f"{own.kind} `{own.id}`" for own in snapshot.owned))
    if snapshot.parent:
        details.append(f"it is a child of `{snapshot.parent.operation}`")
    return details
