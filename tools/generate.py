"""Write everything in the repository that is generated, or check that it is up to date.

    python -m tools.generate            write
    python -m tools.generate --check    exit 1 and name what is stale

A generator is a module with a function ``generate() -> dict[str, str]``: texts by path from the project's root.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATORS = [
    "interlock.checking.finding",
    "interlock.definition.schema",
    "tools.cli_reference",
    "tools.generate_sync",
    "tools.machines_of_today",
    "tools.reference",
]


def generated() -> dict[str, str]:
    """Return all generated texts by path from the project's root."""
    texts: dict[str, str] = {}
    for name in GENERATORS:
        for path, text in import_module(name).generate().items():
            assert path not in texts, f"{path} is generated twice"
            texts[path] = text
    return texts


def stale() -> list[str]:
    """Return the paths whose files differ from what would be generated now."""
    return [
        path for path, text in generated().items() if not (ROOT / path).is_file() or (ROOT / path).read_text() != text
    ]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        paths = stale()
        for path in paths:
            print(f"{path} is stale: run `make generate`")
        return 1 if paths else 0
    if arguments:
        print(__doc__)
        return 2
    for path, text in generated().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
