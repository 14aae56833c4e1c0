"""The words a machine is written with, inside a `Machine`: `State`, `Final`, `Group` and what stands inside them.

Everything here is frozen data. A target is written as a state (or its name), `Rollback(final)`, or a list of these of which all but the
last stand under a `When`; it is kept as a tuple of `Branch`, so that every reader sees one shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from interlock.definition.duration import Duration, seconds
from interlock.errors import Fault, IllegalMachine

__all__ = [
    "Branch",
    "Children",
    "Claim",
    "Exit",
    "Final",
    "Group",
    "Retry",
    "Rollback",
    "State",
    "When",
]

Outcome = Literal["succeeded", "failed", "cancelled"]
CancelPolicy = Literal["rollback", "finish", "refuse"]
StopPolicy = Literal["wait", "handover"]


@dataclass(frozen=True, slots=True)
class Branch:
    """One way out: go to ``to`` (through a rollback or not) if ``condition`` holds, or always if there is none."""

    to: str
    rollback: bool = False
    condition: str | None = None


Exit = tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Rollback:
    """A target: perform the undos of all started steps, newest first, and end in the final state ``final``."""

    final: str | Final


@dataclass(frozen=True, slots=True)
class When:
    """A conditional target: go to ``target`` if the condition named ``condition`` holds. Conditions are bound like actions."""

    condition: str
    target: str | State | Final | Rollback


def exit_of(target: Any) -> Exit:
    """Return any target as a tuple of branches; raises TypeError with what is allowed for anything else."""
    if isinstance(target, list | tuple):
        if any(isinstance(part, list | tuple) for part in target):
            raise TypeError(f"{target!r} is no target: a list of targets holds no other list")
        return tuple(branch for part in target for branch in exit_of(part))
    if isinstance(target, Branch):
        return (target,)
    if isinstance(target, When):
        if isinstance(target.target, When | list | tuple):
            raise TypeError(f"{target!r}: a When leads to one state or Rollback(final)")
        (inner,) = exit_of(target.target)
        return (Branch(inner.to, inner.rollback, target.condition),)
    if isinstance(target, Rollback):
        return (Branch(_name_of(target.final), rollback=True),)
    return (Branch(_name_of(target)),)


def _name_of(target: Any) -> str:
    name = target if isinstance(target, str) else getattr(target, "name", None)
    if name == "":
        raise TypeError(
            'a state has no name before its class is complete: write the name as a string, `then="copying"`'
        )
    if not isinstance(name, str):
        raise TypeError(
            f"{target!r} is no target: name a state, or use Rollback(final), or a list of When(condition, state)"
        )
    return name


def _expect(of: str, thing: Any, kind: type | tuple[type, ...], words: str, *names: str, none: bool = False) -> None:
    """Raise TypeError if an attribute is of another kind; ``none`` says that it may be left out."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    for name in names:
        value = getattr(thing, name)
        if (none and value is None) or (isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))):
            continue
        raise TypeError(f"{of}({name}={value!r}): expected {words}")


def _exits(of: str, name: str, exits: Any) -> dict[str, Exit]:
    if not isinstance(exits, Mapping) or not all(isinstance(event, str) for event in exits):
        raise TypeError(
            f"{of}({name}={exits!r}): expected targets by event, such as {{'abort': Rollback('cancelled')}}"
        )
    return {event: exit_of(target) for event, target in exits.items()}


