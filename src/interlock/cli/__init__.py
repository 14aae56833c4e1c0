"""The command line: `interlock`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; what ``interlock`` and ``python -m interlock.cli`` call."""
    try:
        from interlock.cli.app import app

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.stderr.write("the command line needs two libraries: pip install 'interlock[cli]'\n")
        sys.exit(2)
