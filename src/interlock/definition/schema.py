"""The JSON Schema of machines as documents, for editors and for whoever writes them by program."""

from __future__ import annotations

import json
from typing import Any

from interlock.definition.data import JSON_TYPES

__all__ = ["document_schema", "generate"]

NAME = "^[A-Za-z][A-Za-z0-9_]*$"
MACHINE = "^[A-Za-z][A-Za-z0-9_.-]*$"
FIELD = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 64}
DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
Schema = dict[str, Any]


def document_schema() -> Schema:
    """Return the schema (JSON Schema 2020-12). What it accepts is read; what contradicts itself is refused when the machine is built.

    >>> document_schema()["required"]
    ['machine', 'states']
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Interlock machine",
        "description": "A state machine for long-running operations: its states, and what leads from each to the next.",
        **_machine(),
        "$defs": {
            "name": _text("Letters, digits and underscores, a letter first.", pattern=NAME, maxLength=64),
            "duration": _duration(),
            "one": {"oneOf": [_ref("name"), _record({"rollback": _ref("name")}, "rollback")]},
            "branch": {
                "oneOf": [_ref("one"), _record({"when": _ref("name"), "to": _ref("one")}, "when", "to")],
                "description": "A state, {rollback: final}, or either of them under a condition: {when: condition, to: state}.",
            },
            "target": {"oneOf": [_ref("branch"), {"type": "array", "items": _ref("branch"), "minItems": 1}]},
            "retry": {"oneOf": [{"const": "forever"}, _retry(errors=_by_name(_ref("inner_retry")))]},
            "inner_retry": {"oneOf": [{"const": "forever"}, _retry()]},
            "claim": _claim(),
            "children": _children(),
            "group": _group(),
            "state": {"if": {"type": "object", "required": ["final"]}, "then": _ref("final"), "else": _ref("ongoing")},
            "final": _final(),
            "ongoing": _ongoing(),
        },
    }


def _machine() -> Schema:
    types = {"enum": list(JSON_TYPES)}
    type_ = {"oneOf": [{"const": "any"}, types, {"type": "array", "items": types, "minItems": 1}]}
    field = {"oneOf": [type_, _record({"type": type_, "default": {}}, "type")]}
    members = {"oneOf": [{"const": "..."}, {"type": "array", "items": _ref("name")}]}
    return _record(
        {
            "machine": _text("The machine's name.", pattern=MACHINE, maxLength=64),
            "version": {
                **_whole("Of this definition; a changed machine gets a new one."),
                "maximum": 2**31 - 1,
                "default": 1,
            },
            "description": _text("For people."),
            "data": _by_name(field, "The fields of an operation's data: their JSON types, or {type, default}.", FIELD),
            "claims": {"type": "array", "items": _ref("claim")},
            "states": _by_name(_ref("state"), "", _ref("name")),
            "groups": _by_name(_ref("group"), "States that share exits and a deadline.", _ref("name")),
            "views": _by_name(_by_name(members), "By version, states by their public name; ... is all the rest."),
            "accepts": _by_name(
                _text("Why.", pattern="\\S"),
                "Warnings of `interlock check` that are meant: reasons by code, or code:state.",
            ),
            "renames": _by_name(
                _ref("name"), "What states of earlier versions are called now, by their old name.", _ref("name")
            ),
        },
        "machine",
        "states",
    )


def _ongoing() -> Schema:
    return _record(
        {
            "initial": _truth("An operation may start here."),
            "then": {**_ref("target"), "description": "Where to go when the state's action is done."},
            "on": _by_name(
                _ref("target"), "Targets by event: an outcome that the action names, or a signal.", _ref("name")
            ),
            "after": _by_name(
                _ref("target"), "Targets by duration in this state: durable timers.", {"pattern": DURATION}
            ),
            "to": {"type": "array", "items": _ref("name"), "description": "States that existing code may write next."},
            "queue": _text("Where the action must run; may use fields of the data: host:{source}."),
            "undo": {
                "enum": [True, "nothing"],
                "description": "true: an undo is bound; nothing: nothing is left behind.",
            },
            "pivot": _truth("The point of no return."),
            "retry": _ref("retry"),
            "undo_retry": _ref("retry"),
            "timeout": {**_ref("duration"), "description": "Bound of one attempt."},
            "within": {**_ref("duration"), "description": "Bound of the whole stay, with its retries."},
            "heartbeat": {**_ref("duration"), "description": "Longest silence of the action."},
            "children": _ref("children"),
            "cancel": _one_of("rollback", "finish", "refuse"),
            "on_stop": _one_of("wait", "handover"),
            "status": _text("The stored value, where it is no identifier."),
            "description": _text("For people."),
        }
    )


def _final() -> Schema:
    return _record(
        {
            "final": _one_of("succeeded", "failed", "cancelled"),
            "initial": _truth("A guarded record may be created in it."),
            "to": {
                "type": "array",
                "items": _ref("name"),
                "description": "States that existing code writes even after the end; only where nothing is performed.",
            },
            "hands_over": {
                "type": "array",
                "items": _text("A kind of owned resource.", minLength=1),
                "description": "Kinds of owned resources that outlive the operation.",
            },
            "status": _text("The stored value, where it is no identifier."),
            "description": _text("For people."),
        },
        "final",
    )


def _retry(**more: Schema) -> Schema:
    return _record(
        {
            "attempts": {"oneOf": [{"const": "forever"}, _whole("In all.", maximum=1_000_000)]},
            "delay": _ref("duration"),
            "max_delay": _ref("duration"),
            "factor": {"type": "number", "minimum": 1, "maximum": 100},
            "jitter": {"type": "number", "minimum": 0, "maximum": 1},
            **more,
        }
    )


def _claim() -> Schema:
    name = _text("What is held; may use fields of the data: instance:{instance}.", minLength=1)
    conflict = _one_of("reject", "wait", "preempt")
    return _record({"name": name, "limit": _whole("How many may hold it at once."), "on_conflict": conflict}, "name")


def _children() -> Schema:
    return _record(
        {
            "machine": _text("The machine whose operations are started.", pattern=MACHINE, maxLength=64),
            "each": _text("The field of the data that holds a list: one child for each of its items."),
            "limit": {
                "oneOf": [_whole("How many run at the same time."), _text("The field of the data that says so.")]
            },
            "join": _one_of("all", "any", "first"),
            "on_failure": _one_of("fast", "collect"),
            "item": _text("The field of the child's data that an item fills which is no mapping."),
        },
        "machine",
    )


def _group() -> Schema:
    return _record(
        {
            "members": {"type": "array", "items": _ref("name"), "minItems": 1},
            "on": _by_name(_ref("target"), "", _ref("name")),
            "timeout": _ref("duration"),
        },
        "members",
    )


def _duration() -> Schema:
    text = _text("Such as 30s, 5m, 1h30m, 250ms.", pattern=DURATION)
    return {"oneOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1e10, "description": "Seconds."}, text]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _whole(description: str, **more: Any) -> Schema:
    return {"type": "integer", "minimum": 1, "description": description, **more}


def _truth(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def _one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def _record(properties: Schema, *required: str) -> Schema:
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(required)} if required else made


def _by_name(values: Schema, description: str = "", names: Schema | None = None) -> Schema:
    made: Schema = {"type": "object", "additionalProperties": values}
    if description:
        made["description"] = description
    return {**made, "propertyNames": names} if names else made


def generate() -> dict[str, str]:
    """Return the published copy of the schema, by path."""
    return {"docs/reference/machine.schema.json": json.dumps(document_schema(), indent=2) + "\n"}
