"""A user's actions, wrapped: every time one goes on is seen, and can bring a mishap in place of what it waits for.

The wrapped function is awaited step by step, so an error can be put in place of any answer that it awaits, as a network does.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Protocol

from interlock.exploring.effects import ACTING
from interlock.exploring.plain import Stepped, performed
from interlock.runtime.actions import Actions, Bound
from interlock.runtime.operation import Operation

__all__ = ["Attempt", "Stage", "wrapped"]

HANG_SECONDS = 7_200.0


class Stage(Protocol):
    """The process in which a wrapped action runs, as far as the action concerns it."""

    def began(self, attempt: Attempt) -> None:
        """Note that the action begins."""
        ...

    def mishap(self, attempt: Attempt) -> str:
        """Return what befalls the action in this step: ``fail``, ``lost``, ``hang``, or nothing."""
        ...

    def ended(self, attempt: Attempt, what: str) -> None:
        """Note that the action has ended."""
        ...

    def effect(self, attempt: Attempt, text: str) -> None:
        """Note what the action does to the world."""
        ...

    def boundary(self, attempt: Attempt, place: str) -> None:
        """Raise, if this is where the process dies or the call fails."""
        ...

    def failure(self, attempt: Attempt) -> Exception:
        """Return a failure to inject."""
        ...

    def stepping(self, stepped: Stepped) -> None:
        """Note that a plain function has begun."""
        ...


class Attempt:
    """A call of one of the user's functions for one attempt.

    Attributes:
        what: the name of the places where it goes on: ``copying``, ``undo-copying``, ``when-shared``.
        words: for the story.
    """

    def __init__(self, stage: Stage, kind: str, name: str, operation: Operation[Any]) -> None:
        prefix = {"undo": "undo-", "condition": "when-"}.get(kind, "")
        of = {"undo": "the undo of ", "recover": "the recovery of ", "condition": "condition "}.get(kind, "")
        self.what = f"{prefix}{name}"
        self.words = f"{of}{name}"
        self.operation = operation
        self.stage = stage
        self._stepped: Stepped | None = None

    def effect(self, text: str) -> None:
        self.stage.effect(self, text)

    def boundary(self, place: str) -> None:
        if self._stepped is not None:
            self._stepped.boundary()
        else:
            self.stage.boundary(self, place)

    async def perform(self, bound: Bound) -> Any:
        """Call the user's function and return what it returns."""
        ACTING.set(self)
        try:
            await asyncio.sleep(
                0
            )  # so that its first step is a step of its own: the attempt is issued, and nothing was done
            self.stage.began(self)
            result = await _driven(self, self._called(bound))
        except BaseException as error:
            self.stage.ended(self, f"raises {type(error).__name__}{f': {error}' if str(error) else ''}")
            raise
        finally:
            ACTING.set(None)
        self.stage.ended(self, "comes back" if result is None else f"returns {result!r}")
        return result

    def _called(self, bound: Bound) -> Coroutine[Any, Any, Any]:
        if bound.way == "async":
            return _awaiting(bound.call, self.operation)
        if bound.way == "inline":
            return _inline(bound.call, self.operation)
        self._stepped = Stepped(partial(bound.call, self.operation))
        self.stage.stepping(self._stepped)
        return performed(self._stepped)


async def _awaiting(call: Callable[..., Any], operation: Operation[Any]) -> Any:
    return await call(operation)


async def _inline(call: Callable[..., Any], operation: Operation[Any]) -> Any:
    result = call(operation)
    return await result if inspect.isawaitable(result) else result


@types.coroutine
def _driven(attempt: Attempt, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine step by step; put a mishap in place of what it waits for."""
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            mishap = attempt.stage.mishap(attempt) if error is None else ""
            if mishap == "hang":
                try:
                    yield from asyncio.sleep(HANG_SECONDS).__await__()
                except asyncio.CancelledError as cut:
                    error = cut
            elif mishap == "fail":
                error = attempt.stage.failure(attempt)
            try:
                waits = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as end:
                if mishap == "lost":
                    raise attempt.stage.failure(attempt) from None
                return end.value
            value, error = None, None
            try:
                value = yield waits
            except GeneratorExit:
                raise
            except BaseException as raised:
                error = raised
    finally:
        coroutine.close()


def wrapped(actions: Actions[Any], stage: Stage) -> Actions[Any]:
    """Return a copy of actions whose functions are seen by ``stage``."""
    made = copy.copy(actions)
    made.performs = {name: _bound(stage, "perform", name, bound) for name, bound in actions.performs.items()}
    made.undos = {name: _bound(stage, "undo", name, bound) for name, bound in actions.undos.items()}
    made.recovers = {name: _bound(stage, "recover", name, bound) for name, bound in actions.recovers.items()}
    made.conditions = {name: _bound(stage, "condition", name, bound) for name, bound in actions.conditions.items()}
    return made


def _bound(stage: Stage, kind: str, name: str, bound: Bound) -> Bound:
    async def call(operation: Operation[Any]) -> Any:
        return await Attempt(stage, kind, name, operation).perform(bound)

    return Bound(call, "async")
