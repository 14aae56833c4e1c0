"""Machines as documents: the same words as the class form, in YAML or JSON, and back without loss. Loading one runs no code.

    machine: deploy
    version: 1
    states:
      building: {initial: true, undo: nothing, retry: {attempts: 3}, then: live}
      live: {final: succeeded}
      failed: {final: failed}
      cancelled: {final: cancelled}

A target is a state's name, ``{rollback: final}``, ``{when: condition, to: target}``, or a list of these. What a document holds is fixed by
`interlock.definition.schema`; what may be read is bounded by `SIZE_BYTES` and `DEPTH`.
"""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

from interlock.definition.data import Field
from interlock.definition.declare import Children, Claim, Exit, Final, Group, Retry, State
from interlock.definition.duration import duration_text, seconds
from interlock.definition.machine import Definition, Machine, definition_of
from interlock.definition.reading import DEPTH, from_document
from interlock.errors import IllegalDocument, LimitExceeded, Refused

__all__ = ["from_document", "load", "read_document", "to_document", "write_document"]

SIZE_BYTES = 1 << 20

_DURATIONS = ("timeout", "within", "heartbeat")
_PLAIN = ("queue", "undo", "cancel", "on_stop", "status", "description")


# Writing


def to_document(target: Definition | type[Machine[Any]]) -> dict[str, Any]:
    """Return a machine as plain data, ready for YAML or JSON. What has its default is left out."""
    machine = definition_of(target)
    document: dict[str, Any] = {"machine": machine.name, "version": machine.version}
    if machine.description:
        document["description"] = machine.description
    if machine.fields is not None:
        document["data"] = {name: _field_document(field) for name, field in machine.fields.items()}
    if machine.claims:
        document["claims"] = [_without_defaults(claim, Claim("")) for claim in machine.claims]
    document["states"] = {name: _state_document(state) for name, state in machine.states.items()}
    if machine.groups:
        document["groups"] = {name: _group_document(group) for name, group in machine.groups.items()}
    if machine.views:
        document["views"] = {
            version: {public: "..." if members is ... else list(members) for public, members in names.items()}
            for version, names in machine.views.items()
        }
    if machine.accepts:
        document["accepts"] = dict(machine.accepts)
    if machine.renames:
        document["renames"] = dict(machine.renames)
    return document


def _field_document(field: Field) -> Any:
    types: Any = field.types[0] if len(field.types) == 1 else list(field.types) if field.types else "any"
    return types if field.required else {"type": types, "default": deepcopy(field.default)}


def _without_defaults(thing: Any, like: Any) -> dict[str, Any]:
    return {
        name: getattr(thing, name)
        for name in thing.__dataclass_fields__
        if getattr(thing, name) != getattr(like, name) or name in ("name", "machine")
    }


def _exit_document(exit: Exit) -> Any:
    branches = []
    for branch in exit:
        target: Any = {"rollback": branch.to} if branch.rollback else branch.to
        branches.append(target if branch.condition is None else {"when": branch.condition, "to": target})
    return branches[0] if len(branches) == 1 else branches


def _retry_document(retry: Retry) -> Any:
    if retry == Retry.forever():
        return "forever"
    like = Retry()
    document: dict[str, Any] = {"attempts": "forever" if retry.attempts is None else retry.attempts}
    for name in ("delay", "max_delay"):
        if getattr(retry, name) != getattr(like, name):
            document[name] = duration_text(getattr(retry, name))
    for name in ("factor", "jitter"):
        if getattr(retry, name) != getattr(like, name):
            document[name] = getattr(retry, name)
    if retry.errors:
        document["errors"] = {kind: _retry_document(policy) for kind, policy in retry.errors.items()}
    return document


