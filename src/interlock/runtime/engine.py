"""`Interlock`: starts operations, performs them if it is given actions, and answers every question about them.

async with Interlock("sqlite:///ops.db", actions=[qemu]) as interlock:
    op = await interlock.start(LiveMigration, instance="web-1", source="a", destination="b")
    snapshot = await op.finished()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, overload

from msgspec import structs

from interlock.definition.data import fit
from interlock.definition.declare import OnConflict
from interlock.definition.duration import Duration
from interlock.definition.machine import Definition, Machine, data_type_of, definition_of
from interlock.errors import Conflict, Refused, Unknown
from interlock.interpreter import inputs as i
from interlock.interpreter.claims import wanted
from interlock.interpreter.facts import Entered
from interlock.interpreter.plan import Plan, plan
from interlock.interpreter.snapshot import Snapshot, Status
from interlock.interpreter.why import Why, written_for
from interlock.interpreter.why import why as explain
from interlock.runtime.actions import Actions, typed
from interlock.runtime.busy import load_before
from interlock.runtime.clock import Clock, SystemClock, new_id, process_identity, session_name
from interlock.runtime.committer import Committer, Driver
from interlock.runtime.follower import Follower
from interlock.runtime.handle import Handle
from interlock.runtime.ledger import Ledger
from interlock.runtime.limits import Limits
from interlock.runtime.scheduling import Scheduling
from interlock.runtime.session import Session
from interlock.runtime.starting import beginning, bounds_of, id_for, policy, same_start
from interlock.runtime.worker import Worker
from interlock.stores.contract import Lease, Page, Progress, Record, Store
from interlock.stores.opening import open_store

__all__ = ["Handle", "Interlock"]

D = TypeVar("D")


class Interlock(Scheduling):
    """An engine over a store. Use it as ``async with``; it opens the store and, if it has actions, begins to perform operations.

    Args:
        store: ``memory:``, ``sqlite:///file.db`` (see `interlock.stores.opening`), or a store.
        actions: one `Actions` for each machine whose operations are performed here.
        queues: that the worker serves; ``""`` is the default queue. A state's ``queue`` says where its action must run.
        worker: whether operations are performed here; default: if there are actions.
        machines: further machines that the store is to know.
        max_running: attempts at the same time.
        lease_seconds: after this time without a sign of life, others take over what this worker performs.
        grace_seconds: how long `close` waits for running actions before it hands them over.
        poll_seconds: at the latest then it is noticed what other processes did.
        by: who asks, where a call does not say.
        committer: ``thread`` (a thread of its own owns the store), or ``inline`` (the loop does).
        limits: how large and how long things may be.
        clock, new_id, new_name, process: where time, ids, the worker's name and this process's identity come from.

    Raises:
        ActionsMismatch: the actions do not fit their machines; the message lists everything.

    >>> async def main():
    ...     async with Interlock("memory:") as interlock:
    ...         return await interlock.machines()
    >>> asyncio.run(main())
    ()
    """

    def __init__(
        self,
        store: str | Store = "memory:",
        actions: Iterable[Actions[Any]] = (),
        *,
        queues: Iterable[str] = ("",),
        worker: bool | None = None,
        machines: Iterable[type[Machine[Any]] | Definition] = (),
        max_running: int = 500,
        lease_seconds: float = 10.0,
        grace_seconds: float = 30.0,
        poll_seconds: float = 0.2,
        by: str = "",
        committer: Driver = "thread",
        limits: Limits | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], str] = new_id,
        new_name: Callable[[], str] = session_name,
        process: str | None = None,
    ) -> None:
        for name, value in {
            "max_running": max_running,
            "lease_seconds": lease_seconds,
            "poll_seconds": poll_seconds,
        }.items():
            if not value > 0:
                raise Refused(f"Interlock({name}={value!r}): must be above 0")
        self._actions: dict[str, Actions[Any]] = {}
        for one in actions:
            if one.definition.name in self._actions:
                raise Refused(f"two Actions for machine `{one.definition.name}`: bind all of them to one")
            one.check()
            self._actions[one.definition.name] = one
        self._machines = [*(one.definition for one in self._actions.values()), *map(definition_of, machines)]
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._new_id = new_id
        self._by = by
        self._grace_seconds = grace_seconds
        self._poll_seconds = poll_seconds
        self._committer = Committer(partial(open_store, store), committer, poll_seconds)
        self._committer.noticed = self._noticed
        self._ledger = Ledger(self._committer, self._clock)
        self._worker: Worker | None = None
        if bool(self._actions) if worker is None else worker:
            served = tuple(dict.fromkeys(queues))
            here = process_identity() if process is None else process
            versions = tuple(one.definition.version for one in self._actions.values())
            lease = Lease("", 0.0, here, served, tuple(self._actions), max_running, versions)
            session = Session(self._committer, self._clock, new_name, lease, lease_seconds)
            own = queues if isinstance(queues, frozenset) else frozenset(served)
            self._worker = Worker(self._ledger, session, self._actions, own, max_running, poll_seconds, self._limits)
        self._follower = Follower(self._committer, self._ledger, self._performed, poll_seconds)
        self._following: asyncio.Task[None] | None = None

    def _noticed(self) -> None:
        """Others have moved operations."""
        self._follower.nudge()
        self._ledger.ring()
        if self._worker is not None:
            self._worker.nudge()

    def _performed(self) -> Collection[str]:
        return self._worker.attempts if self._worker is not None else ()

    # Life

    async def __aenter__(self) -> Interlock:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the store and begin. Raises `Unavailable` if the store cannot be opened, `Refused` if it knows a machine otherwise."""
        await self._committer.open()
        try:
            for machine in self._machines:
                await self._ledger.define(machine)
            await self._follower.begin()
            self._following = asyncio.get_running_loop().create_task(self._follower.run())
            if self._worker is not None:
                await self._worker.start()
        except BaseException:
            await self.close()
            raise

    async def stop(self) -> None:
        """Perform nothing more: running actions are waited for, or handed over, as their states say. Questions are still answered."""
        if self._worker is not None:
            await self._worker.stop(self._grace_seconds)

    async def close(self) -> None:
        """`stop`, and close the store. Safe to call twice."""
        try:
            await self.stop()
        finally:
            if self._following is not None:
                self._following.cancel()
                await asyncio.wait([self._following])
                self._following = None
            await self._committer.close()

    # Operations

    @overload
    async def start(
        self, machine: type[Machine[D]], data: D | Mapping[str, Any] | None = None, *, key: str | None = None, state: str | None = None,
        deadline: Duration | None = None, timeouts: Mapping[str, Duration] | None = None, within: Mapping[str, Duration] | None = None,
        retries: Mapping[str, int] | None = None, breakpoints: Iterable[str] = (), delay: Duration | None = None,
        at: datetime | None = None, on_conflict: OnConflict | None = None, by: str | None = None, **fields: Any,
    ) -> Handle[D]: ...  # fmt: skip
    @overload
    async def start(
        self, machine: Definition | str, data: Mapping[str, Any] | None = None, *, key: str | None = None, state: str | None = None,
        deadline: Duration | None = None, timeouts: Mapping[str, Duration] | None = None, within: Mapping[str, Duration] | None = None,
        retries: Mapping[str, int] | None = None, breakpoints: Iterable[str] = (), delay: Duration | None = None,
        at: datetime | None = None, on_conflict: OnConflict | None = None, by: str | None = None, **fields: Any,
    ) -> Handle[dict[str, Any]]: ...  # fmt: skip
    async def start(
        self,
        machine: Any,
        data: Any = None,
        *,
        key: str | None = None,
        state: str | None = None,
        deadline: Duration | None = None,
        timeouts: Mapping[str, Duration] | None = None,
        within: Mapping[str, Duration] | None = None,
        retries: Mapping[str, int] | None = None,
        breakpoints: Iterable[str] = (),
        delay: Duration | None = None,
        at: datetime | None = None,
        on_conflict: OnConflict | None = None,
        by: str | None = None,
        **fields: Any,
    ) -> Handle[Any]:
        """Start an operation. When this returns, the operation is in the store.

        Args:
            machine: its class, a `Definition`, or the name of one that the store knows (the newest version is taken).
            data: the operation's data: a mapping, or an instance of the machine's data type.
            key: idempotency key: a second start of the machine with it returns the same operation.
            state: the initial state, where there are several.
            deadline: roll back if it has not ended within this time from now (past the pivot it no longer counts).
            timeouts, within: by state, in place of the machine's.
            retries: attempts by state, in place of the machine's.
            breakpoints: states before which it pauses.
            delay, at: it begins, and takes its claims, after this time, or at this moment; ``deadline`` counts from now all the same.
            on_conflict: what to do where others hold what it claims, in place of what its machine says: ``reject``, ``wait``, ``preempt``.
            by: who asks.
            fields: the data's fields one by one; they go before those of ``data``.

        Raises:
            ClaimTaken: others hold what it claims, and it is not to wait; the error names them.
            IllegalData: the data does not fit the machine.
            KeyReused: the key stands for an operation with other data.
            LimitExceeded: something is larger than the limit in force.
            Refused, Unknown: no such machine or state, or the machine cannot be started.
            Unavailable: the store failed; nothing was started.
        """
        definition, data_type = await self._machine(machine)
        where = f"operation of `{definition.name}`"
        given = self._limits.plain({} if data is None else data, where)
        if fields:
            given = self._limits.plain({**given, **fields}, where)
        if data_type is not None:
            given = fit(definition.fields, given, where)
            typed(data_type, given, where)
        breaks = tuple(breakpoints)
        if breaks:
            self._limits.count("breakpoints", len(breaks), "breakpoints")
        bounds = bounds_of(self._clock.now(), deadline, timeouts, within, retries)
        operation = self._new_id() if key is None else id_for(self._limits, definition, key)
        self._limits.text("id_characters", operation, "operation id")
        input = i.Start(operation, given, state, self._who(by), bounds, breaks)
        begins = beginning(self._clock.now(), delay, at)
        input = structs.replace(input, not_before=begins, on_conflict=policy(on_conflict))
        try:
            snapshot = await self._begin(definition, input)
        except Conflict as error:
            if key is None or not error.details.get("exists"):
                raise
            records = await self._committer.call(lambda store: store.journal(operation, 0, 1))
            same_start(records, definition, key, given)
            snapshot = await self._ledger.load(operation)
        return Handle(self, operation, snapshot, data_type)

    async def plan(
        self,
        machine: type[Machine[Any]] | Definition | str,
        data: Mapping[str, Any] | None = None,
        *,
        state: str | None = None,
        on_conflict: OnConflict | None = None,
        **fields: Any,
    ) -> Plan:
        """Return what a start would lead to now: which states where, which claims, and why it would be refused. Nothing is changed.

        Args: as `start` has them.
        """
        definition = await self._ledger.definition(machine) if isinstance(machine, str) else definition_of(machine)
        given = self._limits.plain({**(data or {}), **fields}, f"operation of `{definition.name}`")
        input = i.Start(self._new_id(), given, state, self._by, on_conflict=policy(on_conflict))
        try:
            names = [claim.name for claim in wanted(definition, fit(definition.fields, given, "operation"))]
        except Refused:
            names = []  # the plan says why
        standing = await self._committer.call(lambda store: store.standing(names, 1_000))
        return plan(definition, input, standing, self._clock.now())

    async def adopt(
        self,
        machine: type[Machine[Any]] | Definition | str,
        data: Mapping[str, Any],
        *,
        state: str,
        record: str,
        begun: bool = True,
        steps: Sequence[str] | None = None,
        by: str | None = None,
    ) -> Handle[Any]:
        """Take over an operation that other code began, in the state it is in. A record is adopted once: then its operation is returned.

        The present state is performed with ``recover`` where one is bound; or waited for, if other code still performs it.

        Args:
            data: the operation's data.
            state: where it is; not a final state.
            record: key of the record that other code keeps of it; `operation_of` finds the operation by it.
            begun: whether other code has begun the present state; a record that was only just created it has not.
            steps: the states that other code may have begun: they are undone if it fails. Default: all that may lie behind.

        Raises: as `start` does.
        """
        definition, data_type = await self._machine(machine)
        given, operation = (
            self._limits.plain(data, f"operation of `{definition.name}`"),
            self.operation_of(definition, record).id,
        )
        input = i.Start(
            operation,
            given,
            state,
            self._who(by),
            None,
            (),
            None,
            record,
            True,
            begun,
            None if steps is None else tuple(steps),
        )
        try:
            snapshot = await self._begin(definition, input)
        except Conflict as error:
            if not error.details.get("exists"):
                raise
            snapshot = await self._ledger.load(operation)
        return Handle(self, operation, snapshot, data_type)

    async def _begin(self, definition: Definition, input: i.Start) -> Snapshot:
        offer = None if self._worker is None else self._worker.offer(definition.name, definition.version)
        try:
            return await self._ledger.submit(input.id, structs.replace(input, offer=offer), definition)
        finally:
            if offer is not None and self._worker is not None:
                self._worker.release()

    def operation_of(self, machine: type[Machine[Any]] | Definition, record: str) -> Handle[Any]:
        """Return a handle of the operation that a record stands for (see `adopt`); nothing is read yet."""
        return self.operation(id_for(self._limits, definition_of(machine), f"record {record}"))

    def operation(self, id: str) -> Handle[Any]:
        """Return a handle of an operation; nothing is read yet."""
        return Handle(self, self._limits.text("id_characters", id, "operation id"), None, None)

    async def show(self, id: str) -> Snapshot:
        """Return an operation as it is. Raises `Unknown`."""
        return await self._ledger.load(id)

    async def list(
        self,
        machine: type[Machine[Any]] | Definition | str | None = None,
        status: Status | Collection[Status] = (),
        state: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """Return operations, newest first; ``cursor`` of a page continues it.

        Args:
            machine: only of this machine.
            status: only with this status, or one of these.
            state: only in this state.
        """
        name = machine if isinstance(machine, str) or machine is None else definition_of(machine).name
        wanted = (status,) if isinstance(status, str) else tuple(status)
        self._limits.count("page", limit, "limit")
        return await self._committer.call(
            lambda store: store.search(machine=name, status=wanted, state=state, cursor=cursor, limit=limit)
        )

    async def owned(self, after: str = "", limit: int = 100) -> tuple[Snapshot, ...]:
        """Return operations that own something and have not ended, by id, above ``after``; see ``owned`` of each."""
        self._limits.count("page", limit, "limit")
        return tuple(await self._committer.call(lambda store: store.owning(after, limit)))

    async def history(self, id: str, after: int = 0, limit: int = 1_000) -> tuple[Record, ...]:
        """Return an operation's journal from above sequence number ``after``. Raises `Unknown`."""
        self._limits.count("page", limit, "limit")
        records = await self._committer.call(lambda store: store.journal(id, after, limit))
        if not records:
            await self._ledger.load(id)
        return tuple(records)

    async def tail(self, after: int, limit: int = 500) -> tuple[Record, ...]:
        """Return the records of all operations above position ``after``, in order."""
        return tuple(await self._committer.call(lambda store: store.tail(after, limit)))

    async def watch(self, id: str | None = None, after: int | None = None) -> AsyncIterator[Record]:
        """Yield records of the journal as they are written.

        Args:
            id: of this operation only, from sequence number ``after`` (default: from its beginning), until it has ended.
            after: of all operations from this position (default: from now on), without end.
        """
        if id is not None:
            await self._ledger.load(id)
        if after is None:
            after = await self._committer.call(lambda store: store.position()) if id is None else 0
        bell = self._ledger.bell()
        while True:
            if bell.done():
                bell = self._ledger.bell()
            records = await self._committer.call(_records, id, after)
            for record in records:
                after = record.position if id is None else record.seq
                yield record
                if id is not None and any(isinstance(fact, Entered) and fact.kind == "final" for fact in record.facts):
                    return
            if not records:
                await asyncio.wait([bell], timeout=self._poll_seconds)

    async def finished(self, id: str, timeout: float | None = None) -> Snapshot:
        """Wait until an operation has ended, or is stuck and needs a person; its ``status`` tells which.

        Args:
            timeout: seconds; then `TimeoutError`. The operation goes on.
        """
        async with asyncio.timeout(timeout):
            return await self._ledger.rest(id)

    async def why(self, id: str) -> Why:
        """Return what an operation waits for, since when, who holds it, and what can be asked of it now."""
        snapshot, now = await self._ledger.load(id), self._clock.now()
        leases, load = await self._committer.call(load_before, snapshot, now)
        try:
            machine = await self._ledger.definition(snapshot.machine, snapshot.version)
        except Unknown:
            machine = None
        name, versions = snapshot.machine, {written_for(lease, snapshot.machine) for lease in leases} - {0}
        written = {version: await self._ledger.definition(name, version) for version in versions}
        return explain(machine, snapshot, leases, now, load, written)

    async def progress(self, id: str) -> Progress | None:
        """Return what an operation's action last said of how far it is."""
        fresh = None if self._worker is None else self._worker.progress(id)
        return fresh if fresh is not None else await self._committer.call(lambda store: store.progress(id))

    async def machines(self) -> tuple[tuple[str, int], ...]:
        """Return the machines that the store knows, by name and version."""
        return tuple(await self._committer.call(lambda store: store.definitions()))

    async def definition(self, machine: str, version: int | None = None) -> Definition:
        """Return a machine that the store knows; without ``version`` the newest. Raises `Unknown`."""
        return await self._ledger.definition(machine, version)

    async def counts(self) -> dict[tuple[str, str, str], int]:
        """Return how many operations there are by (machine, state, status)."""
        return await self._committer.call(lambda store: store.counts())

    async def leases(self) -> tuple[Lease, ...]:
        """Return the leases of all workers, lapsed ones included."""
        return tuple(await self._committer.call(lambda store: store.leases()))

    # Inside

    async def _machine(self, machine: type[Machine[Any]] | Definition | str) -> tuple[Definition, Any]:
        if isinstance(machine, str):
            definition = await self._ledger.definition(machine)
        else:
            definition = definition_of(machine)
            await self._ledger.define(definition)
        if isinstance(machine, type):
            return definition, data_type_of(machine)
        own = self._actions.get(definition.name)
        return definition, own.data_type if own is not None and own.definition.version == definition.version else None


def _records(store: Store, operation: str | None, after: int) -> Sequence[Record]:
    return store.tail(after, 500) if operation is None else store.journal(operation, after, 500)
