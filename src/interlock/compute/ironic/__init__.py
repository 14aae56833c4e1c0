"""The machine of OpenStack Ironic as it is, holes included: the provision states of a bare-metal node.

Nothing in it is performed. It is a document beside this module, read when it is first asked for. The facts are Ironic's at commit 7bc6aba
(2026-08-20).

>>> from interlock.compute import ironic
>>> ironic.provision.view("inspect_wait", "1.2"), ironic.provision.view("inspect_wait", "1.39")
('inspecting', 'inspect wait')
"""

from __future__ import annotations

from interlock.compute import shipped
from interlock.definition.machine import Definition

__all__ = ["provision"]

provision: Definition


def __getattr__(name: str) -> Definition:
    return shipped.machine(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
