"""The frozen machine: what was declared, and the flat table that is compiled from it.

A `Definition` holds the declarations as they were written (so that it converts to a document and back without loss) and ``table``: one
`Row` for each state, groups flattened into it, every question answered. All readers of behaviour (interpreter, checker, drawings, guard)
read the table.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from interlock.definition.data import Fields, fields_of
from interlock.definition.declare import Branch, Children, Claim, Exit, Final, Group, Machine, Retry, State
from interlock.errors import Fault, IllegalMachine, Unknown, did_you_mean

__all__ = ["Definition", "Row", "data_type_of", "definition_of", "template_fields"]

Kind = Literal["acting", "waiting", "parent", "final"]
RESERVED_EVENTS = frozenset({"done", "failed", "timeout"})
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One state with every question answered. Durations are seconds."""

    name: str
    kind: Kind
    status: str
    initial: bool
    exits: Mapping[str, Exit]
    after: tuple[tuple[float, Exit], ...]
    to: tuple[str, ...]
    queue: str
    undo: bool
    undo_said: bool
    pivot: bool
    past_pivot: bool
    retry: Retry
    undo_retry: Retry
    timeout: float | None
    within: float | None
    heartbeat: float | None
    cancel: Literal["rollback", "finish", "refuse"]
    on_stop: Literal["wait", "handover"]
    groups: tuple[str, ...]
    children: Children | None
    outcome: Literal["succeeded", "failed", "cancelled"] | None
    conditions: frozenset[str]

    def targets(self) -> Iterator[tuple[str, Branch]]:
        """Yield (event, branch) for everything that leads out of this state; timers are named ``after 30s``, plain moves ``to``."""
        from interlock.definition.duration import duration_text

        for event, branches in self.exits.items():
            for branch in branches:
                yield event, branch
        for wait, branches in self.after:
            for branch in branches:
                yield f"after {duration_text(wait)}", branch
        for name in self.to:
            yield "to", Branch(name)


@dataclass(frozen=True)
class Definition:
    """A machine as frozen data. Building one seals it: `IllegalMachine` if it contradicts itself or leaves a question open.

    Args:
        name: in kebab case.
        version: from 1.
        states: `State` and `Final` by name, in the order of writing.
        groups: by name.
        claims: resources held while an operation lives.
        views: public names by API version: ``{"v1": {"ACTIVE": ["completed"], "MOVING": ...}}``; ``...`` is all other states.
        fields: shape of the data; None accepts any.
        description: for people.
    """

    name: str
    version: int
    states: Mapping[str, State | Final]
    groups: Mapping[str, Group] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fields: Fields | None = None
    description: str = ""

    def __post_init__(self) -> None:
        from interlock.definition.seal import seal

        seal(self)

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @cached_property
    def table(self) -> Mapping[str, Row]:
        """One row for each state, in the order of writing."""
        after = past_pivot(self)
        return {name: _row(self, state, name in after) for name, state in self.states.items()}

    @cached_property
    def initial(self) -> tuple[str, ...]:
        """The states in which an operation may start."""
        return tuple(name for name, state in self.states.items() if state.initial)

    @cached_property
    def finals(self) -> tuple[str, ...]:
        """The states that end an operation."""
        return tuple(name for name, state in self.states.items() if isinstance(state, Final))

    @cached_property
    def drives(self) -> bool:
        """Whether any state is acting or a parent; a machine without such states can only guard."""
        return any(not isinstance(state, Final) and state.kind != "waiting" for state in self.states.values())

    @cached_property
    def moves(self) -> Mapping[str, frozenset[str]]:
        """For each state the states that may follow it at once, rollbacks' final states included."""
        return {
            name: frozenset(branch.to for _, branch in row.targets()) | self._implied(row)
            for name, row in self.table.items()
        }

    def _implied(self, row: Row) -> frozenset[str]:
        if row.kind == "final" or row.past_pivot or not self.drives:
            return frozenset()
        implied = set()
        if row.cancel != "refuse" and "cancelled" in self.states:
            implied.add("cancelled")
        if row.kind != "waiting" and "failed" in self.states and "failed" not in row.exits:
            implied.add("failed")
        return frozenset(implied)

    def row(self, state: str) -> Row:
        """Return a state's row; raises `Unknown` with the nearest name."""
        try:
            return self.table[state]
        except KeyError:
            raise Unknown(
                f"machine `{self.name}` has no state `{state}`{did_you_mean(state, self.states)}; its states are {', '.join(self.states)}",
                machine=self.name,
                state=state,
            ) from None

    def allows(self, current: str, wanted: str) -> bool:
        """Say whether a move from ``current`` to ``wanted`` is one of the machine's edges."""
        return wanted in self.moves.get(current, ())

    def view(self, state: str, version: str) -> str:
        """Return the public name of a state in an API version."""
        names = self.views.get(version)
        if names is None:
            raise Unknown(
                f"machine `{self.name}` has no view `{version}`; it has {', '.join(self.views) or 'none'}",
                machine=self.name,
            )
        rest = state
        for public, members in names.items():
            if members is ...:
                rest = public
            elif state in members:
                return public
        return rest


