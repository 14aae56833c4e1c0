"""The subjects of ``interlock bench guard``: each moves a record between two states, in the way its library is used.

The peers are not dependencies of Interlock; one that is not installed is left out of the table.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

__all__ = ["SUBJECTS", "measure"]

SUBJECTS = {
    "floor": "builtins",
    "interlock Guard": "interlock",
    "interlock allows": "interlock",
    "automaton": "automaton.machines",
    "automat": "automat",
    "transitions": "transitions",
    "django-fsm": "django_fsm",
}
"""What is measured, and the module that is imported for it."""
OBJECTS = 20_000
Move = Callable[[], None]


def measure(subject: str, seconds: float) -> tuple[float, float | None]:
    """Return moves per CPU second, and bytes of one object over a bare one (None where there is no object)."""
    make, there, back = _MAKERS[subject]()
    record = make()
    there(record), back(record)
    moves, began = 0, time.process_time()
    while (passed := time.process_time() - began) < seconds:
        for _ in range(1_000):
            there(record)
            back(record)
        moves += 2_000
    return moves / passed, None if subject == "interlock allows" else _size(make) - _size(_Bare)


class _Bare:
    def __init__(self) -> None:
        self.status = "off"


def _size(make: Callable[[], Any]) -> float:
    tracemalloc.start()
    kept = [None] * OBJECTS
    before = tracemalloc.get_traced_memory()[0]
    kept[:] = [make() for _ in range(OBJECTS)]
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / OBJECTS


Subject = tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]


def _floor() -> Subject:
    targets = {"off": frozenset({"on"}), "on": frozenset({"off"})}

    class Record:
        __slots__ = ("status",)

        def __init__(self) -> None:
            self.status = "off"

        def move(self, wanted: str) -> None:
            if wanted not in targets[self.status]:
                raise ValueError(wanted)
            self.status = wanted

    return Record, lambda record: record.move("on"), lambda record: record.move("off")


def _guard() -> Subject:
    from interlock import Guard

    machine = _switch()

    class Record:
        status = Guard(machine)

        def __init__(self) -> None:
            self.status = "off"

    def there(record: Any) -> None:
        record.status = "on"

    def back(record: Any) -> None:
        record.status = "off"

    return Record, there, back


def _allows() -> Subject:
    machine = _switch().definition
    return object, lambda record: machine.allows("off", "on"), lambda record: machine.allows("on", "off")


def _switch() -> Any:
    from interlock import Final, Machine, State

    class Switch(Machine[Any], version=1):
        off = State(initial=True, to=["on", "gone"])
        on = State(to=["off"])
        gone = Final("succeeded")

    return Switch


def _automaton() -> Subject:
    from automaton import machines  # type: ignore[import-untyped, unused-ignore]  # a peer, measured only

    def make() -> Any:
        made = machines.FiniteMachine()
        for state in ("off", "on"):
            made.add_state(state)
        made.add_transition("off", "on", "press")
        made.add_transition("on", "off", "release")
        made.default_start_state = "off"
        made.initialize()
        return made

    return make, lambda record: record.process_event("press"), lambda record: record.process_event("release")


def _automat() -> Subject:
    from automat import TypeMachineBuilder  # type: ignore[import-untyped, unused-ignore]

    builder = TypeMachineBuilder(_Switch, _Bare)
    off, on = builder.state("off"), builder.state("on")
    off.upon(_Switch.press).to(on).returns(None)
    on.upon(_Switch.release).to(off).returns(None)
    machine = builder.build()
    return lambda: machine(_Bare()), lambda record: record.press(), lambda record: record.release()


def _transitions() -> Subject:
    from transitions import Machine as Peer  # type: ignore[import-untyped, unused-ignore]

    class Record:
        def __init__(self) -> None:
            Peer(self, states=["off", "on"], initial="off", auto_transitions=False, transitions=_EDGES)

    return Record, lambda record: record.press(), lambda record: record.release()


_EDGES = [["press", "off", "on"], ["release", "on", "off"]]


def _django_fsm() -> Subject:
    import django
    from django.conf import settings

    settings.configure(INSTALLED_APPS=[], DATABASES={}, USE_TZ=True)
    django.setup()
    from django.db import models
    from django_fsm import FSMField, transition  # type: ignore[import-untyped, unused-ignore]

    class Record(models.Model):  # type: ignore[misc, unused-ignore]  # Django is untyped
        status = FSMField(default="off")

        class Meta:
            app_label = "bench"

        @transition(field=status, source="off", target="on")  # type: ignore[untyped-decorator, unused-ignore]
        def press(self) -> None: ...

        @transition(field=status, source="on", target="off")  # type: ignore[untyped-decorator, unused-ignore]
        def release(self) -> None: ...

    return Record, lambda record: record.press(), lambda record: record.release()


class _Switch:
    """The protocol of Automat's machine. Its methods are never called: Automat makes others of the same names."""

    def press(self) -> None: ...

    def release(self) -> None: ...


_MAKERS: dict[str, Callable[[], Subject]] = {
    "floor": _floor,
    "interlock Guard": _guard,
    "interlock allows": _allows,
    "automaton": _automaton,
    "automat": _automat,
    "transitions": _transitions,
    "django-fsm": _django_fsm,
}
