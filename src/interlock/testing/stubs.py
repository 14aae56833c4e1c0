"""Stubs: what a kit's actions answer, by state, in place of the user's own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interlock.definition.declare import State
from interlock.definition.machine import Definition
from interlock.errors import Refused, did_you_mean
from interlock.runtime.actions import Actions, Bound, Event
from interlock.runtime.operation import Operation
from interlock.testing.process import Killed

__all__ = ["CRASHES", "HANGS", "Kind", "Stubs"]

Kind = Literal["perform", "undo", "recover", "condition"]
WORDS: Mapping[Kind, str] = {
    "perform": "the action of",
    "undo": "the undo of",
    "recover": "the recover of",
    "condition": "condition",
}


class _Never:
    """An answer that is none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


HANGS = _Never("HANGS")
"""An answer of `Kit.stub`: the action never returns; a timeout, a cancel or a crash ends it."""
CRASHES = _Never("CRASHES")
"""An answer of `Kit.stub`: the worker dies in the middle of the attempt, as with kill -9."""


@dataclass(frozen=True)
class _Answers:
    """One answer for each attempt of an operation, the last of them for all that follow."""

    answers: Sequence[Any]
    takes_seconds: float

    def of(self, number: int) -> Any:
        return self.answers[min(number, len(self.answers)) - 1]


class Stubs:
    """What is answered, and the user's own actions for the rest; without either an action just succeeds.

    Args:
        machine: whose actions these are.
        own: the user's own actions.
        data_type: of the operations' data.
        crash: called where the worker dies.
    """

    def __init__(
        self, machine: Definition, own: Actions[Any] | None, data_type: Any, crash: Callable[[], None]
    ) -> None:
        self.machine = machine
        self._own = own
        self._data_type = data_type
        self._crash = crash
        self._answers: dict[tuple[Kind, str], _Answers] = {}
        self._asked: dict[tuple[Kind, str, str], int] = {}

    def has(self, state: State) -> bool:
        """Whether a state is one of this machine's."""
        return self.machine.states.get(state.name) is state

    def put(self, kind: Kind, name: str, answers: Sequence[Any], takes_seconds: float) -> None:
        """Answer so from now on. Raises `Refused` for a name or an answer that cannot be."""
        self._known(kind, name)
        if not answers:
            raise Refused(f"{WORDS[kind]} `{name}`: give at least one answer")
        for answer in answers:
            if not _is_answer(kind, answer):
                allowed = "True or False" if kind == "condition" else "None" if kind == "undo" else _RESULTS
                raise Refused(
                    f"{WORDS[kind]} `{name}` cannot answer {answer!r}; it can {allowed}, an exception, a function of "
                    "the operation, HANGS, or CRASHES"
                )
        self._answers[kind, name] = _Answers(tuple(answers), takes_seconds)
        for key in [key for key in self._asked if key[:2] == (kind, name)]:
            del self._asked[key]

    def _known(self, kind: Kind, name: str) -> None:
        table = self.machine.table
        if kind == "condition":
            known = sorted({one for row in table.values() for one in row.conditions})
        elif kind == "undo":
            known = [row.name for row in table.values() if row.undo]
        else:
            reported = self._own.reported if self._own is not None else ()
            known = [row.name for row in table.values() if row.kind == "acting" and row.name not in reported]
        if name not in known:
            what = {"condition": "condition", "undo": "state with an undo"}.get(kind, "state with an action")
            raise Refused(
                f"machine `{self.machine.name}` has no {what} `{name}`{did_you_mean(name, known)}; "
                f"it has {', '.join(known) or 'none'}"
            )

    def actions(self) -> Actions[Any]:
        """Return actions of the whole machine that answer as was said, whenever that was or will be said."""
        made: Actions[Any] = Actions(self.machine, reported=self._own.reported if self._own is not None else ())
        made.data_type = self._data_type
        for row in self.machine.table.values():
            if row.undo:
                made.undos[row.name] = self._bound(("undo",), row.name)
            if row.kind == "acting" and row.name not in made.reported:
                made.performs[row.name] = self._bound(("perform",), row.name)
                made.recovers[row.name] = self._bound(("recover", "perform"), row.name)
            for name in row.conditions:
                made.conditions[name] = self._bound(("condition",), name)
        return made

    def _bound(self, kinds: Sequence[Kind], name: str) -> Bound:
        async def call(operation: Operation[Any]) -> Any:
            for kind in kinds:
                stub = self._answers.get((kind, name))
                if stub is not None:
                    return await self._answer(kind, name, stub, operation)
            for kind in kinds:
                bound = None if self._own is None else _bound_in(self._own, kind).get(name)
                if bound is not None:
                    return await _called(bound.call, operation)
            return kinds[0] == "condition" or None

        return Bound(call, "async")

    async def _answer(self, kind: Kind, name: str, stub: _Answers, operation: Operation[Any]) -> Any:
        key = (kind, name, operation.id)
        self._asked[key] = number = self._asked.get(key, 0) + 1
        answer = stub.of(number)
        if answer is CRASHES:
            self._crash()
            raise Killed
        if stub.takes_seconds:
            await asyncio.sleep(stub.takes_seconds)
        if answer is HANGS:
            await asyncio.Event().wait()
        if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, Exception)):
            raise answer
        return await _called(answer, operation) if callable(answer) else answer


_RESULTS = "return None, a mapping, or an Event"


def _is_answer(kind: Kind, answer: Any) -> bool:
    if answer is HANGS or answer is CRASHES or isinstance(answer, Exception) or callable(answer):
        return True
    if kind == "condition":
        return isinstance(answer, bool)
    return answer is None or (kind != "undo" and isinstance(answer, Mapping | Event))


def _bound_in(own: Actions[Any], kind: Kind) -> Mapping[str, Bound]:
    return {"perform": own.performs, "undo": own.undos, "recover": own.recovers, "condition": own.conditions}[kind]


async def _called(call: Callable[..., Any], operation: Operation[Any]) -> Any:
    """Call a function, plain or async. A plain one runs here and now: a kit has no threads."""
    result = call(operation)
    return await result if inspect.isawaitable(result) else result
