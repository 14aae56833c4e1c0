"""What a user writes to have actions explored: which world, which actions, which operations, and what must always hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from interlock.definition.machine import Definition, Machine, definition_of
from interlock.errors import Refused, did_you_mean
from interlock.exploring.mishaps import KINDS

if TYPE_CHECKING:
    from interlock.runtime.actions import Actions

__all__ = ["Exploration", "Injected", "Scheduled", "Signal", "Start"]

W = TypeVar("W")
Answer = str | bool | None


class Injected(ConnectionError):
    """The failure that the explorer injects, where a scenario names no other."""


class Start:
    """An operation that every run starts.

    Args:
        machine: the machine's class, or a `Definition`.
        options: of `Interlock.start`, by name: ``{"delay": "5s", "on_conflict": "wait"}``.
        fields: the operation's data, by name.

    >>> from interlock import Final, Machine, State
    >>> class Visit(Machine[dict[str, str]], version=1):
    ...     waiting = State(initial=True, cancel="refuse", after={"1h": "over"})
    ...     over = Final("succeeded")
    >>> Start(Visit, guest="ann")
    Start(visit, guest='ann')
    """

    def __init__(
        self, machine: type[Machine[Any]] | Definition, options: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> None:
        self.machine = machine
        self.options = dict(options or {})
        for name in ("key", "by"):
            if name in self.options:
                raise Refused(f"{type(self).__name__}: the explorer itself gives `{name}`; leave it out")
        self.definition = definition_of(machine)
        self.fields = fields

    def __repr__(self) -> str:
        fields = [f"{key}={value!r}" for key, value in self.fields.items()]
        return f"{type(self).__name__}({', '.join([self.definition.name, *self._said(), *fields])})"

    def _said(self) -> list[str]:
        return [repr(self.options)] if self.options else []


class Scheduled(Start):
    """A schedule that every run sets up, and that is dropped when it has fired so many times.

    Args:
        machine: the machine's class, or a `Definition`.
        cron: when, see `Interlock.schedule`. Virtual time passes quickly, but not for nothing: choose minutes rather than days.
        times: how often it fires. A time that is refused counts too.
        options: of `Interlock.schedule`, by name: ``{"timezone": "Europe/Berlin", "on_conflict": "wait"}``.
        fields: the operations' data, by name.

    >>> from interlock import Final, Machine, State
    >>> class Visit(Machine[dict[str, str]], version=1):
    ...     waiting = State(initial=True, cancel="refuse", after={"1h": "over"})
    ...     over = Final("succeeded")
    >>> Scheduled(Visit, "*/5 * * * *", 2, guest="ann")
    Scheduled(visit, '*/5 * * * *', 2, guest='ann')
    """

    def __init__(
        self, machine: type[Machine[Any]] | Definition, cron: str, times: int = 1, options: Mapping[str, Any] | None = None,
        /, **fields: Any,
    ) -> None:  # fmt: skip
        super().__init__(machine, options, **fields)
        if times < 1:
            raise Refused(f"Scheduled: it must fire once at least, not {times} times")
        self.cron = cron
        self.times = times

    def _said(self) -> list[str]:
        return [repr(self.cron), str(self.times), *super()._said()]


@dataclass(frozen=True)
class Signal:
    """A signal that the explorer sends, with data."""

    event: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exploration(Generic[W]):
    """A scenario for `interlock explore` and `interlock.exploring.explore.explore`.

    An invariant is a plain function of the world, or of the world and the operations (their snapshots, in the order of ``operations``). It
    returns None or True if it holds, and False or a text that says what is wrong if it does not. It raises only by mistake.

    Attributes:
        world: makes a fresh fake for each run. May be async. If it takes an argument, that is a function which tells the virtual time in
            seconds: give it to fakes that look at a clock.
        actions: makes the actions (one `Actions`, or several) over a world; called once for each process that a run starts.
        operations: what every run starts; `Scheduled` stands for as many operations as it starts: the first has its place among the
            operations, the others come after all of them.
        invariants: checked after every step: whenever an action went on, or something was committed.
        at_the_end: checked when everything is at rest and every late worker has had its say.
        signals: by name, or with data; default: every signal that the machines know, without data.
        queues: that workers serve; default: those that the machines name, filled in from the operations' data.
        without: kinds of mishaps that are left out (see `interlock.exploring.mishaps`), for example ``["freeze", "freeze-late"]`` while
            the fake does not refuse old tokens yet; the report says so.
        failure: makes the exception that is injected, from a text.
        lease_seconds: virtual time after which another worker takes over. Raise it where machines wait for days: runs get faster.
        action_seconds: real time after which an action that neither returns nor awaits is given up.

    >>> Exploration(world=dict, actions=lambda world: [], operations=[])
    Traceback (most recent call last):
    interlock.errors.Refused: an exploration needs operations: write operations=[Start(Machine, ...)]
    """

    world: Callable[..., W | Awaitable[W]]
    actions: Callable[[W], Actions[Any] | Sequence[Actions[Any]]]
    operations: Sequence[Start]
    invariants: Sequence[Callable[..., Answer]] = ()
    at_the_end: Sequence[Callable[..., Answer]] = ()
    signals: Sequence[str | Signal] | None = None
    queues: Sequence[str] | None = None
    without: Sequence[str] = ()
    failure: Callable[[str], Exception] = Injected
    lease_seconds: float = 10.0
    action_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.operations:
            raise Refused("an exploration needs operations: write operations=[Start(Machine, ...)]")
        strange = next((one for one in self.operations if not isinstance(one, Start)), None)
        if strange is not None:
            raise Refused(
                f"operations: {strange!r} is no Start: write Start(Machine, ...), or Scheduled(Machine, cron, ...)"
            )
        for name in ("world", "actions", "failure"):
            if not callable(getattr(self, name)):
                raise Refused(f"{name}={getattr(self, name)!r}: must be a function, so that every run gets its own")
        for one in (*self.invariants, *self.at_the_end):
            if not callable(one):
                raise Refused(f"{one!r} is no invariant: it must be a function of the world")
        for kind in self.without:
            if kind not in KINDS:
                raise Refused(f"without: no kind `{kind}`{did_you_mean(kind, KINDS)}; there are {', '.join(KINDS)}")
        for name in ("lease_seconds", "action_seconds"):
            if not getattr(self, name) > 0:
                raise Refused(f"{name}={getattr(self, name)!r}: must be above 0")
