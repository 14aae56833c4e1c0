"""The rules of the house, each a function from sources to faults; `test_house.py` applies them.

A fault says where, what is wrong, and what to write instead.
"""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES = 500
FUNCTION_LINES = 70

_BELOW_RUNTIME = ("errors", "definition", "interpreter", "stores")
_BESIDE_RUNTIME = ("front", *_BELOW_RUNTIME, "runtime")
# What each part of the package may import; "front" is `from interlock import <an exported name>`.
FLOORS: Mapping[str, Sequence[str]] = {
    "errors": (),
    "definition": ("errors",),
    "guards": ("errors", "definition"),
    "interpreter": ("errors", "definition"),
    "stores": ("errors", "definition", "interpreter"),
    "runtime": _BELOW_RUNTIME,
    "sync": _BESIDE_RUNTIME,
    "compute": _BESIDE_RUNTIME,
    "testing": (*_BESIDE_RUNTIME, "exploring"),
    "exploring": (*_BELOW_RUNTIME, "runtime", "testing"),
    "bench": (*_BESIDE_RUNTIME, "guards", "compute"),
    "records": (*_BESIDE_RUNTIME, "guards"),
    "checking": ("errors", "definition", "interpreter"),
    "history": ("errors", "definition"),
    "hosts": ("errors", "definition", "interpreter"),
    "cli": (
        *_BESIDE_RUNTIME,
        "guards",
        "sync",
        "compute",
        "testing",
        "exploring",
        "bench",
        "hosts",
        "checking",
        "history",
    ),
}
THIRD_PARTY: Mapping[str, Sequence[str]] = {
    "definition": ("msgspec", "yaml", "fast_sugiyama"),
    "guards": ("sqlalchemy", "django"),
    "records": ("sqlalchemy",),
    "interpreter": ("msgspec",),
    "checking": ("msgspec",),
    "history": ("sqlalchemy",),
    "stores": ("msgspec",),
    "runtime": ("msgspec", "cronsim"),
    "compute": ("msgspec", "qemu"),
    "testing": ("msgspec",),
    "exploring": ("msgspec", "pytest"),
    "bench": ("msgspec", "automat", "automaton", "django", "django_fsm", "transitions"),
    "cli": ("msgspec", "yaml", "click", "rich"),
}
_PURE = ("errors", "definition", "interpreter", "checking")
_IMPURE = {
    **dict.fromkeys(("time", "datetime.datetime", "datetime.date"), "take `now` as an argument"),
    **dict.fromkeys(("random", "secrets", "uuid"), "take the id or the seed as an argument"),
    **dict.fromkeys(("os", "socket", "sqlite3", "subprocess", "tempfile", "shutil"), "do I/O on the floors above"),
    **dict.fromkeys(("threading", "concurrent", "multiprocessing", "queue"), "only the runtime knows of concurrency"),
}
_NO_ASYNCIO = (*_PURE, "guards", "stores", "__init__")

