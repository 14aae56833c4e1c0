"""Real QEMU with the verbs of every move: all that any fleet promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from interlock.compute.qemu_fleet import QemuFleet
from tests.fleet_contract import A, B, C, FleetContract, Yard, overwrite
from tests.test_qemu_host import qemus_of

pytestmark = [pytest.mark.qemu, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    fleet = QemuFleet(tmp_path, (A, B, C))

    async def damage(instance: str) -> None:
        overwrite(tmp_path, instance)

    try:
        yield Yard(fleet, asyncio.sleep, damage)
    finally:
        await fleet.stop_all()
        assert qemus_of(tmp_path) == []


class TestQemu(FleetContract):
    pass