def _state_document(state: State | Final) -> dict[str, Any]:
    if isinstance(state, Final):
        document: dict[str, Any] = {"final": state.outcome}
        if state.initial:
            document["initial"] = True
        if state.to:
            document["to"] = list(state.to)
        if state.hands_over:
            document["hands_over"] = list(state.hands_over)
    else:
        document = {"initial": True} if state.initial else {}
        if "done" in state.on:
            document["then"] = _exit_document(state.on["done"])
        on = {event: _exit_document(exit) for event, exit in state.on.items() if event != "done"}
        if on:
            document["on"] = on
        if state.after:
            document["after"] = {
                duration_text(seconds(wait)): _exit_document(exit) for wait, exit in state.after.items()
            }
        if state.to:
            document["to"] = list(state.to)
        if state.pivot:
            document["pivot"] = True
        for name in ("retry", "undo_retry"):
            if getattr(state, name) is not None:
                document[name] = _retry_document(getattr(state, name))
        for name in _DURATIONS:
            if getattr(state, name) is not None:
                document[name] = duration_text(getattr(state, name))
        if state.children is not None:
            document["children"] = _without_defaults(state.children, Children(""))
    like = State() if isinstance(state, State) else Final("succeeded")
    for name in _PLAIN:
        if hasattr(state, name) and getattr(state, name) != getattr(like, name):
            document[name] = getattr(state, name)
    return document


def _group_document(group: Group) -> dict[str, Any]:
    document: dict[str, Any] = {"members": list(group.members)}
    if group.on:
        document["on"] = {event: _exit_document(exit) for event, exit in group.on.items()}
    if group.timeout is not None:
        document["timeout"] = duration_text(seconds(group.timeout))
    return document


def write_document(target: Definition | type[Machine[Any]], format: str = "yaml") -> str:
    """Return a machine's document as text, ``yaml`` or ``json``."""
    document = to_document(target)
    if format == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if format != "yaml":
        raise Refused(f"`{format}` is no form of a document: yaml or json")
    from interlock.definition.plain_yaml import write_yaml

    return write_yaml(_yaml(), document)


# Reading


def load(target: str) -> Definition:
    """Return the machine that ``target`` names: the path of a document, or ``module:Machine``.

    Raises:
        IllegalDocument, IllegalMachine, LimitExceeded: what was found is no machine.
        Refused: nothing was found.
    """
    module, colon, name = target.partition(":")
    try:
        with Path(target).open("rb") as file:
            text = file.read(SIZE_BYTES + 1)
    except (OSError, ValueError) as error:
        if colon:
            return _import(module, name)
        why = getattr(error, "strerror", None) or error
        raise Refused(f"cannot read `{target}`: {why}; name a document's path, or module:Machine") from None
    return read_document(text, target)


def _import(module: str, name: str) -> Definition:
    from importlib import import_module

    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise Refused(f"cannot import `{module}:{name}`: {error}") from error
    definition = getattr(found, "definition", found)
    if not isinstance(definition, Definition):
        raise Refused(f"`{module}:{name}` is {type(found).__name__}, no machine")
    return definition


def read_document(text: str | bytes, where: str = "document") -> Definition:
    """Return the machine that a document in YAML or JSON describes.

    Args:
        text: the document.
        where: what to call it in an error.

    Raises:
        LimitExceeded: it is too large.
        IllegalDocument: it is no document of a machine; the message says where and what was expected.
        IllegalMachine: it is one, and the machine contradicts itself.
    """
    if len(text) > SIZE_BYTES:
        raise LimitExceeded(f"{where} is larger than {SIZE_BYTES:,} bytes, the limit of a document", limit=SIZE_BYTES)
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise IllegalDocument(f"{where} is no text in UTF-8: {error}") from None
    document = _read_json(text, where) if text.lstrip().startswith("{") else _read_yaml(text, where)
    return from_document(document, where)


def _read_json(text: str, where: str) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        whole = dict(found)
        if len(whole) < len(found):
            key = next(key for key, count in Counter(key for key, _ in found).items() if count > 1)
            raise IllegalDocument(f"{where}: the key `{key}` stands twice")
        return whole

    def constant(word: str) -> Any:
        raise IllegalDocument(f"{where}: {word} is no JSON")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except ValueError as error:
        raise IllegalDocument(f"{where} is no JSON: {error}") from None
    except RecursionError:
        raise IllegalDocument(f"{where} is nested too deeply; at most {DEPTH} levels") from None


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise Refused(
            "reading and writing YAML needs PyYAML: pip install 'interlock[yaml]'; JSON needs nothing"
        ) from None
    return yaml


def _read_yaml(text: str, where: str) -> Any:
    from interlock.definition.plain_yaml import read_yaml

    return read_yaml(_yaml(), text, where)