MODULE_NAMES = {"utils", "util", "models", "base", "helpers", "common", "manager", "managers", "misc"}
WORDS = {
    "task": "action, or operation",
    "job": "operation",
    "workflow": "machine, or operation",
    "activity": "action",
    "activities": "action",
    "manager": "what it really does",
    "context": "Operation, or what it holds",
    "handler": "action, undo or recover",
}
UNITS = {"seconds", "milliseconds", "bytes", "characters"}
_SAFE_YAML = "use yaml.safe_load, or yaml.load with a SafeLoader"
CALLS = {
    "eval": "parse it: ast.literal_eval, or a document",
    "exec": "no code is run from data",
    "compile": "no code is run from data",
    "__import__": "importlib.import_module",
    "yaml.unsafe_load": _SAFE_YAML,
    "yaml.full_load": _SAFE_YAML,
    "yaml.load_all": _SAFE_YAML,
}
MODULES = dict.fromkeys(("pickle", "marshal", "shelve", "dill", "cloudpickle"), "msgspec.json, or a document")
# What must not be named in any file: registries (pip and npm know theirs) and places on one machine.
_REGISTRIES = r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|(?<!emit-)index-ur[l]|/opt/(?:pypi|wheels)"
_PLACES = r"(?<![\w.])/(?:work/(?:main|shared)|tmp/brie[f]|root/[.\w]|home/[a-z]\w*/)"
TEXTS = {
    _REGISTRIES: "leave registries to the reader's configuration",
    _PLACES: "give a path from the project's root, or a temporary directory",
}


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the project's root, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def in_package(self) -> bool:
        return self.path.startswith("src/interlock/")

    @property
    def module(self) -> str:
        """The dotted name; `interlock` for the package itself."""
        parts = list(Path(self.path.removeprefix("src/")).with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def floor(self) -> str:
        """The part of the package it belongs to: `runtime`, `errors`, `__init__`; elsewhere the top directory."""
        parts = Path(self.path).with_suffix("").parts
        return parts[2] if self.in_package else parts[0]

    def fault(self, node: ast.AST | int, text: str) -> str:
        return f"{self.path}:{node if isinstance(node, int) else getattr(node, 'lineno', 1)}: {text}"


@dataclass(frozen=True)
class Import:
    """One imported name: `from a.b import c` is module `a.b`, name `c`."""

    module: str
    name: str
    node: ast.stmt
    typing_only: bool

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


@cache
def files() -> tuple[str, ...]:
    """Return all files of the repository, new ones included, by path from the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(sorted({path for path in listed if path and (ROOT / path).is_file()}))


@cache
def sources() -> tuple[Source, ...]:
    """Return all Python files of the repository."""
    return tuple(Source(path, (ROOT / path).read_text()) for path in files() if path.endswith(".py"))


def imports(source: Source) -> Iterator[Import]:
    """Yield every import of a file, also those within functions."""
    typing_only = {
        id(node)
        for block in ast.walk(source.tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node, id(node) in typing_only)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import("." * node.level + (node.module or ""), alias.name, node, id(node) in typing_only)


def wrong_floor(source: Source) -> Iterator[str]:
    """Imports go down only, and each floor knows only its own libraries."""
    if not source.in_package or source.floor in ("__init__", "__main__"):
        return
    if source.floor not in FLOORS:
        yield source.fault(
            1, f"`{source.floor}` stands on no floor: say in FLOORS of tests/house.py what it may import"
        )
        return
    allowed = {source.floor, *FLOORS[source.floor]}
    for one in imports(source):
        if one.module.startswith("."):
            yield source.fault(one.node, "relative import: write `from interlock.…`")
        elif one.top == "interlock":
            parts = [*one.module.split("."), one.name][1:]
            target = "front" if len(parts) < 2 and not _is_part(parts[0]) else parts[0]
            if target not in allowed:
                below = ", ".join(FLOORS[source.floor]) or "nothing"
                yield source.fault(
                    one.node,
                    f"{source.floor} imports {target}, it stands on: {below}; move the code, or hand it in as an argument",
                )
        elif one.top not in sys.stdlib_module_names and one.top not in THIRD_PARTY.get(source.floor, ()):
            known = ", ".join(THIRD_PARTY.get(source.floor, ())) or "the standard library only"
            yield source.fault(one.node, f"{source.floor} imports `{one.top}`, it may use: {known}")


def _is_part(name: str) -> bool:
    return name in FLOORS


def impure(source: Source) -> Iterator[str]:
    """No clock, randomness, I/O or concurrency on the pure floors, no asyncio below the runtime."""
    if not source.in_package:
        return
    for one in imports(source):
        names = (one.top, f"{one.module}.{one.name}")
        if "asyncio" in names and source.floor in _NO_ASYNCIO:
            yield source.fault(one.node, f"asyncio in {source.floor}: only the runtime and what stands on it may wait")
        mend = next((_IMPURE[name] for name in names if name in _IMPURE), None)
        if mend and source.floor in _PURE:
            yield source.fault(one.node, f"`{one.module}` in {source.floor}: {mend}")


def late_imports(source: Source) -> Iterator[str]:
    """Imports of a file stand on top, before its first class or function."""
    begun = False
    for node in source.tree.body:
        begun = begun or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if begun and isinstance(node, ast.Import | ast.ImportFrom):
            yield source.fault(
                node, "import below code: move it to the top; if that makes a cycle, move the shared part down"
            )


def cycles(package: Iterable[Source]) -> list[str]:
    """Return the import cycles among modules, imports within functions included, those for types alone left out."""
    known = {source.module: source for source in package if source.in_package}
    edges: dict[str, set[str]] = {}
    for module, source in known.items():
        targets = {
            f"{one.module}.{one.name}" if f"{one.module}.{one.name}" in known else one.module
            for one in imports(source)
            if not one.typing_only
        }
        edges[module] = {target for target in targets if target in known and target != module}
    found = []
    while ends := {module for module, targets in edges.items() if not targets & edges.keys()}:
        edges = {module: targets for module, targets in edges.items() if module not in ends}
    while starts := edges.keys() - {target for targets in edges.values() for target in targets}:
        edges = {module: targets for module, targets in edges.items() if module not in starts}
    for module, targets in sorted(edges.items()):
        into = ", ".join(sorted(targets & edges.keys()))
        found.append(
            f"{known[module].path}: in an import cycle through {into}: move what both need into a module below"
        )
    return found


def sizes(source: Source) -> Iterator[str]:
    """Files and functions stay small enough to be read in one go."""
    lines = source.text.count("\n")
    if lines > FILE_LINES and "Generated by tools/" not in source.text[:1_000]:
        yield source.fault(1, f"{lines} lines, at most {FILE_LINES}: split it by what changes together")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield source.fault(node, f"`{node.name}` has {length} lines, at most {FUNCTION_LINES}: name its parts")


def names(source: Source) -> Iterator[str]:
    """One word per idea, modules named for what is in them, units last."""
    if not source.in_package:
        return
    path = Path(source.path)
    for part in {*path.parts[2:-1], path.stem} & MODULE_NAMES:
        yield source.fault(1, f"module `{part}`: name it for what is in it")
    named: list[tuple[ast.AST | int, str]] = [(1, path.stem)]
    fields: list[tuple[ast.AST | int, str]] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) or (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _of_asyncio(node)
        ):
            named.append((node, node.name))
        if isinstance(node, ast.ClassDef):
            fields += [
                (field, field.target.id)
                for field in node.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            ]
        if isinstance(node, ast.arg):
            fields.append((node, node.arg))
    for place, name in named:
        for word in [] if name.startswith("_") else words(name):
            mend = WORDS.get(word) or WORDS.get(word.removesuffix("s"))
            if mend:
                yield source.fault(place, f"`{name}`: not `{word}` but {mend}")
    for place, name in fields:
        parts = words(name)
        if len(parts) > 1 and "per" not in parts and UNITS & set(parts[:-1]):
            yield source.fault(place, f"`{name}`: put the unit last, as in `lease_seconds`")


def _of_asyncio(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it is a verb of asyncio's own, or returns one of asyncio's things: these keep asyncio's words."""
    if hasattr(asyncio.AbstractEventLoop, node.name):
        return True
    return node.returns is not None and "asyncio." in ast.unparse(node.returns)


def words(name: str) -> list[str]:
    """Return the words of an identifier, in lower case.

    >>> words("LiveMigration_step2")
    ['live', 'migration', 'step']
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def banned(source: Source) -> Iterator[str]:
    """Constructs that hide failures or run data, each with what to write instead."""
    test = source.path.startswith("tests/")
    for one in imports(source):
        if one.top in MODULES:
            yield source.fault(one.node, f"`{one.top}`: {MODULES[one.top]}")
        if test and (one.module, one.name) == ("time", "sleep"):
            yield source.fault(
                one.node, "time.sleep in a test: wait for the condition, or use a clock of the test's own"
            )
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield from _banned_call(source, node, test)
        elif isinstance(node, ast.ExceptHandler):
            kind = ast.unparse(node.type) if node.type else ""
            if not kind:
                yield source.fault(node, "naked except: name the errors")
            elif kind in ("Exception", "BaseException") and all(_does_nothing(one) for one in node.body):
                yield source.fault(
                    node,
                    f"`except {kind}` that does nothing: name the errors that are expected, let the others through",
                )
        elif isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple):
            yield source.fault(node, "assert on a tuple always holds: leave the parentheses out")
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"#.*\btype: ignore(?!\[)", line):
            yield source.fault(number, "bare ignore: name the code and say why, `# type: ignore[code]`")
        if re.search(r"#.*\b(?:TOD[O]|FIXM[E]|XX[X])\b", line):
            yield source.fault(number, "unfinished: do it, or say in the documentation what does not hold")


def _banned_call(source: Source, node: ast.Call, test: bool) -> Iterator[str]:
    called = ast.unparse(node.func)
    if called in CALLS and not (test and called in ("exec", "compile")):
        yield source.fault(node, f"{called}(): {CALLS[called]}")
    if called == "yaml.load" and "Safe" not in " ".join(ast.unparse(one) for one in [*node.args[1:], *node.keywords]):
        yield source.fault(node, f"yaml.load(): {_SAFE_YAML}")
    if called == "print" and source.in_package and source.floor not in ("cli", "bench"):
        yield source.fault(node, "print(): return it, or log it; only the faces print")
    if called == "time.sleep" and test:
        yield source.fault(node, "time.sleep in a test: wait for the condition, or use a clock of the test's own")
    if called in ("suppress", "contextlib.suppress"):
        for kind in (ast.unparse(one) for one in node.args):
            if kind in ("Exception", "BaseException"):
                yield source.fault(node, f"suppress({kind}): name the errors that are expected")


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass | ast.Continue) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def dead(everything: Sequence[Source], prose: str) -> list[str]:
    """Return what the package defines and nobody uses: private names within their module, public ones anywhere.

    Args:
        everything: all Python files, tests and tools included: a use there counts.
        prose: the text of the documentation and settings; a word there counts too.
    """
    uses: dict[str, int] = dict.fromkeys(re.findall(r"\w+", prose), 1)
    for source in everything:
        for name in _uses(source.tree):
            uses[name] = uses.get(name, 0) + 1
    found = []
    for source in everything:
        if not source.in_package:
            continue
        local = list(_uses(source.tree))
        for node, name, top in _definitions(source.tree):
            own = sum(used == name for used in _uses(node))
            if name.startswith("__") or name == "_":
                continue
            if name.startswith("_"):
                if top and local.count(name) <= own:
                    found.append(source.fault(node, f"`{name}` is used nowhere in its module: delete it"))
            elif (
                not isinstance(node, ast.Assign | ast.AnnAssign) and not _registered(node) and uses.get(name, 0) <= own
            ):
                found.append(source.fault(node, f"`{name}` is used nowhere, not in a test either: delete it"))
    return found


def _definitions(tree: ast.Module) -> Iterator[tuple[ast.stmt, str, bool]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((node, target.id, True) for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node, node.name, True
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield inner, inner.name, False


def _uses(tree: ast.AST) -> Iterator[str]:
    exports = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets)
        for part in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.split(".")[-1]
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in exports:
            yield from (
                re.findall(r"[A-Za-z_]\w*", node.value) if len(node.value) < 200 and " " not in node.value else ()
            )


def _registered(node: ast.stmt) -> bool:
    """Whether a decorator hands it to somebody else, who then calls it."""
    plain = (
        "property",
        "staticmethod",
        "classmethod",
        "cached_property",
        "contextmanager",
        "asynccontextmanager",
        "dataclass",
        "cache",
        "final",
        "abstractmethod",
        "runtime_checkable",
    )
    decorators = [ast.unparse(one).split("(")[0].split(".")[-1] for one in getattr(node, "decorator_list", ())]
    return any(one not in plain for one in decorators)


def named_places(path: str, text: str) -> Iterator[str]:
    """No file names a package registry or a place on one machine."""
    for pattern, mend in TEXTS.items():
        for match in re.finditer(pattern, text):
            yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}: `{match.group()}`: {mend}"
