"""`Guard`: an attribute of any class that only moves along a machine's edges."""

from __future__ import annotations

from typing import Any, overload

from interlock.definition.machine import Definition, Machine
from interlock.guards.rules import Mode, Rules, Sighting, stored

__all__ = ["Guard"]


class Guard:
    """An attribute whose value moves along a machine's edges only.

    The value is kept in the object under the attribute's name with an underscore before it; a class with ``__slots__`` must have a slot
    of that name. The first assignment creates: it must be an initial value; a dataclass's field without a value gets the initial value
    if there is one only.

    Args:
        machine: class or definition. Values are the states' stored values (``status=``, or the state's name); members of an
            enumeration stand for their values.
        mode: ``enforce`` (the default) raises `IllegalMove` and leaves the value as it was; ``observe`` counts and lets it pass:
            ``Class.attribute.sightings()``.

    >>> from interlock import Final, Guard, Machine, State
    >>> class VolumeStates(Machine[dict[str, str]]):
    ...     free = State(initial=True, to=["used"])
    ...     used = State(to=["free", "gone"])
    ...     gone = Final("succeeded")
    >>> class Volume:
    ...     status = Guard(VolumeStates)
    ...     def __init__(self) -> None:
    ...         self.status = "free"
    >>> volume = Volume()
    >>> volume.status = "used"
    >>> volume.status = "gone"
    >>> volume.status = "free"
    Traceback (most recent call last):
    interlock.errors.IllegalMove: Volume.status: machine `volume-states` does not allow `gone` -> `free`; from `gone` it may go nowhere
    >>> volume.status
    'gone'
    """

    __slots__ = ("_allowed", "_kept", "_name", "rules")

    def __init__(self, machine: Definition | type[Machine[Any]], mode: Mode = "enforce") -> None:
        self.rules = Rules(machine, mode)
        self._allowed: dict[Any, frozenset[str]] = self.rules.allowed
        self._name = self._kept = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._kept = f"{owner.__name__}.{name}", f"_{name}"
        if not (getattr(owner, "__dictoffset__", 0) or hasattr(owner, self._kept)):
            raise TypeError(
                f"{self._name}: {owner.__name__} has __slots__; add {self._kept!r} to them, where the guard keeps the value"
            )

    @overload
    def __get__(self, record: None, owner: type) -> Guard: ...

    @overload
    def __get__(self, record: object, owner: type) -> str: ...

    def __get__(self, record: object | None, owner: type) -> Any:
        if record is None:
            return self
        try:
            return getattr(record, self._kept)
        except AttributeError:
            raise AttributeError(f"{self._name} has no value yet") from None

    def __set__(self, record: object, wanted: Any) -> None:
        kept = self._kept
        try:
            if wanted in self._allowed[getattr(record, kept)]:
                setattr(record, kept, wanted)
                return
        except (AttributeError, KeyError, TypeError):
            pass  # no value yet, an unknown or an unhashable one: told apart below
        self._judge(record, wanted)

    def __delete__(self, record: object) -> None:
        raise AttributeError(f"{self._name} is guarded: it is not deleted, it moves")

    def sightings(self) -> list[Sighting]:
        """Return what the guard saw in mode ``observe``, most frequent first."""
        return self.rules.sightings()

    def _judge(self, record: object, wanted: Any) -> None:
        current = getattr(record, self._kept, None)
        if current is None and not hasattr(record, self._kept):
            if wanted is self and self.rules.default is not None:  # a dataclass hands over the class's attribute
                wanted = self.rules.default
            elif wanted is self:
                wanted = "(none given)"
            self.rules.create(self._name, wanted)
        else:
            self.rules.move(self._name, stored(current), wanted)
        setattr(record, self._kept, wanted)
