"""``python -m interlock.bench``: see ``--help``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from interlock.bench.device import flushes, preloaded
from interlock.bench.report import Measured, as_json, as_text, say
from interlock.definition.duration import duration_text, seconds


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(prog="interlock bench", description=__doc__)
    made.add_argument("--directory", type=Path, help="on the device to measure (default: a temporary one)")
    made.add_argument(
        "--flush",
        type=seconds,
        default=0.0,
        metavar="1ms",
        help="make every flush last at least so long: a steady device",
    )
    made.add_argument(
        "--scale", type=float, default=1.0, help="multiply the number of operations (default 1: about two minutes)"
    )
    made.add_argument("--orphans", type=int, default=10_000, help="operations to orphan by kill -9; 0 leaves that out")
    made.add_argument("--turns", type=int, default=101_000, help="steps of the long operation; 0 leaves that out")
    made.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["guard"]:
        from interlock.bench.guard import main as bench_guard

        return bench_guard(words[1:])
    if words[:1] == ["moves"]:
        from interlock.bench.moves import main as bench_moves

        return bench_moves(words[1:])
    options = parser().parse_args(words)
    with tempfile.TemporaryDirectory(prefix="interlock-bench-", dir=options.directory) as made:
        directory = Path(made)
        if flushes() is None:
            status = preloaded(words, directory, options.flush)
            if status is not None:
                return status
            if options.flush:
                print("no C compiler: a steady device cannot be made here; leave --flush out", file=sys.stderr)
                return 2
        measured = measure(directory, options.flush, options.scale, options.orphans, options.turns)
    print(json.dumps(as_json(measured)) if options.json else as_text(measured))
    return 0


def measure(directory: Path, flush_seconds: float, scale: float, orphan_count: int, turns: int) -> Measured:
    """Run all parts one after the other on one device."""
    from interlock.bench.engine import flat, in_flight, orphans
    from interlock.bench.raw import raw_limit

    device = f"every flush lasts at least {duration_text(flush_seconds)}" if flush_seconds else "as it is"
    runs = []
    raw = []
    for concurrent, operations in ((1, 200), (50, 5_000), (500, 10_000)):
        say(f"{concurrent} in flight")
        raw.append(raw_limit(directory, concurrent, max(0.2, 2.0 * scale)))
        runs.append(in_flight(directory, concurrent, max(concurrent, round(operations * scale))))
    say("one long operation")
    long = flat(directory, turns) if turns else None
    say(f"{orphan_count:,} orphans")
    left = orphans(directory, orphan_count) if orphan_count else None
    return Measured(device, raw, runs, long, left)


if __name__ == "__main__":
    sys.exit(main())
