"""Sealing: what makes a machine contradictory or incomplete, found when it is built.

Each rule below yields `Fault`s with a stable code, the place, what is wrong and what would mend it. All rules of a stage run, so that
one build shows everything; the later stages need what the earlier ones made sure of. The rules that need the machine's behaviour, not
only its text, belong to the checker.

    shape        bad-shape
    names        bad-name, long-name, reserved-event, same-status, too-many
    targets      unknown-target, unknown-member, dead-end, open-choice, dead-branch, rollback-target, open-end
    kinds        mixed-kind, useless-option, bad-option
    groups       group-cycle, competing-exits
    ways         no-state, no-initial, unreachable, no-way-out
    undoing      no-undo, undo-past-pivot, way-back, unclean-end, no-failed, no-cancelled
    naming       unknown-field, bad-default, bad-template, twice-claimed
    views        view-unknown, view-twice, view-missing
    renames      rename-first, rename-source, rename-target
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from interlock.definition.data import Field, is_json
from interlock.definition.declare import Branch, Claim, Final, Group, State
from interlock.definition.flatten import NAME, RESERVED_EVENTS, branches_of, template_fields
from interlock.definition.seal_names import renames, views
from interlock.errors import Fault, IllegalMachine, did_you_mean

if TYPE_CHECKING:
    from interlock.definition.machine import Definition

__all__ = ["seal", "shaped"]

NAME_LENGTH = 64
STATES, GROUPS, EXITS = 10_000, 1_000, 200_000
MACHINE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_ATTRIBUTES = ("accepts", "claims", "definition", "renames", "views")
_OPTIONS = {"cancel": ("rollback", "finish", "refuse"), "on_stop": ("wait", "handover")}
_CHILDREN = {"join": ("all", "any", "first"), "on_failure": ("fast", "collect")}
_OUTCOMES = ("succeeded", "failed", "cancelled")


def seal(definition: Definition) -> None:
    """Raise `IllegalMachine` with every fault of a definition, or return if it has none."""
    stages = ((_limits,), (_names, _kinds, _targets, _groups), (_ways, _undoing, _data, _templates, views, renames))
    for rules in stages:
        if faults := [fault for rule in rules for fault in rule(definition)]:
            raise IllegalMachine(definition.name, faults)


def shaped(definition: Definition) -> None:
    """Raise `IllegalMachine` if a definition's parts are not of the kinds they are declared to be."""
    if faults := list(_shape(definition)):
        raise IllegalMachine(str(definition.name), faults)


def _shape(definition: Definition) -> Iterator[Fault]:
    def holds(what: str, of: Any, *kinds: type) -> bool:
        return isinstance(of, Mapping) and all(isinstance(one, kinds) for one in of.values())

    version = definition.version
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 2**31:
        yield Fault("bad-shape", "machine", f"has version {version!r}", "Number versions 1, 2, 3.")
    for what, fits in (
        (
            "a name and a description that are text",
            isinstance(definition.name, str) and isinstance(definition.description, str),
        ),
        ("states by name", holds("states", definition.states, State, Final)),
        ("groups by name", holds("groups", definition.groups, Group)),
        ("data that is fields by name", definition.fields is None or holds("fields", definition.fields, Field)),
        ("a list of claims", _is_list_of(definition.claims, Claim)),
        ("views that are lists of states by public name, by version", _are_views(definition.views)),
        ("reasons by the code of what it accepts", _are_reasons(definition.accepts)),
        ("renames that are names by old name", holds("renames", definition.renames, str)),
    ):
        if not fits:
            yield Fault("bad-shape", "machine", f"needs {what}", "Write it as the documentation of `Definition` shows.")
            return
    for name, one in [*definition.states.items(), *definition.groups.items()]:
        if one.name != name:
            yield Fault("bad-shape", f"`{name}`", f"is named `{one.name}` itself", "Give it the name it stands under.")


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, kind) for one in value)


