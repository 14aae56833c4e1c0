"""Documents: the same machine as a class, as YAML, as JSON; and everything that is no document refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock import IllegalDocument, IllegalMachine, LimitExceeded, Machine, Refused
from interlock.definition.document import from_document, load, read_document, to_document, write_document
from interlock.definition.machine import Definition
from interlock.definition.schema import document_schema
from tests.machines import ALL, Migration

VALIDATOR = jsonschema.Draft202012Validator(document_schema())


@pytest.mark.parametrize("machine", ALL, ids=lambda machine: machine.definition.name)
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_machine_survives_its_document(machine: type[Machine[Any]], form: str) -> None:
    text = write_document(machine, form)
    again = read_document(text)
    assert again == machine.definition
    assert write_document(again, form) == text


DURATIONS = st.sampled_from(["250ms", "30s", "1m30s", "72h"])
TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A sound machine of a few acting and waiting states in a row, with everything else chosen freely."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 5)))]
    retry = st.one_of(
        st.just("forever"),
        st.fixed_dictionaries(
            {"attempts": st.one_of(st.integers(1, 9), st.just("forever"))},
            optional={
                "delay": DURATIONS,
                "factor": st.floats(1, 4),
                "jitter": st.floats(0, 1),
                "errors": st.just({"OSError": {"attempts": 2}}),
            },
        ),
    )
    states: dict[str, Any] = {}
    for number, name in enumerate(names):
        following = names[number + 1] if number + 1 < len(names) else "end"
        target: Any = draw(st.sampled_from([following, [{"when": "c", "to": {"rollback": "failed"}}, following]]))
        state: dict[str, Any] = {"initial": True} if number == 0 else {}
        if number == 0 or draw(st.booleans()):
            state |= {"undo": draw(st.sampled_from([True, "nothing"])), "then": target}
            state |= draw(st.fixed_dictionaries({}, optional={"retry": retry, "undo_retry": retry, "timeout": DURATIONS, "heartbeat": DURATIONS, "queue": TEXTS.map(lambda text: text.replace("{", "").replace("}", ""))}))  # fmt: skip
        else:
            state["on"] = {"go": target}
            state |= draw(
                st.fixed_dictionaries(
                    {}, optional={"after": st.dictionaries(DURATIONS, st.just(following), max_size=2)}
                )
            )
        state |= draw(st.fixed_dictionaries({}, optional={"within": DURATIONS, "status": TEXTS, "description": TEXTS, "on_stop": st.just("handover"), "cancel": st.just("finish")}))  # fmt: skip
        if "status" in state:
            state["status"] += name
        states[name] = {key: value for key, value in state.items() if value not in ("", {})}
    states |= {"end": {"final": "succeeded"}, "failed": {"final": "failed"}, "cancelled": {"final": "cancelled"}}
    document: dict[str, Any] = {"machine": "sample", "version": draw(st.integers(1, 9)), "states": states}
    if draw(st.booleans()):
        document["groups"] = {
            "g": {"members": names, "on": {"stop": {"rollback": "failed"}}, "timeout": draw(DURATIONS)}
        }
    if draw(st.booleans()):
        document["views"] = {"v1": {"FIRST": [names[0]], "REST": "..."}}
    if draw(st.booleans()):
        document["data"] = {
            "a": "string",
            "b": {"type": ["integer", "null"], "default": None},
            "c": {"type": "any", "default": [1]},
        }
    return document


@settings(max_examples=150, deadline=None)
@given(documents())
def test_any_machine_survives_its_document(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)
    machine = from_document(document)
    written = to_document(machine)
    VALIDATOR.validate(json.loads(json.dumps(written)))
    assert from_document(written) == machine
    for form in ("yaml", "json"):
        again = read_document(write_document(machine, form))
        assert again == machine and to_document(again) == written


SOUND = "machine: m\nstates:\n  a: {initial: true, undo: nothing, then: b}\n  b: {final: succeeded}\n  failed: {final: failed}\n  cancelled: {final: cancelled}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "document: expected a mapping, found None"),
        ("- a", "document: expected a mapping"),
        ("{", "document is no JSON"),
        ("a: b: c", "line 1: mapping values are not allowed"),
        ("machine: m", "the key `states` is missing"),
        ("states: {}", "the key `machine` is missing"),
        ("machine: m\nmachine: n\nstates: {}", "line 2: the key `machine` stands twice"),
        ('{"machine": "m", "machine": "n"}', "the key `machine` stands twice"),
        ("machine: &a m\nstates: *a", "anchors and aliases are not used"),
        ("machine: m\nstates: !!python/object:os.system {}", "could not determine a constructor"),
        ("machine: 3\nstates: {}", "machine: expected text, found 3"),
        (SOUND.replace("undo: nothing", "undo: maybe"), "states.a.undo: expected true or nothing, found 'maybe'"),
        (SOUND.replace("then: b", "thn: b"), "states.a.thn: no such key (did you mean `then`?)"),
        (SOUND.replace("then: b", "then: 5"), "states.a.then: expected a state's name"),
        (SOUND.replace("then: b", "then: b, timeout: soon"), "states.a.timeout: `soon` is no duration"),
        (SOUND.replace("then: b", "then: b, retry: {attempts: 0}"), "states.a.retry: Retry(attempts=0)"),
        (
            SOUND.replace("then: b", "then: b, on: {x: {roll: b}}"),
            "states.a.on.x.roll: no such key (did you mean `rollback`?)",
        ),
        (SOUND.replace("then: b", "then: b, on: {5: b}"), "states.a.on: expected names as keys, found 5"),
        (SOUND.replace("succeeded", "won"), "states.b.final: expected succeeded, failed or cancelled"),
        (SOUND + "views: {v1: {A: a}}", "views.v1.A: expected a list"),
        (SOUND + "claims: [{limit: 2}]", "claims[0]: the key `name` is missing"),
        (SOUND + "data: {a: text}", "data.a: expected any, or one or more of string"),
        (SOUND + "version: yes", "version: expected a whole number, found 'yes'"),
        ("machine: m\nstates: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ('{"machine": ' + "[" * 100_000, "document is n"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(IllegalDocument) as refusal:
        read_document(text)
    assert says in str(refusal.value)


def test_on_and_yes_are_words() -> None:
    machine = read_document(SOUND.replace("then: b", "then: b, on: {yes: b, no: b}"))
    assert set(machine.table["a"].exits) == {"done", "yes", "no"}


def test_a_bad_machine_in_a_good_document_says_what_is_wrong_with_it() -> None:
    with pytest.raises(IllegalMachine, match="leads to `c`, which is no state"):
        read_document(SOUND.replace("then: b", "then: c"))


def test_a_document_of_fifty_megabytes_is_refused_at_once(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    with big.open("wb") as file:
        file.truncate(50 << 20)
    with pytest.raises(LimitExceeded, match="52,428,800 bytes; a document has at most 1,048,576"):
        load(str(big))
    with pytest.raises(LimitExceeded):
        read_document(" " * (2 << 20))


def test_load_takes_a_path_or_a_module(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(write_document(Migration))
    assert load(str(path)) == load("tests.machines:Migration") == Migration.definition


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere.yaml", "cannot read `nowhere.yaml`: No such file"),
        ("no.such.module:M", "cannot import `no.such.module:M`"),
        ("tests.machines:Nothing", "has no attribute 'Nothing'"),
        ("tests.machines:Move", "is type, no machine"),
    ],
)
def test_load_says_what_it_cannot_find(target: str, says: str) -> None:
    with pytest.raises(Refused, match="cannot|no machine") as refusal:
        load(target)
    assert says in str(refusal.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IllegalDocument, match="no text in UTF-8"):
        load(str(path))


def test_an_unknown_form() -> None:
    with pytest.raises(Refused, match="yaml or json"):
        write_document(Migration, "toml")
    assert isinstance(from_document(to_document(Migration)), Definition)