def definition_of(target: Definition | type[Machine[Any]]) -> Definition:
    """Return the definition of a machine's class, or the definition itself."""
    return target if isinstance(target, Definition) else target.definition


def build_class(cls: type[Machine[Any]], version: int, name: str) -> Definition:
    """Return the definition that a subclass of `Machine` declares; raises `IllegalMachine`."""
    states: dict[str, State | Final] = {}
    groups: dict[str, Group] = {}
    for owner in reversed(cls.__mro__):
        for key, value in vars(owner).items():
            states.pop(key, None)
            groups.pop(key, None)
            if isinstance(value, State | Final):
                states[key] = value
            elif isinstance(value, Group):
                groups[key] = value
            elif (
                not key.startswith("_")
                and key not in ("claims", "views", "definition")
                and owner not in Machine.__mro__
            ):
                what = f"is {type(value).__name__}, which a machine has no use for"
                raise IllegalMachine(
                    name,
                    [Fault("not-a-state", f"`{key}`", what, "Use State, Final or Group, or move it out of the class.")],
                )
    try:
        fields = fields_of(data_type_of(cls))
    except TypeError as error:
        raise IllegalMachine(name, [Fault("data-type", "data", str(error), "Mend the data type.")]) from None
    lines = (cls.__dict__.get("__doc__") or "").strip().splitlines()
    text = "\n".join(line.strip() for line in lines)
    return Definition(name, version, states, groups, tuple(cls.claims), dict(cls.views), fields, text)


def data_type_of(cls: type) -> Any:
    """Return the type of a machine's data as its class names it (``Move`` in ``Machine[Move]``); None if it names none."""
    for base in getattr(cls, "__orig_bases__", ()):
        origin = getattr(base, "__origin__", None)
        if isinstance(origin, type) and issubclass(origin, Machine):
            return base.__args__[0]
    for parent in cls.__mro__[1:]:
        if "__orig_bases__" in vars(parent) and parent is not Machine and issubclass(parent, Machine):
            return data_type_of(parent)
    return None


def template_fields(template: str) -> list[str]:
    """Return the fields that a template such as ``host:{source}`` uses; raises ValueError for a malformed one."""
    found = []
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not NAME.fullmatch(name) or spec or conversion:
            raise ValueError(f"`{template}`: only plain fields like {{source}} may stand in it")
        found.append(name)
    return found


def groups_of(definition: Definition, state: str) -> tuple[str, ...]:
    """Return the groups around a state, innermost first."""
    found: list[str] = []
    inner = [state]
    while inner:
        around = [name for name, group in definition.groups.items() if inner[0] in group.members and name not in found]
        found.extend(around)
        inner = inner[1:] + around
    return tuple(found)


def past_pivot(definition: Definition) -> frozenset[str]:
    """Return the pivots and every state that can only follow one."""
    found: set[str] = set()
    todo = [name for name, state in definition.states.items() if isinstance(state, State) and state.pivot]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        state = definition.states.get(name)
        if isinstance(state, State):
            todo.extend(branch.to for branch in branches_of(definition, state) if not branch.rollback)
    return frozenset(name for name in found if not isinstance(definition.states.get(name), Final))


def branches_of(definition: Definition, state: State) -> Sequence[Branch]:
    """Return every branch that leads out of a state, its groups' included."""
    exits: list[Exit] = [*state.on.values(), *state.after.values()]
    exits += [exit for name in groups_of(definition, state.name) for exit in definition.groups[name].on.values()]
    return [branch for branches in exits for branch in branches] + [Branch(name) for name in state.to]


def _row(definition: Definition, state: State | Final, past: bool) -> Row:
    groups = groups_of(definition, state.name)
    if isinstance(state, Final):
        return Row(
            state.name, "final", state.status or state.name, state.initial, {}, (), (), "", False, True, False, False, Retry(), Retry(),
            None, None, None, "refuse", "wait", groups, None, state.outcome, frozenset(),
        )  # fmt: skip
    exits: dict[str, Exit] = dict(state.on)
    for name in groups:
        for event, branches in definition.groups[name].on.items():
            exits.setdefault(event, branches)
    after = tuple(sorted(state.after.items()))
    everything = [*exits.values(), *(branches for _, branches in after)]
    return Row(
        name=state.name,
        kind=state.kind,
        status=state.status or state.name,
        initial=state.initial,
        exits=exits,
        after=after,
        to=tuple(state.to),
        queue=state.queue or "",
        undo=state.undo is True,
        undo_said=state.undo is not None,
        pivot=state.pivot,
        past_pivot=past,
        retry=state.retry or Retry(),
        undo_retry=state.undo_retry or Retry(10),
        timeout=state.timeout,  # type: ignore[arg-type]  # seconds since State.__post_init__
        within=state.within,  # type: ignore[arg-type]
        heartbeat=state.heartbeat,  # type: ignore[arg-type]
        cancel=state.cancel or ("refuse" if past else "rollback"),
        on_stop=state.on_stop,
        groups=groups,
        children=state.children,
        outcome=None,
        conditions=frozenset(branch.condition for branches in everything for branch in branches if branch.condition),
    )
