"""The tiny guest whose life can be proved: its boot image, and what its serial console says.

The guest is 1024 bytes of real-mode code. It prints one line for every tick of its BIOS clock (18.2 a second)::

    B<boot nonce> N<counter> E<memory errors> D<disk life> M<RAM in MiB> C<CPUs>

all in eight hexadecimal digits. The nonce is read from the time-stamp counter at boot, so a restart shows. The counter
grows by exactly one. Memory errors are pages whose content is not what the guest wrote before it was moved. Disk life
is a counter that it keeps on its own disk, so a lost or foreign disk shows.

What the guest says is all the evidence there is: `prove` reads the consoles of every process that ever held it and
says whether it was one life, without a break. Everything here is pure except `write_disk`.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "DISK_BYTES",
    "PAGE_BYTES",
    "TICKS_PER_SECOND",
    "Line",
    "Proof",
    "Reading",
    "boot_code",
    "prove",
    "read",
    "render",
    "write_disk",
]

PAGE_BYTES = 4096
DISK_BYTES = 1 << 20
TICKS_PER_SECOND = 18.2

_SHA256 = "00216b89f24b1bb2b504b00eca83595ac7b561acb8e80fe56339b072b4376704"
_CODE = (
    "eNrtUjFoE1EY/i93iUFqL1joItQoBddkLDpIqoOCRYeCm5O/FIqDJk5/JE5eDAQRcT/iIJLhDRmu15BeSaBdiuJioUPFxVfvvDiEEBJe43+J"
    "KLg6uPjz3uP73/u/933v5w2zXnW/6lXfN4FG1vwuOVpsIwaZ/iY83ps7OtRSoAGUAJIwjWdc0zpHGW9vbjTEm6Y2/5rMtDejmec9HzaTUPUX"
    "jyc4e1D18faoLc9AKwm43Tas/UXTyFxaehQzLsg4rBS+irTVcZUevEnnR9Ynd6CHbXz+UwnGY15evAMTXhLA7/3/8ZeRmgyO1bfuSBelkBsv"
    "tDCX8cIo10M3lnBA65pZrNXJTcUdHbq5IMDsQWC1A2sHt30DywseXXfifIJZL8Bahxo5eajQhhLWmoRbkQradcLKbK949x6WT+BlfLITaeO1"
    "QojjhCAXEt/6HS2f4Yw5Ns8alBrL8pUSt7CyIEi2lDglPypxUn5QrsHG0t2er/pMNgun/6TdUSLHtDrJp0qsTC8oKnGVUYPkQyWuMGqSXFPi"
    "BiOPIsYyow7J1UjofiS0pnArGbmvzA6KaAuauv/l/fsGxNB2CMvcii8z0cGkmnVRa3Px0tl8nK01iF98MdErPtC5R1hz6PMu2utGjzfXjfzg"
    "aHj8j7/CDy15ASY="
)
_FILL_AT, _DIRTY_AT = 500, 504
_LINE = re.compile(r"B([0-9a-f]{8}) N([0-9a-f]{8}) E([0-9a-f]{8}) D([0-9a-f]{8}) M([0-9a-f]{8}) C([0-9a-f]{8}) ?$")
_POWERED_OFF = re.compile(r"Q([0-9a-f]{8}) ?$")


class Line(NamedTuple):
    """One tick of the guest's life, as it printed it."""

    nonce: int
    counter: int
    errors: int
    disk: int
    ram: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What one console says: its whole lines in order, what was cut off at its end, and how many lines made no sense.

    ``powered_off`` is the counter at which the guest switched itself off, or None.
    """

    lines: tuple[Line, ...]
    torn: str
    strange: int
    powered_off: int | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What the consoles of a guest say about its life; `faults` is empty when it was one life without a break."""

    lines: int
    first: int
    last: int
    nonces: tuple[int, ...]
    missing: int
    backwards: tuple[tuple[int, int], ...]
    memory_errors: int
    disk_backwards: int
    strange: int

    @property
    def holds(self) -> bool:
        """Whether there is nothing to object to."""
        return not self.faults()

    def faults(self, missing_allowed: int = 0) -> list[str]:
        """Return every objection in words, or an empty list. Up to ``missing_allowed`` lines may be lacking."""
        found: list[str] = []
        if not self.lines:
            found.append("the guest never said anything")
        if len(self.nonces) > 1:
            found.append(
                f"the guest was booted {len(self.nonces)} times: nonces " + ", ".join(f"{n:08x}" for n in self.nonces)
            )
        found += [f"the counter went from {before} to {after}" for before, after in self.backwards[:3]]
        if self.missing > missing_allowed:
            found.append(f"{self.missing} lines are missing between {self.first} and {self.last}")
        if self.memory_errors:
            found.append(f"{self.memory_errors} pages of its memory were not what the guest had written")
        if self.disk_backwards:
            found.append(f"the counter on its disk went back {self.disk_backwards} times")
        return found


