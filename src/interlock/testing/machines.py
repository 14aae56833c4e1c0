"""Machines made at random, from a seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from interlock.definition.document import from_document, to_document
from interlock.definition.machine import Definition

__all__ = ["newer_machine", "random_machine"]

CONDITION = "lucky"
CLAIMS = {"thing:{thing}": 1, "share:{thing}": 2}


def random_machine(random: Random, name: str, others: Sequence[Definition] = ()) -> Definition:
    """Return a machine of two to six states in a row, with everything the interpreter knows turned on here and there.

    Whatever waits has a timer, so that every operation can come to an end without anybody's help. Operations of ``others`` may be its
    children; it claims all that they claim, or nothing, so that no two parents wait for each other.
    """
    count = random.randint(2, 6)
    pivot = random.choice([None, *range(1, count)])
    states: dict[str, Any] = {}
    for number in range(count):
        following = f"s{number + 1}" if number + 1 < count else "finished"
        past = pivot is not None and number >= pivot
        acting = number == 0 or number == pivot or random.random() < 0.75
        state = _acting(random, following, past, number == pivot) if acting else _waiting(random, following, past)
        if number == 0:
            state["initial"] = True
        states[f"s{number}"] = state
    states |= {"finished": {"final": "succeeded"}, "failed": {"final": "failed"}, "cancelled": {"final": "cancelled"}}
    document: dict[str, Any] = {"machine": name, "states": states}
    child = random.choice(others) if others and random.random() < 0.8 else None
    able = [state for state in states.values() if "then" in state and "pivot" not in state]
    if child is not None and able:
        random.choice(able).update(_parent(random, child.name))
    claims = {claim.name: claim.limit for claim in child.claims} if child is not None and random.random() < 0.7 else {}
    if child is None or claims:
        claims |= {claim: limit for claim, limit in CLAIMS.items() if random.random() < 0.4}
    policies = ["reject", "wait", "wait", "preempt"]
    document["claims"] = [
        {"name": claim, "limit": limit, "on_conflict": random.choice(policies)} for claim, limit in claims.items()
    ]
    before = [f"s{number}" for number in range(count if pivot is None else pivot)]
    if random.random() < 0.4:
        document["groups"] = {"g": {"members": before, "timeout": "90s", "on": {"down": {"rollback": "failed"}}}}
    return from_document(document)


def newer_machine(random: Random, machine: Definition) -> Definition:
    """Return the next version of a machine: a state is called otherwise, times are others, and now and then a step is no longer undone."""
    old = random.choice([name for name in machine.states if name not in machine.finals])
    new = f"{chr(ord(old[0]) + 1)}{old[1:]}"  # s1, t1, u1, ...
    document = json.loads(json.dumps(to_document(machine)).replace(f'"{old}"', f'"{new}"'))
    document["version"] = machine.version + 1
    document["renames"] = {
        **{before: new if now == old else now for before, now in machine.renames.items()},
        old: new,
    }
    for state in document["states"].values():
        if "timeout" in state and random.random() < 0.5:
            state["timeout"] = f"{random.randint(5, 40)}s"
        if state.get("undo") is True and random.random() < 0.1:
            state["undo"] = "nothing"
    return from_document(document)


def _parent(random: Random, child: str) -> dict[str, Any]:
    """Return what makes a state one with children; what only an action has is taken away."""
    children = {
        "machine": child,
        "each": random.choice([None, "guests", "guests"]),
        "limit": random.choice([None, 1, 2]),
        "join": random.choice(["all", "all", "any", "first"]),
        "on_failure": random.choice(["fast", "collect"]),
    }
    return {"children": {name: value for name, value in children.items() if value is not None}}


def _acting(random: Random, following: str, past: bool, pivot: bool) -> dict[str, Any]:
    state: dict[str, Any] = {
        "then": following,
        "timeout": f"{random.randint(5, 40)}s",
        "queue": random.choice(["", "", "far"]),
    }
    if random.random() < 0.15:
        state["then"] = [{"when": CONDITION, "to": following}, following]
    attempts = random.choice([1, 2, 3, "forever"]) if not past else random.choice([2, "forever", "forever"])
    state["retry"] = {"attempts": attempts, "delay": "1s", "max_delay": "10s"}
    state["on_stop"] = random.choice(["wait", "handover"])
    if random.random() < 0.3:
        state["heartbeat"] = "8s"
    on: dict[str, Any] = {}
    if random.random() < 0.4:
        on["force"] = following
    if past:
        if pivot:
            state["pivot"] = True
    else:
        state["undo"] = random.choice([True, True, True, "nothing"])
        state["undo_retry"] = {"attempts": random.choice([2, 6]), "delay": "1s"}
        state["cancel"] = random.choice(["rollback", "rollback", "finish", "refuse"])
        if random.random() < 0.2:
            on["failed"] = {"rollback": "failed"}
        if random.random() < 0.3:
            on["abort"] = {"rollback": "cancelled"}
        if random.random() < 0.2:
            state["within"] = "60s"
    return state | ({"on": on} if on else {})


def _waiting(random: Random, following: str, past: bool) -> dict[str, Any]:
    on: dict[str, Any] = {"go": following}
    if not past and random.random() < 0.5:
        on["abort"] = {"rollback": "cancelled"}
    if random.random() < 0.2:
        on["go"] = [{"when": CONDITION, "to": following}, following]
    return {"on": on, "after": {f"{random.randint(5, 40)}s": following}}
