"""Between operations: children are started, stopped, and told of to their parents; who waits for claims begins; who preempts has others
cancelled.

Theory of operation:

1.  What a decision asks for (`Spawn`, `Recall`, `Preempt`), and what an operation's end means for others, is carried out at once, each in
    an asyncio task of its own, by whoever committed it.
2.  That is only the fast way. What the store says is looked at again and again: every `AGAIN_SECONDS` operations that wait for their
    children or for whom they preempt, and in every round those that may find their claims free. So a process that dies between a commit
    and what follows from it leaves nothing undone.
3.  Therefore everything here may be done twice, by several processes: a child's id is its parent's choice, and starting it again is refused
    as existing; a second cancel, and a second word of an end, change nothing.
4.  A child that is to be stopped and was not started yet is started and then cancelled: another process may be about to start it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from interlock.errors import Conflict, InterlockError, Unavailable, Unknown
from interlock.interpreter.children import child_id
from interlock.interpreter.claims import blocked, family
from interlock.interpreter.facts import Outcome, Parent
from interlock.interpreter.inputs import Cancel, ChildOver, Effect, Preempt, Recall, Spawn, Standing, Start, Tick
from interlock.interpreter.items import child_data
from interlock.interpreter.snapshot import Beginning, Ended, Joining, Snapshot
from interlock.stores.contract import Store, Waiter
from interlock.stores.stored import standing_of

if TYPE_CHECKING:
    from interlock.runtime.worker import Worker

__all__ = ["Between", "Sight"]

log = logging.getLogger("interlock")
AGAIN_SECONDS = 2.0
BATCH = 200


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at the store found: who may begin; and who waits for others, with their children as they are."""

    waiters: Sequence[Waiter] = ()
    awaiting: Sequence[tuple[Snapshot, Mapping[str, Snapshot]]] = ()


