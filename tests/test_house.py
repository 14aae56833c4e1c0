"""The repository keeps its own rules, and each rule can fail."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

import pytest

import interlock
from interlock.runtime.limits import Limits
from tests import house
from tests.house import ROOT, Source
from tools.generate import stale

RULES: list[Callable[[Source], Iterable[str]]] = [
    house.wrong_floor,
    house.impure,
    house.late_imports,
    house.sizes,
    house.names,
    house.banned,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps(rule: Callable[[Source], Iterable[str]]) -> None:
    none_but([fault for source in house.sources() for fault in rule(source)])


def test_no_import_cycles() -> None:
    none_but(house.cycles(house.sources()))


def test_no_dead_code() -> None:
    prose = "\n".join((ROOT / path).read_text() for path in house.files() if path.endswith((".md", ".toml")))
    none_but(house.dead(house.sources(), prose))


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    none_but(
        fault for path in house.files() for fault in house.named_places(path, (ROOT / path).read_text(errors="replace"))
    )


def test_everything_generated_is_up_to_date() -> None:
    none_but(f"{path} is stale: run `make generate`" for path in stale())


def test_every_export_exists_and_is_documented() -> None:
    assert len(set(interlock.__all__)) == len(interlock.__all__)
    none_but(fault for name in interlock.__all__ for fault in undocumented(name, getattr(interlock, name)))


def test_every_limit_is_documented() -> None:
    none_but(
        f"Limits.{field.name}: say in the docstring what it limits"
        for field in dataclasses.fields(Limits)
        if f"{field.name}:" not in (Limits.__doc__ or "")
    )


def test_importing_interlock_loads_the_standard_library_alone() -> None:
    code = "import sys; before = set(sys.modules); import interlock; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    tops = {name.split(".")[0] for name in loaded}
    assert "interlock" in tops
    foreign = {name for name in tops if name != "interlock" and name not in sys.stdlib_module_names}
    none_but(
        f"`import interlock` loads {name}: import it where it is used, or name the export in `_LATER`"
        for name in sorted(foreign | tops & {"asyncio", "sqlite3"})
    )


def none_but(faults: Iterable[str]) -> None:
    """Fail with all faults, one a line."""
    found = list(faults)
    assert not found, "\n".join([f"{len(found)} against the house rules", *found])


def undocumented(name: str, thing: object) -> Iterator[str]:
    """Yield what of an export has no docstring of its own: itself, its public methods and properties."""
    if not inspect.isclass(thing):
        if not inspect.getdoc(thing):
            yield f"interlock.{name}: write a docstring"
        return
    if not vars(thing).get("__doc__") or (
        dataclasses.is_dataclass(thing) and (thing.__doc__ or "").startswith(f"{name}(")
    ):
        yield f"interlock.{name}: write a docstring"
    for member, value in vars(thing).items():
        called = inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
        if called and not member.startswith("_") and not inspect.getdoc(value):
            yield f"interlock.{name}.{member}: write a docstring"


BAD = {
    ("wrong_floor", "interpreter/a.py", "from interlock.stores.contract import Store"): "interpreter imports stores",
    ("wrong_floor", "definition/a.py", "def f():\n    import interlock.runtime.clock"): "definition imports runtime",
    ("wrong_floor", "guards/a.py", "from interlock.interpreter import facts"): "guards imports interpreter",
    ("wrong_floor", "runtime/a.py", "from interlock import Actions"): "runtime imports front",
    ("wrong_floor", "errors.py", "from interlock import definition"): "errors imports definition",
    ("wrong_floor", "compute/a.py", "from interlock.cli import main"): "compute imports cli",
    ("wrong_floor", "stores/a.py", "from . import contract"): "relative import",
    ("wrong_floor", "plugins/a.py", ""): "stands on no floor",
    ("wrong_floor", "runtime/a.py", "import rich.table"): "it may use: msgspec",
    ("impure", "interpreter/a.py", "import time"): "take `now` as an argument",
    ("impure", "definition/a.py", "from datetime import datetime"): "take `now` as an argument",
    ("impure", "interpreter/a.py", "def f():\n    import random"): "the seed",
    ("impure", "interpreter/a.py", "import os.path"): "do I/O on the floors above",
    ("impure", "stores/a.py", "import asyncio"): "only the runtime",
    ("late_imports", "stores/a.py", "def f(): ...\nimport json"): "import below code",
    ("sizes", "stores/a.py", "x = 1\n" * 501): "501 lines",
    ("sizes", "stores/a.py", "def f():\n" + "    x = 1\n" * 70): "`f` has 71 lines",
    ("names", "stores/utils.py", ""): "module `utils`",
    ("names", "stores/task_queue.py", ""): "not `task` but",
    ("names", "stores/a.py", "class RunContext: ..."): "not `context` but",
    ("names", "stores/a.py", "class A:\n    def list_jobs(self): ..."): "not `jobs` but operation",
    ("names", "stores/a.py", "def f(seconds_timeout): ..."): "put the unit last",
    ("names", "stores/a.py", "class A:\n    bytes_payload: int"): "put the unit last",
    ("banned", "stores/a.py", "import pickle"): "msgspec.json",
    ("banned", "stores/a.py", "eval('1')"): "ast.literal_eval",
    ("banned", "stores/a.py", "exec('1')"): "no code is run from data",
    ("banned", "stores/a.py", "yaml.load(text)"): "yaml.safe_load",
    ("banned", "stores/a.py", "yaml.load(text, Loader=yaml.FullLoader)"): "yaml.safe_load",
    ("banned", "stores/a.py", "print(1)"): "only the faces print",
    ("banned", "stores/a.py", "try: f()\nexcept: raise"): "naked except",
    ("banned", "stores/a.py", "try: f()\nexcept Exception: pass"): "does nothing",
    ("banned", "stores/a.py", "with contextlib.suppress(Exception): f()"): "name the errors",
    ("banned", "stores/a.py", "assert (1, 'x')"): "assert on a tuple",
    ("banned", "stores/a.py", "x = f()  # type: " + "ignore"): "name the code",
    ("banned", "stores/a.py", "x = 1  # TO" + "DO later"): "unfinished",
    ("banned", "../../tests/test_a.py", "time.sleep(1)"): "wait for the condition",
    ("banned", "../../tests/test_a.py", "from time import sleep"): "wait for the condition",
}


@pytest.mark.parametrize(("rule", "path", "text"), BAD, ids=[f"{n}-{key[0]}" for n, key in enumerate(BAD)])
def test_a_rule_finds_its_bad_example(rule: str, path: str, text: str) -> None:
    place = path.removeprefix("../../") if path.startswith("../../") else f"src/interlock/{path}"
    found = list(getattr(house, rule)(Source(place, text)))
    assert len(found) == 1, found
    assert BAD[rule, path, text] in found[0]


GOOD = """
from contextlib import asynccontextmanager, suppress
from interlock.definition.machine import Definition
import yaml

