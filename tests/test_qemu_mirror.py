"""Real QEMU with disks that are local to hosts: all that any fleet promises of them, and what only real disks and ports can show."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from interlock.compute import qemu_disks, qemu_mirror
from interlock.compute.fleet import DiskFull
from interlock.compute.qemu_fleet import QemuFleet
from tests.fleet_contract import FIRST, VM, A, B, C, Yard
from tests.local_disks_contract import LOCAL, RUNS_AT_A, LocalDisksContract, mirrored, moved
from tests.test_qemu_host import qemus_of

pytestmark = [pytest.mark.qemu, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    fleet = QemuFleet(tmp_path, (A, B, C))

    async def damage(instance: str) -> None:
        raise NotImplementedError(instance)

    try:
        yield Yard(fleet, asyncio.sleep, damage)
    finally:
        await fleet.stop_all()
        assert qemus_of(tmp_path) == []


class TestQemu(LocalDisksContract):
    pass


def disk(directory: Path, host: str) -> Path:
    return directory / "hosts" / host / VM / "disk.qcow2"


async def test_one_whole_disk_is_left_where_the_guest_is(yard: Yard, tmp_path: Path) -> None:
    await yard.fleet.boot(LOCAL, A)
    await moved(yard, A, B, FIRST)
    await yard.fleet.stop(VM, B, FIRST)
    assert list(tmp_path.rglob("disk.*")) == [disk(tmp_path, B)]
    subprocess.run(["qemu-img", "check", "-q", disk(tmp_path, B)], check=True)


async def test_a_port_that_somebody_takes_in_between_is_not_the_end(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, chosen = qemu_mirror.free_port, list[int]()
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        taken = somebody.getsockname()[1]

        def first_the_taken_one() -> int:
            chosen.append(free() if chosen else taken)
            return chosen[-1]

        monkeypatch.setattr(qemu_mirror, "free_port", first_the_taken_one)
        await yard.fleet.boot(LOCAL, A)
        incoming = await yard.fleet.prepare(VM, B, FIRST)
    assert chosen[0] == taken and incoming.disk == f"127.0.0.1:{chosen[1]}"
    await mirrored(yard.fleet, incoming.disk)


@pytest.fixture
def small_host(tmp_path: Path) -> Iterator[None]:
    """A destination with room for half of a disk."""
    there = disk(tmp_path, B).parent
    there.mkdir(parents=True)
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=768k", "none", str(there)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", there], check=True)


@pytest.mark.usefixtures("small_host")
async def test_a_destination_that_is_full_is_said_and_the_guest_goes_on(yard: Yard, tmp_path: Path) -> None:
    fleet = yard.fleet
    await fleet.make(LOCAL, A, FIRST)
    # Something that takes room: what is zero would not be copied. Its first KiB is the guest's code.
    noise = tmp_path / "noise.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk(tmp_path, A), noise], check=True)
    with noise.open("r+b") as file:
        file.seek(64 << 10)
        file.write(os.urandom((1 << 20) - (64 << 10)))
    subprocess.run(["qemu-img", "convert", "-n", "-O", "qcow2", noise, disk(tmp_path, A)], check=True)
    await fleet.start(LOCAL, A, FIRST)
    incoming = await fleet.prepare(VM, B, FIRST)
    with pytest.raises(
        DiskFull, match="its disk was not copied: No space left on device; make room at the destination"
    ):
        await mirrored(fleet, incoming.disk)
    await fleet.end_mirror(VM, A, FIRST)
    await fleet.tear_down(VM, B, FIRST)
    assert await fleet.where(VM) == RUNS_AT_A and not disk(tmp_path, B).exists()
    await yard.lines()


class Dies(BaseException):
    """Whoever carries a disk is gone."""


def dies_at(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def dies(here: Path, there: Path) -> bool:
        if moment == "named":
            qemu_disks._draft_of(there).replace(there)
        raise Dies

    def dies_with_a_draft(draft: Path) -> None:
        draft.write_bytes(draft.read_bytes()[:1000])
        raise Dies

    if moment == "drafted":
        monkeypatch.setattr(qemu_disks, "_flushed", dies_with_a_draft)
    else:
        monkeypatch.setattr(qemu_disks, "_counts", dies)


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("moment", ["drafted", "left", "named"])
async def test_whoever_carries_a_disk_may_die_at_any_moment(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, back: bool
) -> None:
    """Another one goes on, or brings it back: one whole disk is left, and nothing of the way."""
    fleet = yard.fleet
    await fleet.boot(LOCAL, A)
    await yard.aged(1)
    await fleet.stop(VM, A, FIRST)
    with monkeypatch.context() as patched:
        dies_at(patched, moment)
        with pytest.raises(Dies):
            await fleet.carry(VM, A, B, FIRST)
    await fleet.carry(VM, *((B, A) if back else (A, B)), FIRST)
    there = A if back else B
    assert list(tmp_path.rglob("disk.*")) == [disk(tmp_path, there)]
    await fleet.start(LOCAL, there, FIRST)
    assert (await yard.lines(there))[0].disk >= 1
