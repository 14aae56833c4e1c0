"""The JSON Schema of machines as documents, for editors and for whoever writes them by program."""

from __future__ import annotations

import json
from typing import Any

from interlock.definition.data import JSON_TYPES

__all__ = ["document_schema", "generate"]

NAME = "^[A-Za-z][A-Za-z0-9_]*$"


def document_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12). What it accepts is read; what contradicts itself is refused when the machine is built.

    >>> document_schema()["required"]
    ['machine', 'states']
    """
    text, name, whole, truth = (
        {"type": "string"},
        {"type": "string", "pattern": NAME},
        {"type": "integer", "minimum": 1},
        {"type": "boolean"},
    )
    types = {"enum": list(JSON_TYPES)}
    field_type = {"oneOf": [{"const": "any"}, types, {"type": "array", "items": types, "minItems": 1}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Interlock machine",
        **_record(
            {
                "machine": text,
                "version": whole,
                "description": text,
                "data": _by_name(
                    {"oneOf": [field_type, _record({"type": field_type, "default": True}, ["type"])]},
                ),
                "claims": {"type": "array", "items": {"$ref": "#/$defs/claim"}},
                "states": _by_name({"$ref": "#/$defs/state"}, name),
                "groups": _by_name({"$ref": "#/$defs/group"}, name),
                "views": _by_name(_by_name({"oneOf": [{"const": "..."}, {"type": "array", "items": name}]})),
            },
            ["machine", "states"],
        ),
        "$defs": {
            "state": {
                "if": {"type": "object", "required": ["final"]},
                "then": {"$ref": "#/$defs/final"},
                "else": {"$ref": "#/$defs/ongoing"},
            },
            "final": _record(
                {
                    "final": {"enum": ["succeeded", "failed", "cancelled"]},
                    "initial": truth,
                    "status": text,
                    "description": text,
                },
                ["final"],
            ),
            "ongoing": _record(
                {
                    "initial": truth,
                    "then": {"$ref": "#/$defs/target"},
                    "on": _by_name({"$ref": "#/$defs/target"}, name),
                    "after": _by_name({"$ref": "#/$defs/target"}),
                    "to": {"type": "array", "items": name},
                    "queue": text,
                    "undo": {"enum": [True, "nothing"]},
                    "pivot": truth,
                    "retry": {"$ref": "#/$defs/retry"},
                    "undo_retry": {"$ref": "#/$defs/retry"},
                    "timeout": {"$ref": "#/$defs/duration"},
                    "within": {"$ref": "#/$defs/duration"},
                    "heartbeat": {"$ref": "#/$defs/duration"},
                    "children": {"$ref": "#/$defs/children"},
                    "cancel": {"enum": ["rollback", "finish", "refuse"]},
                    "on_stop": {"enum": ["wait", "handover"]},
                    "status": text,
                    "description": text,
                }
            ),
            "duration": {
                "oneOf": [
                    {"type": "number", "minimum": 0},
                    {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"},
                ]
            },
            "one": {"oneOf": [name, _record({"rollback": name}, ["rollback"])]},
            "target": {
                "oneOf": [
                    {"$ref": "#/$defs/branch"},
                    {"type": "array", "items": {"$ref": "#/$defs/branch"}, "minItems": 1},
                ]
            },
            "branch": {
                "oneOf": [
                    {"$ref": "#/$defs/one"},
                    _record({"when": text, "to": {"$ref": "#/$defs/one"}}, ["when", "to"]),
                ]
            },
            "retry": {
                "oneOf": [
                    {"const": "forever"},
                    _record(
                        {
                            "attempts": {"oneOf": [{"const": "forever"}, whole]},
                            "delay": {"$ref": "#/$defs/duration"},
                            "max_delay": {"$ref": "#/$defs/duration"},
                            "factor": {"type": "number", "minimum": 1},
                            "jitter": {"type": "number", "minimum": 0, "maximum": 1},
                            "errors": _by_name({"$ref": "#/$defs/retry"}),
                        }
                    ),
                ]
            },
            "claim": _record(
                {"name": text, "limit": whole, "on_conflict": {"enum": ["reject", "wait", "preempt"]}}, ["name"]
            ),
            "children": _record(
                {
                    "machine": text,
                    "each": name,
                    "limit": whole,
                    "join": {"enum": ["all", "any", "first"]},
                    "on_failure": {"enum": ["fast", "collect"]},
                },
                ["machine"],
            ),
            "group": _record(
                {
                    "members": {"type": "array", "items": name, "minItems": 1},
                    "on": _by_name({"$ref": "#/$defs/target"}, name),
                    "timeout": {"$ref": "#/$defs/duration"},
                },
                ["members"],
            ),
        },
    }


def _record(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": required} if required else made


def _by_name(values: Any, names: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "additionalProperties": values}
    return {**made, "propertyNames": names} if names else made


def generate() -> dict[str, str]:
    """Return the published copy of the schema, by path."""
    return {"docs/reference/machine.schema.json": json.dumps(document_schema(), indent=2) + "\n"}