class Between:
    """What a worker does between operations.

    Args:
        worker: whose offers and ledger it uses.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._ledger = worker.ledger
        self._place = 0
        self._after = ""
        self._again = 0.0
        self._doing: dict[tuple[str, str], asyncio.Task[None]] = {}

    # Rule 1

    def carry_out(self, snapshot: Snapshot, effect: Effect) -> None:
        """Carry out one effect, after this has returned."""
        if type(effect) is Spawn:
            self._do("spawn", effect.id, partial(self._spawn, snapshot, effect.index, effect.id))
        elif type(effect) is Recall:
            self._do("recall", effect.id, partial(self._recall, snapshot, effect.index, effect.id))
        elif type(effect) is Preempt:
            self._do("preempt", snapshot.id, partial(self._preempt, snapshot))

    def ended(self, child: Snapshot) -> None:
        """Tell a child's parent that the child is over."""
        self._do("over", child.id, partial(self._over, child))

    async def stop(self) -> None:
        """End what is being done; others do it again."""
        doing = [*self._doing.values()]
        for task in doing:
            task.cancel()
        if doing:
            await asyncio.wait(doing)

    def _do(self, what: str, id: str, work: Callable[[], Awaitable[None]]) -> None:
        if (what, id) in self._doing:
            return
        task = self._worker.loop.create_task(self._guarded(what, id, work))
        self._doing[what, id] = task
        task.add_done_callback(lambda _: self._doing.pop((what, id)))

    async def _guarded(self, what: str, id: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Unavailable as error:
            log.warning("%s of %s: trying again: %s", what, id, error)
        except Exception:
            log.exception("%s of %s: a fault; trying again", what, id)

    async def _spawn(self, parent: Snapshot, index: int, id: str) -> None:
        children = self._ledger.machines[parent.machine, parent.version].table[parent.state].children
        assert children is not None, f"{parent.id}: `{parent.state}` has no children"
        kin = Parent(parent.id, index, family(parent))
        offer = None
        try:
            machine = await self._ledger.definition(children.machine)
            known = parent.data if machine.fields is None else machine.fields
            data = child_data(children, parent.data, index, known)
            offer = self._worker.offer(machine.name, machine.version)
            start = Start(id, data, by=parent.by, offer=offer, parent=kin, on_conflict="wait")
            await self._ledger.submit(id, start, machine)
        except Unavailable as error:
            if not isinstance(error, Conflict) or not error.details.get("exists"):
                raise
            child = await self._ledger.load(id)
            if child.parent != kin:
                what = f"its id `{id}` is that of another operation"
                await self._tell(parent, ChildOver(index, id, "failed", what))
            elif child.ended:
                await self._over(child)
        except InterlockError as error:
            await self._tell(parent, ChildOver(index, id, "failed", f"it was refused: {error}"))
        finally:
            if offer is not None:
                self._worker.release()

    async def _recall(self, parent: Snapshot, index: int, id: str) -> None:
        for _ in range(2):
            try:
                await self._ledger.submit(id, Cancel(parent.by, f"its parent `{parent.id}` stops it"))
            except Unknown:
                await self._spawn(parent, index, id)  # rule 4
                continue
            except Unavailable:
                raise
            except InterlockError as error:
                log.info("child `%s` is waited for: %s", id, error)
            return

    async def _preempt(self, snapshot: Snapshot) -> None:
        standing, found = await self._ledger.committer.call(_in_front, snapshot)
        ancestors = family(snapshot)
        for claim, others in blocked(snapshot.claims, standing, snapshot.id, ancestors):
            for one in others if claim.name in snapshot.preempts else ():
                other = found.get(one.operation)
                if other is None or other.ended or (not one.held and claim.name in other.preempts):
                    continue
                why = f"operation `{snapshot.id}` of `{snapshot.machine}` preempts it for `{claim.name}`"
                try:
                    await self._ledger.submit(one.operation, Cancel(snapshot.by, why))
                except Unavailable:
                    raise
                except InterlockError as error:
                    log.info("operation `%s` waits for `%s`: %s", snapshot.id, one.operation, error)

    async def _over(self, child: Snapshot) -> None:
        assert child.parent is not None and isinstance(child.phase, Ended)
        outcome: Outcome = child.phase.outcome
        reason = ""
        if outcome != "succeeded":
            cause = f": {child.failure.kind}: {child.failure.message}".rstrip(": ") if child.failure else ""
            reason = f"`{child.id}` {'was ' if outcome == 'cancelled' else ''}{outcome}{cause}"
        (parent,) = await self._ledger.committer.call(_load, (child.parent.operation,)) or (None,)
        if parent is None:
            log.error("operation `%s` is a child of `%s`, which is not in this store", child.id, child.parent.operation)
        elif isinstance(parent.phase, Joining):
            await self._tell(parent, ChildOver(child.parent.index, child.id, outcome, reason))

    async def _tell(self, parent: Snapshot, over: ChildOver) -> None:
        await self._worker.learn([parent])
        offer = self._worker.offer(parent.machine, parent.version)
        try:
            await self._ledger.submit(parent.id, ChildOver(over.index, over.id, over.outcome, over.reason, offer))
        finally:
            if offer is not None:
                self._worker.release()

    # Rule 2

    def look(self, store: Store, now: float) -> Sight:
        """Return what a look at the store shows; called where the store is."""
        waiters = store.waiters(self._place, BATCH)
        self._place = waiters[-1].place if len(waiters) == BATCH else 0
        if now < self._again:
            return Sight(waiters)
        awaiting = store.awaiting(self._after, BATCH)
        if len(awaiting) == BATCH:
            self._after = awaiting[-1].id
        else:
            self._after, self._again = "", now + AGAIN_SECONDS
        found = []
        for one in awaiting:
            live = one.phase.live if isinstance(one.phase, Joining) else ()
            found.append((one, {child.id: child for child in store.load([child_id(one, index) for index in live])}))
        return Sight(waiters, found)

    async def go_on(self, sight: Sight) -> list[asyncio.Future[Snapshot]]:
        """Let those begin that may; see after those that wait. Return the answers to be waited for."""
        await self._worker.learn([one.snapshot for one in sight.waiters] + [one for one, _ in sight.awaiting])
        answers = []
        for waiter in sight.waiters:
            one = waiter.snapshot
            if not one.paused and not blocked(one.claims, waiter.standing, one.id, family(one)):
                offer = self._worker.offer(one.machine, one.version)
                answers.append(self._worker.give(one, Tick(offer, waiter.standing)))
        for parent, children in sight.awaiting:
            if isinstance(parent.phase, Beginning):
                self.carry_out(parent, Preempt(parent.preempts))
            elif isinstance(parent.phase, Joining):
                self._look_after(parent, parent.phase, children)
        return answers

    def _look_after(self, parent: Snapshot, phase: Joining, children: Mapping[str, Snapshot]) -> None:
        for index in phase.live:
            id = child_id(parent, index)
            child = children.get(id)
            if child is None or (child.ended and child.parent != Parent(parent.id, index, family(parent))):
                self.carry_out(parent, Spawn(index, id))
            elif child.ended:
                self.ended(child)
            elif phase.stopping and not (child.rollback or child.pending):
                self.carry_out(parent, Recall(index, id))


def _load(store: Store, operations: Sequence[str]) -> list[Snapshot]:
    return store.load(operations)


def _in_front(store: Store, snapshot: Snapshot) -> tuple[Standing, dict[str, Snapshot]]:
    standing = standing_of(store, snapshot)
    names = {one.operation: None for line in standing.values() for one in line}
    return standing, {one.id: one for one in store.load([*names])}
