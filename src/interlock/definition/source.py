"""A machine as Python source: the class form, written from the data. Running it gives an equal machine."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from typing import Any

from interlock.definition.data import Field
from interlock.definition.declare import Branch, Exit, Final, Group, Retry, State
from interlock.definition.duration import duration_text, seconds
from interlock.definition.machine import Definition, machine_name
from interlock.errors import Refused

__all__ = ["to_python"]

_PYTHON = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list[Any]",
    "object": "dict[str, Any]",
}
_PYTHON["null"] = "None"
_WORDS = ("Children", "Claim", "Final", "Group", "Machine", "Retry", "Rollback", "State", "When")
_TYPES = ("Any", "bool", "dict", "field", "float", "int", "list", "str")


def to_python(definition: Definition) -> str:
    """Return the source of a module that declares the machine.

    The data's type becomes a dataclass with the fields' JSON types; a machine without fields takes any dict.

    Raises:
        Refused: a name that is right in a document cannot be an attribute in Python, such as ``class``.
    """
    for names, taken in (([*definition.states, *definition.groups], _WORDS), (definition.fields or (), _TYPES)):
        for name in names:
            if keyword.iskeyword(name) or name in taken or name.startswith("__"):
                raise Refused(
                    f"machine `{definition.name}` cannot be written as a class: `{name}` has a meaning of its own in "
                    "Python; rename it (a state's stored text stays in `status`), or keep the machine as a document"
                )
    body = list(_class(definition))
    used = [word for word in _WORDS if _uses(word, body)]
    data = list(_data(definition))
    lines = ["from __future__ import annotations", ""]
    if definition.fields is not None:
        lines.append(
            "from dataclasses import dataclass, field"
            if any("field(" in line for line in data)
            else "from dataclasses import dataclass"
        )
    if any("Any" in line for line in [*data, *body]):
        lines.append("from typing import Any")
    lines += ["", f"from interlock import {', '.join(used)}", "", ""]
    return "\n".join([*lines, *data, *body]) + "\n"


def _uses(word: str, lines: list[str]) -> bool:
    return any(f"{word}(" in line or f"{word}[" in line or f"{word}." in line for line in lines)


def _class_name(definition: Definition) -> str:
    words = definition.name.replace("_", "-").replace(".", "-").split("-")
    name = "".join(word[:1].upper() + word[1:] for word in words)
    return f"{name}Machine" if keyword.iskeyword(name) or name in (*_WORDS, "Any") else name


def _data(definition: Definition) -> Iterator[str]:
    if definition.fields is None:
        return
    yield "@dataclass"
    yield f"class {_class_name(definition)}Data:"
    ordered = sorted(definition.fields.items(), key=lambda item: not item[1].required)
    for name, one in ordered:
        yield f"    {name}: {_annotation(one)}{_default(one)}"
    if not ordered:
        yield "    pass"
    yield ""
    yield ""


def _annotation(one: Field) -> str:
    return " | ".join(_PYTHON[name] for name in one.types) or "Any"


def _default(one: Field) -> str:
    if one.required:
        return ""
    if isinstance(one.default, list | dict):
        return f" = field(default_factory=lambda: {one.default!r})"
    return f" = {one.default!r}"


def _class(definition: Definition) -> Iterator[str]:
    name = _class_name(definition)
    data = f"{name}Data" if definition.fields is not None else "dict[str, Any]"
    extra = "" if machine_name(name) == definition.name else f", name={definition.name!r}"
    yield f"class {name}(Machine[{data}], version={definition.version}{extra}):"
    if definition.description:
        yield from _docstring(definition.description)
        yield ""
    if definition.claims:
        yield "    claims = ["
        for claim in definition.claims:
            limit = f", limit={claim.limit}" if claim.limit != 1 else ""
            conflict = f", on_conflict={claim.on_conflict!r}" if claim.on_conflict != "reject" else ""
            yield f"        Claim({claim.name!r}{limit}{conflict}),"
        yield "    ]"
        yield ""
    for state in definition.states.values():
        yield f"    {state.name} = {_state(state)}"
    for group in definition.groups.values():
        yield f"    {group.name} = {_group(group)}"
    if definition.views:
        yield ""
        yield f"    views = {_views(definition.views)}"
    if definition.accepts:
        yield ""
        yield "    accepts = {"
        yield from (f"        {key!r}: {why!r}," for key, why in definition.accepts.items())
        yield "    }"
    if definition.renames:
        yield ""
        yield f"    renames = {dict(definition.renames)!r}"


def _docstring(text: str) -> Iterator[str]:
    lines = text.split("\n")
    plain = all(line.isprintable() for line in lines) and not ("\\" in text or '"""' in text or text.endswith('"'))
    if not plain:
        yield f"    __doc__ = {text!r}"
    elif len(lines) == 1:
        yield f'    """{text}"""'
    else:
        yield f'    """{lines[0]}'
        yield from (f"    {line}".rstrip() for line in lines[1:])
        yield '    """'


