"""Ironic's machine against the table it was written from, transcribed here by stored state, apart from the document."""

from __future__ import annotations

from collections import Counter

import pytest

from interlock.compute import ironic
from interlock.definition.document import load, read_document, to_document, write_document
from interlock.definition.draw import FORMATS, draw
from interlock.definition.explain import explain

TABLE = """\
enroll: manage->verifying
verifying: done->manageable; fail->enroll
manageable: adopt->adopting; clean->cleaning; inspect->inspecting; provide->cleaning
available: deploy->deploying; manage->manageable
active: delete->deleting; rebuild->deploying; rescue->rescuing; service->servicing
error: delete->deleting; rebuild->deploying
rescue: delete->deleting; rescue->rescuing; unrescue->unrescuing
deploying: done->active; fail->deploy failed; hold->deploy hold; wait->wait call-back
wait call-back: abort->deploy failed; fail->deploy failed; delete->deleting; hold->deploy hold; resume->deploying
deploy failed: delete->deleting; deploy->deploying; rebuild->deploying
deploy hold: abort->deploy failed; unhold->wait call-back
cleaning: done->available; fail->clean failed; hold->clean hold; manage->manageable; wait->clean wait
clean wait: abort->clean failed; fail->clean failed; hold->clean hold; resume->cleaning
clean hold: abort->clean failed; unhold->clean wait
clean failed: manage->manageable
deleting: clean->cleaning; fail->error
inspecting: done->manageable; fail->inspect failed; wait->inspect wait
inspect wait: abort->inspect failed; fail->inspect failed; done->manageable; resume->inspecting
inspect failed: inspect->inspecting; manage->manageable
adopting: done->active; fail->adopt failed
adopt failed: adopt->adopting; manage->manageable
rescuing: done->rescue; fail->rescue failed; wait->rescue wait
rescue wait: abort->rescue failed; fail->rescue failed; delete->deleting; resume->rescuing
rescue failed: delete->deleting; rescue->rescuing; unrescue->unrescuing
unrescue failed: delete->deleting; rescue->rescuing; unrescue->unrescuing
unrescuing: done->active; fail->unrescue failed
servicing: done->active; fail->service failed; hold->service hold; wait->service wait
service wait: abort->service failed; fail->service failed; delete->deleting; hold->service hold; resume->servicing
service hold: abort->service failed; fail->service failed; service->servicing; unhold->service wait
service failed: abort->active; delete->deleting; hold->service hold; rescue->rescuing; service->servicing; wait->service wait
"""
EDGES = {
    (state, *edge.split("->"))
    for state, edges in (line.split(": ") for line in TABLE.splitlines())
    for edge in edges.split("; ")
}
EVENTS = {
    **{"fail": 15, "delete": 10, "done": 9, "abort": 9, "hold": 7, "manage": 6, "wait": 6, "rescue": 5, "resume": 5},
    **{"rebuild": 3, "service": 3, "unrescue": 3, "unhold": 3, "clean": 2, "inspect": 2, "adopt": 2, "deploy": 2},
    "provide": 1,
}
STORED = {name: row.status for name, row in ironic.provision.table.items()}
WAITS = {"wait_call_back", "clean_wait", "inspect_wait", "rescue_wait", "service_wait"}
HOLDS = {"deploy_hold", "clean_hold", "service_hold"}
STABLE = {"enroll", "manageable", "available", "active", "error", "rescue"}
WORKING = {"deploying", "cleaning", "verifying", "inspecting", "adopting"}
WORKING |= {"rescuing", "unrescuing", "deleting", "servicing"}
FAILED = {name for name in STORED if name.endswith("_failed")}


def edges() -> list[tuple[str, str, str]]:
    """Return the machine's edges by event, in Ironic's words: `done` is `done_` in the document."""
    table = ironic.provision.table
    return [
        (STORED[name], event.rstrip("_"), STORED[branch.to])
        for name, row in table.items()
        for event, exit in row.exits.items()
        for branch in exit
    ]


