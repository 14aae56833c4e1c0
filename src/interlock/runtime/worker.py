"""The worker: keeps a lease, takes what is due and what dead workers left, performs it, and stops in order.

Theory of operation:

1.  A worker has a session: a name nobody had before, and a lease under it. It offers itself only while the lease holds. If the lease
    could not be renewed in time, everything that was performed under it is ended and forgotten, and a new session begins.
2.  A round looks at the store once: what is left under leases that have lapsed, or whose process on this machine is gone; operations that
    are due, as many as there is room for; and when the next will be. It gives each a `Tick` or a `Lapsed` with an offer. All of them
    share transactions.
3.  Effects come from the ledger after their commit: `Perform` begins an attempt, `Cut` ends one, `Wake` and the timers of what is held are
    set on the loop.
4.  What operations mean to each other is carried out and looked after by `between`.
5.  A stop offers no more, waits for or ends what runs (each state says which), hands over what did not end in time, and gives the lease
    back only if nothing is left under it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interlock.definition.compare import unable
from interlock.errors import InterlockError, StaleToken, Unavailable
from interlock.interpreter.inputs import Cut, Effect, Input, Lapsed, Offer, Perform, Tick, Wake
from interlock.interpreter.snapshot import Ended, Running, Snapshot, timer_at
from interlock.interpreter.upgrade import performable
from interlock.runtime.actions import Actions
from interlock.runtime.attempt import Attempt
from interlock.runtime.between import Between, Sight
from interlock.runtime.ledger import Ledger
from interlock.runtime.limits import Limits
from interlock.runtime.passing import Passing
from interlock.runtime.schedules import Schedules
from interlock.runtime.session import Session
from interlock.stores.contract import Lease, Progress, Schedule, Store

__all__ = ["Look", "Worker"]

log = logging.getLogger("interlock")
BATCH = 200
FLUSH_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the store found."""

    left: Sequence[tuple[Lease, Sequence[Snapshot]]] = ()
    due: Sequence[Snapshot] = ()
    next_due: float | None = None
    between: Sight = field(default_factory=Sight)
    schedules: Sequence[Schedule] = ()


@dataclass(slots=True)
class _Timer:
    """When a held operation is ticked next."""

    at: float
    handle: asyncio.TimerHandle = field(repr=False)


