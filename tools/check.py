"""The one entry for everything that is checked: style, types, generated files, tests.

    python -m tools.check [--nightly] [--require-qemu] [pytest arguments ...]

All parts run even if one fails; the exit status is 1 if any did.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
BIN = Path(PYTHON).parent

STATIC = {
    "style": [str(BIN / "ruff"), "check", "."],
    "format": [str(BIN / "ruff"), "format", "--check", "--quiet", "."],
    "types": [str(BIN / "mypy")],
    "public types": [str(BIN / "basedpyright"), "--level", "error"],
    "generated": [PYTHON, "-m", "tools.generate", "--check"],
}


def main(arguments: list[str]) -> int:
    marks = "slow or not slow" if "--nightly" in arguments else "not nightly"
    rest = [word for word in arguments if word != "--nightly"]
    parts = {**STATIC, "tests": [PYTHON, "-m", "pytest", "-n", "2", "--dist", "worksteal", "-m", marks, *rest]}
    failed = []
    for name, command in parts.items():
        began = time.monotonic()
        print(f"== {name}: {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
        print(f"== {name}: {'failed' if name in failed else 'ok'} in {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