def test_it_is_loaded_by_name() -> None:
    assert load("interlock.compute.ironic:provision") is ironic.provision
    assert ironic.__all__ == ["provision"] and "provision" in dir(ironic)
    with pytest.raises(AttributeError, match="did you mean `provision`"):
        _ = ironic.provison


def test_every_edge_is_there_and_nothing_else() -> None:
    assert set(edges()) == EDGES and len(edges()) == len(EDGES) == 93
    assert len(ironic.provision.states) == 30
    allowed = {(STORED[one], STORED[to]) for one, following in ironic.provision.moves.items() for to in following}
    assert allowed == {(one, to) for one, _, to in EDGES} and len(allowed) == 85


def test_how_often_each_of_the_18_events_stands() -> None:
    assert Counter(event for _, event, _ in edges()) == EVENTS and len(EVENTS) == 18


def test_kinds_of_states() -> None:
    assert not ironic.provision.drives and not ironic.provision.finals, "every state has an exit"
    assert (len(STABLE), len(WORKING), len(WAITS), len(HOLDS), len(FAILED)) == (6, 9, 5, 3, 7)
    assert set(STORED) == STABLE | WORKING | WAITS | HOLDS | FAILED
    assert ironic.provision.initial == ("enroll", "available"), "the second for clients below 1.11"


def test_only_the_waits_for_a_node_have_a_deadline_and_it_leads_where_fail_does() -> None:
    table = ironic.provision.table
    assert {name for name, row in table.items() if row.after} == WAITS
    assert all(table[name].after == ((1800.0, table[name].exits["fail"]),) for name in WAITS)


@pytest.mark.parametrize(
    ("version", "lies"),
    [
        ("1.1", {"available": "None", "inspect_wait": "inspecting"}),
        ("1.2", {"inspect_wait": "inspecting"}),
        ("1.39", {}),
    ],
)
def test_what_a_client_is_shown(version: str, lies: dict[str, str]) -> None:
    machine = ironic.provision
    assert {name: machine.view(name, version) for name in machine.states} == {**STORED, **lies}
    named = [name for members in machine.views[version].values() for name in members]
    assert sorted(named) == sorted(machine.states), "a view names every state, once"


def test_it_survives_its_document() -> None:
    for form in ("yaml", "json"):
        again = read_document(write_document(ironic.provision, form))
        assert again == ironic.provision and to_document(again) == to_document(ironic.provision)


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_drawn_and_explained(format: str) -> None:
    drawing = draw(ironic.provision, format)
    assert all(stored in drawing or name in drawing for name, stored in STORED.items())
    assert all(f"## {name} (" in explain(ironic.provision) for name in STORED)


# What is wrong, by the facts: nothing bounds the work, nothing can abort it, and a hold is for ever.
EXPECTED_HOLES: dict[str, set[tuple[str, str]]] = {
    "provision": {("no-deadline", name) for name in WORKING | HOLDS} | {("no-cancel", name) for name in WORKING},
}
# What a checker cannot see in the edges: a conductor that starts sends `fail` to the nodes in these states.
RECOVERED = {("no-recovery", name) for name in WORKING}
RESTING = STABLE | FAILED | WAITS | HOLDS


def test_the_descriptions_tell_which_states_a_conductor_fails_when_it_starts() -> None:
    told = {name for name, state in ironic.provision.states.items() if "a conductor that starts" in state.description}
    assert told == WORKING


def test_the_checker_names_the_holes_that_the_facts_name() -> None:
    checking = pytest.importorskip("interlock.checking")
    assert checking is not None
    from tools.machines_of_today import holes

    found = holes(ironic.provision) or set()
    expected = EXPECTED_HOLES["provision"]
    assert expected <= found
    assert {hole for hole in found - expected - RECOVERED if hole[1] not in RESTING} == set()
