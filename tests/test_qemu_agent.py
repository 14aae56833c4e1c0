"""Host agents: three of them on one machine, as processes; one is killed and comes back, one host is drained, one is begun twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from interlock import Interlock, Refused
from interlock.compute.boot import Boot
from interlock.compute.host_drain import HostDrain
from interlock.compute.hypervisor import RunState
from interlock.compute.qemu import actions_in, cluster, owned_hosts
from interlock.compute.qemu_fleet import QemuFleet
from tests.moving import A, B, C, says
from tests.test_docs import ROOT, blocks, run_commands
from tests.test_qemu_host import qemus_of

SMALL: dict[str, Any] = {"memory_mib": 32, "filled_mib": 8, "dirtied_pages": 4}


class Agents:
    """The agents of a cluster in a directory, by host."""

    def __init__(self, directory: Path) -> None:
        self.guests, self.store = directory / "guests", f"sqlite:///{directory / 'ops.db'}"
        self.log = directory / "agents.log"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def words(self, host: str) -> list[str]:
        words = [sys.executable, "-m", "interlock.cli", "worker", "--actions", "interlock.compute.qemu"]
        words += ["--state-dir", str(self.guests), "--queue", f"host:{host}", "--queue", ""]
        return [*words, "--store", self.store, "--lease-seconds", "3"]

    def begin(self, host: str) -> None:
        with self.log.open("ab") as log:
            self.processes[host] = subprocess.Popen(self.words(host), env={**os.environ}, stdout=log, stderr=log)

    def kill(self, host: str) -> None:
        process = self.processes.pop(host)
        process.send_signal(signal.SIGKILL)
        process.wait(10)


@pytest_asyncio.fixture
async def agents(tmp_path: Path) -> AsyncIterator[Agents]:
    made = Agents(tmp_path)
    try:
        yield made
    finally:
        for host in [*made.processes]:
            made.kill(host)
        await QemuFleet(made.guests, (A, B, C)).stop_all()
        assert qemus_of(made.guests) == []


@pytest.mark.qemu
@pytest.mark.slow
async def test_a_host_is_drained_by_agents_of_which_one_is_killed(agents: Agents) -> None:
    for host in (A, B, C):
        agents.begin(host)
    async with asyncio.timeout(30):
        while set(cluster(agents.guests)) != {A, B, C}:  # each agent names its host when it begins
            await asyncio.sleep(0.02)
    fleet = QemuFleet(agents.guests, (A, B, C))
    async with Interlock(agents.store, machines=[Boot, HostDrain]) as interlock:
        boots = [
            await interlock.start(Boot, instance=f"vm-{number}", host=A, storage=storage, **SMALL)
            for number, storage in enumerate(["shared", "local", "shared"])
        ]
        assert {(await boot.finished(90)).status for boot in boots} == {"succeeded"}
        before = {boot.id: await says(fleet, A, vm=f"vm-{number}") for number, boot in enumerate(boots)}
        agents.kill(A)
        assert len(qemus_of(agents.guests)) == 3, "its guests go on without it"
        drain = await interlock.start(HostDrain, host=A)
        agents.begin(A)
        assert (await drain.finished(150)).status == "succeeded"
        for number, boot in enumerate(boots):
            ((host, state),) = (await fleet.where(f"vm-{number}")).items()
            assert host in (B, C) and state == RunState.RUNNING, "alive exactly once, and elsewhere"
            then = before[boot.id]
            line = await says(fleet, host, lambda one, least=then.counter: one.counter > least, vm=f"vm-{number}")  # type: ignore[misc]  # bound now
            assert line.nonce == then.nonce and not line.errors, (
                "it was never restarted, and its counter never went back"
            )
        assert await fleet.guests_on(A) == []
        owned = [path.parent.parent.name for path in agents.guests.glob("hosts/*/vm-1/disk.qcow2*")]
        assert owned == [*(await fleet.where("vm-1"))], "the disk that is a host's own went along, and none is left"


@pytest.mark.qemu
@pytest.mark.slow
async def test_the_page_on_moving_guests_holds(agents: Agents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands are run in order, over three agents; what it says of their output is there, and so is every exit status."""
    page = (ROOT / "docs" / "how-to" / "move-guests.md").read_text()
    for host in (A, B, C):
        agents.begin(host)
        begun = " ".join(agents.words(host)[3:]).replace(str(agents.guests), "/srv/guests").partition(" --store ")[0]
        assert begun.removesuffix(" ") + ' "" &' in page, "the page begins agents as it is done here"
    async with asyncio.timeout(30):
        while set(cluster(agents.guests)) != {A, B, C}:
            await asyncio.sleep(0.02)
    monkeypatch.setenv("INTERLOCK_STORE", agents.store)
    monkeypatch.chdir(tmp_path)
    consoles = [block for block in blocks(page) if block.language == "console"]
    assert len(consoles) == 7
    for block in consoles:
        await asyncio.to_thread(run_commands, block, f"move-guests.md:{block.line}")


@pytest.mark.qemu
async def test_a_second_agent_of_a_host_is_refused(agents: Agents) -> None:
    agents.begin(A)
    async with asyncio.timeout(30):
        while A not in cluster(agents.guests):
            await asyncio.sleep(0.02)
    done = subprocess.run(agents.words(A), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and f"host `{A}` has an agent already" in done.stderr
    assert agents.processes[A].poll() is None, "the first goes on"


def test_what_cannot_be_an_agent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="holds no cluster"):
        actions_in(tmp_path)
    with owned_hosts(tmp_path, ["", "host:host-a"]) as mine, owned_hosts(tmp_path, ["host:host-b"]):
        assert mine == ["host-a"] and cluster(tmp_path) == ("host-a", "host-b")
        with pytest.raises(Refused, match="has an agent already"), owned_hosts(tmp_path, ["host:host-b"]):
            pass
    with owned_hosts(tmp_path, ["host:host-b"]):
        assert cluster(tmp_path) == ("host-a", "host-b"), "the name is free again, the cluster is as it was"
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(Refused, match="does not name hosts"):
        cluster(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="install QEMU"):
        actions_in(tmp_path)