def task(self) -> asyncio.Task[None]: ...

def read(text, lease_seconds, bytes_per_step):
    with suppress(KeyError):
        yaml.load(text, Loader=yaml.CSafeLoader)
    try:
        return yaml.safe_load(text)
    except Exception as error:
        raise ValueError(text) from error
"""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_lets_good_code_pass(rule: Callable[[Source], Iterable[str]]) -> None:
    assert list(rule(Source("src/interlock/definition/a.py", GOOD))) == []


def test_a_cycle_is_found_through_imports_within_functions_but_not_for_types() -> None:
    first = Source("src/interlock/stores/a.py", "from interlock.stores import b")
    hidden = Source("src/interlock/stores/b.py", "def f():\n    from interlock.stores.c import x")
    back = Source("src/interlock/stores/c.py", "from interlock.stores.a import y")
    typed = Source("src/interlock/stores/c.py", "if TYPE_CHECKING:\n    from interlock.stores.a import y")
    outside = Source("src/interlock/stores/d.py", "import interlock.stores.a")
    assert [fault.split(":")[0] for fault in house.cycles([first, hidden, back, outside])] == [
        source.path for source in (first, hidden, back)
    ]
    assert house.cycles([first, hidden, typed, outside]) == []


def test_dead_code_is_found() -> None:
    text = """
__all__ = ["exported"]
_LIMIT = 1
def _recursive(): return _recursive()
def _used(): ...
def exported(): return _used()
def called_by_a_test(): ...
def named_in_the_docs(): ...
@group.command()
def registered(): ...
class Kept:
    def lost(self): ...
"""
    test = Source("tests/test_a.py", "from interlock.a import called_by_a_test, Kept")
    found = [
        fault.split("`")[1]
        for fault in house.dead([Source("src/interlock/a.py", text), test], "see `named_in_the_docs`")
    ]
    assert found == ["_LIMIT", "_recursive", "exported", "lost"]


@pytest.mark.parametrize(
    "text",
    [
        "https://pypi." + "org/simple",
        "--index-" + "url=x",
        "see /work/" + "main/README.md",
        "/root" + "/.cache",
        "/home/" + "me/x",
    ],
)
def test_a_registry_or_a_place_on_one_machine_is_found(text: str) -> None:
    assert len(list(house.named_places("a.md", f"first line\n{text}"))) == 1


def test_sources_are_found_and_parsed() -> None:
    modules = {source.module for source in house.sources() if source.in_package}
    assert {"interlock", "interlock.errors", "interlock.interpreter.decide"} <= modules
    assert all(isinstance(source.tree, ast.Module) for source in house.sources())


def test_undocumented_exports_are_found() -> None:
    @dataclasses.dataclass
    class Bare:
        x: int

        def method(self) -> None: ...

    assert [fault.split(":")[0] for fault in undocumented("Bare", Bare)] == ["interlock.Bare", "interlock.Bare.method"]
