"""Where a run is before a step: at an action that goes on, at a commit, or at nothing that anybody could tell from the next."""

from __future__ import annotations

import asyncio
from typing import Any

from interlock.exploring.acting import Attempt
from interlock.exploring.effects import ACTING
from interlock.runtime.committer import Committer
from interlock.stores.contract import Entry

__all__ = ["COMMIT", "place_of"]

COMMIT = "commit"
_TIMER: Any = getattr(asyncio.futures, "_set_result_unless_cancelled")  # noqa: B009 - what wakes a sleeper up is not the sleeper


def place_of(handle: asyncio.Handle) -> str | None:
    """Return the name of the place before this step of a loop; None if nothing of the user's runs in it and nothing is committed."""
    parts: Any = handle
    callback = parts._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, Committer):
        commits = callback.__name__ == "_begin" and any(isinstance(item, Entry) for item, _ in owner._waiting)
        return COMMIT if commits else None
    acting = parts._context.get(ACTING)
    if not isinstance(acting, Attempt) or callback is _TIMER:
        return None
    own = type(owner).__module__.startswith(("interlock.runtime", "interlock.testing"))
    return None if own else acting.what
