"""A machine in words: for every state, who acts there, what happens when something goes wrong, and what people can do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from interlock.definition.declare import Exit, Retry, State
from interlock.definition.duration import duration_text
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition

__all__ = ["explain"]

_CONFLICTS = {
    "reject": "refused if others hold it",
    "wait": "waits in line",
    "preempt": "has those cancelled that hold it",
}


def explain(definition: Definition) -> str:
    """Return a machine in words, as Markdown.

    Every state that is not an end answers the same questions: who acts here, what if it fails, what if it takes too long, what if the
    worker dies, what a cancel means, what a worker's stop means.

    >>> from interlock import Final, Machine, State
    >>> class Door(Machine[dict[str, str]], version=1):
    ...     shut = State(initial=True, on={"push": "open"})
    ...     open = Final("succeeded")
    >>> print(explain(Door.definition))  # doctest: +ELLIPSIS
    # door, version 1
    <BLANKLINE>
    ...
    """
    return "\n".join(_lines(definition)) + "\n"


def _lines(definition: Definition) -> Iterator[str]:
    yield f"# {definition.name}, version {definition.version}"
    yield ""
    if definition.description:
        yield definition.description
        yield ""
    if definition.fields is not None:
        fields = [f"`{name}`" + ("" if field.required else " (optional)") for name, field in definition.fields.items()]
        yield f"Its data: {', '.join(fields) or 'none'}."
        yield ""
    if definition.claims:
        claims = [
            f"`{claim.name}` ({'alone' if claim.limit == 1 else f'up to {claim.limit}'}; {_CONFLICTS[claim.on_conflict]})"
            for claim in definition.claims
        ]
        yield f"It claims {', '.join(claims)}."
        yield ""
    for row in definition.table.values():
        yield from _state(definition, row)
    if definition.views:
        yield from _views(definition)


def _state(definition: Definition, row: Row) -> Iterator[str]:
    state = definition.states[row.name]
    marks = [
        row.outcome or row.kind,
        *(["initial"] if row.initial else []),
        *(["point of no return"] if row.pivot else []),
    ]
    yield f"## {row.name} ({', '.join(marks)})"
    yield ""
    if state.description:
        yield f"{state.description[0].upper()}{state.description[1:].rstrip('.')}."
        yield ""
    if row.kind == "final":
        undone = definition.drives and row.outcome != "succeeded"
        clean = ": every step that had started was undone" if undone else ""
        yield f"The operation {'was cancelled' if row.outcome == 'cancelled' else row.outcome}{clean}."
        yield ""
        if row.to:
            yield f"- May be written even after this end: {_listed(row.to)}"
            yield ""
        return
    assert isinstance(state, State)
    yield f"- Who acts: {_who(row)}"
    for event, exit in row.exits.items():
        yield f"- On `{event}`: {_exit(exit)}"
    for wait, exit in row.after:
        yield f"- After {duration_text(wait)}: {_exit(exit)}"
    if row.to:
        yield f"- May be written next: {_listed(row.to)}"
    if definition.drives:
        yield f"- If it fails: {_fails(row)}"
        yield f"- If it takes too long: {_late(definition, row)}"
        yield f"- If the worker dies: {_dies(row)}"
        yield f"- A cancel: {_cancel(row)}"
        yield f"- A worker's stop: {_stop(row)}"
    yield ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _who(row: Row) -> str:
    if row.kind == "waiting":
        return "nobody; it waits for an event, or for time to pass"
    if row.kind == "parent":
        assert row.children is not None
        return f"its children, operations of `{row.children.machine}`"
    return f"a worker of queue `{row.queue}`" if row.queue else "any worker"


def _exit(exit: Exit) -> str:
    ways = []
    for branch in exit:
        target = f"roll back to `{branch.to}`" if branch.rollback else f"go to `{branch.to}`"
        ways.append(f"{target} if `{branch.condition}`" if branch.condition else target)
    return ", else ".join(ways)


def _retry(retry: Retry) -> str:
    if retry.attempts == 1:
        return "one attempt"
    count = "attempts without limit" if retry.attempts is None else f"{retry.attempts} attempts"
    return f"{count}, {duration_text(retry.wait(1))} apart and more from one to the next"


def _fails(row: Row) -> str:
    if row.kind == "waiting":
        return "nothing is performed that could"
    if row.retry.attempts is None and not row.retry.errors and "failed" not in row.exits:
        return f"{_retry(row.retry)}, unless its action says that trying again is of no use; then {_at_last(row)}"
    by_kind = "".join(f"; {kind}: {_retry(policy)}" for kind, policy in row.retry.errors.items())
    return f"{_retry(row.retry)}{by_kind}; then {_at_last(row)}"


def _at_last(row: Row) -> str:
    if "failed" in row.exits:
        return _exit(row.exits["failed"])
    return "it is stuck and needs a person" if row.past_pivot else "roll back to `failed`"


def _late(definition: Definition, row: Row) -> str:
    found = []
    if row.timeout is not None:
        found.append(f"an attempt is ended after {duration_text(row.timeout)}, and counts as failed")
    if row.heartbeat is not None:
        found.append(f"an attempt is ended when its action is silent for {duration_text(row.heartbeat)}")
    if row.within is not None:
        exit = row.exits.get("timeout") or row.exits.get("failed")
        then = _exit(exit) if exit else "it is stuck" if row.past_pivot else "roll back to `failed`"
        found.append(f"after {duration_text(row.within)} in all, {then}")
    for name in row.groups:
        group = definition.groups[name]
        if isinstance(group.timeout, float):
            then = _exit(group.on["timeout"]) if "timeout" in group.on else "roll back to `failed`"
            found.append(f"after {duration_text(group.timeout)} in group `{name}`, {then}")
    if row.after:
        found.append("a timer moves it on, see above")
    return "; ".join(found) or "nothing happens: it has no deadline"


def _dies(row: Row) -> str:
    if row.kind == "waiting":
        return "nothing changes: no worker holds it"
    return "its lease lapses, and another worker recovers the attempt, or performs it again"


def _cancel(row: Row) -> str:
    if row.cancel == "refuse":
        return "is refused: it is past the point of no return" if row.past_pivot else "is refused"
    first = "lets the action finish, then undoes" if row.cancel == "finish" else "ends the action and undoes"
    if row.kind == "waiting":
        first = "undoes"
    return f"{first} every started step, and ends in `cancelled`"


def _stop(row: Row) -> str:
    if row.kind == "waiting":
        return "changes nothing"
    return "waits for the action" if row.on_stop == "wait" else "ends the action; another worker recovers it"


def _views(definition: Definition) -> Iterator[str]:
    yield "## Views"
    yield ""
    yield f"| state | {' | '.join(definition.views)} |"
    yield f"|---|{'---|' * len(definition.views)}"
    for name in definition.states:
        yield f"| `{name}` | {' | '.join(definition.view(name, version) for version in definition.views)} |"
