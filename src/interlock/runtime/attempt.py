"""One attempt: calls the action, turns what comes of it into an input, and sees that it is recorded.

Theory of operation:

1.  An attempt is one asyncio task. It brings back exactly one `Done`, `Failed` or `Stopped` with its token, or the log says why. The task
    ends with the action; recording goes on by callbacks, because a task that only waits for a commit costs as much as a decision.
2.  While the action runs, and only then, it can be ended: an async action is cancelled, a plain function is told and waited for. Once the
    action has come back, nothing ends the recording of its outcome but the loss of the lease.
3.  An action that comes back with an outcome although it was to end has that outcome recorded: it is what happened.
4.  If an earlier attempt at the operation is still running in this process, its end is waited for first.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import structs

from interlock.definition.machine import Definition
from interlock.errors import IllegalData, InterlockError, LimitExceeded, StaleToken, Unavailable
from interlock.interpreter.facts import Failure
from interlock.interpreter.inputs import Done, Failed, Owns, Perform, Silent, Stopped
from interlock.interpreter.phases import Own
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime.actions import Actions, Bound, Event, checked, failure_of, typed
from interlock.runtime.operation import Operation, Stopping
from interlock.stores.contract import Progress

if TYPE_CHECKING:
    from interlock.runtime.worker import Worker

__all__ = ["Attempt"]

log = logging.getLogger("interlock")
Outcome = Done | Failed | Stopped


class Attempt:
    """An attempt that was issued to the local worker.

    Attributes:
        token: its own.
        over: the action has come back, or never will; its outcome may still be on its way into the store.
        stopping: it was asked to end.
        abandoned: the lease is lost: whatever comes of it is no longer recorded.
    """

    __slots__ = (
        "_acting", "_beat", "_began", "_delay", "_in_thread", "_machine", "_operation", "_owning", "_perform", "_previous", "_snapshot",
        "_task", "_watch", "_worker", "abandoned", "actions", "id", "over", "stopping", "token",
    )  # fmt: skip

    def __init__(
        self,
        worker: Worker,
        actions: Actions[Any],
        machine: Definition,
        snapshot: Snapshot,
        perform: Perform,
        previous: Attempt | None,
    ) -> None:
        self.id = snapshot.id
        self.token = perform.token
        self.actions = actions
        self.over = False
        self.stopping = False
        self.abandoned = False
        self._worker = worker
        self._machine = machine
        self._snapshot = snapshot
        self._perform = perform
        self._previous = previous
        self._operation: Operation[Any] | None = None
        self._in_thread: concurrent.futures.Future[Any] | None = None
        self._acting = False
        self._began = False
        self._beat = 0.0
        self._delay = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._owning: set[concurrent.futures.Future[None]] = set()
        self._task = worker.loop.create_task(self._run())

    def __repr__(self) -> str:
        return f"attempt {self.token} of operation `{self.id}` ({self._perform.kind} of `{self._perform.state}`)"

    @property
    def on_stop(self) -> str:
        """What a graceful stop does with it."""
        return self._machine.table[self._perform.state].on_stop if self._perform.kind == "perform" else "wait"

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that it is."""
        return self._task

    def stop(self) -> None:
        """Rule 2: have the action end."""
        if self.stopping:
            return
        self.stopping = True
        if self._operation is not None:
            self._operation.stop()
        if self._in_thread is not None:
            self._in_thread.cancel()
        elif self._acting:
            self._task.cancel()

    def abandon(self) -> None:
        """The lease is lost: end it, and do not record what comes of it."""
        self.abandoned = True
        self.stop()

    # What the action says while it runs; called from any thread

    def heard(self) -> None:
        """Note that the action is alive."""
        self._beat = self._worker.clock.now()

    def reported(self, done: float, total: float | None, unit: str, message: str) -> None:
        """Note how far the action is."""
        self._beat = now = self._worker.clock.now()
        self._worker.limits.text("message_characters", message, f"progress of {self.id}")
        self._worker.note(
            Progress(self.id, self.token, now, float(done), None if total is None else float(total), unit, message)
        )

    def owning(self, own: Own, gone: bool) -> concurrent.futures.Future[None]:
        """Have it recorded that the operation owns something, or no longer."""
        for text in (own.kind, own.id):
            self._worker.limits.text("own_characters", text, f"what operation `{self.id}` owns")
        recorded: concurrent.futures.Future[None] = concurrent.futures.Future()
        recorded.set_running_or_notify_cancel()  # from here on nobody cancels it
        self._owning.add(recorded)
        input = Owns(self.token, own.kind, own.id, gone)
        if threading.get_ident() == self._worker.thread:
            self._record(input, recorded)
        else:
            self._worker.loop.call_soon_threadsafe(self._record, input, recorded)
        return recorded

    def _record(self, input: Owns, recorded: concurrent.futures.Future[None]) -> None:
        def answered(answer: Snapshot | BaseException) -> None:
            if isinstance(answer, Unavailable) and not self.abandoned:
                self._worker.loop.call_later(1.0, self._record, input, recorded)
            elif isinstance(answer, BaseException):
                recorded.set_exception(answer)
            else:
                recorded.set_result(None)

        self._worker.ledger.ask(self.id, input, answered)

    async def _all_recorded(self) -> None:
        """Wait for what the action said it owns. Raises what refused it: an outcome does not count without it."""
        for recorded in self._owning:
            await asyncio.wrap_future(recorded)

    # The task

    async def _run(self) -> None:
        try:
            if self._previous is not None:
                await asyncio.wait([self._previous.task])
                self._previous = None
            outcome = await self._perform_it()
        except Exception:
            log.exception("%r: a fault while performing it", self)
            return self._end()
        except BaseException:
            self._end()
            raise
        self.over = True
        self._bring(outcome)

    def _end(self) -> None:
        self.over = True
        self._worker.ended(self)

    async def _perform_it(self) -> Outcome:
        perform = self._perform
        try:
            if perform.kind == "choose":
                return await self._choose(perform.conditions)
            bound = self._bound()
            result = await self._call(bound, self._operation_with(self._snapshot.data))
            if self._owning:
                await self._all_recorded()
        except Stopping as error:
            return Stopped(self.token, self._worker.own_offer()) if self.stopping else self._failed(failure_of(error))
        except asyncio.CancelledError as error:
            if self.stopping:
                return Stopped(self.token, self._worker.own_offer())
            if self._task.cancelling():
                raise  # the loop is being taken down: the lease says the rest
            return self._failed(failure_of(error))
        except (Exception, SystemExit) as error:
            return await self._went_wrong(error)
        if perform.kind == "undo":
            if result is not None:
                log.warning("%r: an undo returns nothing; %s was dropped", self, type(result).__name__)
            return Done(self.token, offer=self._worker.own_offer())
        return await self._came_back(result)

    def _bound(self) -> Bound:
        actions = self.actions
        state = actions.definition.renames.get(self._perform.state, self._perform.state)
        if self._perform.kind == "undo":
            return actions.undos[state]
        if self._perform.recover and state in actions.recovers:
            return actions.recovers[state]
        return actions.performs[state]

    def _operation_with(self, data: Mapping[str, Any]) -> Operation[Any]:
        snapshot, perform = self._snapshot, self._perform
        own = typed(self.actions.data_type, data, f"operation `{snapshot.id}`")
        return Operation(
            snapshot.id, snapshot.machine, snapshot.version, perform.state, own, perform.key,
            perform.token, perform.number, perform.recover, self, snapshot.owned,
        )  # fmt: skip

    async def _call(self, bound: Bound, operation: Operation[Any]) -> Any:
        """Call a function of the user's, in its way."""
        if self.stopping:
            raise Stopping(f"{self!r} was to end before it began")
        self._operation = operation
        heartbeat = self._machine.table[self._perform.state].heartbeat if self._perform.kind == "perform" else None
        if heartbeat is not None:
            self._watch = self._worker.loop.call_later(heartbeat, self._listen, heartbeat)
        try:
            if bound.way == "thread":
                result = await self._in_a_thread(bound, operation)
            else:
                self._beat, self._began = self._worker.clock.now(), True
                self._acting = True
                result = bound.call(operation)
                if bound.way == "async":
                    result = await result
            if result is not None and type(result) is not dict and inspect.isawaitable(result):
                self._acting = True
                result = await result
            return result
        finally:
            self._acting = False
            self._operation = None
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None

    async def _in_a_thread(self, bound: Bound, operation: Operation[Any]) -> Any:
        def begin() -> Any:
            self._beat, self._began = self._worker.clock.now(), True
            return bound.call(operation)

        self._in_thread = self._worker.threads.submit(begin)
        try:
            return await asyncio.wrap_future(self._in_thread)
        finally:
            self._in_thread = None

    def _listen(self, heartbeat: float) -> None:
        """Bring `Silent` when the action was not heard of for longer than its heartbeat."""
        loop, silent = self._worker.loop, self._worker.clock.now() - self._beat
        if not self._began:
            self._watch = loop.call_later(heartbeat, self._listen, heartbeat)
        elif silent < heartbeat:
            self._watch = loop.call_later(heartbeat - silent, self._listen, heartbeat)
        elif not self.stopping:
            self._watch = loop.call_later(heartbeat, self._listen, heartbeat)
            self._worker.tell(self.id, Silent(self.token))

    # What came of it

    async def _came_back(self, result: Any) -> Outcome:
        if result is None:
            event, added = "done", {}
        elif type(result) is dict:  # the common case, before the slower question whether it is any mapping
            event, added = "done", result
        elif isinstance(result, Event):
            event, added = result.name, result.data
        elif isinstance(result, Mapping):
            event, added = "done", dict(result)
        else:
            what = f"the action of `{self._perform.state}` returned {type(result).__name__}; it may return None, a mapping or an Event"
            return self._failed(Failure("IllegalResult", what, ("IllegalResult",), final=True))
        merged = self._snapshot.data
        if added:
            where = f"`{self._perform.state}` of operation `{self.id}`, with what its action added"
            try:
                merged = self._worker.limits.plain({**merged, **added}, where)
                checked(self.actions.data_type, merged, where)
            except (IllegalData, LimitExceeded) as error:
                kind = type(error).__name__
                return self._failed(Failure(kind, error.message, (kind,), final=True))
            added = {name: merged[name] for name in map(str, added)}
        answers = await self._answers(event, merged) if self._machine.table[self._snapshot.state].conditions else {}
        return Done(self.token, event, added, answers, self._worker.own_offer())

    async def _went_wrong(self, error: BaseException) -> Outcome:
        log.info("%r failed", self, exc_info=error)
        failure = failure_of(error, self._worker.limits.message_characters)
        if isinstance(error, IllegalData):
            failure = structs.replace(
                failure, final=True
            )  # the operation's data does not fit: it will not fit the next time
        if self._perform.kind != "perform":
            return self._failed(failure)
        answers = await self._answers("failed", self._snapshot.data)
        return Failed(self.token, failure, self._worker.own_offer(), answers)

    def _failed(self, failure: Failure) -> Failed:
        return Failed(self.token, failure, self._worker.own_offer())

    # Conditions

    async def _choose(self, conditions: Iterable[str]) -> Outcome:
        answers = {name: await self._ask(name, self._snapshot.data) for name in conditions}
        return Done(self.token, answers=answers, offer=self._worker.own_offer())

    async def _ask(self, name: str, data: Mapping[str, Any]) -> bool:
        bound = self.actions.conditions.get(name)
        if bound is None:
            raise LookupError(f"nothing is bound to the condition `{name}`")
        answer = await self._call(bound, self._operation_with(data))
        if not isinstance(answer, bool):
            raise TypeError(f"the condition `{name}` returned {type(answer).__name__}; it must return True or False")
        return answer

    async def _answers(self, event: str, data: Mapping[str, Any]) -> dict[str, bool]:
        """Return answers for the exit that follows, so that the way on is decided in the same commit as the outcome."""
        exit = self._machine.table[self._snapshot.state].exits.get(event)
        answers: dict[str, bool] = {}
        if exit is None or self.stopping or self._perform.kind != "perform":
            return answers
        for branch in exit:
            name = branch.condition
            if name is None or name in answers:
                continue
            try:
                answers[name] = await self._ask(name, data)
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and not self.stopping:
                    raise
                log.info("%r: condition `%s` gave no answer yet (%s); it will be asked again", self, name, error)
                return answers
            if answers[name]:
                return answers
        return answers

    # Recording

    def _bring(self, outcome: Outcome) -> None:
        """Rule 2: have the outcome recorded, however long the store is away, as long as the lease is held."""
        if self.abandoned:
            what = type(outcome).__name__
            log.error("%r: the lease is lost; %s was not recorded, another attempt will follow", self, what)
            return self._end()
        self._worker.ledger.ask(self.id, outcome, partial(self._answered, outcome))

    def _answered(self, outcome: Outcome, answer: Snapshot | BaseException) -> None:
        if not isinstance(answer, BaseException):
            return self._end()
        if isinstance(answer, StaleToken):
            log.warning("%s", answer)
            return self._end()
        if isinstance(answer, Unavailable):
            if not self._delay:
                log.warning("%r: the store cannot record its outcome; trying on: %s", self, answer)
            self._delay = min(2 * self._delay, 1.0) or 0.05
            self._worker.loop.call_later(self._delay, self._bring_again, outcome)
        elif isinstance(outcome, Failed):
            log.error("%r: its outcome could not be recorded", self, exc_info=answer)
            self._end()
        else:
            log.error("%r: its outcome was refused", self, exc_info=answer)
            kind = "Refused" if isinstance(answer, InterlockError) else "EngineFault"
            self._bring(self._failed(Failure(kind, str(answer), (kind,), final=True)))

    def _bring_again(self, outcome: Outcome) -> None:
        self._bring(structs.replace(outcome, offer=self._worker.own_offer()))