class Worker:
    """Performs the attempts at the operations of some machines.

    Args:
        ledger: through which everything is decided.
        session: the lease.
        actions: by machine.
        queues: that it serves.
        max_running: so many attempts at the same time.
        poll_seconds: it looks at the store at least this often.
        limits: for what actions add and say.
    """

    def __init__(
        self,
        ledger: Ledger,
        session: Session,
        actions: Mapping[str, Actions[Any]],
        queues: frozenset[str],
        max_running: int,
        poll_seconds: float,
        limits: Limits,
    ) -> None:
        self.ledger = ledger
        self.clock = ledger.clock
        self.limits = limits
        self.stopping = False
        self.attempts: dict[str, Attempt] = {}
        self._lingering: dict[str, Attempt] = {}
        self._session = session
        self._actions = actions
        self._queues = queues
        self._max_running = max_running
        self._poll_seconds = poll_seconds
        self._served: dict[tuple[str, int], bool] = {}
        self._passing = Passing()
        self._offered = 0
        self._backlog = False
        self._taken: dict[str, int] = {}
        self._timers: dict[str, _Timer] = {}
        self._nudge = asyncio.Event()
        self._changed = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._progress: dict[str, Progress] = {}
        self._flush_planned = False
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None
        self._rounds: asyncio.Task[None] | None = None
        self._offer = Offer("")
        self._between = Between(self)
        self._schedules = Schedules(self)

    # Life

    async def start(self) -> None:
        """Take a lease and begin. Raises `Unavailable` if the store cannot record the lease."""
        self.loop, self.thread = asyncio.get_running_loop(), threading.get_ident()
        self._session.on_lost = self._lost
        self._session.on_begun = self._begun
        self.ledger.carry_out = self.carry_out
        await self._session.start()
        self._rounds = self.loop.create_task(self._keep_looking())

    def _begun(self, name: str) -> None:
        self.ledger.holder = name
        reported = {(machine, state) for machine, actions in self._actions.items() for state in actions.reported}
        written = {machine: actions.definition for machine, actions in self._actions.items()}
        self._offer = Offer(name, self._queues, frozenset(reported), written)
        self.nudge()

    def _lost(self, name: str) -> None:
        """Rule 1: the lease is lost."""
        log.error("worker %s lost its lease: %d attempts are ended and forgotten", name, len(self.attempts))
        for operation, attempt in self.attempts.items():
            attempt.abandon()
            self._lingering[operation] = attempt
        self.attempts.clear()
        self.ledger.holder = ""
        for timer in self._timers.values():
            timer.handle.cancel()
        self._timers.clear()
        self.ledger.forget()

    async def stop(self, grace_seconds: float, stubborn_seconds: float = 5.0) -> None:
        """Rule 5: stop in order.

        Args:
            grace_seconds: how long attempts in states with ``on_stop="wait"`` are waited for before they are handed over.
            stubborn_seconds: how long after that an action is waited for that was told to end and does not.
        """
        self.stopping = True
        if self._rounds is None:
            return
        rounds, self._rounds = self._rounds, None
        rounds.cancel()
        await asyncio.wait([rounds])
        await self._between.stop()
        for attempt in [*self.attempts.values()]:
            if attempt.on_stop == "handover":
                attempt.stop()
        if not await self._emptied(grace_seconds):
            for attempt in [*self.attempts.values()]:
                attempt.stop()
            await self._emptied(stubborn_seconds)
        for attempt in [*self.attempts.values(), *self._lingering.values()]:
            log.error("%r did not end; it stays with worker %s until the lease lapses", attempt, self._session.name)
            attempt.abandon()
        if self._alarm is not None:
            self._alarm.cancel()
        for timer in self._timers.values():
            timer.handle.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._flush()
        await self._session.stop()

    async def _emptied(self, seconds: float) -> bool:
        """Wait until nothing is performed and no offer is out; return False if that takes longer than ``seconds``."""
        end = self.loop.time() + seconds
        while self.attempts or self._offered:
            self._changed.clear()
            handle = self.loop.call_at(end, self._changed.set)
            await self._changed.wait()
            handle.cancel()
            if self.loop.time() >= end:
                return not (self.attempts or self._offered)
        return True

    # Offers

    def serves(self, machine: str, version: int) -> bool:
        """Return whether the actions it was given fit a version of a machine; older ones as far as `takes` says."""
        known = self._served.get((machine, version))
        return self._look_up(machine, version) if known is None else known

    def _look_up(self, machine: str, version: int) -> bool:
        actions = self._actions.get(machine)
        definition = self.ledger.machines.get((machine, version))
        if actions is None or definition is None:
            return False
        newer = version > actions.definition.version
        fault = unable(definition, actions.definition, "perform", "") if newer else ""
        if fault:
            own = actions.definition.version
            what = "operations of `%s` version %d are left to newer workers: these actions were written for version %d"
            log.warning(what, machine, version, own)
        self._served[machine, version] = not fault
        return not fault

    def takes(self, snapshot: Snapshot, now: float) -> bool:
        """Return whether its actions can make the attempt that an operation is queued for, in the version it runs or in their own."""
        machine, version = snapshot.machine, snapshot.version
        if not self.serves(machine, version):
            return False
        own = self._actions[machine].definition
        return version >= own.version or performable(self.ledger.machines[machine, version], own, snapshot, now)

    def own_offer(self) -> Offer | None:
        """Return the offer that comes with an attempt's outcome: the attempt's place is free for the next."""
        return None if self.stopping or not self._session.holds() else self._offer

    def offer(self, machine: str, version: int) -> Offer | None:
        """Return an offer to an operation, if it is served and there is room; `release` it when it was answered."""
        if self.stopping or self._room() < 1 or not self._session.holds() or not self.serves(machine, version):
            return None
        self._offered += 1
        return self._offer

    def release(self, *_: object) -> None:
        """Note that an offer was answered."""
        self._offered -= 1
        self._changed.set()

    def _room(self) -> int:
        return self._max_running - len(self.attempts) - self._offered

    # Effects

    def carry_out(self, snapshot: Snapshot, effects: tuple[Effect, ...]) -> None:
        """Rule 3."""
        phase, operation = snapshot.phase, snapshot.id
        if isinstance(phase, Ended):
            if snapshot.parent is not None and not self.stopping:
                self._between.ended(snapshot)
            machine = self.ledger.machines.get((snapshot.machine, snapshot.version))
            if machine is not None and machine.claims:
                self.nudge()
        if isinstance(phase, Running) and phase.worker == self._session.name:
            for effect in effects:
                if type(effect) is Perform:
                    self._begin(snapshot, effect)
                elif type(effect) is Cut:
                    running = self.attempts.get(operation)
                    if running is not None and running.token == effect.token:
                        running.stop()
            self._set_timer(operation, timer_at(snapshot))
            return
        if operation in self._timers:
            self._set_timer(operation, None)
        attempt = self.attempts.get(operation)
        if attempt is not None and not attempt.over:
            log.warning("%r was taken over by another worker", attempt)
            attempt.stop()
        for effect in effects:
            if type(effect) is not Wake:
                if not self.stopping:
                    self._between.carry_out(snapshot, effect)
            elif self._room() > 0 or effect.at > self.clock.now():
                self.nudge_at(effect.at)
            else:
                self._backlog = True

    def _begin(self, snapshot: Snapshot, perform: Perform) -> None:
        operation = snapshot.id
        earlier = self.attempts.get(operation)
        if earlier is not None and earlier.token == perform.token:
            return
        if earlier is None or earlier.over:
            earlier = self._lingering.get(operation)
        machine = self.ledger.machines[snapshot.machine, snapshot.version]
        attempt = Attempt(self, self._actions[snapshot.machine], machine, snapshot, perform, earlier)
        if self.stopping:
            attempt.stop()
        self.attempts[operation] = attempt

    def ended(self, attempt: Attempt) -> None:
        """Note that an attempt is over and recorded."""
        if self.attempts.get(attempt.id) is attempt:
            del self.attempts[attempt.id]
            if self._backlog and self._room() >= self._max_running // 4:
                self.nudge()
        if self._lingering.get(attempt.id) is attempt:
            del self._lingering[attempt.id]
        self._changed.set()

    def tell(self, operation: str, input: Input) -> None:
        """Give an input to an operation for which nobody waits."""
        self.ledger.post(operation, input).add_done_callback(_log_failure)

    # Timers

    def _set_timer(self, operation: str, at: float | None) -> None:
        timer = self._timers.get(operation)
        if timer is not None:
            if timer.at == at:
                return
            timer.handle.cancel()
            del self._timers[operation]
        if at is not None:
            handle = self.loop.call_later(max(0.0, at - self.clock.now()), self._ring, operation)
            self._timers[operation] = _Timer(at, handle)

    def _ring(self, operation: str) -> None:
        timer = self._timers[operation]
        late = self.clock.now() - timer.at
        if late >= 0:
            self.tell(operation, Tick())
        # A tick that moved the operation sets the next timer or none; until then, and if the store was away, it rings again.
        timer.handle = self.loop.call_later(1.0 if late >= 0 else -late, self._ring, operation)

    def nudge_at(self, at: float) -> None:
        """Look at the store at this time, or earlier."""
        if self._alarm is None or at < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = at
            self._alarm = self.loop.call_later(max(0.0, at - self.clock.now()), self.nudge)

    def nudge(self) -> None:
        """Look at the store now."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._nudge.set()

    # Rounds

    async def _keep_looking(self) -> None:
        failing = False
        while True:
            self._nudge.clear()
            try:
                again = await self._round()
                failing = False
            except InterlockError as error:
                if not failing:
                    log.warning("worker %s cannot see what is due; trying on: %s", self._session.name, error)
                failing, again = True, False
            except Exception:
                log.exception("worker %s: a fault while looking for what is due; trying on", self._session.name)
                again = False
            if again:
                continue
            self._passing.rest()
            self.nudge_at(self.clock.now() + self._poll_seconds)
            await self._nudge.wait()

    async def _round(self) -> bool:
        """Rule 2; return whether there is more to do at once."""
        if not self._session.holds():
            return False
        now, room = self.clock.now(), self._room()
        limit = self._passing.limit(min(room, BATCH)) if room > 0 else BATCH
        look = await self.ledger.committer.call(self._look, now, room > 0, limit)
        left = False
        for lease, held in look.left:
            left |= await self._take_over(lease, held, now)
        await self.learn(look.due)
        answers = []
        for snapshot in look.due:
            served, timer = self.takes(snapshot, now), timer_at(snapshot)
            if served or (timer is not None and timer <= now):
                answers.append(self.give(snapshot, Tick(self.offer(snapshot.machine, snapshot.version))))
        if room > 0:
            self._passing.saw(len(look.due), limit, passed=len(look.due) - len(answers))
        answers += await self._between.go_on(look.between)
        if look.schedules:
            await self._schedules.fire(look.schedules, now)
        if answers:
            await asyncio.wait(answers)
        more = len(look.due) >= limit
        self._backlog = left or more or room <= 0
        next_due = look.next_due
        if answers and not more:  # what was due hid what comes after it
            next_due = await self.ledger.committer.call(self._next_due)
        if next_due is not None and (next_due > now or not answers):
            self.nudge_at(next_due)  # what is due and could not be moved waits for the next poll
        return more and self._room() > 0 and (bool(answers) or not self._passing.enough)

    def _look(self, store: Store, now: float, room: bool, limit: int) -> Look:
        queues = self._queues if room else frozenset[str]()  # without room only what the clock alone moves
        machines = self._actions.keys()
        skip = self._passing.skip if room else 0
        due = store.due(machines, queues, now, limit, skip)
        left = [(lease, store.held(lease.worker, BATCH)) for lease in self._session.lapsed(store.leases(), now)]
        # At the end of the line only what was passed over is due: to look again at once would be to look for ever.
        next_due = None if due or skip else store.next_due(machines, queues)
        return Look(left, due, next_due, self._between.look(store, now), self._schedules.look(store, now))

    def _next_due(self, store: Store) -> float | None:
        return store.next_due(self._actions.keys(), self._queues if self._room() > 0 else frozenset())

    async def learn(self, snapshots: Sequence[Snapshot]) -> None:
        """Have the definitions at hand that operations run."""
        for key in {(one.machine, one.version): None for one in snapshots}:
            if key not in self.ledger.machines:
                await self.ledger.definition(*key)

    def give(self, snapshot: Snapshot, input: Tick | Lapsed) -> asyncio.Future[Snapshot]:
        """Give an input with an offer to an operation as it was seen, and release the offer."""
        answer = self.ledger.post(snapshot.id, input, snapshot)
        answer.add_done_callback(_log_failure)
        if input.offer is not None:
            answer.add_done_callback(self.release)
        return answer

    async def _take_over(self, lease: Lease, held: Sequence[Snapshot], now: float) -> bool:
        """Take over what a worker left, and forget its lease when it can be. Return True if there was no room for all of it."""
        committer = self.ledger.committer
        if held and lease.worker not in self._taken:
            log.warning("worker %s takes over what %s left: its lease has lapsed", self._session.name, lease.worker)
        while held:
            await self.learn(held)
            answers = []
            for snapshot in held:
                offer = self.offer(snapshot.machine, snapshot.version)
                if offer is None and self.serves(snapshot.machine, snapshot.version):
                    break
                answers.append(self.give(snapshot, Lapsed(lease.worker, offer)))
            self._taken[lease.worker] = self._taken.get(lease.worker, 0) + len(answers)
            if not answers:
                return True
            await asyncio.wait(answers)
            held = await committer.call(_held, lease.worker)
        if lease.worker in self._taken:
            taken = self._taken.pop(lease.worker)
            log.info("worker %s took over %d operations of %s", self._session.name, taken, lease.worker)
        if self._session.forgettable(lease, now):
            await committer.call(_retire, lease.worker)
        return False

    # Progress

    def note(self, progress: Progress) -> None:
        """Keep an attempt's progress and have it stored soon. Called from any thread."""
        self._progress[progress.operation] = progress
        if not self._flush_planned:
            self._flush_planned = True
            self.loop.call_soon_threadsafe(self.loop.call_later, FLUSH_SECONDS, self._flush)

    def progress(self, operation: str) -> Progress | None:
        """Return progress that is not stored yet."""
        return self._progress.get(operation)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._progress:
            newest, self._progress = [*self._progress.values()], {}
            self.ledger.committer.post((_report, (newest,)), _log_unstored)

    @property
    def threads(self) -> concurrent.futures.ThreadPoolExecutor:
        """The threads in which plain functions run; there are none before the first."""
        if self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(self.limits.threads, "interlock-action")
        return self._threads


def _held(store: Store, worker: str) -> list[Snapshot]:
    return store.held(worker, BATCH)


def _retire(store: Store, worker: str) -> None:
    store.retire(worker)


def _report(store: Store, progress: Sequence[Progress]) -> None:
    store.report(progress)


def _log_unstored(_: object, error: BaseException | None) -> None:
    if error is not None:
        log.warning("progress was not stored: %s", error)


def _log_failure(answer: asyncio.Future[Snapshot]) -> None:
    error = None if answer.cancelled() else answer.exception()
    if isinstance(error, StaleToken):
        log.debug("%s", error)
    elif error is not None:
        log.warning("%s", error, exc_info=None if isinstance(error, Unavailable) else error)
