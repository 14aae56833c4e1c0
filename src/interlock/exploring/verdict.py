"""What the user's functions say: the world they make, and whether their invariants hold."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, NoReturn

from interlock.errors import InterlockError, Refused
from interlock.exploring.scenario import Exploration
from interlock.interpreter.snapshot import Snapshot
from interlock.runtime.actions import Actions
from interlock.testing.loop import VirtualLoop

__all__ = ["BadInvariant", "BadScenario", "Violation", "checked", "made_actions", "made_world"]


class BadScenario(Refused):
    """The scenario itself fails: its world or its actions cannot be made."""

    code = "bad-scenario"


class BadInvariant(Refused):
    """An invariant raised, or answered with something else than None, True, False or a text."""

    code = "bad-invariant"


class Violation(NamedTuple):
    """What does not hold: the invariant's name, and its answer."""

    invariant: str
    answer: str


def made_world(exploration: Exploration[Any], clock: Callable[[], float]) -> Any:
    """Return a fresh world; raises `BadScenario`."""
    try:
        world = exploration.world(clock) if _wants(exploration.world, 1) else exploration.world()
        return _waited(world, clock) if inspect.isawaitable(world) else world
    except InterlockError:
        raise
    except Exception as error:
        _faulty("the world", exploration.world, error)


def _waited(awaitable: Any, clock: Callable[[], float]) -> Any:
    loop, passed = VirtualLoop(lambda: clock() + passed), 0.0

    async def wait() -> Any:
        return await awaitable

    made = loop.create_task(wait())
    loop.run_ready()
    while not made.done() and (at := loop.next_timer()) is not None:
        passed = at - clock()
        loop.run_ready()
    if not made.done():
        loop.dispose()
        raise BadScenario("the world never gets ready: what makes it waits for something that does not come")
    return made.result()


def made_actions(exploration: Exploration[Any], world: Any) -> list[Actions[Any]]:
    """Return the actions over a world, checked against their machines; raises `BadScenario`, `ActionsMismatch`."""
    try:
        made = exploration.actions(world)
    except InterlockError:
        raise
    except Exception as error:
        _faulty("the actions", exploration.actions, error)
    several = [made] if isinstance(made, Actions) else list(made)
    for one in several:
        if not isinstance(one, Actions):
            raise BadScenario(
                f"actions: {_named(exploration.actions)} returned {one!r}; it must return Actions, or a list of them"
            )
        one.check()
    bound = {one.definition.name for one in several}
    for start in exploration.operations:
        if start.definition.name not in bound:
            known = ", ".join(sorted(bound)) or "none"
            raise BadScenario(
                f"{start!r}: there are no actions of `{start.definition.name}` (there are: {known}); return them too"
            )
    return several


def checked(
    invariants: Sequence[Callable[..., Any]], world: Any, operations: Callable[[], Sequence[Snapshot]]
) -> Violation | None:
    """Return the first invariant that does not hold; raises `BadInvariant`."""
    for invariant in invariants:
        try:
            answer = invariant(world, operations()) if _wants(invariant, 2) else invariant(world)
        except Exception as error:
            what = f"invariant {_named(invariant)} raised {_last(error)}"
            raise BadInvariant(f"{what}; it must return None, or a text that says what does not hold") from error
        if answer is None or answer is True or answer == "":
            continue
        if answer is False:
            return Violation(_name(invariant), "it does not hold")
        if not isinstance(answer, str):
            if inspect.iscoroutine(answer):
                answer.close()
            raise BadInvariant(
                f"invariant {_named(invariant)} returned {type(answer).__name__}; it must be a plain function that returns None, True, "
                "False, or a text"
            )
        return Violation(_name(invariant), answer)
    return None


@cache
def _wants(function: Callable[..., Any], number: int) -> bool:
    """Whether a function must be given at least so many arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return False
    plain = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return sum(one.default is one.empty for one in plain) >= number


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or repr(function)


def _named(function: Callable[..., Any]) -> str:
    return f"`{_name(function)}`"


def _last(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno}: {frame.line})"


def _faulty(what: str, function: Callable[..., Any], error: Exception) -> NoReturn:
    raise BadScenario(f"{what} cannot be made: {_named(function)} raised {_last(error)}; mend it") from error
