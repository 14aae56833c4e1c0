"""Documents: the same machine as a class, as YAML, as JSON; and everything that is no document refused with its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
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
from tests.machines import ALL, WRITTEN, Migration

VALIDATOR = jsonschema.Draft202012Validator(document_schema())


@pytest.mark.parametrize("machine", WRITTEN, ids=lambda machine: machine.definition.name)
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
            plain = TEXTS.map(lambda text: text.replace("{", "").replace("}", ""))
            acting = {"retry": retry, "undo_retry": retry, "timeout": DURATIONS, "heartbeat": DURATIONS, "queue": plain}
            state |= draw(st.fixed_dictionaries({}, optional=acting))
        else:
            state["on"] = {"go": target}
            state |= draw(
                st.fixed_dictionaries(
                    {}, optional={"after": st.dictionaries(DURATIONS, st.just(following), max_size=2)}
                )
            )
        either: dict[str, st.SearchStrategy[Any]] = {"within": DURATIONS, "status": TEXTS, "description": TEXTS}
        either |= {"on_stop": st.just("handover"), "cancel": st.just("finish")}
        state |= draw(st.fixed_dictionaries({}, optional=either))
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
    if document["version"] > 1 and draw(st.booleans()):
        document["renames"] = {"before": names[0], "at_last": "end"}
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


SOUND = """machine: m
states:
  a: {initial: true, undo: nothing, then: b}
  b: {final: succeeded}
  failed: {final: failed}
  cancelled: {final: cancelled}
"""


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
        (
            "machine: m\nstates: !!python/object:os.system {}",
            "tags are not used in documents: tag:yaml.org,2002:python/object:os.system",
        ),
        ("machine: !!timestamp x\nstates: {}", "tags are not used"),
        ("? [a]\n: b", "found unhashable key"),
        ("machine: m\nversion: " + "9" * 5_000, "Exceeds the limit"),
        ('{"machine": "m", "version": NaN}', "NaN is no JSON"),
        ("machine: 3\nstates: {}", "machine: expected text, found 3"),
        (SOUND.replace("then: b", "then: [[b]]"), "states.a.then[0]: expected a state's name"),
        (SOUND.replace("then: b", "then: []"), "states.a.then: expected at least one target"),
        (SOUND.replace("then: b", "then: b, after: {60s: b, 1m: b}"), "states.a.after.1m: this duration stands twice"),
        (
            SOUND.replace("then: b", "then: b, retry: {errors: {E: {errors: {}}}}"),
            "states.a.retry.errors.E.errors: no such key",
        ),
        (
            SOUND.replace("then: b", "then: b, children: {machine: m, limit: 1.5}"),
            "states.a.children.limit: expected a whole number",
        ),
        (SOUND + "data: {a: []}", "data.a: expected any, or one or more of"),
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


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 3), st.floats(), st.sampled_from(["a", "30s", "forever", "..."])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["a", "to", "when"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container of a document with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_document_changed_anywhere_is_read_or_refused_and_the_schema_agrees(data: st.DataObject) -> None:
    document = json.loads(json.dumps(to_document(data.draw(st.sampled_from([one.definition for one in ALL])))))
    container, key = data.draw(st.sampled_from(list(places(document))))
    if data.draw(st.booleans()):
        container[key] = data.draw(JSON)
    elif isinstance(container, dict):
        container[data.draw(st.sampled_from(["a", "then", "final", "limit", "1m", "x y"]))] = container.pop(key)
    try:
        from_document(document)
    except IllegalMachine:
        return
    except IllegalDocument:
        assert not VALIDATOR.is_valid(document)
    else:
        assert VALIDATOR.is_valid(document)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text("{}[]:,-?&*!|>%@`\"'#\n\t a1~<", max_size=40)))
def test_any_text_is_refused_with_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises((IllegalDocument, IllegalMachine)):
        read_document(text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *[("010", 10), ("1e3", 1000.0), (".5", 0.5), ("~", None), ("true", True)],
        *[(word, word) for word in ("1:30", "1_000", "0x1F", "True", "yes", "on", "2024-01-01", "=", "<<", ".inf")],
    ],
)
def test_plain_words_are_what_yaml_1_2_says(written: str, read: Any) -> None:
    fields = read_document(SOUND + f"data: {{a: {{type: any, default: {written}}}}}\n").fields
    assert fields is not None and fields["a"].default == read and type(fields["a"].default) is type(read)


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
    with pytest.raises(LimitExceeded, match="larger than 1,048,576 bytes, the limit of a document"):
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
    with pytest.raises(Refused, match=r"cannot|no machine") as refusal:
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


def test_without_pyyaml_json_is_read_and_yaml_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    text = write_document(Migration, "json")
    assert read_document(text) == Migration.definition
    for call in (lambda: read_document(SOUND), lambda: write_document(Migration)):
        with pytest.raises(Refused, match=r"pip install 'interlock\[yaml\]'"):
            call()


def test_a_document_shares_nothing_with_its_machine() -> None:
    machine = read_document(SOUND + "data: {a: {type: array, default: [1]}}\n")
    to_document(machine)["data"]["a"]["default"].append(2)
    assert machine.fields is not None and machine.fields["a"].default == [1]
