"""The examples of the documentation run: `README.md`, the other pages beside it, and everything in `docs/`.

What a fenced block is follows from the line that opens it:

    ```python               a script; with `>>>` in it, a session whose output is compared. The blocks of a page share their names.
    ```python file=a.py     written to that file, for the blocks below it to import or to run; so are `yaml file=…` and `json file=…`
    ```python no-run        only shown, like every other language
    ```console              each `$ interlock …` or `$ python …` is run, and must exit with 0, or as a line `# exit 1` below it says
    ```console no-run       only shown; commands of other programs belong in ```sh

A page is run from top to bottom in a temporary directory of its own.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMAND_SECONDS = 60
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else the opening line says, the number of its first line, and its text."""

    language: str
    option: str
    line: int
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    opened: tuple[str, str, int] | None = None
    text: list[str] = []
    for number, line in enumerate(page.splitlines(), 1):
        fence = re.match(r"(\s*)```(.*)", line)
        if fence and opened is None:
            language, _, option = fence[2].strip().partition(" ")
            opened, text = (language, option.strip(), len(fence[1])), []
        elif fence and opened and not fence[2].strip():
            yield Block(opened[0], opened[1], number - len(text), "\n".join(text) + "\n")
            opened = None
        elif opened:
            text.append(line[min(opened[2], len(line) - len(line.lstrip())) :])
    assert opened is None, "a fenced block is not closed"


def run_page(path: Path) -> None:
    """Run a page in the current directory; fails with the place of the first example that does not hold."""
    module = types.ModuleType(f"page_{path.stem.replace('-', '_')}")
    before = set(sys.modules)
    sys.modules[module.__name__] = module  # type hints and dataclasses look their module up
    try:
        for block in blocks(path.read_text()):
            run_block(block, path, vars(module))
    finally:
        for name in set(sys.modules) - before:  # the next page may write a file of the same name
            if (
                name == module.__name__
                or Path(getattr(sys.modules[name], "__file__", None) or ROOT).parent == Path.cwd()
            ):
                del sys.modules[name]


def run_block(block: Block, path: Path, names: dict[str, Any]) -> None:
    where = f"{path.name}:{block.line}"
    key, _, value = block.option.partition("=")
    if key == "file":
        assert value and Path(value).name == value, f"{where}: `file=` wants a plain file name"
        Path(value).write_text(block.text)
    elif block.language not in ("python", "console") or block.option == "no-run":
        return
    elif block.option:
        pytest.fail(f"{where}: `{block.option}` is neither `no-run` nor `file=…`")
    elif block.language == "console":
        run_commands(block, where)
    elif ">>>" in block.text:
        session = doctest.DocTestParser().get_doctest(block.text, {}, where, str(path), block.line - 1)
        session.globs = names
        said: list[str] = []
        doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(session, out=said.append, clear_globs=False)
        assert not said, f"{where}: {''.join(said)}"
    else:
        exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), names)


def run_commands(block: Block, where: str) -> None:
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block.text, re.M)
    assert commands, f"{where}: a console block without a line that begins with `$ `: call it ```text"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    for command, below in commands:
        assert command.split()[0] in ("interlock", "python"), (
            f"{where}: `{command}`: what is not run here belongs in ```sh"
        )
        said = re.search(r"^# exit (\d+)$", below, re.M)
        done = subprocess.run(
            ["sh", "-c", command],
            env={**os.environ, "PATH": path, "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        wanted = int(said[1]) if said else 0
        assert done.returncode == wanted, (
            f"{where}: `{command}`: exit {done.returncode}, not {wanted}\n{done.stdout}{done.stderr}"
        )
        shown = "\n...".join(line for line in below.splitlines() if "..." in line)
        said_all = f"{done.stdout}{done.stderr}"
        assert not shown or doctest.OutputChecker().check_output(f"...{shown}...", said_all, OPTIONS), (
            f"{where}: `{command}` says\n{said_all}"
        )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_page_hold(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run_page(path)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", prose)
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert not missing, f"{path.relative_to(ROOT)} links to what is not there: {', '.join(missing)}"


GOOD = """
```python
from dataclasses import dataclass
@dataclass
class Seen:
    count: int = 2
```
1. indented

   ```python
   >>> Seen().count
   2
   ```

```python file=other.py
print("hello")
```
```console
$ python other.py \\
    > said.txt
$ python -c "import sys; sys.exit(3)"
whatever it prints
# exit 3
```
```yaml file=machine.yaml
states: {}
```
```python
import other
from pathlib import Path
assert Path("machine.yaml").read_text() == "states: {}\\n"
assert Path("said.txt").read_text() == "hello\\n"
```
```python no-run
raise SystemExit
```
```sh
false
```
"""
BAD = {
    "```python\n1 / 0\n```": "division by zero",
    "```python\n>>> 1 + 1\n3\n```": "Expected:",
    "```console\n$ python -c 'raise SystemExit(1)'\n```": "exit 1, not 0",
    "```console\n$ python -c pass\n# exit 1\n```": "exit 0, not 1",
    "```console\n$ make demo\n```": "belongs in ```sh",
    "```console\nmake demo\n```": "call it ```text",
    "```python norun\n```": "neither `no-run`",
    "```yaml file=../a.yaml\n```": "plain file name",
    "```python\n": "not closed",
}


def test_good_examples_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "page.md").write_text(GOOD)
    run_page(tmp_path / "page.md")
    assert "other" not in sys.modules


@pytest.mark.parametrize("page", BAD, ids=range(len(BAD)))
def test_a_bad_example_fails(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(page)
    with pytest.raises((Exception, pytest.fail.Exception), match=re.escape(BAD[page])):
        run_page(tmp_path / "page.md")
