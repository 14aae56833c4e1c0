"""Real QEMU with the verbs of every move: all that any fleet promises."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from interlock.compute.fleet import DiskFull
from interlock.compute.qemu_fleet import QemuFleet
from tests.fleet_contract import FIRST, SMALL, VM, A, B, C, FleetContract, Yard, overwrite
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


@pytest.fixture
def small_storage(tmp_path: Path) -> Iterator[None]:
    """Room for 256 KiB of images."""
    images = tmp_path / "images"
    images.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=256k", "none", images], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", images], check=True)


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.usefixtures("small_storage")
async def test_a_full_storage_is_said_and_the_guest_goes_on(yard: Yard, tmp_path: Path, runs: bool) -> None:
    fleet = yard.fleet
    await fleet.boot(SMALL, A)
    if not runs:
        await fleet.stop(VM, A, FIRST)
    # Something that takes room: an image of zeros would not.
    disk = tmp_path / "guests" / f"{VM}.qcow2"
    if not runs:
        noise = tmp_path / "noise.raw"
        noise.write_bytes(os.urandom(1 << 20))
        subprocess.run(["qemu-img", "convert", "-n", "-O", "qcow2", noise, disk], check=True)
    else:
        (tmp_path / "images" / "ballast").write_bytes(bytes(200 << 10))
    with pytest.raises(DiskFull, match="No space left"):
        await fleet.capture(VM, A, "golden", FIRST)
    await fleet.discard(VM, A, "golden", FIRST, mine=True)
    assert await fleet.images() == {} and not list((tmp_path / "images").glob("golden*"))
    if runs:
        await yard.lines()
