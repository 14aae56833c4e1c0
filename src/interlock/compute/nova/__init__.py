"""The machines of OpenStack Nova as they are, holes included: what its code writes into the status columns of its two tables.

Nothing in them is performed. They are documents beside this module, read when they are first asked for, and made to be drawn, checked,
held against a history, and attached as guards. The facts are Nova's at commit 00a0304 (2026-08-21).

>>> from interlock.compute import nova
>>> nova.live_migration.allows("running", "completed"), nova.live_migration.allows("completed", "running")
(True, False)
"""

from __future__ import annotations

from interlock.compute import shipped
from interlock.definition.machine import Definition

__all__ = ["cold_migration", "evacuation", "instance_task", "instance_vm", "live_migration", "resize"]

cold_migration: Definition
evacuation: Definition
instance_task: Definition
instance_vm: Definition
live_migration: Definition
resize: Definition


def __getattr__(name: str) -> Definition:
    return shipped.machine(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
