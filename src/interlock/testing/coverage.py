"""Which ways of a machine were taken: counted from journals, wherever they come from.

A way is named by where it begins, where it ends, and the event: an exit's (``done``, ``failed``, ``timeout``, a signal, ``after 72h``), or
one that machines have by the rules alone (``failed``, ``timeout`` and ``cancel`` with a rollback). A way through a rollback counts when the
rollback begins. What a person overrides is no way, and a caller's ``deadline`` is counted but never missed.
"""

from __future__ import annotations

import contextlib
import json
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interlock.definition.declare import Exit
from interlock.definition.document import from_document
from interlock.definition.duration import duration_text
from interlock.definition.flatten import Row
from interlock.definition.machine import Definition, Machine, definition_of
from interlock.definition.picture import EdgeStyle
from interlock.errors import Refused, did_you_mean
from interlock.interpreter import facts as f
from interlock.interpreter.facts import Fact
from interlock.interpreter.snapshot import Beginning, Joining, Snapshot, fold
from interlock.stores.contract import Record, Store

__all__ = ["Coverage", "Follower", "Way", "collecting", "implied_ways", "ways_of"]

FORMAT = 1
TAKEN, NEVER = "#1a7f37", "#d1242f"


class Way(NamedTuple):
    """A way from one state to another, and the event that leads along it."""

    source: str
    target: str
    event: str

    def __str__(self) -> str:
        return f"{self.source} -> {self.target} ({self.event})"


def ways_of(machine: type[Machine[Any]] | Definition) -> tuple[Way, ...]:
    """Return every way that a machine has, in the order of writing: those it declares, then those it has by the rules alone.

    The latter are ``failed`` and ``timeout`` without an exit of their own, which roll back to the final state `failed`, and ``cancel``.
    """
    definition = definition_of(machine)
    declared = dict.fromkeys(
        Way(row.name, branch.to, event) for row in definition.table.values() for event, branch in row.targets()
    )
    return (*declared, *(way for way in implied_ways(definition) if way not in declared))


def implied_ways(definition: Definition) -> tuple[Way, ...]:
    """Return the ways that a machine has without declaring them."""
    found: list[Way] = []
    for row in definition.table.values():
        if row.kind == "final":
            continue
        if "failed" in definition.states and not row.past_pivot:
            if row.kind != "waiting" and "failed" not in row.exits:
                found.append(Way(row.name, "failed", "failed"))
            bounded = row.timeout or row.within or row.heartbeat
            if bounded and not {"timeout", "failed"} & row.exits.keys():
                found.append(Way(row.name, "failed", "timeout"))
        for name in row.groups:
            found += _group_timeout(definition, row, name)
        if row.cancel != "refuse" and "cancelled" in definition.states:
            found.append(Way(row.name, "cancelled", "cancel"))
    return tuple(dict.fromkeys(found))


def _group_timeout(definition: Definition, row: Row, name: str) -> Iterator[Way]:
    """Yield where a group's own deadline leads from a state: not by the state's own exit."""
    group = definition.groups[name]
    if group.timeout is None:
        return
    exit: Exit = group.on.get("timeout", ())
    for branch in exit:
        yield Way(row.name, branch.to, "timeout")
    if not exit and "failed" in definition.states and not row.past_pivot:
        yield Way(row.name, "failed", "timeout")


Key = tuple[str, int]


