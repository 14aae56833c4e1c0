"""Real QEMU: all that any hypervisor promises, and what only real processes can show: death at any moment, and nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import pytest_asyncio

from interlock.compute.hypervisor import CopyFailed, HostUnreachable, Permit, Phase, RunState, Unsuitable
from interlock.compute.qemu_host import QemuHosts
from interlock.compute.qemu_process import Place, QemuProcess, socket_directory
from interlock.compute.qmp_link import linked
from interlock.compute.records import write_record
from tests.hypervisor_contract import FIRST, RUNS_AT_A, RUNS_AT_B, SLOW, SMALL, VM, A, B, HypervisorContract, Rig

pytestmark = [pytest.mark.qemu, pytest.mark.asyncio]

DRIVER = """
import asyncio, sys
from interlock.compute.hypervisor import Permit
from interlock.compute.qemu_host import QemuHosts

async def drive():
    hosts, permit = QemuHosts(sys.argv[1]), Permit("m1", 1)
    uri = (await hosts.prepare("vm-1", "host-b", permit)).uri
    await hosts.start_copy("vm-1", "host-a", uri, permit, bytes_per_second=int(sys.argv[2]))
    async for progress in hosts.watch("vm-1", "host-a"):
        print(progress.transferred, flush=True)

asyncio.run(drive())
"""

HANGS_UP = """
import socket, sys, time

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
listener.settimeout(0.05)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    try:
        listener.accept()[0].close()
    except TimeoutError:
        pass
"""

OLDER = """#!/bin/sh
left=$#
while [ $left -gt 0 ]; do
    word=$1; shift
    [ "$word" = pc,accel=tcg ] && word=pc-i440fx-6.0,accel=tcg
    set -- "$@" "$word"; left=$((left-1))
done
exec qemu-system-x86_64 "$@"
"""


def qemus_of(directory: Path) -> list[int]:
    """Every QEMU whose command line names the directory, whatever our own records say."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(directory) in arguments and b"qemu-system" in arguments.split(b"\0")[0]:
                found.append(int(entry.name))
    return found


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    hosts = QemuHosts(tmp_path)
    try:
        yield Rig(hosts, lambda: QemuHosts(tmp_path), asyncio.sleep)
    finally:
        await hosts.stop_all()
        assert qemus_of(tmp_path) == []


class TestQemu(HypervisorContract):
    pass


def place(directory: Path, host: str) -> Place:
    return Place(directory, socket_directory(directory), host, VM)


def living(directory: Path, host: str) -> QemuProcess:
    process = place(directory, host).living()
    assert process is not None
    assert process.pid is not None
    return process


@contextlib.asynccontextmanager
async def another_process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", *command, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def a_driver_of_its_own(directory: Path, rate: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that drives a migration, from when its copy is under way."""
    async with another_process(DRIVER, str(directory), str(rate)) as driver:
        assert driver.stdout is not None
        while not int(await driver.stdout.readline()):
            pass
        yield driver


async def test_the_driver_is_killed_and_another_process_completes(rig: Rig, tmp_path: Path) -> None:
    await rig.hypervisor.boot(SMALL, A)
    async with a_driver_of_its_own(tmp_path, 4 << 20) as driver:
        driver.kill()
        await driver.wait()
    assert driver.returncode == -signal.SIGKILL
    before = await rig.hypervisor.where(VM)
    assert before == {A: RunState.RUNNING, B: RunState.INCOMING}
    second = Permit("m1", 2)
    processes = [living(tmp_path, host).pid for host in (A, B)]
    uri = (await rig.hypervisor.prepare(VM, B, second)).uri
    assert await rig.hypervisor.start_copy(VM, A, uri, second) is Phase.COPYING
    seen = await rig.watched()
    assert seen[0].transferred > 0
    assert [living(tmp_path, host).pid for host in (A, B)] == processes
    await rig.hypervisor.switch_over(VM, A, B, second)
    await rig.hypervisor.remove_source(VM, A, B, second)
    assert await rig.hypervisor.where(VM) == RUNS_AT_B
    assert qemus_of(tmp_path) == [processes[1]]
    await rig.lives_on()


async def test_a_stopped_driver_holds_up_nobody(rig: Rig, tmp_path: Path) -> None:
    await rig.hypervisor.boot(SMALL, A)
    async with a_driver_of_its_own(tmp_path, 3 << 20) as driver:
        driver.send_signal(signal.SIGSTOP)
        assert (await rig.watched())[-1].phase is Phase.READY
        await rig.hypervisor.cancel_copy(VM, A, Permit("m1", 2))
        assert await rig.hypervisor.tear_down(VM, B, Permit("m1", 2))
    assert await rig.hypervisor.where(VM) == RUNS_AT_A
    await rig.lives_on()


