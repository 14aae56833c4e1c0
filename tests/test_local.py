"""Hosts by environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock import Actions, Refused
from interlock.compute import local
from interlock.compute.every_move import MOVES
from interlock.compute.fake_hypervisor import FakeHypervisor
from interlock.compute.live_migration import LiveMigration


def test_actions_are_bound_to_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(local.HOSTS, str(tmp_path / "hosts"))
    monkeypatch.setenv(local.SIMULATED, "1")
    actions = local.actions
    assert (
        isinstance(actions, Actions) and actions.definition is LiveMigration.definition and actions.mismatches() == ()
    )


def test_every_move_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(local.HOSTS, str(tmp_path / "hosts"))
    monkeypatch.setenv(local.SIMULATED, "1")
    for name in MOVES:
        actions = getattr(local, name)
        assert actions.definition.name == name.replace("_", "-") and actions.mismatches() == ()
    with pytest.raises(AttributeError, match="did you mean `resize`"):
        _ = local.resise


def test_without_a_directory_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(local.HOSTS, raising=False)
    with pytest.raises(Refused, match="set INTERLOCK_HOSTS"):
        _ = local.actions
    with pytest.raises(AttributeError):
        _ = local.nothing


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local.qemu_missing() == ("qemu-system-x86_64", "qemu-img")
    assert isinstance(local.hypervisor_at(tmp_path, simulated=True), FakeHypervisor)
