"""A short conversation with one QEMU over QMP, with a time limit on every word."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from time import monotonic
from typing import Any, cast

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient, QMPError
from qemu.qmp.qmp_client import NegotiationError

__all__ = ["Link", "LinkLost", "QmpRefusal", "linked"]

# The library logs every peer that is gone as an error; here each of them is an exception that somebody handles.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

_GREETING_SECONDS = 1.0
_PAUSE_SECONDS = 0.05


class LinkLost(Exception):
    """QEMU is gone, or did not answer in time."""


class QmpRefusal(Exception):
    """QEMU answered, and refused; the text is its own."""


class Link:
    """One connection to a QEMU."""

    def __init__(self, client: QMPClient, patience_seconds: float) -> None:
        self._client, self._patience_seconds = client, patience_seconds
        self._migration_events = EventListener(names=("MIGRATION", "STOP", "RESUME"))
        client.register_listener(self._migration_events)

    async def ask(self, command: str, arguments: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Return QEMU's answer to a command. Raises `QmpRefusal` or `LinkLost`."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                return cast(dict[str, Any], await self._client.execute(command, arguments))
        except ExecuteError as error:
            raise QmpRefusal(error.error.error.desc) from error
        except TimeoutError as error:
            raise LinkLost(f"no answer to {command} within {self._patience_seconds:g} s") from error
        except (QMPError, EOFError, OSError) as error:
            raise LinkLost(f"{command}: {str(error) or type(error).__name__}") from error

    async def changed(self, seconds: float) -> None:
        """Return as soon as QEMU tells of a change, at the latest after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._migration_events.get()
        self._migration_events.clear()


async def _connected(path: str) -> QMPClient:
    end = monotonic() + _GREETING_SECONDS
    while True:
        client = QMPClient()
        try:
            await client.connect(path)
        except ConnectError as error:
            # Seen once in hundreds of short connections during a copy, with QEMU alive and well: the next one is greeted.
            # It is also how a QEMU hangs up that is about to end: soon it refuses, or its process is no more.
            if not isinstance(error.exc, NegotiationError) or monotonic() > end:
                raise
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return client


@contextlib.asynccontextmanager
async def linked(path: str, patience_seconds: float) -> AsyncIterator[Link]:
    """Connect to the QMP socket ``path``. Raises `LinkLost`, also while another client keeps the socket to itself."""
    try:
        async with asyncio.timeout(patience_seconds):
            client = await _connected(path)
    except (QMPError, EOFError, OSError, TimeoutError) as error:
        raise LinkLost(
            f"cannot connect to {path} within {patience_seconds:g} s: {str(error) or type(error).__name__}"
        ) from error
    try:
        yield Link(client, patience_seconds)
    finally:
        # A peer that hung up shows here once more; whoever asked it something has been told already.
        with contextlib.suppress(QMPError, EOFError, OSError):
            await client.disconnect()