async def test_nothing_is_left_after_a_failed_copy(rig: Rig, tmp_path: Path) -> None:
    await rig.copying()
    await rig.hypervisor.kill(VM, B)
    await rig.hypervisor.tear_down(VM, B, FIRST)
    assert qemus_of(tmp_path) == [living(tmp_path, A).pid]
    left = {path.name for path in place(tmp_path, B).directory.iterdir()}
    assert left == {"lock", "fence.json", "console-1.log", "qemu-1.log"}
    assert len(list(socket_directory(tmp_path).iterdir())) == 2
    await rig.lives_on()


async def test_a_process_started_just_before_the_driver_died_is_found(rig: Rig, tmp_path: Path) -> None:
    await rig.hypervisor.boot(SMALL, A)
    incoming = await rig.hypervisor.prepare(VM, B, FIRST)
    known = living(tmp_path, B)
    forgotten = replace(known, pid=None, started=None, uri=None)
    write_record(place(tmp_path, B).directory / "qemu.json", asdict(forgotten))
    other = rig.reopen()
    assert (await other.where(VM))[B] is RunState.INCOMING
    assert await other.prepare(VM, B, Permit("m1", 2)) == incoming
    assert living(tmp_path, B).pid == known.pid
    assert await other.tear_down(VM, B, Permit("m1", 2))
    assert known.pid not in qemus_of(tmp_path)


async def test_a_pid_that_was_given_to_another_process_is_left_alone(rig: Rig, tmp_path: Path) -> None:
    async with another_process("import time; time.sleep(60)") as bystander:
        await rig.hypervisor.boot(SMALL, A)
        await rig.hypervisor.prepare(VM, B, FIRST)
        known = living(tmp_path, B)
        await rig.hypervisor.kill(VM, B)
        write_record(place(tmp_path, B).directory / "qemu.json", asdict(replace(known, pid=bystander.pid)))
        assert await rig.hypervisor.where(VM) == RUNS_AT_A
        assert await rig.hypervisor.kill(VM, B) is False
        assert await rig.hypervisor.tear_down(VM, B, FIRST)
        assert bystander.returncode is None


async def test_a_silent_destination_is_torn_down_while_the_guest_runs(rig: Rig, tmp_path: Path) -> None:
    impatient = QemuHosts(tmp_path, patience_seconds=0.5)
    await rig.hypervisor.boot(SMALL, A)
    await rig.hypervisor.prepare(VM, B, FIRST)
    pid = living(tmp_path, B).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(HostUnreachable, match="is silent"):
        await impatient.where(VM)
    assert await impatient.tear_down(VM, B, FIRST)
    assert await rig.hypervisor.where(VM) == RUNS_AT_A
    assert pid not in qemus_of(tmp_path)


async def test_another_driver_in_the_middle_of_something_is_named(rig: Rig, tmp_path: Path) -> None:
    impatient = QemuHosts(tmp_path, patience_seconds=0.2)
    await rig.hypervisor.boot(SMALL, A)
    locker = "import fcntl,sys,time; f=open(sys.argv[1],'a'); fcntl.flock(f,fcntl.LOCK_EX); print('held',flush=True); time.sleep(60)"
    async with another_process(locker, str(place(tmp_path, A).lock)) as other:
        assert other.stdout is not None
        await other.stdout.readline()
        with pytest.raises(HostUnreachable, match="another driver has held"):
            await impatient.cancel_copy(VM, A, FIRST)
    await impatient.cancel_copy(VM, A, FIRST)


async def test_a_raw_disk_moves_too_and_a_disk_is_sound_afterwards(rig: Rig, tmp_path: Path) -> None:
    raw = replace(SMALL, instance="vm-raw", disk="raw")
    await rig.hypervisor.boot(raw, A)
    await rig.hypervisor.start_copy("vm-raw", A, (await rig.hypervisor.prepare("vm-raw", B, FIRST)).uri, FIRST)
    async for _ in rig.hypervisor.watch("vm-raw", A):
        pass
    await rig.hypervisor.switch_over("vm-raw", A, B, FIRST)
    assert (await rig.hypervisor.where("vm-raw"))[B] is RunState.RUNNING
    await rig.moved()
    await rig.lives_on()
    await rig.hypervisor.stop_all()
    image = tmp_path / "guests" / f"{VM}.qcow2"
    check = await asyncio.create_subprocess_exec("qemu-img", "check", str(image), stdout=asyncio.subprocess.DEVNULL)
    assert await check.wait() == 0


