"""Views per API version, told from the machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from interlock import Final, IllegalMachine, Machine, State
from interlock.cli.app import app
from interlock.compute import ironic
from interlock.compute.live_migration import LiveMigration
from interlock.definition.machine import Definition
from interlock.definition.views import explain_views, views_document
from tests.machines import ALL

MACHINES = [*(machine.definition for machine in ALL), LiveMigration.definition, ironic.provision]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_version_names_every_state_once(machine: Definition) -> None:
    document = views_document(machine)
    assert list(document["views"]) == list(machine.views)
    for version, names in document["views"].items():
        assert sorted(state for states in names.values() for state in states) == sorted(machine.states)
        for name, states in names.items():
            assert all(machine.view(state, version) == name for state in states)
    for state, by in document["differs"].items():
        assert len({machine.view(state, version) for version in machine.views}) > 1 and list(by) == list(machine.views)
    assert json.loads(json.dumps(document)) == document


def test_live_migration_in_words() -> None:
    text = explain_views(LiveMigration.definition)
    assert "Each of its 12 states has exactly one public name in every API version." in text
    assert "| ACTIVE | `completed`, `refused`, `failed`, `cancelled` |" in text
    assert (
        "| MIGRATING | `checking`, `preparing`, `mirroring`, `copying`, `forcing`, `switching`, `pulling`, `cleaning` |"
        in text
    )
    assert "What differs" not in text, "there is only one version"


def test_ironics_versions_differ_where_its_history_says() -> None:
    differs = views_document(ironic.provision)["differs"]
    assert differs["available"]["1.1"] == "None" and differs["available"]["1.2"] == "available"
    assert differs["inspect_wait"]["1.2"] == "inspecting" and differs["inspect_wait"]["1.39"] == "inspect wait"
    text = explain_views(ironic.provision)
    assert "Since 1.1: `available` was None, is available" in text and "None is gone" in text
    assert "inspect wait is new" in text and "## What differs" in text
    assert "deploying" not in differs


def test_versions_that_say_the_same_and_a_name_that_is_never_shown() -> None:
    class Door(Machine[dict[str, Any]], version=1):
        shut = State(initial=True, on={"push": "open"})
        open = Final("succeeded")
        views = {"v1": {"DOOR": ["shut", "open"], "OTHER": ...}, "v2": {"DOOR": ..., "OTHER": []}}

    text = explain_views(Door.definition)
    assert "Since v1: nothing is named otherwise." in text and "| OTHER | none: it is never shown |" in text
    assert "Every state has the same public name in all versions." in text


def test_a_machine_without_views() -> None:
    class Door(Machine[dict[str, Any]], version=1):
        shut = State(initial=True, on={"push": "open"})
        open = Final("succeeded")

    assert "has no views" in explain_views(Door.definition)
    assert views_document(Door.definition) == {"views": {}, "differs": {}, "changes": []}


def test_a_view_that_misses_a_state_is_refused_when_the_machine_is_built() -> None:
    with pytest.raises(IllegalMachine, match=r"has no public name for `open`.*view-missing"):

        class Door(Machine[dict[str, Any]], version=1):
            shut = State(initial=True, on={"push": "open"})
            open = Final("succeeded")
            views = {"v1": {"SHUT": ["shut"]}}


def test_the_command_prints_text_and_json() -> None:
    target = "interlock.compute.live_migration:LiveMigration"
    said = CliRunner().invoke(app, ["explain", target, "--views"])
    assert said.exit_code == 0 and said.output == explain_views(LiveMigration.definition)
    said = CliRunner().invoke(app, ["explain", target, "--views", "--json"])
    assert json.loads(said.output) == {
        "machine": "live-migration",
        "version": 1,
        **views_document(LiveMigration.definition),
    }
