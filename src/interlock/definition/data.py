"""The shape of an operation's data, as far as a definition needs it: field names, JSON types, defaults."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from interlock.errors import IllegalData, did_you_mean

__all__ = ["Field", "Fields", "fields_of", "fit", "is_json"]

JSON_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_BY_PYTHON = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", dict: "object"}
_REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the data: the JSON types it may have (empty: any), and its default where it has one.

    The default None of a field that may not be null stands for leaving the field out.
    """

    types: tuple[str, ...] = ()
    required: bool = True
    default: Any = None

    def accepts(self, value: Any) -> bool:
        """Whether a plain value is of one of the field's types."""
        return not self.types or _is_one_of(value, self.types)


Fields = Mapping[str, Field]


def fields_of(data_type: Any) -> Fields | None:
    """Return the fields of a dataclass, a TypedDict or a struct; None for a type without named fields (dict, Any).

    Raises:
        TypeError: an annotation cannot be resolved, or the type is none that holds named fields.
    """
    if data_type is None or data_type is Any or isinstance(data_type, typing.TypeVar):
        return None
    origin = typing.get_origin(data_type) or data_type
    if not isinstance(origin, type):
        raise TypeError(f"{data_type!r} is no data type: use a dataclass, a TypedDict, a dict or Any")
    if issubclass(origin, dict) and not hasattr(origin, "__required_keys__"):
        return None
    if origin is Mapping or typing.get_origin(data_type) is Mapping:
        return None
    try:
        hints = typing.get_type_hints(origin)
    except NameError as error:
        raise TypeError(
            f"the fields of {origin.__name__} cannot be read: {error}; declare what it names at module level"
        ) from None
    defaults = _defaults(origin)
    if defaults is None:
        raise TypeError(f"{origin.__name__} is no data type: use a dataclass, a TypedDict, a dict or Any")
    return {
        name: Field(_json_types(hints[name]))
        if default is _REQUIRED
        else Field(_json_types(hints[name]), False, _plain(name, default))
        for name, default in defaults.items()
    }


def _plain(name: str, value: Any) -> Any:
    """Return a default as JSON has it; raises TypeError for what JSON has not."""
    if isinstance(value, Enum):
        value = value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(name, getattr(value, item.name)) for item in fields(value)}
    struct_fields = getattr(value, "__struct_fields__", None)
    if struct_fields is not None:
        return {item: _plain(name, getattr(value, item)) for item in struct_fields}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(name, item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(name, item) for key, item in value.items()}
    if not is_json(value):
        raise TypeError(
            f"the default of `{name}`, {value!r}, is nothing that JSON holds; give it when an operation starts"
        )
    return value


def is_json(value: Any) -> bool:
    """Whether a value is made of text, finite numbers, true and false, null, lists and objects alone."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(is_json(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    return value is None or isinstance(value, str | int)


def _made(name: str, make: Callable[[], Any]) -> Any:
    """Return what a factory makes; a machine is frozen data, so it has to make the same every time."""
    value = make()
    if make() != value:
        raise TypeError(f"the default of `{name}` is another one each time; give it when an operation starts")
    return value


def _defaults(origin: Any) -> dict[str, Any] | None:
    if is_dataclass(origin):
        found = {}
        for item in fields(origin):
            if not item.init:
                continue
            value = item.default
            if value is MISSING:
                factory = item.default_factory
                value = _REQUIRED if factory is MISSING else _made(item.name, factory)
            found[item.name] = value
        return found
    if hasattr(origin, "__required_keys__"):
        return {name: _REQUIRED if _is_required(hint, origin) else None for name, hint in _extras(origin).items()}
    if hasattr(origin, "__struct_fields__"):
        names, tail = origin.__struct_fields__, origin.__struct_defaults__
        values = [_REQUIRED] * (len(names) - len(tail)) + [
            _struct_default(*pair) for pair in zip(names[len(names) - len(tail) :], tail, strict=True)
        ]
        return dict(zip(names, values, strict=True))
    return None


def _struct_default(name: str, value: Any) -> Any:
    """Return a default of a msgspec struct, which is recognised by its parts: msgspec itself is not imported here."""
    if type(value).__name__ == "NoDefaultType":
        return _REQUIRED
    factory = getattr(value, "factory", None) if type(value).__name__ == "Factory" else None
    return value if factory is None else _made(name, factory)


def _extras(origin: Any) -> dict[str, Any]:
    return typing.get_type_hints(origin, include_extras=True)


def _is_required(hint: Any, origin: Any) -> bool:
    """Whether a TypedDict's field is required; its own ``__required_keys__`` is wrong where annotations are kept as text."""
    wrapped = typing.get_origin(hint)
    return wrapped is typing.Required or (wrapped is not typing.NotRequired and bool(origin.__total__))


