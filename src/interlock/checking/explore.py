"""Exploring: everything that the interpreter can do with a machine, breadth first, by calling `decide` and nothing else.

1.  A node is a situation (`situation`): a plain snapshot, the ledger of what was begun, and the shortest way there.
2.  From each node every input is tried that can come (`trials`). What `decide` refuses leads nowhere; if it fails, that is a finding.
3.  Every decision is held to what must be true of it (`promises`), also when it leads to a situation that is known.
    It is made once more for an operation that owns something, which must change nothing but the end (`owned`).
4.  When nothing new is found, the stages of rollbacks that no way has led through yet are added: any step that was ever begun may be undone
    for any end that something rolls back to. Then it goes on.
5.  It ends when nothing new is left, and is complete; or when the budget is used up, and then it says how much it saw and proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from interlock.checking import owned
from interlock.checking.finding import CODES, Finding
from interlock.checking.promises import FAULT, Broken, Ledger, broken, ledger_after
from interlock.checking.situation import NOW, key_of, plain
from interlock.checking.trying import Trial, data_of, starts, trials
from interlock.checking.written import STORY, told
from interlock.definition.machine import Definition
from interlock.errors import InterlockError, Refused
from interlock.interpreter import inputs as i
from interlock.interpreter.decide import Decision, decide
from interlock.interpreter.snapshot import Ended, Queued, Snapshot, Stuck

__all__ = ["Budget", "Exploration", "Stall", "explore"]


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is explored at most.

    Attributes:
        situations: kept in memory, about 2 kB each.
        decisions: tried, about 15,000 a second.
    """

    situations: int = 50_000
    decisions: int = 1_000_000


class Stall(NamedTuple):
    """How an operation got stuck: from which node, by what, and whether it was time that it was out of."""

    node: int
    words: str
    late: bool


@dataclass(slots=True)
class _Node:
    snapshot: Snapshot
    ledger: Ledger
    parent: int
    words: str
    depth: int


@dataclass
class Exploration:
    """What was seen.

    Attributes:
        findings: broken promises, each code once for a state.
        complete: nothing was left out.
        decisions: how many were tried.
        refused: why the interpreter would not start the machine, if it would not.
        first: for each state that was entered the first node in it.
        forward: for each node the nodes that it leads to by itself, without a person's help.
        stuck: for each state how an operation first got stuck past the pivot in it, for want of attempts or time.
    """

    machine: Definition
    nodes: list[_Node] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    complete: bool = False
    decisions: int = 0
    refused: str = ""
    first: dict[str, int] = field(default_factory=dict)
    forward: list[set[int]] = field(default_factory=list)
    stuck: dict[str, Stall] = field(default_factory=dict)
    _known: dict[Hashable, int] = field(default_factory=dict)
    _found: set[tuple[str, str]] = field(default_factory=set)

    def story(self, node: int, *more: str) -> tuple[str, ...]:
        """Return the shortest way to a node, and what happens then."""
        words: list[str] = []
        while node >= 0 and len(words) < STORY:
            if self.nodes[node].words:
                words.append(self.nodes[node].words)
            node = self.nodes[node].parent
        return (*told(words, self.nodes[node].depth if node >= 0 else 0), *(one for one in more if one))

    def add(self, snapshot: Snapshot, ledger: Ledger, parent: int, words: str) -> int:
        """Return the node of a snapshot's situation, a new one if it was not known."""
        key = key_of(snapshot)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.nodes)
            depth = self.nodes[parent].depth if parent >= 0 else 0
            self.nodes.append(_Node(snapshot, ledger, parent, words, depth + bool(words)))
            self.forward.append(set())
            if not snapshot.rollback:
                self.first.setdefault(snapshot.state, known)
        return known

    def knows(self, snapshot: Snapshot) -> bool:
        """Whether a plain snapshot's situation was seen."""
        return key_of(snapshot) in self._known

    def find(self, code: str, state: str, what: str, story: tuple[str, ...], mend: str) -> None:
        """Keep a finding, the first of its code in a state."""
        if (code, state) not in self._found:
            self._found.add((code, state))
            self.findings.append(Finding(code, CODES[code].severity, state, what, story, mend))


def explore(
    machine: Definition, budget: Budget | None = None, watch: Callable[[int], None] | None = None
) -> Exploration:
    """Return all that the interpreter can do with a machine, as far as the budget goes.

    Args:
        machine: what to explore.
        budget: how much at most.
        watch: told now and then how many situations were seen.

    >>> from interlock import Final, Machine, State
    >>> class Deploy(Machine[dict[str, str]], version=1):
    ...     building = State(initial=True, undo=True, then="live")
    ...     live = Final("succeeded")
    ...     failed = Final("failed")
    ...     cancelled = Final("cancelled")
    >>> seen = explore(Deploy.definition)
    >>> seen.complete, sorted(seen.first)
    (True, ['building', 'cancelled', 'failed', 'live'])
    """
    seen = Exploration(machine)
    allowed = budget or Budget()
    for trial in starts(machine):
        try:
            _try(seen, -1, trial)
        except Refused as refused:
            seen.refused = refused.message
            return seen
    done = 0
    while True:
        while done < len(seen.nodes):
            if len(seen.nodes) > allowed.situations or seen.decisions > allowed.decisions:
                return seen
            if watch and not done % 500:
                watch(len(seen.nodes))
            _expand(seen, done)
            done += 1
        if not _add_stages(seen):
            break
    seen.complete = True
    _no_end(seen)
    return seen


