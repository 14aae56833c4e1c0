"""``interlock bench guard``: the cost of a guarded assignment, next to its floor and to the peers that are installed.

Every subject moves a record there and back between two states in a process of its own, in rounds, so that a neighbour's load falls on all;
the best round counts. Speed is moves per second of CPU time, size is bytes of one object over a bare one, import is milliseconds over the
bare interpreter, compiled before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from interlock.bench.peers import SUBJECTS

__all__ = ["Figures", "main", "report"]


@dataclass(frozen=True)
class Figures:
    """What one subject reached: moves per CPU second, bytes per object over a bare one, import in milliseconds and third-party modules."""

    subject: str
    moves_per_second: float
    bytes_per_object: float | None
    import_milliseconds: float
    third_party: tuple[str, ...]


_PROBE = """
import json, sys, time
sys.path[:0] = json.loads(sys.argv[3])
from interlock.bench.peers import measure
print(json.dumps(measure(sys.argv[1], float(sys.argv[2]))))
"""
_IMPORT = """
import sys, time
before, began = set(sys.modules), time.perf_counter()
import {module}
print((time.perf_counter() - began) * 1e3)
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)))
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(prog="interlock bench guard", description=__doc__)
    made.add_argument("--seconds", type=float, default=0.5, help="how long each subject moves in a round (default 0.5)")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    return made


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    options = parser().parse_args(list(arguments))
    best: dict[str, Figures] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as cache:
        for subject in [*SUBJECTS] * options.rounds:
            if subject in missing:
                continue
            found = _measured(subject, options.seconds, cache)
            if isinstance(found, str):
                missing[subject] = found
            elif subject not in best or found.moves_per_second > best[subject].moves_per_second:
                best[subject] = found
    if options.json:
        print(json.dumps({"subjects": [asdict(one) for one in best.values()], "missing": missing}))
    else:
        print(report(best, missing))
    return 0


def _measured(subject: str, seconds: float, cache: str) -> Figures | str:
    """Return a subject's figures, or what is missing."""
    command = [sys.executable, "-c", _PROBE, subject, str(seconds), json.dumps([path for path in sys.path if path])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it did not run"])[-1]
    moves, size = json.loads(done.stdout)
    took, third = _imported(SUBJECTS[subject], cache)
    return Figures(subject, moves, size, took, third)


def _imported(module: str, cache: str) -> tuple[float, tuple[str, ...]]:
    """Return how long importing takes in a fresh interpreter, compiled before, and which third-party packages come with it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command, times, third = [sys.executable, "-c", _IMPORT.format(module=module)], [], ""
    for _ in range(4):
        done = subprocess.run(
            command,
            env={**environment, "PYTHONPYCACHEPREFIX": cache},
            capture_output=True,
            text=True,
            check=True,
        )
        took, third = done.stdout.split("\n")[:2]
        times.append(float(took))
    return min(times[1:]), tuple(name for name in third.split() if name != "interlock" and not name.startswith("_"))


def report(best: dict[str, Figures], missing: dict[str, str]) -> str:
    """Return the figures as a table for people, with the targets."""
    ours, floor = best["interlock Guard"], best["floor"]
    lines = ["  subject                   moves/s   Guard is x faster   bytes/object   import ms   third party"]
    for one in best.values():
        size = "-" if one.bytes_per_object is None else f"{one.bytes_per_object:.0f}"
        times = f"{ours.moves_per_second / one.moves_per_second:.1f}"
        third = ", ".join(one.third_party[:3]) + (", ..." if len(one.third_party) > 3 else "")
        lines.append(
            f"  {one.subject:<22} {one.moves_per_second:>10,.0f}   {times:>17}   {size:>12}   {one.import_milliseconds:>9.0f}"
            f"   {third or 'none'}"
        )
    lines += [f"  {subject:<22} not measured: {why}" for subject, why in missing.items()]
    verdicts = [("at least 2,000,000 guarded assignments a second of CPU", ours.moves_per_second >= 2e6)]
    for peer, least in (("automaton", 2), ("transitions", 20), ("django-fsm", 10)):
        if peer in best:
            faster = ours.moves_per_second / best[peer].moves_per_second
            verdicts.append((f"{least} times as fast as {peer}", faster >= least))
    assert ours.bytes_per_object is not None
    verdicts.append(("at most 200 bytes an object over a bare one", ours.bytes_per_object <= 200))
    verdicts.append(("the standard library alone, imported in under 50 ms", _light(ours)))
    share = ours.moves_per_second / floor.moves_per_second
    lines += [
        "",
        f"the floor is a method, a dictionary look-up and an attribute set; Guard reaches {share:.0%} of it",
        "",
    ]
    return "\n".join([*lines, "targets:"] + [f"  {'met   ' if met else 'MISSED'}  {what}" for what, met in verdicts])


def _light(one: Figures) -> bool:
    return not one.third_party and one.import_milliseconds < 50
