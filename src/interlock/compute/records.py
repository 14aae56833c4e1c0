"""What a host remembers in files: records replaced whole, a lock that dies with its holder, and who may change a guest."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypedDict

from interlock.compute.hypervisor import HostUnreachable, Permit, StaleToken

__all__ = ["CLOSED_LIMIT", "Fence", "admit", "locked", "read_record", "write_record"]

CLOSED_LIMIT = 1000
_LOCK_POLL_SECONDS = 0.01


class Fence(TypedDict):
    """The migration that has a guest in hand, the highest token it showed, and the migrations before it."""

    migration: str
    token: int
    closed: list[str]


def admit(fence: Fence | None, permit: Permit, *, host: str, instance: str) -> Fence:
    """Return the fence as it is after this permit, or raise `StaleToken`.

    >>> fence = admit(None, Permit("m1", 2), host="host-a", instance="vm-1")
    >>> admit(fence, Permit("m1", 1), host="host-a", instance="vm-1")
    Traceback (most recent call last):
    interlock.compute.hypervisor.StaleToken: vm-1 on host-a: token 1 of migration m1 is older than 2, which was here \
before; stop: another attempt goes on with this migration
    """
    if fence is None:
        return {"migration": permit.migration, "token": permit.token, "closed": []}
    if permit.migration == fence["migration"]:
        if permit.token < fence["token"]:
            what = f"token {permit.token} of migration {permit.migration} is older than {fence['token']}, which was here before"
            mend = "stop: another attempt goes on with this migration"
            raise StaleToken(what, host=host, instance=instance, mend=mend, token=permit.token, seen=fence["token"])
        return {**fence, "token": permit.token}
    if permit.migration in fence["closed"]:
        what = f"migration {permit.migration} was followed by {fence['migration']}"
        raise StaleToken(
            what, host=host, instance=instance, mend="stop: it is over", token=permit.token, seen=fence["token"]
        )
    closed = [*fence["closed"], fence["migration"]][-CLOSED_LIMIT:]
    return {"migration": permit.migration, "token": permit.token, "closed": closed}


def read_record(path: Path) -> Any:
    """Return what `write_record` wrote there, or None if there is nothing."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def write_record(path: Path, record: Any) -> None:
    """Replace a record as a whole: a reader sees the old one or the new one, whenever the writer dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name is enough: whoever writes a record holds its lock.
    draft = path.with_name(path.name + ".new")
    with draft.open("w") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextlib.asynccontextmanager
async def locked(path: Path, *, host: str, instance: str, patience_seconds: float) -> AsyncIterator[None]:
    """Hold the lock file alone, against other processes and other users of this one. The kernel frees a dead holder's.

    Raises `HostUnreachable` when somebody else held it for all of ``patience_seconds``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            async with asyncio.timeout(patience_seconds):
                while not _taken(file.fileno()):  # noqa: ASYNC110 - a lock file tells nobody when it is free
                    await asyncio.sleep(_LOCK_POLL_SECONDS)
        except TimeoutError as error:
            what = f"another driver has held {path} for {patience_seconds:g} s"
            raise HostUnreachable(what, host=host, instance=instance, mend="try again, or end that process") from error
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
