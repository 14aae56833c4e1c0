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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from interlock.definition.data import JSON_TYPES, Field
from interlock.definition.declare import Branch, Children, Claim, Exit, Final, Group, Retry, State
from interlock.definition.duration import duration_text, seconds
from interlock.definition.machine import Definition, Machine, definition_of
from interlock.errors import IllegalDocument, LimitExceeded, Refused, did_you_mean

__all__ = ["from_document", "load", "read_document", "to_document", "write_document"]

SIZE_BYTES = 1 << 20
DEPTH = 20

_DURATIONS = ("timeout", "within", "heartbeat")
_PLAIN = ("queue", "undo", "cancel", "on_stop", "status", "description")
_STATE_KEYS = (
    "initial", "then", "on", "after", "to", "pivot", "retry", "undo_retry", "children", *_DURATIONS, *_PLAIN,
)  # fmt: skip
_RETRY_KEYS = ("attempts", "delay", "factor", "max_delay", "jitter", "errors")
_TOP = ("machine", "version", "description", "data", "claims", "states", "groups", "views")


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
    return document


def _field_document(field: Field) -> Any:
    types: Any = field.types[0] if len(field.types) == 1 else list(field.types) if field.types else "any"
    return types if field.required else {"type": types, "default": field.default}


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
    if colon and not Path(target).exists():
        return _import(module, name)
    path = Path(target)
    try:
        if path.stat().st_size > SIZE_BYTES:
            raise LimitExceeded(f"`{target}` has {path.stat().st_size:,} bytes; a document has at most {SIZE_BYTES:,}")
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise IllegalDocument(f"`{target}` is no text in UTF-8: {error}") from None
    except OSError as error:
        raise Refused(
            f"cannot read `{target}`: {error.strerror or error}; name a document's path, or module:Machine"
        ) from None
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
        raise LimitExceeded(f"{where} has {len(text):,} bytes; a document has at most {SIZE_BYTES:,}")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise IllegalDocument(f"{where} is no text in UTF-8: {error}") from None
    document = _read_json(text, where) if text.lstrip().startswith("{") else _read_yaml(text, where)
    return from_document(document, where)


def _read_json(text: str, where: str) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in found]
        for key in keys:
            if keys.count(key) > 1:
                raise IllegalDocument(f"{where}: the key `{key}` stands twice")
        return dict(found)

    try:
        return json.loads(text, object_pairs_hook=pairs)
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


def from_document(document: Any, where: str = "document") -> Definition:
    """Return the machine that a document's data describes; see `read_document`."""
    top = _mapping(document, where, _TOP, needs=("machine", "states"))
    states = {name: _state(name, state, f"states.{name}") for name, state in _mapping(top["states"], "states").items()}
    groups = {
        name: _group(name, group, f"groups.{name}") for name, group in _mapping(top.get("groups", {}), "groups").items()
    }
    claims = []
    for number, claim in enumerate(_list(top.get("claims", []), "claims")):
        at = f"claims[{number}]"
        claims.append(_build(Claim, _mapping(claim, at, ("name", "limit", "on_conflict"), needs=("name",)), at))
    fields = None
    if "data" in top:
        fields = {name: _field(field, f"data.{name}") for name, field in _mapping(top["data"], "data").items()}
    return Definition(
        _text(top["machine"], "machine"),
        _whole(top.get("version", 1), "version"),
        states,
        groups,
        tuple(claims),
        {
            version: _view(names, f"views.{version}")
            for version, names in _mapping(top.get("views", {}), "views").items()
        },
        fields,
        _text(top.get("description", ""), "description"),
    )


def _wrong(where: str, expected: str, found: Any) -> IllegalDocument:
    shown = repr(found)
    return IllegalDocument(
        f"{where}: expected {expected}, found {shown if len(shown) <= 60 else shown[:57] + '...'}", path=where
    )


