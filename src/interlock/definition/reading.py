"""A document's plain data as a machine: every value is read by a reader of its own, which says where it stands and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from interlock.definition.data import JSON_TYPES, Field
from interlock.definition.declare import Branch, Children, Claim, Exit, Final, Group, Retry, State
from interlock.definition.duration import seconds
from interlock.definition.machine import Definition
from interlock.errors import IllegalDocument, did_you_mean

__all__ = ["DEPTH", "from_document"]

DEPTH = 20

_DURATIONS = ("timeout", "within", "heartbeat")
Reader = Callable[[Any, str], Any]
_TOP = ("machine", "version", "description", "data", "claims", "states", "groups", "views", "accepts", "renames")


def from_document(document: Any, where: str = "document") -> Definition:
    """Return the machine that a document's data describes; see `read_document`."""
    _bounded(document, where)
    top = _mapping(document, where, _TOP, needs=("machine", "states"))
    states = {name: _state(name, state, f"states.{name}") for name, state in _mapping(top["states"], "states").items()}
    groups = {
        name: _group(name, group, f"groups.{name}") for name, group in _mapping(top.get("groups", {}), "groups").items()
    }
    claims = []
    for number, claim in enumerate(_list(top.get("claims", []), "claims")):
        at = f"claims[{number}]"
        claims.append(_build(Claim, _parts(claim, at, _CLAIM_READERS, "name"), at))
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
        {key: _text(why, f"accepts.{key}") for key, why in _mapping(top.get("accepts", {}), "accepts").items()},
        {old: _text(new, f"renames.{old}") for old, new in _mapping(top.get("renames", {}), "renames").items()},
    )


def _bounded(document: Any, where: str) -> None:
    """Refuse what is nested too deeply, so that the rest may recurse."""
    level = [document]
    for _ in range(DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, Mapping | list | tuple)
            for inner in (value.values() if isinstance(value, Mapping) else value)
        ]
        if not level:
            return
    raise IllegalDocument(f"{where} is nested too deeply; at most {DEPTH} levels")


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
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise _wrong(where, "a whole number", value)
    return int(value)


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
    if not isinstance(value, list):
        return (_branch(value, where),)
    if not value:
        raise _wrong(where, "at least one target", value)
    return tuple(_branch(part, f"{where}[{number}]") for number, part in enumerate(value))


def _branch(value: Any, where: str) -> Branch:
    if isinstance(value, str):
        return Branch(value)
    if isinstance(value, Mapping) and "when" in value:
        parts = _mapping(value, where, ("when", "to"), needs=("when", "to"))
        inner = _branch(parts["to"], f"{where}.to")
        if inner.condition is not None:
            raise _wrong(f"{where}.to", "one state or {rollback: final}", parts["to"])
        return Branch(inner.to, inner.rollback, _text(parts["when"], f"{where}.when"))
    if isinstance(value, Mapping):
        parts = _mapping(value, where, ("rollback",), needs=("rollback",))
        return Branch(_text(parts["rollback"], f"{where}.rollback"), rollback=True)
    raise _wrong(where, "a state's name, {rollback: final}, {when: condition, to: target}, or a list of these", value)


def _exits(value: Any, where: str) -> dict[str, Exit]:
    return {event: _exit(target, f"{where}.{event}") for event, target in _mapping(value, where).items()}


def _attempts(value: Any, where: str) -> int | None:
    return None if value == "forever" else _whole(value, where)


def _whole_or_field(value: Any, where: str) -> int | str:
    return value if isinstance(value, str) else _whole(value, where)


def _parts(value: Any, where: str, readers: Mapping[str, Reader], *needs: str) -> dict[str, Any]:
    found = _mapping(value, where, tuple(readers), needs)
    return {key: readers[key](given, f"{where}.{key}") for key, given in found.items()}


def _inner_retry(value: Any, where: str) -> Retry:
    return _retry(value, where, _INNER_RETRY_READERS)


def _errors(value: Any, where: str) -> dict[str, Retry]:
    return {kind: _inner_retry(policy, f"{where}.{kind}") for kind, policy in _mapping(value, where).items()}