def _call(name: str, words: Mapping[str, str], *first: str) -> str:
    return f"{name}({', '.join([*first, *(f'{key}={value}' for key, value in words.items())])})"


def _state(state: State | Final) -> str:
    like = State() if isinstance(state, State) else Final("succeeded")
    words: dict[str, str] = {}
    for key in state.__dataclass_fields__:
        value = getattr(state, key)
        if key in ("name", "outcome", "then") or value == getattr(like, key):
            continue
        words[key] = _value(key, value)
    if isinstance(state, Final):
        return _call("Final", words, repr(state.outcome))
    if "done" in state.on:
        on = {event: exit for event, exit in state.on.items() if event != "done"}
        words.pop("on")
        words = {**words, "then": _exit(state.on["done"])}
        if on:
            words["on"] = _value("on", on)
    return _call("State", words)


def _value(key: str, value: Any) -> str:
    if key == "on":
        return "{" + ", ".join(f"{event!r}: {_exit(exit)}" for event, exit in value.items()) + "}"
    if key == "after":
        return "{" + ", ".join(f"{duration_text(seconds(wait))!r}: {_exit(exit)}" for wait, exit in value.items()) + "}"
    if key in ("timeout", "within", "heartbeat"):
        return repr(duration_text(value))
    if key in ("retry", "undo_retry"):
        return _retry(value)
    if key == "to":
        return repr(list(value))
    if key == "children":
        words = {name: getattr(value, name) for name in value.__dataclass_fields__}
        return f"Children({', '.join(f'{name}={word!r}' for name, word in words.items())})"
    return repr(value)


def _retry(retry: Retry) -> str:
    if retry == Retry.forever():
        return "Retry.forever()"
    like, words = Retry(), {}
    for key in ("delay", "factor", "max_delay", "jitter"):
        value = getattr(retry, key)
        if value != getattr(like, key):
            words[key] = repr(duration_text(value)) if key.endswith("delay") else repr(value)
    if retry.errors:
        words["errors"] = "{" + ", ".join(f"{kind!r}: {_retry(policy)}" for kind, policy in retry.errors.items()) + "}"
    return _call("Retry", words, repr(retry.attempts))


def _exit(exit: Exit) -> str:
    ways = [_branch(branch) for branch in exit]
    return ways[0] if len(ways) == 1 else f"[{', '.join(ways)}]"


def _branch(branch: Branch) -> str:
    target = f"Rollback({branch.to!r})" if branch.rollback else repr(branch.to)
    return f"When({branch.condition!r}, {target})" if branch.condition else target


def _group(group: Group) -> str:
    words = {}
    if group.on:
        words["on"] = _value("on", group.on)
    if group.timeout is not None:
        words["timeout"] = repr(duration_text(seconds(group.timeout)))
    return _call("Group", words, *(repr(member) for member in group.members))


def _views(views: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for version, names in views.items():
        inner = ", ".join(f"{public!r}: {_members(members)}" for public, members in names.items())
        parts.append(f"{version!r}: {{{inner}}}")
    return "{" + ", ".join(parts) + "}"


def _members(members: Any) -> str:
    return "..." if members is ... else repr(list(members))
