"""What can be read off the text of a sealed machine: exits and timers that never count, states that nothing bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from interlock.checking.finding import CODES, Finding
from interlock.definition.declare import Exit
from interlock.definition.duration import duration_text
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition

__all__ = ["STORY", "Story", "driven", "guarded", "timers", "told", "ways"]

STORY = 40
"""Events that a story tells at most."""
Story = Callable[[str], tuple[str, ...]]
"""The way to a state, in words."""


def ways(machine: Definition) -> Story:
    """Return a function from a state to the shortest way there, one event each, read off the table.

    >>> from interlock import Final, Machine, State
    >>> class Door(Machine[dict[str, str]], version=1):
    ...     shut = State(initial=True, on={"push": "open"})
    ...     open = Final("succeeded")
    >>> ways(Door.definition)("open")
    ('it starts in `shut`', '`push` leads to `open`')
    """

    @cache
    def parents() -> Mapping[str, tuple[str, str, int]]:
        found: dict[str, tuple[str, str, int]] = {name: ("", f"it starts in `{name}`", 1) for name in machine.initial}
        todo = deque(machine.initial)
        while todo:
            name = todo.popleft()
            leads = [
                (branch.to, f"`{event}` leads to `{branch.to}`") for event, branch in machine.table[name].targets()
            ]
            leads = [(to, f"it is written `{to}`" if words.startswith("`to`") else words) for to, words in leads]
            leads += [(to, f"it ends in `{to}`") for to in sorted(machine.moves[name])]
            for to, words in leads:
                if to not in found:
                    found[to] = (name, words, found[name][2] + 1)
                    todo.append(to)
        return found

    def story(state: str) -> tuple[str, ...]:
        words: list[str] = []
        while state in parents() and len(words) < STORY:
            state, said, _ = parents()[state]
            words.append(said)
        return told(words, parents()[state][2] if state in parents() else 0)

    return story


def told(newest_first: Sequence[str], earlier: int) -> tuple[str, ...]:
    """Return a story in the order of its events; of a long one the beginning is only counted."""
    begin = (f"after {earlier:,} earlier events",) if earlier else ()
    return (*begin, *reversed(newest_first))


def _finding(code: str, state: str, what: str, mend: str, story: tuple[str, ...] = ()) -> Finding:
    return Finding(code, CODES[code].severity, state, what, story, mend)


def driven(machine: Definition, story: Story) -> Iterator[Finding]:
    """Yield what nothing bounds in a machine that performs actions."""
    for row in machine.table.values():
        if row.kind == "acting" and not _bounded(machine, row) and row.timeout is None and row.heartbeat is None:
            what = "has no timeout, no heartbeat and no other bound: an action that hangs is never ended"
            yield _finding("no-timeout", row.name, what, 'Give it a timeout, such as timeout="5m".', story(row.name))
        if row.kind == "waiting" and not row.after and not _bounded(machine, row):
            what = f"waits for {_events(row)}, and nothing moves it when that never comes"
            mend = "Give it `after` or `within`, or a group with a timeout."
            yield _finding("no-deadline", row.name, what, mend, story(row.name))


def _bounded(machine: Definition, row: Row) -> bool:
    return row.within is not None or any(machine.groups[name].timeout is not None for name in row.groups)


def _events(row: Row) -> str:
    return ", ".join(f"`{event}`" for event in row.exits) or "what existing code writes next"


def guarded(machine: Definition, story: Story) -> Iterator[Finding]:
    """Yield what is left open in a machine that only guards: nobody but the code that writes the records can move them on."""
    for row in machine.table.values():
        if row.kind == "final":
            # Only newer definitions let a final state be left.
            left: tuple[str, ...] = getattr(machine.states[row.name], "to", ())
            if left:
                what = f"is an end, and is left again for {', '.join(f'`{name}`' for name in left)}"
                mend = "Make it a State if it is no end; else start a new record, or operation, for what follows."
                yield _finding("left-end", row.name, what, mend, story(row.name))
            continue
        outcomes = {machine.table[branch.to].outcome for _, branch in row.targets()}
        if not row.after and not _bounded(machine, row):
            what = "has no deadline: nothing moves it when the report never comes"
            yield _finding(
                "no-deadline", row.name, what, "Give it `after`, or a group with a timeout.", story(row.name)
            )
        if "lost" not in row.exits:
            what = "has no exit for `lost`: when the process that writes it dies, it stays, and no sweeper looks at it"
            mend = 'Say where it goes then, such as on={"lost": "error"}; a group says it for many states.'
            yield _finding("no-recovery", row.name, what, mend, story(row.name))
        if not {"cancel", "abort"} & set(row.exits) and "cancelled" not in outcomes:
            what = "cannot be cancelled: it has no exit for `cancel` or `abort`, and none to a cancelled final state"
            yield _finding("no-cancel", row.name, what, 'Give it an exit such as on={"cancel": ...}.', story(row.name))
        if not {"failed", "fail"} & set(row.exits) and "failed" not in outcomes:
            what = "cannot fail: it has no exit for `fail`, and none to a failed final state"
            yield _finding("no-failure", row.name, what, 'Give it an exit such as on={"fail": ...}.', story(row.name))


def timers(machine: Definition, story: Story) -> Iterator[Finding]:
    """Yield exits and timers that never count, and those that count at the same moment."""
    for row in machine.table.values():
        yield from _timers(machine, row, story)
        state = machine.states[row.name]
        for event, exit in [
            *getattr(state, "on", {}).items(),
            *((duration_text(wait), exit) for wait, exit in row.after),
        ]:
            if (double := _asked_twice(exit)) is not None:
                what = f"asks `{double}` twice on `{event}`: the second target is never taken"
                yield _finding(
                    "dead-choice", row.name, what, "Keep one of them, or ask something else.", story(row.name)
                )
        bounded = row.timeout is not None or row.heartbeat is not None or row.within is not None
        if row.kind == "acting" and "timeout" in getattr(state, "on", {}) and not bounded:
            what = "has an exit for `timeout`, and neither timeout, heartbeat nor within that could bring it"
            yield _finding("dead-event", row.name, what, "Give it a timeout, or delete the exit.", story(row.name))
    yield from _groups(machine)


def _asked_twice(exit: Exit) -> str | None:
    asked: set[str] = set()
    for branch in exit:
        if branch.condition in asked:
            return branch.condition
        if branch.condition is not None:
            asked.add(branch.condition)
    return None


def _timers(machine: Definition, row: Row, story: Story) -> Iterator[Finding]:
    """Timers of one stay begin together, so the shortest always comes first; a group's began no later."""
    own = [(wait, f"`after` {duration_text(wait)}", exit) for wait, exit in row.after]
    if row.within is not None:
        own.append(
            (row.within, f"`within` {duration_text(row.within)}", row.exits.get("timeout", row.exits.get("failed", ())))
        )
    if not own:
        return
    first, name, taken = min(own, key=lambda timer: timer[0])
    for wait, other, exit in own:
        if other != name and wait == first and exit != taken:
            what = f"has {name} and {other}, which are due at the same moment and lead to different places"
            yield _finding("competing-timers", row.name, what, "Give them different durations.", story(row.name))
        elif other != name and wait > first:
            what = f"has {other}, which never fires: {name} always comes first"
            yield _finding("dead-timer", row.name, what, "Make it the shorter one, or delete it.", story(row.name))
    for group in row.groups:
        limit = machine.groups[group].timeout
        if isinstance(limit, float) and limit < first:
            what = f"has {name}, which never fires: the {duration_text(limit)} of group `{group}` are over before"
            yield _finding("dead-timer", row.name, what, "Make it shorter than the group's timeout.", story(row.name))
            return