def _retry(value: Any, where: str, readers: Mapping[str, Reader] | None = None) -> Retry:
    if value == "forever":
        return Retry.forever()
    retry: Retry = _build(Retry, _parts(value, where, readers or _RETRY_READERS), where)
    return retry


def _state(name: str, value: Any, where: str) -> State | Final:
    final = isinstance(value, Mapping) and "final" in value
    made = _parts(value, where, _FINAL_READERS if final else _STATE_READERS)
    if final:
        return Final(made.pop("final"), name=name, **made)
    state: State = _build(State, {"name": name, **made}, where)
    return state


def _outcome(value: Any, where: str) -> Any:
    if value not in ("succeeded", "failed", "cancelled"):
        raise _wrong(where, "succeeded, failed or cancelled", value)
    return value


def _after(value: Any, where: str) -> dict[float, Exit]:
    found: dict[float, Exit] = {}
    for wait, target in _mapping(value, where).items():
        time = _duration(wait, where)
        if time in found:
            raise IllegalDocument(f"{where}.{wait}: this duration stands twice", path=f"{where}.{wait}")
        found[time] = _exit(target, f"{where}.{wait}")
    return found


def _undo(value: Any, where: str) -> Any:
    if value is not True and value != "nothing":
        raise _wrong(where, "true or nothing", value)
    return value


def _children(value: Any, where: str) -> Children:
    children: Children = _build(Children, _parts(value, where, _CHILDREN_READERS, "machine"), where)
    return children


def _names(value: Any, where: str) -> list[str]:
    return [_text(name, f"{where}[{number}]") for number, name in enumerate(_list(value, where))]


_INNER_RETRY_READERS: dict[str, Reader] = {
    "attempts": _attempts,
    "delay": _duration,
    "factor": _number,
    "max_delay": _duration,
    "jitter": _number,
}
_RETRY_READERS: dict[str, Reader] = {**_INNER_RETRY_READERS, "errors": _errors}
_CLAIM_READERS: dict[str, Reader] = {"name": _text, "limit": _whole, "on_conflict": _text}
_CHILDREN_READERS: dict[str, Reader] = {
    "machine": _text,
    "each": _text,
    "limit": _whole_or_field,
    "join": _text,
    "on_failure": _text,
    "item": _text,
}
_FINAL_READERS: dict[str, Reader] = {
    "final": _outcome,
    "initial": _truth,
    "to": _names,
    "hands_over": _names,
    "status": _text,
    "description": _text,
}
_STATE_READERS: dict[str, Reader] = {
    "initial": _truth,
    "then": _exit,
    "on": _exits,
    "after": _after,
    "to": _names,
    "pivot": _truth,
    "retry": _retry,
    "undo_retry": _retry,
    "children": _children,
    **dict.fromkeys(_DURATIONS, _duration),
    "undo": _undo,
    **dict.fromkeys(("queue", "cancel", "on_stop", "status", "description"), _text),
}


def _group(name: str, value: Any, where: str) -> Group:
    parts = _mapping(value, where, ("members", "on", "timeout"), needs=("members",))
    members = _names(parts["members"], f"{where}.members")
    timeout = _duration(parts["timeout"], f"{where}.timeout") if "timeout" in parts else None
    return Group(*members, on=_exits(parts.get("on", {}), f"{where}.on"), timeout=timeout, name=name)


def _view(value: Any, where: str) -> dict[str, Any]:
    return {
        public: ... if members == "..." else _names(members, f"{where}.{public}")
        for public, members in _mapping(value, where).items()
    }


def _field(value: Any, where: str) -> Field:
    required = not isinstance(value, Mapping)
    parts = {"type": value} if required else _mapping(value, where, ("type", "default"), needs=("type",))
    types = parts["type"]
    listed = [] if types == "any" else [types] if isinstance(types, str) else _list(types, where)
    if types == []:
        raise _wrong(where, f"any, or one or more of {', '.join(JSON_TYPES)}", types)
    for one in listed:
        if one not in JSON_TYPES:
            raise _wrong(where, f"any, or one or more of {', '.join(JSON_TYPES)}", one)
    return Field(tuple(dict.fromkeys(listed)), required, parts.get("default"))
