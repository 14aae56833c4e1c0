"""The device under a benchmark: how many flushes it was asked for, and a steady stand-in for one.

A small library is compiled and preloaded into the measuring process. It counts every fsync and fdatasync, and can make each of them last a
fixed time. Without a C compiler the benchmark still runs, and says that flushes were not counted.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

__all__ = ["flushes", "preloaded"]

MARK = "INTERLOCK_BENCH_PRELOADED"


def flushes() -> int | None:
    """Return how often this process has flushed a file so far; None if nobody counts."""
    if os.environ.get(MARK) != "1":
        return None
    counter = ctypes.CDLL(None).steady_calls
    counter.restype = ctypes.c_long
    return int(counter())


def preloaded(arguments: list[str], directory: Path, flush_seconds: float) -> int | None:
    """Run ``python -m interlock.bench`` anew with the library preloaded; return its exit status, or None if that is not possible here.

    Args:
        arguments: its command line.
        directory: where the library may be compiled to.
        flush_seconds: least time of one flush; 0 only counts.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    library = directory / "steady.so"
    source = files("interlock.bench") / "steady.c"
    command = [compiler, "-O2", "-shared", "-fPIC", "-x", "c", str(source), "-o", str(library), "-ldl"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return None
    environment = {**os.environ, MARK: "1", "LD_PRELOAD": str(library), "STEADY_US": str(round(flush_seconds * 1e6))}
    return subprocess.run(
        [sys.executable, "-m", "interlock.bench", *arguments], env=environment, check=False
    ).returncode