class Coverage:
    """Which ways of which machines were taken, and how often.

    >>> from interlock import Final, Machine, State
    >>> class Door(Machine[dict[str, str]], version=1):
    ...     shut = State(initial=True, on={"push": "open", "burn": "gone"})
    ...     open = Final("succeeded")
    ...     gone = Final("failed")
    >>> coverage = Coverage()
    >>> coverage.add(Door, Way("shut", "open", "push"))
    >>> [str(way) for way in coverage.missing(Door)], coverage.percent(Door)
    (['shut -> gone (burn)'], 50.0)
    """

    def __init__(self) -> None:
        self._counts: dict[Key, Counter[Way]] = {}
        self._machines: dict[Key, Definition] = {}

    def __repr__(self) -> str:
        known = ", ".join(f"{name} version {version}" for name, version in sorted(self._counts))
        return f"<Coverage of {known or 'nothing'}>"

    # Collecting

    def add(self, machine: type[Machine[Any]] | Definition, way: Way, times: int = 1) -> None:
        """Count a way."""
        definition = definition_of(machine)
        self.know(definition)
        self._counts[definition.name, definition.version][way] += times

    def know(self, machine: type[Machine[Any]] | Definition) -> None:
        """Take a machine up, though none of its ways was taken yet."""
        definition = definition_of(machine)
        key = definition.name, definition.version
        self._counts.setdefault(key, Counter())
        self._machines.setdefault(key, definition)

    def add_store(self, store: Store) -> None:
        """Count everything that is in a store's journal. Add a store once: a second time counts twice."""
        Follower(store, [self]).read()

    def add_journal(self, machine: type[Machine[Any]] | Definition, records: Iterable[Record]) -> None:
        """Count an operation's journal from its beginning (`Interlock.history` gives it), as ways of ``machine``."""
        definition = definition_of(machine)
        self.know(definition)
        walk = _Walk(definition)
        for record in records:
            for way in walk.over(record):
                self.add(definition, way)

    def merge(self, other: Coverage) -> None:
        """Add what another one counted."""
        for key, counts in other._counts.items():
            self._counts.setdefault(key, Counter()).update(counts)

    # Asking

    def counts(self, machine: type[Machine[Any]] | Definition) -> Mapping[Way, int]:
        """Return how often each way was taken.

        Raises:
            Refused: nothing is known of this version of this machine.
        """
        definition = definition_of(machine)
        found = self._counts.get((definition.name, definition.version))
        if found is not None:
            return dict(found)
        versions = sorted(version for name, version in self._counts if name == definition.name)
        if versions:
            has = f"version {', '.join(map(str, versions))} of it, not version {definition.version}"
        else:
            names = sorted({name for name, _ in self._counts})
            has = f"{', '.join(names) or 'no machine at all'}{did_you_mean(definition.name, names)}"
        raise Refused(
            f"this coverage says nothing of machine `{definition.name}`: it covers {has}; run the tests again with it",
            machine=definition.name,
        )

    def missing(self, machine: type[Machine[Any]] | Definition) -> tuple[Way, ...]:
        """Return the ways of a machine that were never taken, as `ways_of` orders them. Raises `Refused` as `counts` does."""
        counts = self.counts(machine)
        return tuple(way for way in ways_of(machine) if not counts.get(way))

    def percent(self, machine: type[Machine[Any]] | Definition) -> float:
        """Return how many of a hundred of its ways were taken."""
        ways = ways_of(machine)
        return 100.0 if not ways else 100 * (len(ways) - len(self.missing(machine))) / len(ways)

    def edges(self, machine: type[Machine[Any]] | Definition) -> dict[tuple[str, str, str], EdgeStyle]:
        """Return how `draw` is to paint a machine: green and counted what was taken, dashed red what never was."""
        counts = self.counts(machine)
        edges: dict[tuple[str, str, str], EdgeStyle] = {}
        for way in ways_of(machine):
            edges[way] = EdgeStyle("never", colour=NEVER, dashed=True)
        for way, times in counts.items():
            edges[way] = EdgeStyle(f"{times:,}×", width=2.4, colour=TAKEN, dashed=False)
        return edges

    def also(self, machine: type[Machine[Any]] | Definition) -> tuple[Way, ...]:
        """Return the ways to paint that the machine has without declaring them, those that a deadline took included."""
        deadlines = (way for way in self.counts(machine) if way.event == "deadline")
        return (*implied_ways(definition_of(machine)), *deadlines)

    def told(self, machine: type[Machine[Any]] | Definition) -> str:
        """Return in a few words how many ways were taken."""
        ways, missing = len(ways_of(machine)), len(self.missing(machine))
        return f"{ways - missing} of {ways} ways taken"

    def lines(self) -> Iterator[str]:
        """Yield a line for each machine that was counted here."""
        for (name, version), machine in sorted(self._machines.items()):
            yield f"{name}, version {version}: {self.told(machine)}"

    # Files

    def save(self, path: str | Path) -> None:
        """Write it to a file, as JSON."""
        machines = [
            {
                "machine": name,
                "version": version,
                "ways": [{**_plain(way), "times": times} for way, times in sorted(counts.items())],
            }
            for (name, version), counts in sorted(self._counts.items())
        ]
        Path(path).write_text(json.dumps({"interlock-coverage": FORMAT, "machines": machines}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Coverage:
        """Read a file that `save` wrote. Raises `Refused` if it is none."""
        try:
            document = json.loads(Path(path).read_text())
        except OSError as error:
            raise Refused(f"coverage cannot be read from `{path}`: {error.strerror}") from None
        except ValueError as error:
            raise Refused(f"`{path}` is no coverage file: {error}") from None
        made = cls()
        try:
            if document["interlock-coverage"] != FORMAT:
                raise Refused(
                    f"`{path}` is coverage in format {document['interlock-coverage']}; this release reads {FORMAT}"
                )
            for one in document["machines"]:
                counts = made._counts.setdefault((str(one["machine"]), int(one["version"])), Counter())
                for way in one["ways"]:
                    counts[Way(str(way["from"]), str(way["to"]), str(way["event"]))] += int(way["times"])
        except (LookupError, TypeError, ValueError, AttributeError):
            mend = "pytest --interlock-coverage FILE writes one"
            raise Refused(f"`{path}` is no coverage file: it is JSON of something else; {mend}") from None
        return made


def covered(coverage: Coverage, machine: type[Machine[Any]] | Definition) -> dict[str, Any]:
    """Return what a coverage says of a machine, as plain data."""
    return {
        "percent": round(coverage.percent(machine), 1),
        "taken": [{**_plain(way), "times": times} for way, times in sorted(coverage.counts(machine).items())],
        "missing": [_plain(way) for way in coverage.missing(machine)],
    }


def _plain(way: Way) -> dict[str, Any]:
    return {"from": way.source, "to": way.target, "event": way.event}


_collecting: list[Coverage] = []


@contextlib.contextmanager
def collecting() -> Iterator[Coverage]:
    """Count, as long as this lasts, what every `Kit`, the explorer and the simulator do in this process.

    >>> with collecting() as coverage:
    ...     pass
    >>> coverage
    <Coverage of nothing>
    """
    for follower in list(_followers):
        follower.read(counting=False)  # what happened before does not count
    coverage = Coverage()
    _collecting.append(coverage)
    try:
        yield coverage
    finally:
        _collecting.remove(coverage)


class Follower:
    """Reads a store's journal as it grows, for whoever counts; by default for everybody who is `collecting`."""

    def __init__(self, store: Store, into: Iterable[Coverage] | None = None) -> None:
        self._store = store
        self._into = None if into is None else tuple(into)
        self._after = 0
        self._walks: dict[str, _Walk] = {}
        self._machines: dict[Key, Definition | None] = {}
        if into is None:
            _followers.add(self)

    def read(self, *, counting: bool = True) -> None:
        """Count what is new; or pass over it."""
        into = _collecting if self._into is None else self._into
        if counting and not into:
            return
        while records := self._store.tail(self._after, 1_000):
            for record in records:
                self._after = record.position
                walk = self._walk(record)
                if walk is None:
                    continue
                ways = list(walk.over(record))
                for coverage in into if counting else ():
                    coverage.know(walk.machine)
                    for way in ways:
                        coverage.add(walk.machine, way)
                walk.go_on_as(self._machine(walk.machine.name, walk.version))

    def _walk(self, record: Record) -> _Walk | None:
        known = self._walks.get(record.operation)
        if known is None and isinstance(record.facts[0], f.Started):
            machine = self._machine(record.facts[0].machine, record.facts[0].version)
            if machine is not None:
                known = self._walks[record.operation] = _Walk(machine)
        return known

    def _machine(self, machine: str, version: int) -> Definition | None:
        key = machine, version
        if key not in self._machines:
            document = self._store.definition(*key)
            self._machines[key] = None if document is None else from_document(document)
        return self._machines[key]


_followers: weakref.WeakSet[Follower] = weakref.WeakSet()


class _Walk:
    """Follows one journal, and says which ways it went."""

    def __init__(self, machine: Definition) -> None:
        self.machine = machine
        self.version = machine.version
        self._snapshot: Snapshot | None = None
        self._cause = ""

    def over(self, record: Record) -> Iterator[Way]:
        """Yield the ways that a record's facts took."""
        for fact in record.facts:
            before = self._snapshot
            if before is not None and before.state:
                if isinstance(fact, f.Entered) and isinstance(before.phase, Beginning):
                    pass  # it begins now
                elif isinstance(fact, f.Entered | f.RollbackBegan):
                    way = self._taken(before, fact) if self.version == self.machine.version else None
                    if way is not None:
                        yield way
                elif isinstance(fact, f.Upgraded):
                    self.version = fact.version  # its ways are those of that version from here on
                else:
                    self._cause = self._caused(before, fact)
            self._snapshot = fold(before, fact, record.at)

    def go_on_as(self, machine: Definition | None) -> None:
        """Name ways by the version that the operation was upgraded to, if that is known."""
        if machine is not None:
            self.machine = machine

    def _taken(self, before: Snapshot, fact: f.Entered | f.RollbackBegan) -> Way | None:
        target = fact.state if isinstance(fact, f.Entered) else fact.to
        cause, self._cause = self._cause, ""
        if before.pending is not None:  # it was settled before the attempt ended
            cause = self._settled(before, before.pending.cause, before.pending.name)
        elif isinstance(before.phase, Joining) and not cause:
            cause = self._joined(before.phase, before.state, target)
        if before.rollback is not None or not cause:
            return None  # a rollback's end was counted when it began; what a person overrides is no way
        return Way(before.state, target, cause)

    def _caused(self, before: Snapshot, fact: Fact) -> str:
        """Return the event that a fact stands for; the one so far if it stands for none."""
        row = self.machine.table.get(before.state)
        if isinstance(fact, f.Performed | f.Signalled):
            return fact.event
        if isinstance(fact, f.AttemptFailed):
            return _failed(row, fact.failure.kind in ("timeout", "heartbeat"))
        if isinstance(fact, f.TimerFired):
            return self._settled(before, "timer", fact.timer)
        if isinstance(fact, f.CancelAccepted):
            return "cancel"
        if isinstance(fact, f.Reported):
            return fact.event or "to"
        if isinstance(fact, f.Skipped):
            return "done"
        if isinstance(fact, f.Overrode):
            return ""
        if isinstance(fact, f.Answered) and before.choice is not None:
            return self._settled(before, before.choice.cause, before.choice.name)
        return self._cause

    def _joined(self, phase: Joining, state: str, target: str) -> str:
        """Return how a parent state ended when its children were over."""
        row = self.machine.table.get(state)
        if row is None or row.children is None:
            return "done"
        bad = phase.failed and (row.children.join == "all" or not phase.succeeded)
        event = phase.event or ("failed" if bad or phase.stopping else "done")
        leads = any(branch.to == target for branch in row.exits.get(event, ()))
        return event if leads else "failed"  # its items could not be had, which no count tells

    def _settled(self, before: Snapshot, cause: str, name: str) -> str:
        if cause == "cancel":
            return "cancel"
        if cause == "event":
            return name
        row = self.machine.table.get(before.state)
        kind, _, rest = name.partition(":")
        if kind == "after" and row is not None and int(rest) < len(row.after):
            return f"after {duration_text(row.after[int(rest)][0])}"
        if kind == "group":
            return "timeout"
        return "deadline" if kind == "deadline" else _failed(row, True)


def _failed(row: Row | None, late: bool) -> str:
    """Return the event of an attempt, or a stay, that did not end well."""
    exits = {} if row is None else row.exits
    return "timeout" if late and ("timeout" in exits or "failed" not in exits) else "failed"