@dataclass(frozen=True)
class Retry:
    """How often and how fast an action is tried again.

    Args:
        attempts: how many attempts in all; None is without limit (`Retry.forever`).
        delay: wait before the second attempt; later waits grow by ``factor`` up to ``max_delay``.
        factor: growth of the wait from attempt to attempt.
        max_delay: the longest wait.
        jitter: each wait is lengthened by up to this share of itself, spread by operation and attempt, so that
            operations that failed together do not come back together.
        errors: policies by the name of an exception's class (or one of its bases) that replace this one.

    >>> Retry(3, delay="2s").wait(1), Retry(3, delay="2s").wait(2)
    (2.0, 4.0)
    >>> Retry(3, errors={"ValueError": Retry(1)}).for_error(["ValueError", "Exception"]).attempts
    1
    """

    attempts: int | None = 1
    delay: Duration = 1.0
    factor: float = 2.0
    max_delay: Duration = 60.0
    jitter: float = 0.1
    errors: Mapping[str, Retry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _expect("Retry", self, int, "a whole number, or Retry.forever()", "attempts", none=True)
        _expect("Retry", self, (int, float), "a number", "factor", "jitter")
        _expect("Retry", self, Mapping, "policies by the name of an exception's class", "errors")
        for kind, policy in self.errors.items():
            if not isinstance(kind, str) or not isinstance(policy, Retry) or policy.errors:
                raise TypeError(
                    f"Retry(errors={{{kind!r}: {policy!r}}}): expected the name of a class, and a Retry without errors"
                )
        object.__setattr__(self, "delay", seconds(self.delay))
        object.__setattr__(self, "max_delay", seconds(self.max_delay))
        if self.attempts is not None and not 1 <= self.attempts <= 1_000_000:
            raise ValueError(f"Retry(attempts={self.attempts!r}): from 1 to 1,000,000 attempts, or Retry.forever()")
        if not 1 <= self.factor <= 100 or not 0 <= self.jitter <= 1:
            raise ValueError(
                f"Retry(factor={self.factor!r}, jitter={self.jitter!r}): factor from 1 to 100, jitter from 0 to 1"
            )

    @classmethod
    def forever(
        cls, *, delay: Duration = 1.0, factor: float = 2.0, max_delay: Duration = 60.0, jitter: float = 0.1
    ) -> Retry:
        """Return a policy without a limit of attempts."""
        return cls(None, delay, factor, max_delay, jitter)

    def for_error(self, kinds: Sequence[str]) -> Retry:
        """Return the policy for an error whose class and bases are named ``kinds``, nearest first."""
        for kind in kinds:
            if kind in self.errors:
                return self.errors[kind]
        return self

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number ``attempt`` (from 1), jitter not added."""
        assert isinstance(self.delay, float) and isinstance(self.max_delay, float)
        grown = self.delay * self.factor ** min(attempt - 1, 64)
        return min(grown, self.max_delay)


OnConflict = Literal["reject", "wait", "preempt"]
"""What a start does about a claim that others hold: it is refused, it waits in order, or it has the holder cancelled and waits."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A named resource that an operation holds while it lives; ``name`` may use fields of the data: ``"host:{source}"``."""

    name: str
    limit: int = 1
    on_conflict: OnConflict = "reject"

    def __post_init__(self) -> None:
        _expect("Claim", self, str, "text", "name", "on_conflict")
        _expect("Claim", self, int, "a whole number", "limit")


@dataclass(frozen=True, slots=True)
class Children:
    """Operations of another machine that a parent state starts and waits for.

    Args:
        machine: name of the machine to start.
        each: field of the data that holds a list: one child for each of its items; None starts one child.
        limit: how many run at the same time, or the field of the data that says so; None is all.
        join: ``all``, ``any`` (one success is enough) or ``first`` (the first to end, however it ends).
        on_failure: ``fast`` cancels the others at the first failure, ``collect`` waits for all.
        item: field of the child's data that an item of ``each`` fills which is no mapping. A child also gets those of the parent's
            fields that it has too.
    """

    machine: str
    each: str | None = None
    limit: int | str | None = None
    join: Literal["all", "any", "first"] = "all"
    on_failure: Literal["fast", "collect"] = "fast"
    item: str | None = None

    def __post_init__(self) -> None:
        _expect("Children", self, str, "text", "machine", "join", "on_failure")
        _expect("Children", self, str, "a field's name", "each", "item", none=True)
        _expect("Children", self, (int, str), "a whole number, or a field's name", "limit", none=True)


class _Named:
    """What is declared as an attribute of a machine's class and is named by it."""

    name: str

    def __set_name__(self, owner: type, name: str) -> None:
        if self.name and self.name != name:
            fault = Fault(
                "one-name",
                f"`{name}`",
                f"is the same object as `{self.name}`",
                f"Declare `{name}` with a State of its own.",
            )
            raise IllegalMachine(owner.__name__, [fault])
        object.__setattr__(self, "name", name)

    def __hash__(self) -> int:
        return hash(self.name)


def _freeze(thing: Any, *names: str) -> None:
    for name in names:
        value = getattr(thing, name)
        if value is not None:
            object.__setattr__(thing, name, seconds(value))


@dataclass(frozen=True, kw_only=True)
class State(_Named):
    """A state of a machine that is not its end.

    A state with ``then`` is *acting*: an action is performed in it. One with ``children`` is a *parent*. One with only ``on``, ``after``
    or ``to`` is *waiting*: it moves when somebody reports an event, or when time passes.

    Args:
        initial: an operation may start here.
        then: target after the action's outcome ``done`` (short for ``on={"done": ...}``).
        on: targets by event: an outcome that the action names, or a signal.
        after: targets by duration in this state: durable timers.
        to: states that existing code may write next, where it has no names for events.
        queue: where the action must run; may use fields of the data: ``"host:{source}"``. Default: anywhere.
        undo: True if an undo is bound, ``"nothing"`` if the action leaves nothing behind.
        pivot: the point of no return: from here on an operation goes forward only.
        retry: policy for failed attempts; default: one attempt.
        undo_retry: policy for failed undos; default: 10 attempts.
        timeout: bound of one attempt, of an undo too.
        within: bound of the whole stay, with its retries.
        heartbeat: longest silence of the action before its attempt is ended.
        children: operations to start and wait for.
        cancel: what a cancel means here; default ``rollback`` before the pivot, ``refuse`` from it on.
        on_stop: what a worker's graceful stop does with a running action; default ``wait``.
        status: the stored value where it is no identifier: ``"running (post-copy)"``.
        description: one sentence for people.
    """

    initial: bool = False
    then: Any = None
    on: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[Duration, Any] = field(default_factory=dict)
    to: Sequence[Any] = ()
    queue: str | None = None
    undo: bool | Literal["nothing"] | None = None
    pivot: bool = False
    retry: Retry | None = None
    undo_retry: Retry | None = None
    timeout: Duration | None = None
    within: Duration | None = None
    heartbeat: Duration | None = None
    children: Children | None = None
    cancel: CancelPolicy | None = None
    on_stop: StopPolicy = "wait"
    status: str | None = None
    description: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        _expect("State", self, bool, "True or False", "initial", "pivot")
        _expect("State", self, str, "text", "description", "name", "on_stop")
        _expect("State", self, str, "text", "queue", "status", "cancel", none=True)
        _expect("State", self, Retry, "a Retry, such as Retry(3)", "retry", "undo_retry", none=True)
        _expect("State", self, Children, "Children(machine, ...)", "children", none=True)
        _expect("State", self, Mapping, "targets by duration, such as {'72h': 'expired'}", "after")
        _expect("State", self, (list, tuple), "a list of states", "to")
        if not (self.undo is None or isinstance(self.undo, bool) or self.undo == "nothing"):
            raise TypeError(f'State(undo={self.undo!r}): expected True or "nothing"')
        exits = _exits("State", "on", self.on)
        if self.then is not None:
            then = exit_of(self.then)
            if exits.get("done", then) != then:
                raise TypeError('then= and on={"done": ...} say the same thing twice: keep one')
            exits = {"done": then, **exits}
        object.__setattr__(self, "on", exits)
        object.__setattr__(self, "then", exits.get("done"))
        after = {seconds(wait): exit_of(target) for wait, target in self.after.items()}
        if len(after) < len(self.after):
            raise ValueError(f"State(after={self.after!r}): one of the durations stands twice")
        object.__setattr__(self, "after", after)
        object.__setattr__(self, "to", tuple(_name_of(target) for target in self.to))
        object.__setattr__(self, "undo", None if self.undo is False else self.undo)
        _freeze(self, "timeout", "within", "heartbeat")

    __hash__ = _Named.__hash__

    @property
    def kind(self) -> Literal["acting", "waiting", "parent"]:
        """What the state does, from what it declares."""
        if self.children is not None:
            return "parent"
        return "acting" if "done" in self.on else "waiting"


@dataclass(frozen=True)
class Final(_Named):
    """A state that ends an operation, with its outcome: ``succeeded``, ``failed`` or ``cancelled``.

    Args:
        outcome: the operation's last status.
        status: the stored value where it is no identifier.
        initial: a guarded record may be created in it.
        to: states that existing code writes even after the end. Only a machine that performs nothing may say so.
        hands_over: kinds of owned resources that outlive the operation, and are somebody else's from then on: ``("disk",)``.
        description: one sentence for people.
    """

    outcome: Outcome
    status: str | None = field(default=None, kw_only=True)
    initial: bool = field(default=False, kw_only=True)
    to: Sequence[Any] = field(default=(), kw_only=True)
    hands_over: Sequence[str] = field(default=(), kw_only=True)
    description: str = field(default="", kw_only=True)
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _expect("Final", self, str, "text", "outcome", "description", "name")
        _expect("Final", self, str, "text", "status", none=True)
        _expect("Final", self, bool, "True or False", "initial")
        _expect("Final", self, (list, tuple), "a list of states", "to")
        _expect("Final", self, (list, tuple), "a list of kinds", "hands_over")
        if not all(isinstance(kind, str) for kind in self.hands_over):
            raise TypeError(f"Final(hands_over={self.hands_over!r}): expected a list of kinds, such as ('disk',)")
        object.__setattr__(self, "hands_over", tuple(self.hands_over))
        object.__setattr__(self, "to", tuple(_name_of(target) for target in self.to))

    __hash__ = _Named.__hash__
    kind: ClassVar[Literal["final"]] = "final"


@dataclass(frozen=True)
class Group(_Named):
    """States that share exits and a deadline. Groups nest: a member may be another group's name.

    The deadline runs from the moment a member is entered from outside the group. A state's own exit comes before its group's,
    an inner group's before an outer's.
    """

    members: tuple[str, ...]
    on: Mapping[str, Any]
    timeout: Duration | None
    name: str

    def __init__(
        self,
        *members: str | State | Group,
        on: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        name: str = "",
    ) -> None:
        object.__setattr__(self, "members", tuple(_name_of(member) for member in members))
        object.__setattr__(self, "on", _exits("Group", "on", {} if on is None else on))
        object.__setattr__(self, "timeout", None if timeout is None else seconds(timeout))
        object.__setattr__(self, "name", name)

    __hash__ = _Named.__hash__