def _expand(seen: Exploration, node: int) -> None:
    snapshot = seen.nodes[node].snapshot
    if isinstance(snapshot.phase, Ended):
        return
    _note_owning(seen, node, "it owns something", owned.taken_and_given_back(seen.machine, snapshot))
    for trial in trials(seen.machine, snapshot):
        try:
            _try(seen, node, trial)
        except InterlockError:
            continue  # refused, as it should be: nothing changed


def _try(seen: Exploration, node: int, trial: Trial) -> None:
    """Make one decision, hold it to the promises, and keep what it leads to."""
    machine, before = seen.machine, trial.snapshot
    seen.decisions += 1
    try:
        decision = decide(machine, before, trial.input, NOW)
    except InterlockError:
        raise
    except Exception as error:
        what = f"the interpreter fails on it: {type(error).__name__}: {error}"
        state = before.state if before else ""
        return seen.find("broken-rule", state, what, seen.story(node, trial.words), FAULT)
    if not decision.facts:
        if trial.must and before:
            what = f"nothing follows from it when {trial.words or 'a worker takes it'}"
            seen.find("broken-rule", before.state, what, seen.story(node, trial.words), FAULT)
        return
    ledger = ledger_after(machine, before, trial.input, decision, seen.nodes[node].ledger if before else ())
    for one in broken(machine, before, trial.input, decision, ledger):
        state = before.state if before else decision.snapshot.state
        seen.find(one.code, state, one.what, seen.story(node, trial.words), one.mend)
    _note_owning(seen, node, trial.words, owned.let_go(machine, trial, decision))
    following = seen.add(plain(decision.snapshot, data_of(machine)), ledger, node, trial.words)
    if trial.by in ("course", "code") and node >= 0:
        seen.forward[node].add(following)
    _note_stuck(seen, node, trial, decision)


def _note_owning(seen: Exploration, node: int, words: str, found: Iterable[Broken]) -> None:
    """Keep what does not hold of an operation that owns something."""
    state = seen.nodes[node].snapshot.state if node >= 0 else ""
    try:
        for one in found:
            seen.find(one.code, state, one.what, seen.story(node, words), one.mend)
    except Exception as error:
        what = f"the interpreter fails on it when it owns something: {type(error).__name__}: {error}"
        seen.find("broken-rule", state, what, seen.story(node, words), FAULT)


def _note_stuck(seen: Exploration, node: int, trial: Trial, decision: Decision) -> None:
    phase = decision.snapshot.phase
    newly = trial.snapshot is not None and not isinstance(trial.snapshot.phase, Stuck)
    if newly and isinstance(phase, Stuck) and phase.code == "past-pivot" and trial.cause == "out":
        late = isinstance(trial.input, i.Tick | i.Resume)
        seen.stuck.setdefault(decision.snapshot.state, Stall(node, trial.words, late))


def _add_stages(seen: Exploration) -> bool:
    """Add the stages of rollbacks that were not seen; return whether there were any."""
    count = len(seen.nodes)
    backs: dict[str, int] = {}
    begun: dict[str, str] = {}
    for number, node in enumerate(seen.nodes):
        begun.update(dict.fromkeys(node.snapshot.steps, ""))
        if node.snapshot.rollback and isinstance(node.snapshot.phase, Queued) and not node.snapshot.paused:
            backs.setdefault(node.snapshot.rollback.to, number)
    for number in backs.values():
        like = seen.nodes[number].snapshot
        for step in begun:
            other = next((one for one in begun if one != step), None)
            for steps in [(step,)] if other is None else [(step,), (other, step)]:
                stage = replace(like, steps=steps, phase=Queued("undo", step, 0.0))
                if not seen.knows(stage):
                    begun_too = " and then ".join(f"`{one}`" for one in steps)
                    seen.add(stage, steps, number, f"where {begun_too} was begun instead, this is undone")
    return len(seen.nodes) > count


def _no_end(seen: Exploration) -> None:
    """Find situations from which nothing but a person, or a cancel, leads to an end; those that are stuck need a person by design."""
    back: list[list[int]] = [[] for _ in seen.nodes]
    todo = []
    for number, following in enumerate(seen.forward):
        for one in following:
            back[one].append(number)
        if isinstance(seen.nodes[number].snapshot.phase, Ended | Stuck):
            todo.append(number)
    ending = set(todo)
    while todo:
        for one in back[todo.pop()]:
            if one not in ending:
                ending.add(one)
                todo.append(one)
    _report(seen, (number for number in range(len(seen.nodes)) if number not in ending))


def _report(seen: Exploration, numbers: Iterable[int]) -> None:
    for number in numbers:
        snapshot = seen.nodes[number].snapshot
        what = f"an operation that is {snapshot.status} here comes to no end, unless somebody cancels it or a person moves it"
        mend = "Give the state an exit that a signal, a timer or an action can take towards a Final."
        seen.find("no-end", snapshot.state, what, seen.story(number), mend)
