"""A live view of one operation: the path of its states, how far the action is, its children, and the facts as they are written.

On a terminal it redraws in place; elsewhere it prints the facts, one a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from interlock.definition.machine import Definition
from interlock.errors import Unknown
from interlock.interpreter.children import child_id
from interlock.interpreter.facts import Entered
from interlock.interpreter.snapshot import Joining, Running, Snapshot
from interlock.runtime.engine import Interlock
from interlock.runtime.telling import one_line, told
from interlock.stores.contract import Progress, Record

__all__ = ["Child", "LiveView", "children_of"]

_STYLES = {
    "succeeded": "bold green",
    "failed": "bold red",
    "cancelled": "bold",
    "stuck": "bold red",
    "reverting": "yellow",
}
_BAR, _CHILD_BAR = 40, 20
_CHILDREN = 10


class Child(NamedTuple):
    """A child that is not over: as it is, and how far its action is."""

    snapshot: Snapshot
    progress: Progress | None

    def named(self, parent: Snapshot, definition: Definition) -> str:
        """What its parent began it for, such as ``vm-1, host-a, host-b``; what it claims first, or its id, where that is nothing."""
        row, place = definition.table.get(parent.state), self.snapshot.parent
        items = parent.data.get(row.children.each or "") if row is not None and row.children is not None else None
        if place is not None and isinstance(items, list) and place.index < len(items):
            item = items[place.index]
            return one_line(", ".join(map(str, item.values())) if isinstance(item, dict) else str(item))
        return self.snapshot.claims[0].name if self.snapshot.claims else self.snapshot.id


async def children_of(interlock: Interlock, snapshot: Snapshot) -> list[Child]:
    """Return the first children of an operation that were begun and are not over, as many as are shown."""
    found: list[Child] = []
    for index in _live(snapshot)[:_CHILDREN]:
        id = child_id(snapshot, index)
        try:
            found.append(Child(await interlock.show(id), await interlock.progress(id)))
        except Unknown:
            continue  # it was issued, and is about to be begun
    return found


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
        self._children: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(
        self,
        snapshot: Snapshot,
        records: Sequence[Record],
        progress: Progress | None = None,
        children: Sequence[Child] = (),
    ) -> None:
        """Show what happened since the last update.

        Args:
            snapshot: the operation as it is.
            records: what was written since the last update.
            progress: what the action last said of itself.
            children: those that are not over; of them only changes of state are told.
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
        for child in children:
            now = child.snapshot.state, child.snapshot.status
            if self._children.get(child.snapshot.id) != now:
                self._children[child.snapshot.id] = now
                at = child.snapshot.changed - self._began
                self._console.print(
                    Text(
                        f"{self._prefix}  {at:7.2f} s      {child.named(snapshot, self._definition)}: {now[1]} in {now[0]}",
                        style="dim",
                    ),
                    soft_wrap=True,
                )
        if self._live:
            self._live.update(self._picture(snapshot, progress, children), refresh=True)

    def _picture(self, snapshot: Snapshot, progress: Progress | None, children: Sequence[Child]) -> Group:
        lines: list[Text | Table] = [self._path(snapshot)]
        if progress is not None and _of_now(snapshot, progress):
            lines.append(self._bar(progress))
        if children:
            lines.append(self._rows(snapshot, children))
        return Group(*lines)

    def _rows(self, parent: Snapshot, children: Sequence[Child]) -> Table:
        """One row for each child: what it has in hand, where it is, and how far."""
        grid = Table.grid(padding=(0, 1))
        for child in children:
            snapshot, progress = child
            row: list[Text | ProgressBar] = [Text(f"{self._prefix}    {child.named(parent, self._definition)}")]
            row.append(Text(f"[{snapshot.state}]", style=_STYLES.get(snapshot.status, "bold cyan")))
            if progress is not None and progress.total and _of_now(snapshot, progress):
                share = max(0.0, min(1.0, progress.done / progress.total))
                row += [ProgressBar(total=1.0, completed=share, width=_CHILD_BAR), Text(f"{share:4.0%}")]
            else:
                row += [Text(snapshot.status, style=_STYLES.get(snapshot.status, "")), Text("")]
            grid.add_row(*row)
        if (more := len(_live(parent)) - len(children)) > 0:
            grid.add_row(Text(f"{self._prefix}    and {more} more", style="dim"))
        return grid

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


def _live(snapshot: Snapshot) -> tuple[int, ...]:
    return snapshot.phase.live if isinstance(snapshot.phase, Joining) else ()


def _of_now(snapshot: Snapshot, progress: Progress) -> bool:
    """Whether this was said by the attempt that is running, not by one before it."""
    return isinstance(snapshot.phase, Running) and snapshot.phase.token == progress.token
