"""Sealing: what makes a machine contradictory or incomplete, found when it is built.

Each rule below yields `Fault`s with a stable code, the place, what is wrong and what would mend it. All rules run, so that one build
shows everything. The rules that need the machine's behaviour, not only its text, belong to the checker.

    names        bad-name, long-name, reserved-event
    targets      unknown-target, unknown-member, dead-end, open-choice, dead-branch, rollback-target
    kinds        mixed-kind, useless-option, bad-option
    ways         no-state, no-initial, unreachable, no-way-out
    undoing      no-undo, undo-past-pivot, way-back, unclean-end, no-failed, no-cancelled
    groups       group-cycle, competing-exits
    naming       unknown-field, bad-template, twice-claimed
    views        view-unknown, view-twice, view-missing
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from interlock.definition.declare import Branch, Final, State
from interlock.definition.flatten import NAME, RESERVED_EVENTS, branches_of, groups_of, template_fields
from interlock.errors import Fault, IllegalMachine, did_you_mean

if TYPE_CHECKING:
    from interlock.definition.machine import Definition

__all__ = ["seal"]

NAME_LENGTH = 64
STATES = 10_000
_OPTIONS = {"cancel": ("rollback", "finish", "refuse"), "on_stop": ("wait", "handover"), "undo": (True, "nothing")}


def seal(definition: Definition) -> None:
    """Raise `IllegalMachine` with every fault of a definition, or return if it has none."""
    faults = [*_names(definition), *_kinds(definition), *_targets(definition), *_groups(definition)]
    if not faults:
        faults = [*_ways(definition), *_undoing(definition), *_templates(definition), *_views(definition)]
    if faults:
        raise IllegalMachine(definition.name, faults)


def _states(definition: Definition) -> Iterator[tuple[str, State]]:
    for name, state in definition.states.items():
        if isinstance(state, State):
            yield f"`{name}`", state


def _names(definition: Definition) -> Iterator[Fault]:
    if not definition.states:
        yield Fault("no-state", "machine", "has no state", "Declare at least one State and one Final.")
    if len(definition.states) > STATES:
        yield Fault(
            "no-state", "machine", f"has {len(definition.states)} states", f"Stay below {STATES}, or split the machine."
        )
    if isinstance(definition.version, bool) or not isinstance(definition.version, int) or definition.version < 1:
        yield Fault("bad-name", "machine", f"has version {definition.version!r}", "Number versions 1, 2, 3.")
    words = [(name, "state") for name in definition.states] + [(name, "group") for name in definition.groups]
    for _, state in _states(definition):
        words += [(event, "event") for event in state.on]
    for group in definition.groups.values():
        words += [(event, "event") for event in group.on]
    for word, what in dict.fromkeys(words):
        if not NAME.fullmatch(word):
            yield Fault(
                "bad-name",
                f"`{word}`",
                f"is no name for a {what}",
                "Use letters, digits and underscores; keep the text in `status`.",
            )
        elif len(word) > NAME_LENGTH:
            yield Fault(
                "long-name", f"`{word}`", f"is longer than {NAME_LENGTH} letters", f"Shorten the {what}'s name."
            )
    for name in definition.groups:
        if name in definition.states:
            yield Fault("bad-name", f"`{name}`", "is both a state and a group", "Rename one of them.")
    for name, group in definition.groups.items():
        for event in sorted(RESERVED_EVENTS & set(group.on) - {"failed", "timeout"}):
            yield Fault(
                "reserved-event",
                f"group `{name}`",
                f"has an exit for `{event}`",
                "An outcome `done` belongs to one state.",
            )


def _kinds(definition: Definition) -> Iterator[Fault]:
    for where, state in _states(definition):
        if state.children is not None and state.pivot:
            yield Fault(
                "mixed-kind", where, "is a parent and a pivot", "Put the pivot into an acting state of its own."
            )
        if not state.on and not state.after and not state.to and not state.children and not _grouped(definition, state):
            yield Fault("dead-end", where, "has no exit", "Give it `then`, `on` or `after`, or make it a Final.")
        if state.kind == "parent" and "done" not in state.on:
            yield Fault("dead-end", where, "has children and no `then`", "Say where it goes when they are done.")
        if state.kind == "waiting":
            for option in ("queue", "undo", "retry", "undo_retry", "timeout", "heartbeat"):
                if getattr(state, option) is not None:
                    mend = (
                        "Use `within` or `after`."
                        if option == "timeout"
                        else "Give the state a `then`, or leave it out."
                    )
                    yield Fault("useless-option", where, f"has `{option}` but no action is performed in it", mend)
            for event in ("failed", "timeout"):
                if event in state.on and not (event == "timeout" and state.within is not None):
                    yield Fault(
                        "useless-option",
                        where,
                        f"waits for `{event}`, an action's outcome",
                        "Give the event a name of its own.",
                    )
        bounds = [("after", wait) for wait in state.after]
        bounds += [(option, getattr(state, option)) for option in ("timeout", "within", "heartbeat")]
        for option, value in bounds:
            if value == 0:
                yield Fault(
                    "bad-option",
                    where,
                    f"has {option} of no duration",
                    "Give it a duration above 0 seconds, or leave it out.",
                )
        for option, allowed in _OPTIONS.items():
            value = getattr(state, option)
            if value is not None and value not in allowed:
                listed = ", ".join(repr(item) for item in allowed)
                yield Fault("bad-option", where, f"has {option}={value!r}", f"Use one of {listed}.")


def _grouped(definition: Definition, state: State) -> bool:
    return state.name in definition.around


def _targets(definition: Definition) -> Iterator[Fault]:
    places: list[tuple[str, tuple[Branch, ...]]] = []
    for where, state in _states(definition):
        places += [(f"{where}, `{event}`", exit) for event, exit in state.on.items()]
        places += [(f"{where}, after {wait:g} s", exit) for wait, exit in state.after.items()]
        places += [(f"{where}, `to`", (Branch(name),)) for name in state.to]
    for name, group in definition.groups.items():
        places += [(f"group `{name}`, `{event}`", exit) for event, exit in group.on.items()]
    for where, exit in places:
        for branch in exit:
            target = definition.states.get(branch.to)
            if target is None:
                mend = f"Name one of the machine's states{did_you_mean(branch.to, definition.states)}."
                yield Fault("unknown-target", where, f"leads to `{branch.to}`, which is no state", mend)
            elif branch.rollback and not (isinstance(target, Final) and target.outcome != "succeeded"):
                mend = 'Name a Final("failed") or Final("cancelled").'
                yield Fault(
                    "rollback-target",
                    where,
                    f"rolls back to `{branch.to}`, which is no failed or cancelled final state",
                    mend,
                )
        if not exit or exit[-1].condition is not None:
            yield Fault(
                "open-choice", where, "leads nowhere when no condition holds", "Add a last target without a condition."
            )
        if any(branch.condition is None for branch in exit[:-1]):
            yield Fault(
                "dead-branch", where, "has targets behind one without a condition", "Put the unconditional target last."
            )


def _groups(definition: Definition) -> Iterator[Fault]:
    known = [*definition.states, *definition.groups]
    for name, group in definition.groups.items():
        if not group.members:
            yield Fault("unknown-member", f"group `{name}`", "has no members", "Name its states.")
        for member in group.members:
            if member not in known:
                mend = f"Name a state or a group{did_you_mean(member, known)}."
                yield Fault(
                    "unknown-member",
                    f"group `{name}`",
                    f"has the member `{member}`, which is neither state nor group",
                    mend,
                )
            elif isinstance(definition.states.get(member), Final):
                yield Fault(
                    "unknown-member",
                    f"group `{name}`",
                    f"has the final state `{member}`",
                    "A final state has no exits: take it out.",
                )
        seen, todo = set(), list(group.members)
        while todo:
            inner = todo.pop()
            if inner in definition.groups and inner not in seen:
                seen.add(inner)
                todo.extend(definition.groups[inner].members)
        if name in seen:
            yield Fault(
                "group-cycle", f"group `{name}`", "contains itself", "Groups nest like boxes: break the circle."
            )
            return
    yield from _competing(definition)


def _competing(definition: Definition) -> Iterator[Fault]:
    """Two groups of which neither contains the other may not both give a state an exit for the same event."""
    inside = {name: set(groups_of(definition, name)) for name in definition.groups}
    for where, state in _states(definition):
        around = groups_of(definition, state.name)
        for index, one in enumerate(around):
            for other in around[index + 1 :]:
                if other in inside[one] or one in inside[other]:
                    continue
                for event in sorted(set(definition.groups[one].on) & set(definition.groups[other].on) - set(state.on)):
                    mend = "Give the state an exit of its own for it, or nest the groups."
                    yield Fault("competing-exits", where, f"gets `{event}` from groups `{one}` and `{other}`", mend)


def _ways(definition: Definition) -> Iterator[Fault]:
    if not definition.initial:
        yield Fault("no-initial", "machine", "has no initial state", "Mark one state with initial=True.")
        return
    edges: dict[str, set[str]] = {name: set() for name in definition.states}
    for name, state in definition.states.items():
        if isinstance(state, State):
            edges[name] = {branch.to for branch in branches_of(definition, state)}
    reached = _closure(edges, definition.initial)
    implied = {"failed", "cancelled"} if definition.drives else set()
    for name in definition.states:
        if name not in reached and not (name in implied and name in definition.finals):
            yield Fault(
                "unreachable",
                f"`{name}`",
                "cannot be reached from an initial state",
                "Lead an exit to it, or delete it.",
            )
    if not definition.finals:
        if definition.drives:
            yield Fault("no-way-out", "machine", "has no final state", "Declare a Final for each way it can end.")
        return
    backwards: dict[str, set[str]] = {name: set() for name in definition.states}
    for name, targets in edges.items():
        for target in targets:
            backwards[target].add(name)
    ending = _closure(backwards, definition.finals)
    for name in definition.states:
        if name not in ending:
            yield Fault(
                "no-way-out",
                f"`{name}`",
                "can never end: no final state can be reached from it",
                "Lead an exit towards a Final.",
            )


def _closure(edges: dict[str, set[str]], start: tuple[str, ...]) -> set[str]:
    found, todo = set(start), list(start)
    while todo:
        for target in edges[todo.pop()]:
            if target not in found:
                found.add(target)
                todo.append(target)
    return found


def _undoing(definition: Definition) -> Iterator[Fault]:
    rolls_to: dict[str, str] = {}
    for where, state in _states(definition):
        row = definition.table[state.name]
        if row.past_pivot:
            if row.undo:
                mend = "Nothing is undone from the pivot on: leave `undo` out."
                yield Fault("undo-past-pivot", where, "has an undo but stands at or after the pivot", mend)
            if row.cancel != "refuse":
                yield Fault(
                    "way-back",
                    where,
                    f"has cancel={row.cancel!r} but stands at or after the pivot",
                    "Leave `cancel` out.",
                )
            for event, branch in row.targets():
                target = definition.table[branch.to]
                if branch.rollback or (target.kind != "final" and not target.past_pivot):
                    yield Fault(
                        "way-back",
                        where,
                        f"leads back behind the pivot on `{event}`",
                        "After the pivot go forward only.",
                    )
                elif target.outcome in ("failed", "cancelled"):
                    mend = 'After the pivot an operation cannot be clean: end in a Final("succeeded"), or let it get stuck for a person.'
                    yield Fault("unclean-end", where, f"ends as {target.outcome} on `{event}` after the pivot", mend)
            continue
        if row.kind in ("acting", "parent"):
            if row.kind == "acting" and not row.undo_said:
                mend = 'Say undo=True and bind an undo, or undo="nothing" if the action leaves nothing behind.'
                yield Fault(
                    "no-undo", where, "starts something before the pivot and does not say how it is undone", mend
                )
            if "failed" not in row.exits:
                rolls_to.setdefault("failed", f"{where} can fail")
            if row.timeout is not None and not {"timeout", "failed"} & set(row.exits):
                rolls_to.setdefault("failed", f"{where} can time out")
        if row.within is not None and "timeout" not in row.exits:
            rolls_to.setdefault("failed", f"{where} can stay too long")
        if row.cancel != "refuse" and definition.drives:
            rolls_to.setdefault("cancelled", f"{where} can be cancelled")
    for name, group in definition.groups.items():
        if group.timeout is not None and "timeout" not in group.on and definition.drives:
            rolls_to.setdefault("failed", f"group `{name}` can take too long")
    for final, why in rolls_to.items():
        end = definition.table.get(final)
        if end is None or end.outcome != final:
            mend = f'Declare `{final} = Final("{final}")`' + (
                ', or say cancel="refuse".' if final == "cancelled" else "."
            )
            yield Fault(f"no-{final}", "machine", f"{why}, and there is no final state `{final}` to roll back to", mend)


def _templates(definition: Definition) -> Iterator[Fault]:
    places = [(where, state.queue) for where, state in _states(definition) if state.queue]
    places += [(f"claim `{claim.name}`", claim.name) for claim in definition.claims]
    for where, template in places:
        try:
            used = template_fields(template)
        except ValueError as error:
            yield Fault("bad-template", where, str(error), "Write it like `host:{destination}`.")
            continue
        for name in used:
            if definition.fields is not None and name not in definition.fields:
                mend = f"Use one of {', '.join(definition.fields)}{did_you_mean(name, definition.fields)}."
                yield Fault("unknown-field", where, f"uses `{{{name}}}`, which is no field of the data", mend)
    names = [claim.name for claim in definition.claims]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield Fault("twice-claimed", f"claim `{name}`", "is declared twice", "Keep one.")
    for claim in definition.claims:
        if claim.limit < 1 or claim.on_conflict not in ("reject", "wait", "preempt"):
            yield Fault(
                "bad-option",
                f"claim `{claim.name}`",
                "has a bad limit or on_conflict",
                "limit from 1; reject, wait or preempt.",
            )
    for where, state in _states(definition):
        children = state.children
        if (
            children
            and definition.fields is not None
            and children.each is not None
            and children.each not in definition.fields
        ):
            mend = f"Use one of {', '.join(definition.fields)}{did_you_mean(children.each, definition.fields)}."
            yield Fault(
                "unknown-field", where, f"has children for each `{children.each}`, which is no field of the data", mend
            )


def _views(definition: Definition) -> Iterator[Fault]:
    for version, names in definition.views.items():
        where, given = (
            f"view `{version}`",
            [name for members in names.values() if members is not ... for name in members],
        )
        for name in dict.fromkeys(given):
            if name not in definition.states:
                mend = f"Name a state{did_you_mean(name, definition.states)}."
                yield Fault("view-unknown", where, f"names `{name}`, which is no state", mend)
            elif given.count(name) > 1:
                yield Fault("view-twice", where, f"gives `{name}` two public names", "Keep one.")
        rest = sum(members is ... for members in names.values())
        missing = [name for name in definition.states if name not in given]
        if rest > 1:
            yield Fault(
                "view-twice", where, "gives `...` to two public names", "Only one name can stand for all the rest."
            )
        if missing and not rest:
            listed = ", ".join(f"`{name}`" for name in missing)
            yield Fault(
                "view-missing",
                where,
                f"has no public name for {listed}",
                "Add them, or give one name `...` for all the rest.",
            )
