"""Actions: the user's functions bound to a machine's states, and what they are given and may return.

An action returns None (done), a mapping (done, and this is added to the data), or an `Event` (that event, with its data). It raises to say
that it failed: `Fail` if trying again is of no use, `RetryAfter` to say when, anything else to leave that to the state's retry policy.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

import msgspec

from interlock.definition.declare import Final, State
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition, Machine, data_type_of, definition_of
from interlock.errors import ActionsMismatch, Fail, Fault, IllegalData, RetryAfter, did_you_mean
from interlock.interpreter.facts import Failure
from interlock.runtime.operation import Operation, Stopping

__all__ = ["Actions", "Bound", "Event", "Operation", "Stopping", "checked", "failure_of", "typed"]

D = TypeVar("D")


class Event:
    """What an action returns to name another outcome than ``done``: the event, and data to add.

    >>> Event("unsuitable", reason="no such CPU")
    Event('unsuitable', reason='no such CPU')
    """

    __slots__ = ("data", "name")

    def __init__(self, name: str, /, **data: Any) -> None:
        self.name = name
        self.data = data

    def __repr__(self) -> str:
        return f"Event({', '.join([repr(self.name), *(f'{key}={value!r}' for key, value in self.data.items())])})"


Result = Mapping[str, Any] | Event | None
R = TypeVar("R", bound="Mapping[str, Any] | Event | Awaitable[Mapping[str, Any] | Event | None] | None")
B = TypeVar("B", bound="bool | Awaitable[bool]")
Way = Literal["async", "thread", "inline"]


@dataclass(frozen=True, slots=True)
class Bound:
    """A function and how it is called: awaited, in a thread, or on the loop."""

    call: Callable[[Operation[Any]], Any]
    way: Way


class Binder(Generic[D]):
    """The decorator that `Actions.perform`, `undo` and `recover` return."""

    def __init__(self, into: dict[str, Bound], name: str, what: str, inline: bool) -> None:
        self._into, self._name, self._what, self._inline = into, name, what, inline

    def __call__(self, action: Callable[[Operation[D]], R]) -> Callable[[Operation[D]], R]:
        _bind(self._into, self._name, self._what, action, self._inline)
        return action


class ConditionBinder(Generic[D]):
    """The decorator that `Actions.when` returns."""

    def __init__(self, into: dict[str, Bound], name: str, inline: bool) -> None:
        self._into, self._name, self._inline = into, name, inline

    def __call__(self, condition: Callable[[Operation[D]], B]) -> Callable[[Operation[D]], B]:
        _bind(self._into, self._name, f"condition `{self._name}`", condition, self._inline)
        return condition


def _bind(into: dict[str, Bound], name: str, what: str, function: Callable[..., Any], inline: bool) -> None:
    if not callable(function):
        raise TypeError(f"{what}: {function!r} is no function")
    if name in into:
        raise ActionsMismatch(f"{what} is bound twice: to {_label(into[name].call)} and to {_label(function)}")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
    if is_async and inline:
        raise TypeError(f"{what}: {_label(function)} is async, it always runs on the loop: leave inline=True out")
    into[name] = Bound(function, "async" if is_async else "inline" if inline else "thread")


def _label(function: Callable[..., Any]) -> str:
    return f"`{getattr(function, '__qualname__', repr(function))}`"


class Actions(Generic[D]):
    """The actions of one machine. Give them to `Interlock(actions=[...])`; a worker refuses to start while they do not fit the machine.

    A function may be ``async`` or plain. A plain function runs in a thread; ``inline=True`` calls it on the event loop instead, which is
    faster and right only for functions that return at once.

    Args:
        machine: the machine's class, or a `Definition` (then the data is a plain dict).
        reported: acting states that other code still performs. The engine waits in them for a report of what came of it (the guarded
            status that the code writes, or `Interlock.report`); no action is bound to them, but an undo is, where one is declared.

    >>> from interlock import Machine, State, Final
    >>> class Deploy(Machine[dict[str, str]], version=1):
    ...     building = State(initial=True, undo="nothing", then="live")
    ...     live = Final("succeeded")
    ...     failed = Final("failed")
    ...     cancelled = Final("cancelled")
    >>> actions = Actions(Deploy)
    >>> @actions.perform(Deploy.building)
    ... async def build(op: Operation[dict[str, str]]) -> None:
    ...     print("building", op.data["image"])
    >>> actions.mismatches()
    ()
    """

    @overload
    def __init__(
        self: Actions[dict[str, Any]], machine: Definition, *, reported: Iterable[State | str] = ()
    ) -> None: ...
    @overload
    def __init__(self, machine: type[Machine[D]], *, reported: Iterable[State | str] = ()) -> None: ...
    def __init__(self, machine: type[Machine[Any]] | Definition, *, reported: Iterable[State | str] = ()) -> None:
        self.definition = definition_of(machine)
        self.reported = frozenset(_state_name(state) for state in reported)
        self.data_type: Any = None if isinstance(machine, Definition) else data_type_of(machine)
        self.performs: dict[str, Bound] = {}
        self.undos: dict[str, Bound] = {}
        self.recovers: dict[str, Bound] = {}
        self.conditions: dict[str, Bound] = {}

    def __repr__(self) -> str:
        return f"<Actions of {self.definition.name}: {', '.join(self.performs) or 'none'}>"

    def perform(self, state: State | Final | str, *, inline: bool = False) -> Binder[D]:
        """Return a decorator that binds what is performed in ``state`` (the state, or its name)."""
        name = _state_name(state)
        return Binder(self.performs, name, f"the action of `{name}`", inline)

    def undo(self, state: State | Final | str, *, inline: bool = False) -> Binder[D]:
        """Return a decorator that binds the reverse of what is performed in ``state``. It must tolerate that the action never ran."""
        name = _state_name(state)
        return Binder(self.undos, name, f"the undo of `{name}`", inline)

    def recover(self, state: State | Final | str, *, inline: bool = False) -> Binder[D]:
        """Return a decorator that binds what is done in place of the action when an attempt was cut off: look, and go on from there."""
        name = _state_name(state)
        return Binder(self.recovers, name, f"the recover of `{name}`", inline)

    def when(self, name: str, *, inline: bool = False) -> ConditionBinder[D]:
        """Return a decorator that binds the condition ``name``: a function that returns True or False."""
        return ConditionBinder(self.conditions, name, inline)

    def mismatches(self, definition: Definition | None = None) -> tuple[Fault, ...]:
        """Return everything in which these actions and a machine do not fit; default: the machine they were made for."""
        machine = self.definition if definition is None else definition
        table = machine.table
        acting = [row for row in table.values() if row.kind == "acting"]
        conditions = sorted({name for row in table.values() for name in row.conditions})
        faults: list[Fault] = []
        for row in acting:
            if row.name not in self.performs and row.name not in self.reported:
                faults.append(_missing(row.name, "no action is bound to it", "perform"))
            if row.undo and row.name not in self.undos:
                faults.append(_missing(row.name, "it is declared with undo=True and no undo is bound", "undo"))
        for name in sorted(self.reported):
            if name in self.performs:
                mend = f"Take {name!r} out of reported=[...], or remove its action."
                faults.append(
                    Fault("reported-bound", f"state `{name}`", "it is reported, and an action is bound to it", mend)
                )
            faults += _superfluous(table, "perform", name)
        for word, bound in (("perform", self.performs), ("undo", self.undos), ("recover", self.recovers)):
            faults += [fault for name in bound for fault in _superfluous(table, word, name)]
        for name in conditions:
            if name not in self.conditions:
                mend = f'Bind it with @actions.when("{name}").'
                faults.append(Fault("condition-missing", f"condition `{name}`", "nothing is bound to it", mend))
        for name in self.conditions:
            if name not in conditions:
                mend = f"Remove it, or write When({name!r}, ...) in the machine{did_you_mean(name, conditions)}."
                faults.append(
                    Fault("condition-unknown", f"condition `{name}`", "the machine does not ask for it", mend)
                )
        return tuple(faults)

    def check(self) -> None:
        """Raise `ActionsMismatch` with all mismatches, if there are any."""
        faults = self.mismatches()
        if faults:
            name = self.definition.name
            lines = "\n".join(f"  - {fault}" for fault in faults)
            raise ActionsMismatch(
                f"the actions do not fit machine `{name}`:\n{lines}",
                machine=name,
                faults=[fault._asdict() for fault in faults],
            )


def _state_name(state: State | Final | str) -> str:
    name = state if isinstance(state, str) else state.name
    if not name:
        raise TypeError(
            "this state has no name yet: bind actions after its class is complete, or write the name as a string"
        )
    return name


def _missing(state: str, what: str, word: str) -> Fault:
    return Fault(f"{word}-missing", f"state `{state}`", what, f"Bind a function with @actions.{word}({state!r}).")


def _superfluous(table: Mapping[str, Row], word: str, name: str) -> Iterable[Fault]:
    row = table.get(name)
    where = f"state `{name}`"
    if row is None:
        yield Fault(
            "state-unknown",
            where,
            f"the machine has no such state{did_you_mean(name, table)}",
            f"Mend the name in @actions.{word}.",
        )
    elif row.kind != "acting":
        mend = f"Remove @actions.{word}({name!r}), or give the state then=."
        yield Fault("not-acting", where, f"it is {row.kind}: nothing is performed in it", mend)
    elif word == "undo" and not row.undo:
        yield Fault(
            "undo-unused",
            where,
            "an undo is bound that the machine would never perform",
            "Declare the state with undo=True.",
        )


def typed(data_type: Any, data: Mapping[str, Any], where: str) -> Any:
    """Return plain data as an instance of a machine's data type (a copy; a dict where there is no type).

    Raises:
        IllegalData: it does not fit.
    """
    return checked(data_type, msgspec.to_builtins(data), where)


def checked(data_type: Any, data: Mapping[str, Any], where: str) -> Any:
    """Return what `typed` does, but not a copy: its lists and mappings may be those of ``data``. Raises `IllegalData`."""
    if data_type is None or data_type is Any or isinstance(data_type, TypeVar):
        return data
    try:
        return msgspec.convert(data, data_type)
    except (msgspec.ValidationError, TypeError) as error:
        raise IllegalData(f"{where}: {error}") from None


def failure_of(error: BaseException, message_characters: int = 2_000) -> Failure:
    """Return how an action's exception is recorded.

    >>> failure_of(Fail("no such host")).final, failure_of(RetryAfter(5)).retry_after
    (True, 5.0)
    """
    kinds = tuple(kind.__name__ for kind in type(error).__mro__ if kind not in (object, BaseException))
    message = str(error)
    if len(message) > message_characters:
        message = message[: message_characters - 1] + "…"
    after = max(0.0, float(error.seconds)) if isinstance(error, RetryAfter) else None
    return Failure(kinds[0], message, kinds, isinstance(error, Fail), after)
