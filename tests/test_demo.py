"""The demo as a newcomer runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from interlock import Interlock
from interlock.cli.demo_moves import Stage, boot, in_the_end

DEMO = [sys.executable, "-m", "interlock.cli", "demo"]


def run(*words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path} if path is not None else dict(os.environ)
    return subprocess.run([*DEMO, *words], capture_output=True, text=True, check=False, env=environment, timeout=150)


@pytest.mark.slow
@pytest.mark.qemu
def test_real_guests_are_moved_and_every_proof_holds() -> None:
    done = run("--copy-seconds", "3", "--json", "--require-qemu")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["held"] is True and document["simulated"] is False
    assert len(document["proofs"]) == 22 and all(proof["held"] for proof in document["proofs"])


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize(("scene", "proofs"), [("resize", 13), ("evacuate", 10), ("drain", 22)])
def test_on_a_cluster_every_proof_holds(scene: str, proofs: int) -> None:
    done = run(scene, "--json", "--require-qemu")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert len(document["proofs"]) == proofs and all(proof["held"] for proof in document["proofs"])


def test_a_cluster_is_never_simulated(tmp_path: Path) -> None:
    for words, path in ((("drain",), str(tmp_path)), (("drain", "--simulate"), None)):
        done = run(*words, path=path)
        assert done.returncode == 2 and "real QEMU hosts only" in done.stderr


@pytest.mark.slow
def test_without_qemu_the_same_is_shown_and_every_line_says_that_it_is_simulated(tmp_path: Path) -> None:
    done = run("--copy-seconds", "2", path=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "QEMU is missing" in lines[0] and "apt-get install" in lines[0]
    assert all(line.startswith("SIMULATED") for line in lines)
    assert "All 22 proofs held" in lines[-1]


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_leaves_no_guest_and_no_driver(number: signal.Signals, tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with subprocess.Popen([*DEMO, "--directory", str(directory)], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "enters copying" in line:
                break
        demo.send_signal(number)
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    left = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in left if str(directory).encode() in command]


def test_where_qemu_is_required_and_missing_it_cannot_run(tmp_path: Path) -> None:
    done = run("--require-qemu", path=str(tmp_path))
    assert done.returncode == 2 and "qemu-system-x86_64" in done.stderr and done.stdout == ""


async def test_a_guest_that_is_gone_fails_the_proof_of_the_end(tmp_path: Path) -> None:
    stage = Stage(tmp_path, simulated=True, copy_seconds=1, quiet=True)
    async with Interlock(stage.store) as interlock:
        for guest in ("vm-1", "vm-2"):
            await boot(stage, guest)
        await stage.hypervisor.kill("vm-2", "host-a")
        await in_the_end(stage, interlock)
    assert [proof.held for proof in stage.proofs] == [False, True, True, True, True]
    assert stage.proofs[0].seen == "vm-2 is nowhere"
