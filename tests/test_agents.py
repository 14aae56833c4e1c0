"""The agents of a cluster as processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock import Refused
from interlock.compute.agents import Agents
from interlock.compute.qemu import cluster
from tests.test_qemu_host import qemus_of

pytestmark = pytest.mark.qemu


@pytest.mark.slow
async def test_agents_serve_their_hosts_and_none_is_left(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'ops.db'}"
    async with Agents(tmp_path / "guests", store, ("host-a", "host-b")) as agents:
        pids = await agents.begin_all()
        assert set(cluster(tmp_path / "guests")) == {"host-a", "host-b"}
        assert agents.host_of(f"any-name-{pids[1]}-0f0f0f0f") == "host-b"
        assert agents.host_of("any-name-1-0f0f0f0f") is None and agents.host_of("x") is None
        second = Agents(tmp_path / "guests", store, ("host-b",))
        with pytest.raises(Refused, match=r"the agent of `host-b` does not serve it; it said: .*has an agent already"):
            await second.begin_all()
        await second.kill("host-b")
        assert await agents.kill("host-a") == pids[0]
        pids.append(await agents.begin("host-a"))
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert qemus_of(tmp_path / "guests") == []
