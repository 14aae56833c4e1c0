"""The status of every operation, declared as a machine: the engine's own view, the same for all machines.

>>> STATUS.allows("queued", "running"), STATUS.allows("succeeded", "running")
(True, False)
"""

from __future__ import annotations

from typing import Any

from interlock.definition.declare import Final, State
from interlock.definition.machine import Machine

__all__ = ["STATUS", "OperationStatus"]

_ENDS = ("succeeded", "failed", "cancelled")


class OperationStatus(Machine[Any], version=1, name="status"):
    """What an operation is doing, as the engine sees it."""

    queued = State(
        initial=True,
        description="waits for a worker or a retry's time: nothing of the current step has begun",
        to=["running", "waiting", "paused", "reverting", "stuck", *_ENDS],
    )
    running = State(
        initial=True,
        description="an attempt is issued, under a lease",
        to=["queued", "waiting", "paused", "reverting", "stuck", *_ENDS],
    )
    waiting = State(
        initial=True,
        description="for an event, a timer or children",
        to=["queued", "running", "paused", "reverting", "stuck", *_ENDS],
    )
    paused = State(
        initial=True,
        description="a person or a breakpoint holds it: nothing more is started",
        to=["queued", "running", "waiting", "reverting", "stuck", *_ENDS],
    )
    reverting = State(
        description="steps are being undone", to=["queued", "running", "waiting", "paused", "stuck", *_ENDS]
    )
    stuck = State(
        description="needs a person",
        to=["queued", "running", "waiting", "paused", "reverting", *_ENDS],
    )
    succeeded = Final("succeeded")
    failed = Final("failed", description="every step that had started was undone")
    cancelled = Final("cancelled", description="every step that had started was undone")


STATUS = OperationStatus.definition
