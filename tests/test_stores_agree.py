"""The differential test: whatever is done to them, SQLite and the memory store answer the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from interlock.interpreter import facts as f
from interlock.interpreter.snapshot import Beginning, Ended, Joining, Queued, Running, Snapshot, Stuck, Waiting
from interlock.stores.contract import Entry, Lease, Page, Progress, Store
from interlock.stores.memory import MemoryStore
from interlock.stores.sqlite import SqliteStore
from tests.store_contract import MACHINES, decided

IDS = [f"op-{number}" for number in range(8)]
QUEUES = ["", "q1", "q2"]
WORKERS = ["w1", "w2"]
STATUSES = ["queued", "running", "waiting", "paused", "reverting", "stuck", "succeeded", "failed", "cancelled"]
TIMES = st.integers(0, 30).map(float)
TIMERS = st.dictionaries(st.sampled_from(["within", "after:0", "deadline"]), TIMES, max_size=2)
ENTERED = st.one_of(
    st.builds(f.Entered, st.sampled_from(["one", "two"]), queue=st.sampled_from(QUEUES), timers=TIMERS),
    st.builds(f.Entered, st.just("resting"), st.just("waiting"), timers=TIMERS),
    st.builds(
        f.Entered, st.just("end"), st.just("final"), outcome=st.sampled_from(["succeeded", "failed", "cancelled"])
    ),
)
ISSUED = st.builds(f.Issued, st.sampled_from(WORKERS), until=st.none() | TIMES, step=st.booleans())
STUCK = st.just(f.GotStuck("no-exit", "because"))
ON_PAUSE = st.sampled_from([f.Paused("ann"), f.Resumed("ann")])
PERFORMED = st.just(f.Performed(data={"x": 1}))
CLAIM = st.builds(f.Holding, st.sampled_from(["x", "y", "z"]), st.integers(1, 2))
CLAIMS = st.lists(CLAIM, min_size=1, max_size=2, unique_by=lambda one: one.name)
TAKEN = st.builds(f.Claimed, CLAIMS.map(tuple))
AWAITED = CLAIMS.map(lambda claims: f.ClaimsAwaited("one", tuple(replace(one, held=False) for one in claims)))
OVER = st.just(f.Entered("end", "final", outcome="cancelled"))
CHILDREN = st.tuples(st.just(f.Entered("many", "parent", children=2)), st.just(f.ChildIssued(0, "op-0")))
PARENTS = st.none() | st.builds(f.Parent, st.sampled_from(IDS))
BEGINNINGS = st.one_of(
    st.tuples(ENTERED),
    st.tuples(TAKEN, ENTERED),
    st.tuples(AWAITED),
    st.tuples(st.builds(f.Postponed, st.just("one"), TIMES)),
    CHILDREN,
)
NEXT: dict[type, st.SearchStrategy[tuple[f.Fact, ...]]] = {
    Queued: st.one_of(st.tuples(ISSUED), st.tuples(ON_PAUSE), st.tuples(STUCK)),
    Running: st.one_of(
        st.tuples(PERFORMED, ENTERED),
        st.tuples(PERFORMED, st.just(f.Entered("two")), ISSUED),
        st.tuples(PERFORMED, st.just(f.RollbackBegan("failed")), st.builds(f.UndoPlanned, st.just("one"), st.sampled_from(QUEUES))),
        st.tuples(st.just(f.AttemptFailed(f.Failure("OSError"))), st.builds(f.RetryPlanned, TIMES)),
        st.tuples(st.just(f.AttemptLost())),
        st.tuples(ON_PAUSE),
        st.tuples(st.sampled_from([f.Owned("port", "1"), f.Disowned("port", "1")])),
        st.tuples(st.just(f.CutAsked("timer")), st.just(f.Deferred("timer", "within"))),
    ),
    Waiting: st.one_of(st.tuples(ENTERED), st.tuples(ON_PAUSE), st.tuples(st.just(f.TimerFired("within")), ENTERED)),
    Stuck: st.one_of(st.tuples(st.just(f.Retried("ann"))), st.tuples(st.just(f.Overrode("one")), ENTERED)),
    Beginning: st.one_of(st.tuples(TAKEN, ENTERED), st.tuples(ON_PAUSE), st.tuples(AWAITED), st.tuples(OVER)),
    Joining: st.one_of(st.tuples(ON_PAUSE), st.tuples(ENTERED)),
    Ended: st.tuples(st.just(f.Overrode("one")), ENTERED),
}  # fmt: skip


class StoresAgree(RuleBasedStateMachine):
    """Commits groups of decisions, right and stale ones, to both; after each, both answer everything alike."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.memory: Store = MemoryStore()
        self.sqlite: Store = SqliteStore(self.directory / "operations.db", synchronous="NORMAL")
        self.known: dict[str, list[Snapshot]] = {}
        self.at = 1.0

    def both(self, verb: str, *arguments: Any, **named: Any) -> Any:
        expected = getattr(self.memory, verb)(*arguments, **named)
        assert getattr(self.sqlite, verb)(*arguments, **named) == expected
        return expected

    def _entry(self, data: st.DataObject, group: list[Entry]) -> Entry:
        """Draw a decision: a start; or one from what the operation is, what an earlier entry of the group makes it, or what it was."""
        id = data.draw(st.sampled_from(IDS))
        past = self.known.get(id, []) + [entry.snapshot for entry in group if entry.snapshot.id == id]
        if not past or data.draw(st.integers(0, 9)) == 0:
            start = f.Started(id, MACHINES[IDS.index(id) % 2], 1, {"n": len(group)}, parent=data.draw(PARENTS))
            return decided(None, start, *data.draw(BEGINNINGS), at=self.at)
        before = data.draw(st.sampled_from(past)) if data.draw(st.integers(0, 3)) == 0 else past[-1]
        if isinstance(before.phase, Joining) and before.phase.live and data.draw(st.booleans()):
            return decided(before, f.ChildEnded(before.phase.live[0], "succeeded"), at=self.at)
        return decided(before, *data.draw(NEXT[type(before.phase)]), at=self.at)

    @rule(data=st.data(), size=st.integers(1, 6), passed=st.integers(0, 3), shuffled=st.booleans())
    def commit(self, data: st.DataObject, size: int, passed: int, shuffled: bool) -> None:
        self.at += passed
        group: list[Entry] = []
        for _ in range(size):
            entry = self._entry(data, group)
            # What follows a loser by chance may win; nobody knows then what its claims were before.
            group.append(replace(entry, claims=entry.claims or entry.snapshot.id in {one.snapshot.id for one in group}))
        if shuffled:
            group = data.draw(st.permutations(group))
        won = self.both("commit", group)
        for entry, wins in zip(group, won, strict=True):
            if wins:
                self.known.setdefault(entry.snapshot.id, []).append(entry.snapshot)

    @rule(
        operation=st.sampled_from(IDS),
        token=st.integers(1, 4),
        done=st.floats(0, 9),
        total=st.none() | st.just(9.0),
        text=st.text(max_size=9).filter(lambda text: text.isprintable()),
    )
    def report(self, operation: str, token: int, done: float, total: float | None, text: str) -> None:
        self.both("report", [Progress(operation, token, self.at, done, total, text, text)])

    @rule(worker=st.sampled_from(WORKERS), until=TIMES, queues=st.lists(st.sampled_from(QUEUES)))
    def renew(self, worker: str, until: float, queues: list[str]) -> None:
        self.both("renew", Lease(worker, until, "", tuple(queues), MACHINES))

    @rule(worker=st.sampled_from(WORKERS))
    def retire(self, worker: str) -> None:
        self.both("retire", worker)

    @rule()
    def reopen(self) -> None:
        self.sqlite.close()
        self.sqlite = SqliteStore(self.directory / "operations.db", synchronous="NORMAL")

    @rule(
        now=TIMES,
        machines=st.lists(st.sampled_from(MACHINES), unique=True),
        queues=st.lists(st.sampled_from(QUEUES)),
        limit=st.integers(1, 9),
    )
    def ask_what_is_due(self, now: float, machines: list[str], queues: list[str], limit: int) -> None:
        found = self.both("due", machines, queues, now, limit)
        first = self.both("next_due", machines, queues)
        assert bool(found) == (first is not None and first <= now)

    @rule(
        machine=st.none() | st.sampled_from(MACHINES),
        status=st.lists(st.sampled_from(STATUSES), unique=True, max_size=4),
        state=st.none() | st.sampled_from(["one", "two", "end"]),
        limit=st.integers(1, 4),
    )
    def search(self, machine: str | None, status: list[str], state: str | None, limit: int) -> None:
        cursor: str | None = None
        found: list[Page] = []
        while not found or cursor is not None:
            page = self.both("search", machine=machine, status=status, state=state, cursor=cursor, limit=limit)
            found.append(page)
            cursor = page.cursor
        ids = [one.id for page in found for one in page.snapshots]
        assert len(ids) == len(set(ids))

    @rule(place=st.integers(0, 9), after=st.sampled_from(["", "op-3"]), limit=st.integers(1, 9))
    def ask_who_waits_and_who_owns(self, place: int, after: str, limit: int) -> None:
        self.both("waiters", place, limit)
        self.both("awaiting", after, limit)
        self.both("owning", after, limit)

    @rule(operation=st.sampled_from(IDS), after=st.integers(0, 20), limit=st.integers(1, 9))
    def read_journals(self, operation: str, after: int, limit: int) -> None:
        self.both("journal", operation, after, limit)
        self.both("tail", after, limit)

    @invariant()
    def they_agree(self) -> None:
        assert self.both("load", IDS) == [self.known[id][-1] for id in IDS if id in self.known]
        self.both("position")
        self.both("tail", 0, 1_000)
        self.both("counts")
        self.both("leases")
        self.both("waiters", 0, 100)
        standing = self.both("standing", ["x", "y", "z"], 100)
        holders = {name: [one.operation for one in line if one.held] for name, line in standing.items()}
        assert all(len(set(line)) == len(line) for line in holders.values())
        self.both("due", MACHINES, QUEUES, self.at, 100)
        for worker in WORKERS:
            self.both("held", worker, 100)
        for id in IDS:
            self.both("progress", id)

    def teardown(self) -> None:
        self.sqlite.close()
        shutil.rmtree(self.directory)


StoresAgree.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestStoresAgree = StoresAgree.TestCase
