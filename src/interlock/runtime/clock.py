"""Where the runtime gets what differs from run to run: the time, new names, and who is alive on this machine.

All of it is given to the runtime from outside, so that a simulator can run the same code on a clock of its own.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from functools import cache
from pathlib import Path
from typing import Protocol

__all__ = ["Clock", "SystemClock", "is_gone", "new_id", "process_identity", "session_name"]

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


def new_id() -> str:
    """Return a new operation id: 18 letters and digits that sort by the time of their making."""
    number = (int(time.time() * 1000) << 40) | secrets.randbits(40)
    text = ""
    while number:
        number, digit = divmod(number, 32)
        text = _DIGITS[digit] + text
    return text.rjust(18, "0")


def session_name() -> str:
    """Return a name that no other worker ever had: ``host-pid-random``."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def process_identity(pid: int | None = None) -> str:
    """Return what tells a process from every other of this machine: ``boot.namespace/pid/start``; ``""`` where /proc does not say.

    The start time is in it because process numbers are used again, the boot because they begin anew, and the namespace of process numbers
    because containers on one machine see different ones.
    """
    number = os.getpid() if pid is None else pid
    place = _place()
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    if not place or fields[0] in "ZX":
        return ""
    return f"{place}/{number}/{fields[19]}"


@cache
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").readlink()).partition("[")[2].rstrip("]")
    except OSError:
        return ""
    return f"{boot}.{space}"


def is_gone(identity: str) -> bool:
    """Return True only if the process is known to have ended: it was one of this machine, and it is not there any more.

    >>> is_gone(process_identity()), is_gone("")
    (False, False)
    """
    place, _, rest = identity.partition("/")
    pid, _, _ = rest.partition("/")
    if not pid.isdecimal() or place != _place():
        return False
    return process_identity(int(pid)) != identity
