"""A machine proposed from what happened: states, edges, ends; and what looks like an accident, left out and said apart.

Everything follows from the counts of a `Tally`, by rules that a reader can check:

- An edge is *rare* if it was taken fewer than `RARE_COUNT` times, and by fewer than `RARE_SHARE` of the records that came to the state it
  leaves. Rare edges, and states that only they lead to, are left out.
- Initial are the values that records were made with; if no making was seen, those in which records were first met.
- Final are the states that nothing leaves. Where others never reach one of them, the state among those in which most records rest is
  called final as well, with the ways that leave it.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from interlock.definition.document import from_document
from interlock.definition.machine import Definition
from interlock.errors import Refused
from interlock.history.tally import START, Tally, Use

__all__ = ["RARE_COUNT", "RARE_SHARE", "Proposal", "mine"]

RARE_SHARE, RARE_COUNT = 0.001, 10
_TAKEN = frozenset(
    {"accepts", "claims", "definition", "views", "Children", "Claim", "Final", "Group", "Machine", "Retry", "Rollback", "State", "When"}
)  # fmt: skip
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a history looks like as a machine.

    Args:
        machine: the machine; each edge is a `to`, since a history knows no events.
        names: the state's name by stored value.
        kept: the moves the machine allows; the making of a record is one from ``""``.
        rare: moves left out because they are rare.
        behind: moves left out because only rare ones lead to where they begin.
        met: values called initial because records were first met in them, and nothing leads there.
        resting: final states that are left again, with the number of records that stayed.
    """

    machine: Definition
    names: Mapping[str, str]
    kept: Mapping[Pair, Use]
    rare: Mapping[Pair, Use]
    behind: Mapping[Pair, Use]
    met: Collection[str]
    resting: Mapping[str, int]


def mine(
    tally: Tally,
    name: str = "mined",
    *,
    rare_share: float = RARE_SHARE,
    rare_count: int = RARE_COUNT,
    keep_rare: bool = False,
) -> Proposal:
    """Return the machine that a history proposes.

    Args:
        tally: the history in numbers.
        name: of the machine; made a name if it is none.
        rare_share: edges taken by a smaller share of the records that came to where they begin are rare, if
        rare_count: they were also taken less often than this.
        keep_rare: leave nothing out.

    Raises:
        Refused: no record ever moved.

    >>> from interlock.history.reading import Step
    >>> from interlock.history.tally import tally
    >>> steps = [Step("v1", None, "free", 0.0), Step("v1", "free", "in use", 60.0), Step("v1", "in use", "gone", 61.0)]
    >>> machine = mine(tally(steps), "volume").machine
    >>> machine.initial, machine.allows("free", "in_use"), machine.finals
    (('free',), True, ('gone',))
    """
    _refuse_stillness(tally)
    uses = tally.moves
    came = tally.came()
    rare = {
        (before, after): use
        for (before, after), use in uses.items()
        if not keep_rare and use.count < rare_count and use.count < rare_share * came.get(before, 0)
    }
    usual = {pair: use for pair, use in uses.items() if pair not in rare}
    initial = _initial(tally, usual, rare_share if not keep_rare else 0.0)
    reached = _closure(initial, [pair for pair in usual if pair[0] != START])
    met: list[str] = []
    for value in tally.met:  # where records were when the history began
        if value not in reached and tally.met[value].count >= rare_share * came[value]:
            met.append(value)
            reached |= _closure([value], [pair for pair in usual if pair[0] != START])
    kept = {pair: use for pair, use in usual.items() if pair[1] in reached and (pair[0] in reached or pair[0] == START)}
    behind = {pair: use for pair, use in usual.items() if pair not in kept}
    values = [value for value in tally.values if value in reached]
    edges = [pair for pair in kept if pair[0] != START]
    finals, resting = _finals(tally, values, edges)
    names = _names(values)
    begin = {*initial, *met}
    states = {names[value]: _state(value, names, edges, value in begin, value in finals) for value in values}
    machine = from_document({"machine": _machine_name(name), "version": 1, "states": states})
    return Proposal(machine, names, kept, rare, behind, met, resting)


