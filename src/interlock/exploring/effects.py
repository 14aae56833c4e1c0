"""Where an action touches the world: the places between two calls of a fake, which are places to die at too."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

__all__ = ["ACTING", "Acting", "effects"]

W = TypeVar("W")


class Acting(Protocol):
    """The attempt that runs, as far as its effects concern it."""

    def effect(self, text: str) -> None:
        """Note that a call of the fake begins, ends, or failed."""
        ...

    def boundary(self, place: str) -> None:
        """Stop here if this is where the process dies, or where the call fails. Called from code that cannot await."""
        ...


ACTING: ContextVar[Acting | None] = ContextVar("interlock_acting", default=None)
"""The attempt whose code runs; None outside of explored actions."""


def effects(world: W) -> W:
    """Return a stand-in for a fake, each of whose method calls is two places to die at: before the call and after it.

    Actions that await something between any two effects do not need it. For plain functions, and for fakes with plain methods, give it
    to the actions in place of the fake: ``actions=lambda world: make_actions(effects(world))``. Outside of an exploration it changes
    nothing.

    >>> effects([3, 1, 2]).index(2)
    2
    """
    return cast(W, _Watched(world))


class _Watched:
    """Stands in for a fake; attributes that are no methods pass through."""

    __slots__ = ("_watched",)

    def __init__(self, watched: Any) -> None:
        object.__setattr__(self, "_watched", watched)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._watched, name)
        if not callable(found) or isinstance(found, type) or ACTING.get() is None:
            return found
        return _called(found, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._watched, name, value)

    def __repr__(self) -> str:
        return repr(self._watched)


def _called(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(method):
        return lambda *values, **named: _generated(method, name, values, named)
    if inspect.iscoroutinefunction(method):
        return lambda *values, **named: _awaited(method, name, values, named)
    return lambda *values, **named: _at_once(method, name, values, named)


def _text(name: str, values: tuple[Any, ...], named: dict[str, Any]) -> str:
    arguments = ", ".join([*map(_short, values), *(f"{key}={_short(value)}" for key, value in named.items())])
    return f"{name}({arguments})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _at_once(method: Callable[..., Any], name: str, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
    acting = ACTING.get()
    if acting is None:
        return method(*values, **named)
    acting.boundary(f"{name}-call")
    acting.effect(_text(name, values, named))
    try:
        result = method(*values, **named)
    except Exception as error:
        acting.effect(f"{name} raises {type(error).__name__}: {error}")
        raise
    acting.boundary(f"{name}-return")
    return result


async def _awaited(method: Callable[..., Any], name: str, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
    acting = ACTING.get()
    if acting is None:
        return await method(*values, **named)
    await asyncio.sleep(0)
    acting.effect(_text(name, values, named))
    try:
        result = await method(*values, **named)
    except Exception as error:
        acting.effect(f"{name} raises {type(error).__name__}: {error}")
        raise
    await asyncio.sleep(0)
    return result


async def _generated(
    method: Callable[..., AsyncGenerator[Any, None]], name: str, values: tuple[Any, ...], named: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    acting = ACTING.get()
    if acting is not None:
        acting.effect(_text(name, values, named))
    made = method(*values, **named)
    try:
        async for one in made:
            yield one
            await asyncio.sleep(0)
    finally:
        await made.aclose()