def _are_views(views: Any) -> bool:
    return isinstance(views, Mapping) and all(
        isinstance(version, str)
        and isinstance(names, Mapping)
        and all(
            isinstance(public, str) and (members is ... or _is_list_of(members, str))
            for public, members in names.items()
        )
        for version, names in views.items()
    )


def _are_reasons(accepts: Any) -> bool:
    words = [*accepts, *accepts.values()] if isinstance(accepts, Mapping) else [None]
    return all(isinstance(word, str) and word.strip() for word in words)


def _limits(definition: Definition) -> Iterator[Fault]:
    """What would make the rest slow: the table has a row for every state with all its groups' exits."""
    if not definition.states:
        yield Fault("no-state", "machine", "has no state", "Declare at least one State and one Final.")
    for what, count, limit in (("states", len(definition.states), STATES), ("groups", len(definition.groups), GROUPS)):
        if count > limit:
            yield Fault("too-many", "machine", f"has {count:,} {what}", f"Stay below {limit:,}, or split the machine.")
            return
    own = sum(len(state.on) + len(state.after) for _, state in _states(definition))
    own += sum(len(one.to) for one in definition.states.values())
    given = sum(
        len(definition.groups[group].on)
        for _, state in _states(definition)
        for group in definition.around.get(state.name, ())
    )
    if own + given > EXITS:
        what = f"has {own + given:,} exits, its groups' counted for every member"
        yield Fault("too-many", "machine", what, f"Stay below {EXITS:,}, or split the machine.")


def _states(definition: Definition) -> Iterator[tuple[str, State]]:
    for name, state in definition.states.items():
        if isinstance(state, State):
            yield f"`{name}`", state


def _names(definition: Definition) -> Iterator[Fault]:
    words = [(name, "state") for name in definition.states] + [(name, "group") for name in definition.groups]
    for _, state in _states(definition):
        words += [(event, "event") for event in state.on]
        words += [(branch.condition, "condition") for branch in _branches(state) if branch.condition is not None]
    for group in definition.groups.values():
        words += [(event, "event") for event in group.on]
        words += [(branch.condition, "condition") for exit in group.on.values() for branch in exit if branch.condition]
    words += [(name, "field") for name in definition.fields or ()]
    for word, what in dict.fromkeys(words):
        pattern = NAME if what != "field" else re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
        yield from _name(word, what, pattern, "Use letters, digits and underscores, a letter first" + _keep(what))
    machines = [definition.name]
    machines += [state.children.machine for _, state in _states(definition) if state.children]
    for name in dict.fromkeys(machines):
        yield from _name(name, "machine", MACHINE, "Use letters, digits, `-`, `_` and `.`, a letter first.")
    for version, names in definition.views.items():
        for word in (version, *names):
            if not word.strip() or len(word) > NAME_LENGTH:
                mend = f"Give it from 1 to {NAME_LENGTH} letters."
                yield Fault("bad-name", f"view `{version}`", f"has the name {word!r}", mend)
    for name in definition.states:
        if name in _ATTRIBUTES:
            mend = "Rename it; keep the stored text in `status`."
            yield Fault("bad-name", f"`{name}`", "is a word that a machine uses itself", mend)
    by_status: dict[str, str] = {}
    for name, one in definition.states.items():
        first = by_status.setdefault(one.status or name, name)
        if first != name:
            what = f"is stored as `{one.status or name}`, as `{first}` is"
            yield Fault("same-status", f"`{name}`", what, "Give each state a stored value of its own.")
    for name in definition.groups:
        if name in definition.states:
            yield Fault("bad-name", f"`{name}`", "is both a state and a group", "Rename one of them.")
    for name, group in definition.groups.items():
        for event in sorted(RESERVED_EVENTS & set(group.on) - {"failed", "timeout"}):
            mend = "An outcome `done` belongs to one state."
            yield Fault("reserved-event", f"group `{name}`", f"has an exit for `{event}`", mend)


