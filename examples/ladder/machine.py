"""What the service does, written down.

`interlock mine` proposed the states and edges; a person named the ends, the point of no return and what can be undone.
"""

from __future__ import annotations

from dataclasses import dataclass

from interlock import Final, Machine, Retry, State


@dataclass
class Volume:
    volume: str
    size: int
    before: int | None = None


class Resizing(Machine[Volume], version=1):
    """Give a volume another size."""

    requested = State(initial=True, undo="nothing", timeout="1m", then="growing")
    growing = State(status="growing disk", undo=True, retry=Retry(3, delay="10ms"), timeout="1m", then="remounting")
    remounting = State(pivot=True, retry=Retry.forever(delay="10ms"), timeout="1m", then="done_")
    done_ = Final("succeeded", status="done")
    failed = Final("failed", status="error")
    cancelled = Final("cancelled")
