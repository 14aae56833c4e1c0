"""The frozen machine: what was declared, and the flat table that is compiled from it.

A `Definition` holds the declarations as they were written (so that it converts to a document and back without loss) and ``table``: one
`Row` for each state, groups flattened into it, every question answered. All readers of behaviour (interpreter, checker, drawings, guard)
read the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from interlock.definition.data import Fields, fields_of
from interlock.definition.declare import Claim, Final, Group, State
from interlock.definition.flatten import Row, flatten, surroundings
from interlock.definition.seal import seal, shaped
from interlock.errors import Fault, IllegalMachine, Unknown, did_you_mean

if TYPE_CHECKING:
    from types import EllipsisType

__all__ = ["Definition", "Machine", "data_type_of", "definition_of", "machine_name"]


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
        accepts: warnings of the checker that are meant to be so: the reason by code, or by ``code:state``.
        renames: what states of earlier versions are called now, by their old name; see `interlock.definition.compare`.
    """

    name: str
    version: int
    states: Mapping[str, State | Final]
    groups: Mapping[str, Group] = field(default_factory=dict)
    claims: Sequence[Claim] = ()
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fields: Fields | None = None
    description: str = ""
    accepts: Mapping[str, str] = field(default_factory=dict)
    renames: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shaped(self)
        views = {version: _frozen_view(names) for version, names in self.views.items()}
        for name, value in (
            ("states", self.states),
            ("groups", self.groups),
            ("views", views),
            ("fields", self.fields),
            ("accepts", self.accepts),
            ("renames", self.renames),
        ):
            object.__setattr__(self, name, None if value is None else MappingProxyType(dict(value)))
        object.__setattr__(self, "claims", tuple(self.claims))
        object.__setattr__(
            self, "description", "\n".join(line.strip() for line in self.description.strip().splitlines())
        )
        seal(self)

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @cached_property
    def table(self) -> Mapping[str, Row]:
        """One row for each state, in the order of writing."""
        return flatten(self)

    @cached_property
    def around(self) -> Mapping[str, tuple[str, ...]]:
        """The groups around a state or a group that is in any, inner groups first."""
        return surroundings(self.groups)

    @cached_property
    def initial(self) -> tuple[str, ...]:
        """The states in which an operation may start."""
        return tuple(name for name, state in self.states.items() if state.initial)

    @cached_property
    def finals(self) -> tuple[str, ...]:
        """The states that end an operation."""
        return tuple(name for name, state in self.states.items() if isinstance(state, Final))

    @cached_property
    def events(self) -> frozenset[str]:
        """Every event for which some state has an exit."""
        return frozenset(event for row in self.table.values() for event in row.exits)

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
        """Return the final states that no exit names: where a cancel, and what failed or is late for good, rolls back to."""
        if row.kind == "final" or row.past_pivot:
            return frozenset()
        implied = set()
        if self.drives and row.cancel != "refuse":
            implied.add("cancelled")
        late = row.within is not None and "timeout" not in row.exits
        if (row.kind != "waiting" or late) and "failed" not in row.exits:
            implied.add("failed")
        groups = [self.groups[name] for name in row.groups]
        if any(group.timeout is not None and "timeout" not in group.on for group in groups):
            implied.add("failed")
        return frozenset(implied & set(self.finals))

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


def _frozen_view(names: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(
        {public: members if members is ... else tuple(members) for public, members in names.items()}
    )


D = TypeVar("D")


def machine_name(class_name: str) -> str:
    """Return the name of a machine from its class's.

    >>> machine_name("LiveMigration"), machine_name("HTTPCheck")
    ('live-migration', 'http-check')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", class_name).lower()


class Machine(Generic[D]):
    """Base of machines written as classes; ``D`` is the type of the operations' data (a dataclass, a TypedDict, or Any).

    A subclass is built when it is declared: `IllegalMachine` says everything that is wrong with it. Its attribute ``definition`` is the
    frozen machine.

    Args:
        version: of the definition, from 1. Give a changed machine a new one.
        name: default: the class's name in kebab case.

    >>> class Deploy(Machine[dict[str, str]], version=1):
    ...     building = State(initial=True, undo="nothing", then="live")
    ...     live = Final("succeeded")
    ...     failed = Final("failed")
    ...     cancelled = Final("cancelled")
    >>> Deploy.definition.name, list(Deploy.definition.states)
    ('deploy', ['building', 'live', 'failed', 'cancelled'])
    """

    definition: ClassVar[Definition]
    claims: ClassVar[Sequence[Claim]] = ()
    views: ClassVar[Mapping[str, Mapping[str, Sequence[str] | EllipsisType]]] = {}
    accepts: ClassVar[Mapping[str, str]] = {}
    renames: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, *, version: int = 1, name: str | None = None, **extra: Any) -> None:
        super().__init_subclass__(**extra)
        cls.definition = build_class(cls, version, name or machine_name(cls.__name__))

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is a machine: it is not instantiated, operations of it are started")


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
                and key not in ("claims", "views", "accepts", "renames", "definition")
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
    described = cls.__dict__.get("__doc__") or ""
    return Definition(name, version, states, groups, cls.claims, cls.views, fields, described, cls.accepts, cls.renames)


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
