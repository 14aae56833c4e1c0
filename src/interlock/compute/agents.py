"""A whole cluster on one machine: the agents of its hosts as processes, for a demonstration or a measurement.

Each is `interlock worker --actions interlock.compute.qemu --queue host:NAME`, and any of them can be killed: its guests go on.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from interlock.compute.hypervisor import checked_name
from interlock.compute.qemu_fleet import QemuFleet
from interlock.errors import Refused

__all__ = ["Agents"]

_POLL_SECONDS = 0.02
_SERVES = "performing "
"""What a worker says first, once it takes what it finds."""


class Agents:
    """The hosts of a cluster and an agent for each, in an ``async with`` block; at its end all agents and all guests are killed.

    Args:
        directory: what the agents share, and what each has to say, in ``HOST.log``.
        store: the URL of the store that they serve.
        hosts: names of the hosts.
        lease_seconds: how long a dead agent is waited for.

    Attributes:
        store, hosts: as given.
        fleet: the hosts, for whoever only looks.
    """

    def __init__(self, directory: Path, store: str, hosts: Sequence[str], *, lease_seconds: float = 3.0) -> None:
        self._directory, self.store, self._lease_seconds = directory, store, lease_seconds
        self.hosts = tuple(checked_name("host", host) for host in hosts)
        self.fleet = QemuFleet(directory, self.hosts)
        self._agents: dict[str, asyncio.subprocess.Process] = {}
        self._said_before: dict[str, int] = {}

    async def __aenter__(self) -> Agents:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in [*self._agents]:
            await self.kill(host)
        await self.fleet.stop_all()

    async def begin(self, host: str) -> int:
        """Begin the agent of a host; return its process id."""
        words = ["worker", "--actions", "interlock.compute.qemu", "--state-dir", str(self._directory)]
        words += ["--queue", f"host:{host}", "--queue", "", "--store", self.store]
        words += ["--lease-seconds", str(self._lease_seconds)]
        with self._log(host).open("ab") as log:
            self._said_before[host] = log.tell()
            self._agents[host] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "interlock.cli", *words, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self._agents[host].pid

    async def begin_all(self, patience_seconds: float = 90.0) -> list[int]:
        """Begin the agent of every host; return their process ids when each serves it.

        Raises:
            Refused: an agent ended, or said nothing for too long; its last words say why.
        """
        pids = [await self.begin(host) for host in self.hosts]
        until = time.monotonic() + patience_seconds
        while silent := [host for host in self.hosts if _SERVES not in self._said(host)]:
            for host in silent:
                if self._agents[host].returncode is not None or time.monotonic() > until:
                    last = (self._said(host).strip().splitlines() or ["nothing"])[-1]
                    raise Refused(f"the agent of `{host}` does not serve it; it said: {last}", host=host)
            await asyncio.sleep(_POLL_SECONDS)
        return pids

    def host_of(self, worker: str) -> str | None:
        """Return the host whose agent has that worker's name; None if no agent of these has."""
        pid = worker.split("-")[-2:-1]
        return next((host for host, agent in self._agents.items() if pid == [str(agent.pid)]), None)

    async def kill(self, host: str) -> int:
        """Kill the agent of a host with SIGKILL; return the process id that it had."""
        agent = self._agents.pop(host)
        if agent.returncode is None:
            agent.send_signal(signal.SIGKILL)
        await agent.wait()
        return agent.pid

    def _said(self, host: str) -> str:
        """What the agent of a host has said since it was begun."""
        return self._log(host).read_bytes()[self._said_before[host] :].decode(errors="replace")

    def _log(self, host: str) -> Path:
        return self._directory / f"{host}.log"
