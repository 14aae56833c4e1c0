"""A live view of one operation: the path of its states, how far the action is, and the facts as they are written.

On a terminal it redraws in place; elsewhere it prints the facts, one a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from interlock.definition.machine import Definition
from interlock.interpreter.facts import Entered
from interlock.interpreter.snapshot import Running, Snapshot
from interlock.runtime.telling import one_line, told
from interlock.stores.contract import Progress, Record

__all__ = ["LiveView"]

_STYLES = {
    "succeeded": "bold green",
    "failed": "bold red",
    "cancelled": "bold",
    "stuck": "bold red",
    "reverting": "yellow",
}
_BAR = 40


class LiveView:
    """Shows one operation while it moves. Use it in a ``with`` block.

    Args:
        definition: the operation's machine.
        console: where to show it; default: the standard output.
        prefix: what every line begins with.
    """

    def __init__(self, definition: Definition, console: Console | None = None, prefix: str = "") -> None:
        self._definition = definition
        self._console = console or Console(highlight=False)
        self._prefix = prefix
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._visited: set[str] = set()
        self._began: float | None = None

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, snapshot: Snapshot, records: Sequence[Record], progress: Progress | None = None) -> None:
        """Show what happened since the last update.

        Args:
            snapshot: the operation as it is.
            records: what was written since the last update.
            progress: what the action last said of itself.
        """
        if self._began is None:
            self._began = snapshot.started
        for record in records:
            for fact in record.facts:
                if isinstance(fact, Entered):
                    self._visited.add(fact.state)
                self._console.print(
                    Text(f"{self._prefix}  {record.at - self._began:7.2f} s  {told(fact)}", style="dim"), soft_wrap=True
                )
        if self._live:
            self._live.update(self._picture(snapshot, progress), refresh=True)

    def _picture(self, snapshot: Snapshot, progress: Progress | None) -> Group:
        lines: list[Text | Table] = [self._path(snapshot)]
        phase = snapshot.phase
        if progress is not None and isinstance(phase, Running) and phase.token == progress.token:
            lines.append(self._bar(progress))
        return Group(*lines)

    def _path(self, snapshot: Snapshot) -> Text:
        """The states in the order of writing: passed, present, ahead; ends only once they are reached."""
        text = Text(f"{self._prefix}  ")
        shown = [row for row in self._definition.table.values() if row.kind != "final" or row.name == snapshot.state]
        for number, row in enumerate(shown):
            if number:
                text.append(" ─ ", style="dim")
            if row.name == snapshot.state:
                text.append(f"[{row.name}]", style=_STYLES.get(snapshot.status, "bold cyan"))
            elif row.name in self._visited:
                text.append(row.name, style="yellow" if snapshot.rollback and row.name in snapshot.steps else "green")
            else:
                text.append(row.name, style="dim")
        text.append(f"   {snapshot.status}", style=_STYLES.get(snapshot.status, "bold"))
        return text

    def _bar(self, progress: Progress) -> Table:
        grid = Table.grid(padding=(0, 1))
        message = one_line(progress.message)
        if not progress.total or progress.total < 0:
            grid.add_row(Text(f"{self._prefix}  "), Text(f"{progress.done:g} {progress.unit}  {message}"))
            return grid
        share = max(0.0, min(1.0, progress.done / progress.total))
        said = f"{share:4.0%} of {progress.total / (1 << 20):.0f} MiB" if progress.unit == "bytes" else f"{share:4.0%}"
        bar = ProgressBar(total=1.0, completed=share, width=_BAR)
        grid.add_row(Text(f"{self._prefix}  "), bar, Text(f"{said}  {message}"))
        return grid