async def test_a_directory_too_deep_for_sockets(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    hosts = QemuHosts(deep)
    try:
        assert not socket_directory(deep).is_relative_to(tmp_path)
        await hosts.boot(SMALL, A)
        assert await hosts.where(VM) == RUNS_AT_A
    finally:
        sockets = socket_directory(deep)
        assert await hosts.stop_all() == 1
    assert not sockets.exists()
    assert qemus_of(deep) == []


async def test_qemu_missing_or_refusing_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unsuitable, match=r"cannot run no-such-qemu.*install qemu-system-x86"):
        await QemuHosts(tmp_path, binary="no-such-qemu").boot(SMALL, A)
    false = shutil.which("false")
    assert false is not None
    with pytest.raises(Unsuitable, match="QEMU did not start"):
        await QemuHosts(tmp_path, binary=false).boot(SMALL, A)
    hosts = QemuHosts(tmp_path)
    assert await hosts.where(VM) == {}
    (tmp_path / "guests" / f"{VM}.qcow2").write_bytes(b"not an image")
    with pytest.raises(Unsuitable, match="Image is not in qcow2 format"):
        await hosts.boot(SMALL, A)
    assert qemus_of(tmp_path) == []


async def test_copies_at_the_rate_it_is_given(rig: Rig) -> None:
    await rig.copying(rate=SLOW)
    begun = asyncio.get_running_loop().time()
    seen: list[int] = []
    async with contextlib.aclosing(rig.hypervisor.watch(VM, A)) as watch:
        async for progress in watch:
            seen.append(progress.transferred)
            if len(seen) == 6:
                break
    seconds = asyncio.get_running_loop().time() - begun
    assert (seen[-1] - seen[0]) / seconds < 2 * SLOW
    assert seen == sorted(seen)


async def test_a_link_that_breaks_while_a_guest_is_pulled_is_mended(rig: Rig, tmp_path: Path) -> None:
    await rig.pulling()
    async with linked(living(tmp_path, A).observer, 5) as link:
        await link.ask("migrate-pause")
        while (await link.ask("query-migrate"))["status"] != "postcopy-paused":
            await asyncio.sleep(0.02)
    assert await rig.hypervisor.where(VM) == {A: RunState.FEEDING, B: RunState.RUNNING}
    second = Permit("m1", 2)
    assert (await rig.pulled(second, rig.reopen()))[-1].phase is Phase.COMPLETED
    await rig.hypervisor.remove_source(VM, A, B, second)
    await rig.lives_on()


async def test_memory_may_take_longer_than_an_answer(rig: Rig, tmp_path: Path) -> None:
    """What bounds a wait for an answer does not bound a pull."""
    impatient = QemuHosts(tmp_path, patience_seconds=1)
    await rig.pulling()
    begun = asyncio.get_running_loop().time()
    assert (await rig.pulled(Permit("m1", 2), impatient))[-1].phase is Phase.COMPLETED
    assert asyncio.get_running_loop().time() - begun > 1
    await rig.hypervisor.remove_source(VM, A, B, Permit("m1", 2))
    await rig.lives_on()


async def test_a_qemu_of_another_version_does_not_take_the_guest_and_says_why(rig: Rig, tmp_path: Path) -> None:
    """The other host's QEMU has an older machine: what it says is told where the copy was started."""
    older = tmp_path / "older-qemu"
    older.write_text(OLDER)
    older.chmod(0o700)
    elsewhere = QemuHosts(tmp_path, binary=str(older))
    await rig.hypervisor.boot(SMALL, A)
    await rig.hypervisor.start_copy(VM, A, (await elsewhere.prepare(VM, B, FIRST)).uri, FIRST)
    with pytest.raises(CopyFailed, match=r"host-b said: .*Machine type received is 'pc-.*the guest still runs here"):
        await rig.watched()
    assert await elsewhere.tear_down(VM, B, FIRST)
    assert await rig.hypervisor.where(VM) == RUNS_AT_A
    await rig.lives_on()


@pytest.mark.parametrize(("seconds", "ends"), [(0.5, True), (60, False)])
async def test_a_process_that_hangs_up_is_gone_only_if_it_ends(tmp_path: Path, seconds: float, ends: bool) -> None:
    """A QEMU that dies closes its connections first: seen when the source of a copy is killed, and the destination gives up."""
    hosts = QemuHosts(tmp_path)
    place = Place(tmp_path, socket_directory(tmp_path), A, VM)
    place.directory.mkdir(parents=True)
    process = place.fresh(None)
    script = tmp_path / "hangs_up.py"
    script.write_text(HANGS_UP)
    pid = os.posix_spawn(sys.executable, [sys.executable, str(script), process.driver, str(seconds)], os.environ)
    try:
        while not Path(process.driver).exists():
            await asyncio.sleep(0.01)
        place.save(replace(process, pid=pid, started=int(Path(f"/proc/{pid}/stat").read_text().split()[21])))
        if ends:
            assert await hosts.where(VM) == {}
        else:
            with pytest.raises(HostUnreachable, match=rf"host-a.*\(pid {pid}\) is silent.*try again"):
                await hosts.where(VM)
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
