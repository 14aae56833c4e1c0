"""The stored form: what was written by an earlier release is read for ever."""

from __future__ import annotations

import msgspec
import pytest

from interlock.errors import Refused
from interlock.interpreter import facts as f
from interlock.stores.stored import document_text, encode, read_facts, read_snapshot, same_document
from tests.store_contract import five_steps

FACTS = b'[{"fact":"performed","data":{"step":1}},{"fact":"entered","state":"two"},{"fact":"issued","worker":"0123456789abcdef"}]'
SNAPSHOT = (
    b'{"id":"a","machine":"moving","version":1,"seq":17,"status":"succeeded","state":"end","data":{"instance":'
    b'"iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii","source":"compute-1","destination":"compute-2","notes":"'
    + b"n" * 112
    + b'","step":4},"started":1795000000.123,"since":1.0,"changed":1.0,"phase":{"is":"ended","outcome":"succeeded"},"visit":17,"by":"ann"}'
)


def test_the_form_is_the_one_that_is_on_disks() -> None:
    entries = five_steps("a")
    assert encode(entries[1].facts) == FACTS and read_facts(FACTS) == entries[1].facts
    assert encode(entries[-1].snapshot) == SNAPSHOT and read_snapshot(SNAPSHOT) == entries[-1].snapshot


def test_a_fact_that_this_release_does_not_know_is_not_passed_over() -> None:
    with pytest.raises(msgspec.ValidationError, match="Invalid value 'teleported'"):
        read_facts(b'[{"fact":"teleported"}]')


def test_a_field_that_this_release_does_not_know_is_left_out() -> None:
    assert read_facts(b'[{"fact":"resumed","by":"ann","mood":"good"}]') == (f.Resumed("ann"),)


def test_documents_are_the_same_whatever_their_order_and_spacing() -> None:
    text = document_text({"b": {"y": 1, "x": 2}, "a": "ü"})
    assert text == '{"b":{"y":1,"x":2},"a":"ü"}'
    same_document("moving", 1, text, '{"a": "ü", "b": {"x": 2, "y": 1}}')
    with pytest.raises(Refused, match="known to this store with another content"):
        same_document("moving", 1, text, '{"a": "ü", "b": {"x": 2, "y": 1.0}}')


def test_a_document_holds_numbers_only() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        document_text({"a": float("nan")})