def _refuse_stillness(tally: Tally) -> None:
    if not any(before != START for before, _ in tally.moves):
        if not tally.lines:
            raise Refused("nothing was read: the history has no good line")
        raise Refused(
            f"no record ever moved, in {tally.lines:,} lines about {tally.records:,} records: is the column of the record the right one? "
            "Name it with --record"
        )


def _initial(tally: Tally, usual: Mapping[Pair, Use], share: float) -> list[str]:
    """Return the values that records begin with."""
    made = [after for before, after in usual if before == START]
    if made:
        return made
    every = sum(use.count for use in tally.met.values())
    met = [value for value, use in tally.met.items() if use.count >= share * every]
    return met or [pair[1] for pair in tally.moves][:1]


def _finals(tally: Tally, values: list[str], edges: list[Pair]) -> tuple[set[str], dict[str, int]]:
    """Return the final states, and of those the ones that are left again."""
    finals = set(values) - {before for before, _ in edges}
    resting: dict[str, int] = {}
    back = [(after, before) for before, after in edges]
    came, went = tally.came(), tally.went()
    while finals and (endless := set(values) - _closure(finals, back)):
        reach = {value: len(_closure([value], edges)) for value in values if value in endless}
        deepest = min(reach.values())
        rest = {value: came[value] - went.get(value, 0) for value in reach if reach[value] == deepest}
        end = max(rest, key=lambda value: rest[value])
        finals.add(end)
        resting[end] = rest[end]
    return finals, resting


def _closure(begin: Iterable[str], edges: Iterable[Pair]) -> set[str]:
    after: dict[str, list[str]] = {}
    for one, other in edges:
        after.setdefault(one, []).append(other)
    found, todo = set(begin), list(begin)
    while todo:
        for value in after.get(todo.pop(), ()):
            if value not in found:
                found.add(value)
                todo.append(value)
    return found


def _state(value: str, names: Mapping[str, str], edges: list[Pair], initial: bool, final: bool) -> dict[str, object]:
    to = [names[after] for before, after in edges if before == value]
    state: dict[str, object] = {"final": _outcome(value)} if final else {}
    if initial:
        state["initial"] = True
    if to:
        state["to"] = to
    if names[value] != value:
        state["status"] = value
    return state


def _outcome(value: str) -> str:
    """Guess how an operation ended that stays in this state."""
    word = value.lower()
    if re.search(r"err|fail|abort|crash|timeout|timed.?out|broken|reject|refused|lost", word):
        return "failed"
    return "cancelled" if re.search(r"cancel|withdrawn|revert|rolled.?back", word) else "succeeded"


def _names(values: Iterable[str]) -> dict[str, str]:
    """Return a state's name for each stored value: the value itself where it can be one."""
    listed = list(values)
    names = {value: value for value in listed if _word(value) == value}
    taken = set(names.values())
    for value in listed:
        if value not in names:
            word, number = _word(value), 2
            while word in taken:
                word, number = f"{_word(value)[:60]}_{number}", number + 1
            names[value] = word
            taken.add(word)
    return {value: names[value] for value in listed}


def _word(value: str) -> str:
    """Return the nearest word that can name a state, in a document and in Python.

    >>> [_word(value) for value in ("copying", "running (post-copy)", "PAUSED", "2nd try", "class", "état", "…")]
    ['copying', 'running_post_copy', 'PAUSED', 's_2nd_try', 'class_', 'etat', 'state']
    """
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", value):
        word = value
    else:
        plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode().lower()
        word = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:60] or "state"
        word = word if word[0].isalpha() else f"s_{word}"
    return f"{word}_" if keyword.iskeyword(word) or word in _TAKEN else word


def _machine_name(name: str) -> str:
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")[:60] or "mined"
    return word if word[0].isalpha() else f"m-{word}"
