"""The benchmark's table: what was measured, next to the device's own limit and to what it should be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interlock.bench.engine import Flat, InFlight, Orphans
from interlock.bench.machines import STEPS
from interlock.bench.raw import RawLimit

__all__ = ["Measured", "as_json", "as_text", "say"]

CPU_LIMIT = 80e-6
BYTES_LIMIT = 700.0


@dataclass(frozen=True)
class Measured:
    """Everything one run measured. ``flush`` describes the device."""

    flush: str
    raw: Sequence[RawLimit]
    in_flight: Sequence[InFlight]
    flat: Flat | None
    orphans: Orphans | None


def as_json(measured: Measured) -> dict[str, Any]:
    """Return the figures as plain data, in seconds and bytes."""
    return asdict(measured)


def as_text(measured: Measured) -> str:
    """Return the figures as a table for people."""
    lines = [
        f"device: {measured.flush}",
        "",
        "raw limit of the same file, WAL, synchronous=FULL: the same statements and rows in a bare loop:",
    ]
    limits = {limit.group: limit.per_second for limit in measured.raw}
    lines += [f"  {limit.group:>5} a transaction  {limit.per_second:>10,.0f} transitions/s" for limit in measured.raw]
    lines += ["", f"operations of {STEPS} durable steps over 240 bytes of data, {STEPS + 1} commits each:"]
    head = "  in flight    steps/s  of the raw limit   p50 ms   p99 ms  CPU us/step  commits/op  flushes/op  bytes/step"
    lines.append(head)
    for run in measured.in_flight:
        transitions = run.steps_per_second * (STEPS + 1) / STEPS
        share = f"{transitions / limits[run.concurrent]:.0%} of {run.concurrent}" if run.concurrent in limits else "-"
        flushed = "not counted" if run.flushes_per_operation is None else f"{run.flushes_per_operation:.2f}"
        lines.append(
            f"  {run.concurrent:>9}  {run.steps_per_second:>9,.0f}  {share:>16}  {run.p50 * 1e3:>7.1f}  {run.p99 * 1e3:>7.1f}"
            f"  {run.cpu_per_step * 1e6:>11.0f}  {run.commits_per_operation:>10.2f}  {flushed:>10}  {run.bytes_per_step:>10.0f}"
        )
    if measured.flat:
        lines += ["", "CPU of one step of one long operation:"]
        lines += [f"  step {place:>7,}  {cost * 1e6:>8.0f} us" for place, cost in measured.flat.per_step.items()]
    if measured.orphans:
        left = measured.orphans
        lines += [
            "",
            f"{left.count:,} operations orphaned by kill -9, in their second step of five, from the launch of the next process:",
        ]
        lines.append(f"  first finished after {left.first:.2f} s, all after {left.all:.2f} s")
    return "\n".join([*lines, "", *_verdicts(measured, limits)])


def _verdicts(measured: Measured, limits: dict[int, float]) -> list[str]:
    verdicts: list[tuple[str, bool]] = []
    for run in measured.in_flight:
        name = f"{run.concurrent} in flight"
        verdicts.append(
            (f"{name}: {STEPS + 1} commits an operation", abs(run.commits_per_operation - STEPS - 1) < 0.01)
        )
        if run.concurrent > 1:
            verdicts.append((f"{name}: under 80 us of CPU a step", run.cpu_per_step < CPU_LIMIT))
            verdicts.append((f"{name}: at most 700 bytes a step", run.bytes_per_step <= BYTES_LIMIT))
        if run.concurrent == 50:
            transitions = run.steps_per_second * (STEPS + 1) / STEPS
            verdicts.append((f"{name}: at least half of the raw grouped limit", transitions >= limits[50] / 2))
            verdicts.append(
                (f"{name}: at least 5,000 steps/s (where a flush takes 1 ms)", run.steps_per_second >= 5000)
            )
    if measured.orphans and measured.orphans.count >= 10_000:
        verdicts.append(("orphans: all finished within 6 s", measured.orphans.all <= 6))
        verdicts.append(("orphans: the first within 0.5 s", measured.orphans.first <= 0.5))
    if measured.flat and len(measured.flat.per_step) > 1:
        costs = list(measured.flat.per_step.values())
        verdicts.append(
            ("one long operation: the last step costs at most 1.5 times the first", costs[-1] <= 1.5 * costs[0])
        )
    return ["targets:"] + [f"  {'met   ' if met else 'MISSED'}  {what}" for what, met in verdicts]


def say(what: str) -> None:
    """Tell a person at a terminal what is being measured."""
    if sys.stderr.isatty():
        print(f"measuring: {what}", file=sys.stderr, flush=True)