def boot_code(filled_pages: int, dirtied_pages: int) -> bytes:
    """Return the guest's 1024 bytes, set to fill and dirty that many pages of 4 KiB.

    ``filled_pages`` are written once, from 1 MiB upwards: what a copy must move. ``dirtied_pages`` of them are written
    again at every tick: what it must move again. Raises ValueError when they are out of range.

    >>> len(boot_code(4096, 16))
    1024
    """
    if not 1 <= filled_pages <= (3 << 30) // PAGE_BYTES:
        raise ValueError(f"filled_pages is {filled_pages}: must be between 1 and {(3 << 30) // PAGE_BYTES}")
    if not 1 <= dirtied_pages <= filled_pages:
        raise ValueError(f"dirtied_pages is {dirtied_pages}: must be between 1 and filled_pages, {filled_pages}")
    code = bytearray(zlib.decompress(base64.b64decode(_CODE)))
    if hashlib.sha256(code).hexdigest() != _SHA256:
        raise ValueError("the guest's code was altered: its sha256 is not the published one; reinstall interlock")
    struct.pack_into("<I", code, _FILL_AT, filled_pages)
    struct.pack_into("<I", code, _DIRTY_AT, dirtied_pages)
    return bytes(code)


def write_disk(path: Path, filled_pages: int, dirtied_pages: int) -> None:
    """Write the guest's disk of 1 MiB as a raw image; `qemu-img convert -O qcow2` makes any other format of it."""
    path.write_bytes(boot_code(filled_pages, dirtied_pages).ljust(DISK_BYTES, b"\0"))


def render(line: Line) -> str:
    r"""Return a line as the guest prints it, with its end of line.

    >>> render(Line(nonce=0xBEEF, counter=7, errors=0, disk=1, ram=128, cpus=1))
    'B0000beef N00000007 E00000000 D00000001 M00000080 C00000001 \r\n'
    """
    return "".join(f"{tag}{value:08x} " for tag, value in zip("BNEDMC", line, strict=True)) + "\r\n"


def read(text: str) -> Reading:
    r"""Read one console. A line cut off at the end is kept apart as ``torn``: the guest had not finished it.

    >>> read(render(Line(1, 7, 0, 0, 128, 1)) + "B00000001 N0000").torn
    'B00000001 N0000'
    >>> read(render(Line(1, 7, 0, 0, 128, 1))).lines[0].counter
    7
    """
    lines: list[Line] = []
    strange, powered_off = 0, None
    *whole, torn = text.replace("\r", "").split("\n")
    if _LINE.fullmatch(torn):
        whole, torn = [*whole, torn], ""
    for raw in whole:
        # Not fullmatch: where a move swallowed the end of one line, the next one follows on the same row.
        if match := _LINE.search(raw):
            lines.append(Line(*(int(digits, 16) for digits in match.groups())))
            strange += match.start() > 0
        elif match := _POWERED_OFF.search(raw):
            powered_off = int(match[1], 16)
        elif raw:
            strange += 1
    return Reading(tuple(lines), torn, strange, powered_off)


def prove(consoles: Sequence[str]) -> Proof:
    """Say what all the consoles of one guest, in any order, tell about its life.

    They are put in the order of their first counters and joined as they are: a guest that is moved in the middle of a
    line prints the rest of it at its new place. Two processes that ran the guest at the same time show as a counter
    that went back.
    """
    started = [(reading.lines[0].counter, text) for text in consoles if (reading := read(text)).lines]
    # Without one whole line a console can only be the youngest: the guest has just arrived there.
    young = [text for text in consoles if not read(text).lines]
    joined = read("".join([text for _, text in sorted(started)] + young))
    lines = joined.lines
    pairs = list(itertools.pairwise(lines))
    return Proof(
        lines=len(lines),
        first=lines[0].counter if lines else 0,
        last=lines[-1].counter if lines else 0,
        nonces=tuple(dict.fromkeys(line.nonce for line in lines)),
        missing=sum(max(after.counter - before.counter - 1, 0) for before, after in pairs),
        backwards=tuple((a.counter, b.counter) for a, b in pairs if b.counter <= a.counter),
        memory_errors=max((line.errors for line in lines), default=0),
        disk_backwards=sum(after.disk < before.disk for before, after in pairs),
        strange=joined.strange,
    )
