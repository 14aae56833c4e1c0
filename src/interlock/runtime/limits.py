"""Limits: how large and how long things may be. Each has a default, a setting, and an error that names both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from interlock.errors import IllegalData, LimitExceeded

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force; give `Interlock` another one with ``limits=Limits(payload_bytes=...)``.

    Args:
        payload_bytes: an operation's data, encoded as JSON: at its start, in a signal, and after an action added to it.
        id_characters: an operation's id.
        key_characters: an idempotency key.
        by_characters: the name of who asked.
        reason_characters: a reason.
        own_characters: kind and id of a resource that an operation owns.
        message_characters: the message of a progress report. A longer message of an action's error is cut off.
        breakpoints: states named as breakpoints of one operation.
        page: records or operations in one answer.
        threads: plain functions that one worker performs at the same time; others wait for a thread.

    >>> Limits(payload_bytes=10).plain({"name": "a long one"}, "operation")
    Traceback (most recent call last):
    interlock.errors.LimitExceeded: operation: 21 bytes of data, the limit is 10 (setting `payload_bytes`)
    """

    payload_bytes: int = 262_144
    id_characters: int = 128
    key_characters: int = 256
    by_characters: int = 256
    reason_characters: int = 2_000
    own_characters: int = 256
    message_characters: int = 2_000
    breakpoints: int = 100
    page: int = 1_000
    threads: int = 64

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Limits({name}={value!r}): must be a whole number from 1")

    def text(self, setting: str, value: str, what: str) -> str:
        """Return ``value`` if it is not longer than the limit ``setting``; raises `LimitExceeded`."""
        limit: int = getattr(self, setting)
        if len(value) > limit:
            raise LimitExceeded(
                f"{what}: {len(value)} characters, the limit is {limit} (setting `{setting}`)",
                setting=setting,
                limit=limit,
            )
        return value

    def count(self, setting: str, number: int, what: str) -> int:
        """Return ``number`` if it is from 1 to the limit ``setting``; raises `LimitExceeded`."""
        limit: int = getattr(self, setting)
        if not 1 <= number <= limit:
            raise LimitExceeded(
                f"{what}: {number}, must be from 1 to {limit} (setting `{setting}`)", setting=setting, limit=limit
            )
        return number

    def plain(self, data: Any, where: str) -> dict[str, Any]:
        """Return a copy of ``data`` in plain JSON values; it may be a mapping, or an instance of a machine's data type.

        Raises:
            IllegalData: something in it has no JSON form, or it holds no fields.
            LimitExceeded: encoded it is larger than ``payload_bytes``.

        >>> Limits().plain({"hosts": ("a", "b")}, "operation")
        {'hosts': ['a', 'b']}
        """
        if type(data) is not dict and isinstance(data, Mapping):
            data = dict(data)
        try:
            encoded = _ENCODER.encode(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise IllegalData(f"{where}: {error}; give plain values, lists and mappings") from None
        if len(encoded) > self.payload_bytes:
            raise LimitExceeded(
                f"{where}: {len(encoded)} bytes of data, the limit is {self.payload_bytes} (setting `payload_bytes`)",
                setting="payload_bytes",
                limit=self.payload_bytes,
            )
        found = _DECODER.decode(encoded)
        if not isinstance(found, dict):
            raise IllegalData(f"{where}: data is {type(data).__name__}; give a mapping of field to value")
        if b"null" in encoded and _has_no_number(data):
            raise IllegalData(f"{where}: NaN and infinity have no JSON form")
        return found


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder()


def _has_no_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(_has_no_number(part) for part in value.values())
    return isinstance(value, list | tuple) and any(_has_no_number(part) for part in value)