def _name(word: str, what: str, pattern: re.Pattern[str], mend: str) -> Iterator[Fault]:
    if len(word) > NAME_LENGTH:
        shown = f"{word[:NAME_LENGTH]}..."
        yield Fault("long-name", f"`{shown}`", f"is longer than {NAME_LENGTH} letters", f"Shorten the {what}'s name.")
    elif not pattern.fullmatch(word):
        yield Fault("bad-name", f"`{word}`", f"is no name for a {what}", mend)


def _keep(what: str) -> str:
    return "; keep the text in `status`." if what == "state" else "."


def _branches(state: State) -> Iterable[Branch]:
    return (branch for exit in [*state.on.values(), *state.after.values()] for branch in exit)


def _kinds(definition: Definition) -> Iterator[Fault]:
    for where, state in _states(definition):
        name = state.name
        if state.children is not None and state.pivot:
            yield Fault(
                "mixed-kind", where, "is a parent and a pivot", "Put the pivot into an acting state of its own."
            )
        if not state.on and not state.after and not state.to and not state.children and name not in definition.around:
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
        yield from _options(where, state, _OPTIONS)
        if state.children is not None:
            yield from _options(where, state.children, _CHILDREN)
            if isinstance(state.children.limit, int) and state.children.limit < 1:
                yield Fault("bad-option", where, "has a limit below 1 for its children", "Leave it out to run all.")
    for name in definition.finals:
        yield from _options(f"`{name}`", definition.states[name], {"outcome": _OUTCOMES})
        if definition.drives and definition.states[name].to:
            what = "is left again by `to`, in a machine that performs actions"
            yield Fault("open-end", f"`{name}`", what, "Leave `to` out: what the engine ended stays ended.")
    for claim in definition.claims:
        where = f"claim `{claim.name}`"
        yield from _options(where, claim, {"on_conflict": ("reject", "wait", "preempt")})
        if claim.limit < 1:
            yield Fault("bad-option", where, f"has limit={claim.limit}", "Use a limit from 1.")
        if not claim.name:
            yield Fault("bad-option", where, "names nothing", "Name what it holds, such as `instance:{instance}`.")
    for name, group in definition.groups.items():
        if group.timeout == 0:
            yield Fault("bad-option", f"group `{name}`", "has timeout of no duration", "Give it one above 0 seconds.")


def _options(where: str, thing: Any, options: Mapping[str, tuple[str, ...]]) -> Iterator[Fault]:
    for option, allowed in options.items():
        value = getattr(thing, option)
        if value is not None and value not in allowed:
            listed = ", ".join(repr(item) for item in allowed)
            yield Fault("bad-option", where, f"has {option}={value!r}", f"Use one of {listed}.")


def _targets(definition: Definition) -> Iterator[Fault]:
    places: list[tuple[str, tuple[Branch, ...]]] = []
    for where, state in _states(definition):
        places += [(f"{where}, `{event}`", exit) for event, exit in state.on.items()]
        places += [(f"{where}, after {wait:g} s", exit) for wait, exit in state.after.items()]
    for name, one in definition.states.items():
        places += [(f"`{name}`, `to`", (Branch(target),)) for target in one.to]
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
    known = {**definition.states, **definition.groups}
    for name, group in definition.groups.items():
        where = f"group `{name}`"
        if not group.members:
            yield Fault("unknown-member", where, "has no members", "Name its states.")
        for member in group.members:
            if member not in known:
                mend = f"Name a state or a group{did_you_mean(member, known)}."
                yield Fault(
                    "unknown-member", where, f"has the member `{member}`, which is neither state nor group", mend
                )
            elif isinstance(known[member], Final):
                mend = "A final state has no exits: take it out."
                yield Fault("unknown-member", where, f"has the final state `{member}`", mend)
    circle = [name for name in definition.groups if name in definition.around.get(name, ())]
    for name in circle:
        yield Fault("group-cycle", f"group `{name}`", "contains itself", "Groups nest like boxes: break the circle.")
    if not circle:
        yield from _competing(definition)