def _mapping(value: Any, where: str, keys: tuple[str, ...] = (), needs: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, "a mapping", value)
    for key in value:
        if not isinstance(key, str):
            raise _wrong(where, "names as keys", key)
        if keys and key not in keys:
            path = key if where == "document" else f"{where}.{key}"
            raise IllegalDocument(
                f"{path}: no such key{did_you_mean(key, keys)}; there are {', '.join(keys)}", path=path
            )
    for key in needs:
        if key not in value:
            raise IllegalDocument(f"{where}: the key `{key}` is missing", path=where)
    return dict(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    return list(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    return value


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(where, "a whole number", value)
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(where, "a number", value)
    return value


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def _duration(value: Any, where: str) -> float:
    try:
        return seconds(value)
    except ValueError as error:
        raise IllegalDocument(f"{where}: {error}", path=where) from None


def _build(make: Callable[..., Any], values: Mapping[str, Any], where: str) -> Any:
    try:
        return make(**values)
    except (TypeError, ValueError) as error:
        raise IllegalDocument(f"{where}: {error}", path=where) from None


def _exit(value: Any, where: str) -> Exit:
    if isinstance(value, list):
        return tuple(branch for number, part in enumerate(value) for branch in _exit(part, f"{where}[{number}]"))
    if isinstance(value, str):
        return (Branch(value),)
    if isinstance(value, Mapping) and "when" in value:
        parts = _mapping(value, where, ("when", "to"), needs=("when", "to"))
        inner = _exit(parts["to"], f"{where}.to")
        if len(inner) != 1 or inner[0].condition is not None:
            raise _wrong(f"{where}.to", "one state or {rollback: final}", parts["to"])
        return (Branch(inner[0].to, inner[0].rollback, _text(parts["when"], f"{where}.when")),)
    if isinstance(value, Mapping):
        parts = _mapping(value, where, ("rollback",), needs=("rollback",))
        return (Branch(_text(parts["rollback"], f"{where}.rollback"), rollback=True),)
    raise _wrong(where, "a state's name, {rollback: final}, {when: condition, to: target}, or a list of these", value)


def _exits(value: Any, where: str) -> dict[str, Exit]:
    return {event: _exit(target, f"{where}.{event}") for event, target in _mapping(value, where).items()}


def _retry(value: Any, where: str) -> Retry:
    if value == "forever":
        return Retry.forever()
    parts = _mapping(value, where, _RETRY_KEYS)
    made: dict[str, Any] = {}
    for key, given in parts.items():
        at = f"{where}.{key}"
        if key == "attempts":
            made[key] = None if given == "forever" else _whole(given, at)
        elif key in ("delay", "max_delay"):
            made[key] = _duration(given, at)
        elif key == "errors":
            made[key] = {kind: _retry(policy, f"{at}.{kind}") for kind, policy in _mapping(given, at).items()}
        else:
            made[key] = _number(given, at)
    retry: Retry = _build(Retry, made, where)
    return retry


def _state(name: str, value: Any, where: str) -> State | Final:
    if isinstance(value, Mapping) and "final" in value:
        parts = _mapping(value, where, ("final", "status", "initial", "description"))
        outcome = parts.pop("final")
        if outcome not in ("succeeded", "failed", "cancelled"):
            raise _wrong(f"{where}.final", "succeeded, failed or cancelled", outcome)
        for key in ("status", "description"):
            if key in parts:
                _text(parts[key], f"{where}.{key}")
        _truth(parts.get("initial", False), f"{where}.initial")
        return Final(outcome, name=name, **parts)
    parts = _mapping(value, where, _STATE_KEYS)
    made: dict[str, Any] = {"name": name}
    for key, given in parts.items():
        made[key] = _STATE_READERS[key](given, f"{where}.{key}")
    state: State = _build(State, made, where)
    return state


def _after(value: Any, where: str) -> dict[float, Exit]:
    return {_duration(wait, where): _exit(target, f"{where}.{wait}") for wait, target in _mapping(value, where).items()}


def _undo(value: Any, where: str) -> Any:
    if value is not True and value != "nothing":
        raise _wrong(where, "true or nothing", value)
    return value


def _children(value: Any, where: str) -> Children:
    parts = _mapping(value, where, ("machine", "each", "limit", "join", "on_failure"), needs=("machine",))
    children: Children = _build(Children, parts, where)
    return children


_STATE_READERS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(_DURATIONS, _duration),
    **dict.fromkeys(("queue", "cancel", "on_stop", "status", "description"), _text),
    "initial": _truth,
    "pivot": _truth,
    "undo": _undo,
    "then": _exit,
    "on": _exits,
    "after": _after,
    "to": lambda value, where: [_text(name, where) for name in _list(value, where)],
    "retry": _retry,
    "undo_retry": _retry,
    "children": _children,
}


def _group(name: str, value: Any, where: str) -> Group:
    parts = _mapping(value, where, ("members", "on", "timeout"), needs=("members",))
    members = [_text(member, f"{where}.members") for member in _list(parts["members"], f"{where}.members")]
    timeout = _duration(parts["timeout"], f"{where}.timeout") if "timeout" in parts else None
    return Group(*members, on=_exits(parts.get("on", {}), f"{where}.on"), timeout=timeout, name=name)


def _view(value: Any, where: str) -> dict[str, Any]:
    return {
        public: ...
        if members == "..."
        else [_text(name, f"{where}.{public}") for name in _list(members, f"{where}.{public}")]
        for public, members in _mapping(value, where).items()
    }


def _field(value: Any, where: str) -> Field:
    required = not isinstance(value, Mapping)
    parts = {"type": value} if required else _mapping(value, where, ("type", "default"), needs=("type",))
    types = parts["type"]
    listed = [] if types == "any" else [types] if isinstance(types, str) else _list(types, where)
    for one in listed:
        if one not in JSON_TYPES:
            raise _wrong(where, f"any, or one or more of {', '.join(JSON_TYPES)}", one)
    return Field(tuple(listed), required, parts.get("default"))