def _groups(machine: Definition) -> Iterator[Finding]:
    for name, group in machine.groups.items():
        members = [row for row in machine.table.values() if name in row.groups]
        for event, exit in group.on.items():
            if not any(_can_take(machine, row, name, event) for row in members):
                what = f"has an exit for `{event}` that none of its states can take"
                mend = "Delete it, or the exits of its states' own that come before it."
                if event == "timeout":
                    mend = "Give the group, or its states, a timeout; or delete the exit."
                yield _finding("dead-event", name, what, mend)
            if (double := _asked_twice(exit)) is not None:
                what = f"asks `{double}` twice on `{event}`: the second target is never taken"
                yield _finding("dead-choice", name, what, "Keep one of them, or ask something else.")
        for outer in machine.around.get(name, ()):
            limit, around = group.timeout, machine.groups[outer].timeout
            if isinstance(limit, float) and isinstance(around, float) and around < limit:
                what = f"has a timeout that never fires: the {duration_text(around)} of group `{outer}` are over before"
                yield _finding("dead-timer", name, what, "Make it shorter than the outer group's.")
                break


def _can_take(machine: Definition, row: Row, group: str, event: str) -> bool:
    """Whether a state can take its group's exit for an event."""
    if event == "timeout" and machine.groups[group].timeout is not None:
        return True
    if row.exits.get(event) is not machine.groups[group].on[event]:
        return False
    if event == "timeout":
        return row.timeout is not None or row.heartbeat is not None or row.within is not None
    return event != "failed" or row.kind != "waiting" or row.within is not None
