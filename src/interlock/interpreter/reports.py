"""States that other code performs: what it reports, and operations that it began. Rule 11 of `decide`."""

from __future__ import annotations

from interlock.definition.data import fit
from interlock.definition.declare import Branch, Final
from interlock.definition.machine import Definition
from interlock.errors import NotPossible, Refused
from interlock.interpreter import attempts, ways
from interlock.interpreter import facts as f
from interlock.interpreter import inputs as i
from interlock.interpreter.possible import possible
from interlock.interpreter.snapshot import Queued, Waiting
from interlock.interpreter.turn import Turn

__all__ = ["adoptable", "report", "steps_behind"]


def report(turn: Turn, input: i.Report) -> None:
    after, machine = turn.after, turn.machine
    if (input.key and input.key in after.keys) or (input.to and input.to == after.state):
        return
    where = f"operation `{after.id}` ({after.machine}, in `{after.state}`, {after.status})"
    what = f"that its record is in `{input.to}`" if input.to else f"`{input.event}`"
    queued = type(after.phase) is Queued and after.phase.kind == "perform"
    if after.rollback or after.choice or not (queued or type(after.phase) is Waiting):
        why = "it is over" if after.ended else "the engine itself is at it"
        raise NotPossible(
            f"{where}: other code reports {what}, but {why}", possible(machine, after), operation=after.id
        )
    data = fit(machine.fields, input.data, "report", partial=True)
    row = turn.row
    way = _way(machine, after.state, input.to) if input.to else None
    if way is None and (input.to or input.event not in row.exits):
        allowed = [f"report {name}" for name in sorted(machine.moves[after.state] if input.to else row.exits)]
        raise NotPossible(f"{where}: other code reports {what}, where no exit leads", allowed, operation=after.id)
    turn.add(f.Reported(way[0] if way else input.event, input.to, data, input.key, input.by, row.undo))
    if way:
        ways.take(turn, way[1], way[0])
    else:
        ways.follow(turn, row.exits[input.event], "event", input.event)
    attempts.issue(turn)


def _way(machine: Definition, state: str, to: str) -> tuple[str, Branch] | None:
    """Return the exit that leads from a state to another, if one does; a rollback's end counts, as `Definition.moves` has it."""
    machine.row(to)
    for event, branch in machine.table[state].targets():
        if branch.to == to:
            return event, branch
    return (to, Branch(to, rollback=True)) if to in machine.moves[state] else None


def adoptable(machine: Definition, state: str | None) -> str:
    """Return the state in which an operation is adopted. Raises `Refused` or `Unknown`."""
    if state is None:
        raise Refused(f"an operation of `{machine.name}` that other code began is adopted in a state: say state=")
    machine.row(state)
    if isinstance(machine.states[state], Final):
        raise Refused(f"`{state}` of `{machine.name}` is final: what has ended is not adopted")
    return state


def steps_behind(machine: Definition, state: str) -> tuple[str, ...]:
    """Return the states with an undo from which ``state`` can be reached: whoever stands there may have begun any of them."""
    before: dict[str, set[str]] = {}
    for name, row in machine.table.items():
        for _, branch in row.targets():
            if not branch.rollback:
                before.setdefault(branch.to, set()).add(name)
    found: set[str] = set()
    todo = [state]
    while todo:
        for name in before.get(todo.pop(), ()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return tuple(name for name, row in machine.table.items() if name in found and row.undo and name != state)