def _competing(definition: Definition) -> Iterator[Fault]:
    """Two groups of which neither contains the other may not both give a state an exit for the same event."""
    for where, state in _states(definition):
        giver: dict[str, str] = {}
        for name in definition.around.get(state.name, ()):
            for event in definition.groups[name].on:
                first = giver.setdefault(event, name)
                if first != name and event not in state.on and name not in definition.around.get(first, ()):
                    mend = "Give the state an exit of its own for it, or nest the groups."
                    yield Fault("competing-exits", where, f"gets `{event}` from groups `{first}` and `{name}`", mend)


def _ways(definition: Definition) -> Iterator[Fault]:
    if not definition.initial:
        yield Fault("no-initial", "machine", "has no initial state", "Mark one state with initial=True.")
        return
    edges = {
        name: {branch.to for branch in branches_of(definition, state)} for name, state in definition.states.items()
    }
    reached = _closure(edges, definition.initial)
    ends = {end for name in reached for end in definition.moves[name]}
    if definition.drives:
        ends |= {"failed", "cancelled"} & set(
            definition.finals
        )  # where any operation can be rolled back to by a person
    for name in definition.states:
        if name not in reached and name not in ends:
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
    before = _before_pivot(definition)
    for where, state in _states(definition):
        row = definition.table[state.name]
        if row.past_pivot:
            if not row.pivot and state.name in before:
                mend = "Give each side of the pivot a state of its own."
                yield Fault("way-back", where, "can be reached both behind the pivot and without passing it", mend)
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
                if branch.rollback:
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
        if row.within is not None and not {"timeout", "failed"} & set(row.exits):
            rolls_to.setdefault("failed", f"{where} can stay too long")
        if row.cancel != "refuse" and definition.drives:
            rolls_to.setdefault("cancelled", f"{where} can be cancelled")
        for name in row.groups:
            group = definition.groups[name]
            if group.timeout is not None and "timeout" not in group.on:
                rolls_to.setdefault("failed", f"group `{name}` can take too long")
    for final, why in rolls_to.items():
        end = definition.table.get(final)
        if end is None or end.outcome != final:
            mend = f'Declare `{final} = Final("{final}")`' + (
                ', or say cancel="refuse".' if final == "cancelled" else "."
            )
            yield Fault(f"no-{final}", "machine", f"{why}, and there is no final state `{final}` to roll back to", mend)


def _before_pivot(definition: Definition) -> set[str]:
    """Return the states that can be reached without leaving a pivot."""
    edges: dict[str, set[str]] = {name: set() for name in definition.states}
    for _, state in _states(definition):
        if not state.pivot:
            edges[state.name] = {branch.to for branch in branches_of(definition, state)}
    return _closure(edges, definition.initial)


def _data(definition: Definition) -> Iterator[Fault]:
    for name, one in (definition.fields or {}).items():
        if not one.required and not is_json(one.default):
            mend = "Use text, numbers, true and false, null, lists and objects of these."
            yield Fault("bad-default", f"field `{name}`", f"has the default {one.default!r}, which is no JSON", mend)
        elif not one.required and one.default is not None and not one.accepts(one.default):
            mend = "Mend the default or the type."
            what = f"has the default {one.default!r}, which is no {' or '.join(one.types)}"
            yield Fault("bad-default", f"field `{name}`", what, mend)


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
    for name, count in Counter(names).items():
        if count > 1:
            yield Fault("twice-claimed", f"claim `{name}`", "is declared twice", "Keep one.")
    for where, state in _states(definition):
        one = state.children
        named = (("for each", one.each), ("with the limit", one.limit)) if one else ()
        for what, field in named:
            if definition.fields is not None and isinstance(field, str) and field not in definition.fields:
                mend = f"Use one of {', '.join(definition.fields)}{did_you_mean(field, definition.fields)}."
                yield Fault(
                    "unknown-field", where, f"has children {what} `{field}`, which is no field of the data", mend
                )
