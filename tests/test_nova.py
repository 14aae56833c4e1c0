"""Nova's machines against the tables they were written from: every documented move is allowed, and nothing else is.

The tables are transcribed here by stored status, apart from the documents. ``-`` is a row's creation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from interlock import Machine, Refused
from interlock.compute import nova
from interlock.definition.document import load, read_document, to_document, write_document
from interlock.definition.draw import FORMATS, draw
from interlock.definition.explain import explain
from interlock.definition.machine import Definition
from interlock.definition.source import to_python


def words(text: str) -> list[str]:
    return text.split()


def steps(*ways: str) -> list[tuple[str, str]]:
    """Return the moves of ways written as steps: `None a b None`."""
    return [pair for way in ways for pair in zip(way.split(), way.split()[1:], strict=False)]


LIVE_ONGOING = ("accepted", "queued", "preparing", "running", "running (post-copy)")
LIVE = {
    "L1": [("-", "accepted")],
    "L2": [("accepted", "failed")],
    "L3": [("accepted", "error"), ("failed", "error")],
    "L4": [("accepted", "error")],
    "L5": [("accepted", "queued")],
    "L6": [("queued", "error")],
    "L7": [("queued", "cancelled")],
    "L8": [("queued", "cancelled")],
    "L9": [("queued", "preparing")],
    "L10": [("preparing", "error")],
    "L11": [("error", "failed")],
    "L12": [("preparing", "cancelled")],
    "L13": [("preparing", "running")],
    "L14": [("running", "running (post-copy)")],
    "L15": [("running", "completed")],
    "L16": [("running (post-copy)", "completed")],
    "L17": [("running", "failed")],
    "L18": [("running (post-copy)", "failed")],
    "L19": [("running", "cancelled")],
    "L20": [("running", "error")],
    "L21": [("running (post-copy)", "error")],
    "L22": [("running", "error")],
    "L23": [("preparing", "error"), ("running", "error")],
    "L24": [(status, "error") for status in LIVE_ONGOING],
    "L25": [("error", "failed")],
    "L26": [("running", "running")],
    "L27": [("accepted", "accepted")],
}
COLD_ONGOING = ("pre-migrating", "migrating", "post-migrating", "finished", "confirming", "reverting")
COLD = {
    "R1": [("-", "pre-migrating")],
    "R2": [("-", "pre-migrating")],
    "R3": [("pre-migrating", "pre-migrating")],
    "R4": [("pre-migrating", "error")],
    "R5": [("pre-migrating", "error")],
    "R6": [("pre-migrating", "migrating")],
    "R7": [("migrating", "post-migrating")],
    "R8": [("migrating", "error")],
    "R9": [("post-migrating", "error")],
    "R10": [("post-migrating", "finished")],
    "R11": [("finished", "confirming")],
    "R12": [("confirming", "confirmed")],
    "R13": [("finished", "confirmed")],
    "R14": [("confirming", "error")],
    "R15": [("finished", "reverting")],
    "R16": [("reverting", "reverted")],
    "R17": [("reverting", "error")],
    "R18": [("reverted", "error")],
    "R19": [("finished", "error")],
    "R20": [(status, "error") for status in COLD_ONGOING],
    "R21": [("error", "failed")],
}
CROSS_CELL = {
    "X1": [("pre-migrating", "finished")],
    "X2": [("post-migrating", "confirmed")],
    "X3": [("post-migrating", "reverting")],
    "X4": [("reverting", "reverted")],
    "X5": [("confirming", "confirmed")],
    "X6": [(status, "error") for status in ("post-migrating", "finished", "confirming", "reverting")],
    "X7": [("-", "pre-migrating")],
}
EVACUATION = {
    "E1": [("-", "accepted")],
    "E2": [("accepted", "error")],
    "E3": [("accepted", "pre-migrating")],
    "E4": [("accepted", "failed")],
    "E5": [("pre-migrating", "failed")],
    "E6": [("pre-migrating", "done")],
    "E7": [("done", "completed")],
    "E8": [("accepted", "completed")],
    "E9": [("pre-migrating", "completed")],
    "E10": [("completed", "done")],
    "E11": [("error", "failed")],
    # The stale-record rule reads rows that are in progress, and `done` is not among them.
    "E12": [("accepted", "error"), ("pre-migrating", "error")],
}
VM_PLACES = words("building active paused suspended stopped rescued resized shelved shelved_offloaded")
VM = {
    "any": [(one, "error") for one in [*VM_PLACES, "soft-delete"]]
    + [(one, "deleted") for one in [*VM_PLACES, "soft-delete", "error"]],
    "build": [("-", "building"), ("building", "active")],
    "soft delete": [(one, "soft-delete") for one in [*VM_PLACES, "error"]],
    "restore": [("soft-delete", "active")],
    "shelve": [
        (one, end) for one in ("active", "stopped", "paused", "suspended") for end in ("shelved", "shelved_offloaded")
    ],
    "offload": [("shelved", "shelved_offloaded")],
    "unshelve": [("shelved", "active"), ("shelved_offloaded", "active")],
    "rebuild, evacuate": [("active", "stopped"), ("stopped", "active"), ("error", "active"), ("error", "stopped")],
    "hard reboot": [(one, "active") for one in ("stopped", "paused", "suspended", "error")],
    "suspend, resume": [("active", "suspended"), ("suspended", "active")],
    "pause, unpause": [("active", "paused"), ("paused", "active")],
    "rescue, unrescue": [
        ("active", "rescued"),
        ("stopped", "rescued"),
        ("error", "rescued"),
        ("rescued", "active"),
    ],
    "stop, start": [("active", "stopped"), ("error", "stopped"), ("stopped", "active")],
    "resize": [("active", "resized"), ("stopped", "resized"), ("resized", "active"), ("resized", "stopped")],
}


SNAPSHOT = "image_pending_upload image_uploading None"
BUSY = [
    *words("scheduling networking block_device_mapping spawning deleting soft-deleting restoring shelving"),
    *words("shelving_image_pending_upload shelving_image_uploading shelving_offloading unshelving rebuilding"),
    *words("rebuild_block_device_mapping rebuild_spawning rebooting reboot_pending reboot_started rebooting_hard"),
    *words("reboot_pending_hard reboot_started_hard image_snapshot_pending image_snapshot image_pending_upload"),
    *words("image_uploading image_backup suspending resuming pausing unpausing rescuing unrescuing powering-off"),
    *words("powering-on updating_password migrating resize_prep resize_migrating resize_migrated resize_finish"),
    "resize_reverting",
]
HARD_REBOOT = words("None rebooting reboot_pending reboot_started resuming rebooting_hard unpausing pausing suspending")
TASK = {
    "any": [(one, end) for one in BUSY for end in ("None", "deleting", "rebuilding")]
    + steps("None deleting", "None rebuilding"),
    "build": [("-", "scheduling"), *steps("scheduling None networking block_device_mapping spawning None")],
    "reschedule": [(one, "scheduling") for one in ("networking", "block_device_mapping", "spawning")],
    "delete": steps("None deleting None", "None soft-deleting None", "None restoring None"),
    "shelve": steps(
        "None shelving shelving_image_pending_upload shelving_image_uploading shelving_offloading None",
        "shelving_image_uploading None shelving_offloading",
    ),
    "unshelve": steps("None unshelving powering-on None", "unshelving spawning None"),
    "rebuild": steps(
        "None rebuilding rebuild_block_device_mapping rebuild_spawning powering-off None", "rebuild_spawning None"
    ),
    "soft reboot": steps("None rebooting reboot_pending reboot_started None"),
    "hard reboot": [(one, "rebooting_hard") for one in HARD_REBOOT]
    + steps("rebooting_hard reboot_pending_hard reboot_started_hard None"),
    "reboot again": steps(
        "reboot_pending reboot_pending",
        "reboot_pending reboot_pending_hard",
        "reboot_started reboot_pending_hard",
        "reboot_pending_hard reboot_pending_hard",
        "reboot_started_hard reboot_pending_hard",
    ),
    "snapshot": steps(f"None image_snapshot_pending image_snapshot {SNAPSHOT}", f"None image_backup {SNAPSHOT}"),
    "one step": [
        pair
        for one in words("suspending resuming pausing unpausing rescuing unrescuing powering-off powering-on")
        for pair in steps(f"None {one} None")
    ],
    "password": steps("None updating_password None"),
    "stop and start again": steps("powering-off powering-off", "powering-on powering-on", "deleting deleting"),
    "live migration": steps("None migrating None"),
    "resize": steps(
        "None resize_prep resize_migrating resize_migrated resize_finish None",
        "None resize_reverting None",
        "resize_reverting powering-off None",
    ),
}
Table = dict[str, list[tuple[str, str]]]
TABLES: dict[str, Table] = {
    "live_migration": LIVE,
    "cold_migration": COLD,
    "resize": COLD | CROSS_CELL,
    "evacuation": EVACUATION,
    "instance_vm": VM,
    "instance_task": TASK,
}
NAMES = list(TABLES)


def machine(name: str) -> Definition:
    definition: Definition = getattr(nova, name)
    return definition


def moves(definition: Definition) -> set[tuple[str, str]]:
    """Return every move that a machine allows, by stored status."""
    stored = {name: row.status for name, row in definition.table.items()}
    begun = {("-", stored[name]) for name in definition.initial}
    return begun | {(stored[one], stored[to]) for one, targets in definition.moves.items() for to in targets}


def test_the_modules_names_are_what_is_shipped() -> None:
    assert sorted(TABLES) == nova.__all__ and set(NAMES) <= set(dir(nova))
    assert machine("resize") is load("interlock.compute.nova:resize")


@pytest.mark.parametrize("name", NAMES)
def test_every_documented_move_is_allowed_and_nothing_else(name: str) -> None:
    assert moves(machine(name)) == {pair for pairs in TABLES[name].values() for pair in pairs}


@pytest.mark.parametrize(("table", "rows"), [(LIVE, 27), (COLD, 21), (CROSS_CELL, 7), (EVACUATION, 12)])
def test_the_tables_are_whole(table: Table, rows: int) -> None:
    assert len(table) == rows


@pytest.mark.parametrize("name", ["live_migration", "cold_migration", "resize", "evacuation"])
def test_the_document_names_every_row_of_its_table(name: str) -> None:
    from importlib.resources import files

    text = files("interlock.compute.nova").joinpath(f"{name}.yaml").read_text()
    states = text[text.index("\nstates:") :]
    comments = " ".join(line.partition("# ")[2].replace(",", " ").replace(":", " ") for line in states.splitlines())
    assert set(TABLES[name]) <= set(comments.split())


@pytest.mark.parametrize(
    ("name", "statuses"),
    [("live_migration", 9), ("cold_migration", 10), ("resize", 10), ("evacuation", 6), ("instance_vm", 12)],
)
def test_how_many_values_there_are(name: str, statuses: int) -> None:
    assert len(machine(name).states) == statuses


def test_the_42_task_states() -> None:
    stored = {row.status for row in machine("instance_task").table.values()}
    assert stored == {"None", *BUSY} and len(BUSY) == 41, "and resize_confirming, which nothing writes"


def test_the_18_statuses_of_migrations() -> None:
    names = ("live_migration", "cold_migration", "evacuation")
    assert len({row.status for name in names for row in machine(name).table.values()}) == 18


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_performed(name: str) -> None:
    assert not machine(name).drives


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_survives_every_form(name: str) -> None:
    definition = machine(name)
    for form in ("yaml", "json"):
        assert read_document(write_document(definition, form)) == definition
    assert to_document(read_document(write_document(definition))) == to_document(definition)
    assert run(to_python(definition)) == definition


def run(source: str) -> Definition:
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, "written", "exec"), names)
    (found,) = [
        one for one in names.values() if isinstance(one, type) and issubclass(one, Machine) and one is not Machine
    ]
    return found.definition


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_a_machine_is_drawn_and_explained(name: str, format: str) -> None:
    definition = machine(name)
    drawing = draw(definition, format)
    assert all(row.status in drawing or row.name in drawing for row in definition.table.values())
    assert all(f"## {state} (" in explain(definition) for state in definition.states)


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match="did you mean `live_migration`"):
        machine("live_migraton")
    with pytest.raises(Refused, match="did you mean `evacuation`"):
        load("interlock.compute.nova:evacuaton")


def test_the_stale_writes_that_the_facts_name_are_refused_elsewhere() -> None:
    live = machine("live_migration")
    assert live.allows("error", "failed") and not live.allows("cancelled", "failed")
    assert not live.allows("completed", "running") and not live.allows("post_copy", "cancelled")
    assert not machine("cold_migration").allows("post_migrating", "reverting"), "only across cells"


def pairs(code: str, states: Iterable[str]) -> set[tuple[str, str]]:
    return {(code, state) for state in states}


_COLD = (
    pairs("no-deadline", ("pre_migrating", "migrating", "post_migrating", "finished", "confirming", "reverting"))
    | pairs("no-recovery", ("pre_migrating", "migrating", "post_migrating", "confirming", "reverting"))
    | pairs("no-cancel", ("pre_migrating", "migrating", "post_migrating", "confirming"))
    | pairs("left-end", ("reverted", "error"))
)
_UNHANDLED = (
    *("rebooting", "rebooting_hard"),
    *words("soft_deleting restoring shelving shelving_image_pending_upload shelving_image_uploading"),
    *words("shelving_offloading unshelving image_backup suspending resuming rescuing unrescuing updating_password"),
    *words("resize_migrated resize_finish resize_reverting"),
)
# What is wrong with these machines, by the facts: the codes are the checker's.
EXPECTED_HOLES: dict[str, set[tuple[str, str]]] = {
    "live_migration": pairs("no-deadline", ("accepted", "queued", "post_copy"))
    | pairs("no-recovery", ("accepted", "queued", "preparing", "post_copy"))
    | pairs("no-cancel", ("accepted", "post_copy"))
    | pairs("left-end", ("failed", "error")),
    "cold_migration": _COLD,
    "resize": _COLD,
    "evacuation": pairs("no-deadline", ("accepted", "pre_migrating", "done"))
    | pairs("no-recovery", ("accepted", "pre_migrating"))
    | pairs("no-cancel", ("accepted", "pre_migrating"))
    | pairs("left-end", ("completed", "error")),
    "instance_vm": pairs("no-deadline", ("building",)) | pairs("no-cancel", ("building",)),
    "instance_task": pairs("no-recovery", _UNHANDLED)
    | pairs("no-deadline", [one.replace("-", "_") for one in BUSY])
    | pairs("no-cancel", [one.replace("-", "_") for one in BUSY if one != "migrating"]),
}
# States in which nothing is in progress: a person or time comes next, so what a checker says of them is no hole.
RESTING: dict[str, set[str]] = {
    "live_migration": set(),
    "cold_migration": {"finished"},
    "resize": {"finished"},
    "evacuation": {"done"},
    "instance_vm": {name for name in nova.instance_vm.states if name != "building"},
    "instance_task": {"idle"},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_checker_names_the_holes_that_the_facts_name(name: str) -> None:
    checking = pytest.importorskip("interlock.checking")
    assert checking is not None
    from tools.machines_of_today import CODES, holes

    found = holes(machine(name)) or set()
    assert EXPECTED_HOLES[name] <= found
    assert {hole for hole in found - EXPECTED_HOLES[name] if hole[1] not in RESTING[name]} == set()
    assert {code for code, _ in found} <= set(CODES)