def _json_types(hint: Any) -> tuple[str, ...]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_json_types(part) for part in typing.get_args(hint)]
        return () if () in parts else tuple(dict.fromkeys(name for part in parts for name in part))
    if origin is typing.Literal:
        return tuple(dict.fromkeys(_BY_PYTHON.get(type(value), "object") for value in typing.get_args(hint)))
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _json_types(typing.get_args(hint)[0])
    plain = origin or hint
    if plain in _BY_PYTHON:
        return (_BY_PYTHON[plain],)
    if isinstance(plain, type) and issubclass(plain, list | tuple | set | frozenset):
        return ("array",)
    if isinstance(plain, type) and (
        is_dataclass(plain) or issubclass(plain, Mapping) or hasattr(plain, "__struct_fields__")
    ):
        return ("object",)
    return ()


def fit(fields: Fields | None, data: Mapping[str, Any], where: str, *, partial: bool = False) -> dict[str, Any]:
    """Return ``data`` with defaults filled in, if it fits.

    Args:
        fields: the shape; None accepts any names.
        data: plain JSON values by field name.
        where: what the data is for, to begin an error with.
        partial: only the given names are checked (an action's result); no defaults are filled in.

    Raises:
        IllegalData: a field is missing, unknown, or of another type.

    >>> fit({"port": Field(("integer",))}, {"prt": 1}, "operation")
    Traceback (most recent call last):
    interlock.errors.IllegalData: operation: unknown field `prt` (did you mean `port`?); its fields are port
    """
    if fields is None:
        return dict(data)
    for name, value in data.items():
        wanted = fields.get(name)
        if wanted is None:
            known = ", ".join(fields) or "none"
            raise IllegalData(
                f"{where}: unknown field `{name}`{did_you_mean(name, fields)}; its fields are {known}", field=name
            )
        if wanted.types and not _is_one_of(value, wanted.types):
            raise IllegalData(
                f"{where}: field `{name}` must be {' or '.join(wanted.types)}, not {_json_type(value)}",
                field=name,
                wanted=list(wanted.types),
            )
    if partial or len(data) == len(fields):
        return dict(data)
    whole = {}
    for name, item in fields.items():
        if name in data:
            whole[name] = data[name]
        elif item.required:
            raise IllegalData(
                f"{where}: field `{name}` is missing; it needs {', '.join(n for n in fields if fields[n].required)}",
                field=name,
            )
        elif item.default is not None or item.accepts(None):
            whole[name] = deepcopy(item.default) if isinstance(item.default, list | dict) else item.default
    return whole


_EXACT = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
    list: "array",
    dict: "object",
}


def _json_type(value: Any) -> str:
    exact = _EXACT.get(type(value))
    if exact is not None:
        return exact
    for python, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (type(None), "null")):
        if isinstance(value, python):
            return name
    return (
        "array" if isinstance(value, list | tuple) else "object" if isinstance(value, Mapping) else type(value).__name__
    )


def _is_one_of(value: Any, allowed: tuple[str, ...]) -> bool:
    kind = _json_type(value)
    return kind in allowed or (kind == "integer" and "number" in allowed)
