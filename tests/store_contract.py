"""What every store promises: each store's tests run all of this."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.errors import Refused
from interlock.interpreter import facts as f
from interlock.interpreter.snapshot import Running, Snapshot, fold
from interlock.stores.contract import Entry, Lease, Page, Progress, Store

DATA = {"instance": "i" * 36, "source": "compute-1", "destination": "compute-2", "notes": "n" * 112, "step": 0}
"""240 bytes as JSON."""
MACHINES = ("moving", "resizing")
SEARCH: dict[str, Any] = {"machine": None, "status": (), "state": None, "cursor": None, "limit": 100}


def decided(before: Snapshot | None, *facts: f.Fact, at: float = 1.0) -> Entry:
    """Return the entry of a decision that consists of ``facts``."""
    after = before
    for fact in facts:
        after = fold(after, fact, at)
    assert after is not None
    return Entry(after, before.seq if before else 0, facts, at, after.claims != (before.claims if before else ()))


def started(id: str, *facts: f.Fact, machine: str = "moving", at: float = 1.0, queue: str = "") -> Entry:
    """Return the entry of a start: queued in state ``one`` unless ``facts`` say otherwise."""
    return decided(
        None, f.Started(id, machine, 1, dict(DATA), "ann"), *(facts or (f.Entered("one", queue=queue),)), at=at
    )


def running(id: str, worker: str = "w1") -> Entry:
    return started(id, f.Entered("one"), f.Issued(worker, step=True))


def stepped(before: Snapshot, state: str, worker: str = "w1", at: float = 2.0) -> Entry:
    """Return the entry of a step: an outcome and the issue of the next attempt."""
    return decided(before, f.Performed(data={"step": 1}), f.Entered(state), f.Issued(worker, step=True), at=at)


def ended(before: Snapshot, outcome: f.Outcome = "succeeded") -> Entry:
    return decided(before, f.Performed(), f.Entered("end", kind="final", outcome=outcome))


def five_steps(id: str, at: float = 1_795_000_000.123) -> list[Entry]:
    """Return the six entries of an operation of five steps."""
    entries = [started(id, f.Entered("one"), f.Issued("0123456789abcdef"), at=at)]
    for number, state in enumerate(("two", "three", "four", "five"), start=1):
        before = entries[-1].snapshot
        facts = f.Performed(data={"step": number}), f.Entered(state), f.Issued("0123456789abcdef")
        entries.append(decided(before, *facts, at=at + number * 0.0137))
    return [*entries, ended(entries[-1].snapshot)]


EVERY_FACT: tuple[f.Fact, ...] = (
    f.Started(
        "op", "moving", 3, {"a": [1, {"b": None}]}, "ann", f.Bounds(9.5, {"one": 1.0}, {"one": 2.0}, {"one": 3}), ("two",), "17", ("zero",),
        f.Parent("mother", 3, ("grandmother",)), "wait",
    ),
    f.Postponed("one", 9.0, {"deadline": 9.5}),
    f.ClaimsAwaited("one", (f.Holding("guest:1", 2, False),), {"deadline": 9.5}, ("guest:1",)),
    f.Claimed((f.Holding("guest:1", 2),)),
    f.Entered("many", "parent", children=7),
    f.ChildIssued(1, "op.1.1"),
    f.ChildEnded(1, "failed", "no room"),
    f.ChildrenStopped("one failed", "failed"),
    f.Upgraded(2, "two", "host:b", {"within": 5.5}, ("zero",), ("three",), f.Bounds(9.5), {"new": 1}),
    f.Owned("port", "7"),
    f.Disowned("port", "7"),
    f.Entered("one", "waiting", "host:a", {"within": 5.5}, None, True),
    f.Reported("done", "end", {"x": 1}, "move 7", "older code", True),
    f.Entered("end", "final", outcome="cancelled"),
    f.Issued("w1", 2, 7.25, True, True),
    f.Performed("odd", {"x": "ünï ☃ 𝄞 \x00 \\ \""}),
    f.AttemptFailed(f.Failure("OSError", "no", ("OSError", "Exception"), True, 2.5)),
    f.RetryPlanned(3.125),
    f.AttemptLost("handover"),
    f.CutAsked("heartbeat"),
    f.AttemptCut(),
    f.Asked("timer", "after:0", ("shared",), "q"),
    f.Answered({"shared": False}),
    f.Signalled("go", {"n": 2**53 + 1}, "key", "bob", True),
    f.SignalHeld("go", {"n": -1.5e300}, "key", "bob"),
    f.TimerFired("deadline"),
    f.CancelAccepted("ann", "because"),
    f.Deferred("cancel", "x"),
    f.RollbackBegan("failed", "because"),
    f.UndoPlanned("one", "q"),
    f.Undone("one"),
    f.Paused("ann", "lunch", True),
    f.Resumed("ann"),
    f.BreakpointsSet(("one", "two"), "ann"),
    f.GotStuck("no-exit", "because"),
    f.Retried("ann", "again", True),
    f.Skipped("ann", "done by hand"),
    f.Overrode("two", "ann", "because", ("pivot",)),
)  # fmt: skip


class StoreContract:
    """Give it a fixture `store`: a new one, empty."""

    # Commit

    def test_a_start_wins_once(self, store: Store) -> None:
        first, second = started("a"), started("a", queue="other")
        assert store.commit([first]) == [True]
        assert store.commit([second]) == [False]
        assert store.commit([second, started("b")]) == [False, True]
        assert store.load(["a", "b"]) == [first.snapshot, started("b").snapshot]

    def test_a_loser_changes_nothing_and_disturbs_nobody(self, store: Store) -> None:
        old, other = running("a"), running("b")
        newer = stepped(old.snapshot, "two")
        store.commit([old, other])
        store.commit([newer])
        before = store.position()
        group = [stepped(old.snapshot, "three"), stepped(other.snapshot, "two"), started("c")]
        assert store.commit(group) == [False, True, True]
        assert store.load(["a", "b", "c"]) == [newer.snapshot, group[1].snapshot, group[2].snapshot]
        assert [(record.operation, record.seq) for record in store.tail(before, 10)] == [("b", 6), ("c", 2)]
        assert store.commit([stepped(running("nobody").snapshot, "two")]) == [False]
        assert store.commit([stepped(old.snapshot, "three")] * 3) == [False] * 3
        assert store.position() == before + 2

    def test_entries_of_one_operation_follow_each_other(self, store: Store) -> None:
        entries = five_steps("a")
        other = running("b")
        assert store.commit([entries[0], other, *entries[1:]]) == [True] * 7
        assert store.load(["a"]) == [entries[-1].snapshot]
        assert [record.facts for record in store.journal("a", 0, 10)] == [entry.facts for entry in entries]

    def test_who_follows_a_loser_loses(self, store: Store) -> None:
        first = running("a")
        wins = stepped(first.snapshot, "two")
        loses = decided(first.snapshot, f.AttemptFailed(f.Failure("OSError")), f.RetryPlanned(9.0))
        follows = decided(loses.snapshot, f.Issued("w2"))
        assert store.commit([first, wins, loses, follows]) == [True, True, False, False]
        assert store.load(["a"]) == [wins.snapshot]
        assert [record.seq for record in store.journal("a", 0, 10)] == [3, 6]

    def test_who_is_ahead_of_the_store_loses(self, store: Store) -> None:
        first = running("a")
        never = stepped(first.snapshot, "two")
        assert store.commit([first, stepped(never.snapshot, "three")]) == [True, False]
        assert store.commit([stepped(never.snapshot, "three")]) == [False]
        assert store.load(["a"]) == [first.snapshot] and store.position() == 1

    def test_a_group_is_taken_in_its_order(self, store: Store) -> None:
        first = running("a")
        assert store.commit([stepped(first.snapshot, "two"), first]) == [False, True]
        assert store.load(["a"]) == [first.snapshot]

    def test_a_group_of_none(self, store: Store) -> None:
        assert store.commit([]) == []
        assert store.position() == 0

    @pytest.mark.parametrize("value", [object(), {1, object()}, "\ud800", 1j], ids=lambda value: type(value).__name__)
    def test_what_cannot_be_stored_is_refused_with_its_whole_group(self, store: Store, value: object) -> None:
        bad = decided(None, f.Started("bad", "moving", 1, {"value": value}), f.Entered("one"))
        with pytest.raises((TypeError, UnicodeEncodeError)):
            store.commit([started("a"), bad])
        assert store.load(["a", "bad"]) == [] and store.position() == 0
        assert store.commit([started("a")]) == [True]

    def test_a_snapshot_that_is_not_the_fold_of_its_facts_is_a_fault(self, store: Store) -> None:
        whole = running("a")
        with pytest.raises(AssertionError, match="a: facts are missing"):
            store.commit([started("b"), Entry(whole.snapshot, 0, whole.facts[:-1], 1.0)])
        assert store.position() == 0

    def test_everything_comes_back_as_it_was(self, store: Store) -> None:
        whole = Snapshot(
            id="op ü/☃", machine="moving", version=3, seq=len(EVERY_FACT), status="paused", state="one",
            data={"deep": [1, 2.5, None, True, {"x": "\x00 𝄞"}], "big": 2**63 - 1, "": {}}, started=1.5, since=2.25, changed=1e9 + 0.1,
            phase=Running("undo", "one", 7, "w1", 2.0, 3, "q", 9.0, True, "timer"), visit=4, attempts=5, lost=6, timers={"within": 5.0},
            steps=("a", "b"), keys=("k",), breakpoints=("two",), bounds=f.Bounds(retries={"one": 0}), failure=f.Failure("X"), by="ann",
        )  # fmt: skip
        store.commit([Entry(whole, 0, EVERY_FACT, 1e9 + 0.1)])
        assert store.load([whole.id]) == [whole]
        (record,) = store.tail(0, 10)
        assert record.facts == EVERY_FACT and record.at == 1e9 + 0.1 and record.operation == whole.id
        assert {type(fact) for fact in record.facts} == set(f.Fact.__args__)

    def test_nobody_shares_a_value_with_the_store(self, store: Store) -> None:
        entry = started("a")
        store.commit([entry])
        entry.snapshot.data["step"] = "changed"
        store.load(["a"])[0].data["step"] = "changed"
        (fact, _) = store.tail(0, 1)[0].facts
        assert isinstance(fact, f.Started)
        fact.data["step"] = "changed"
        assert store.load(["a"])[0].data == DATA
        assert store.tail(0, 1)[0].facts[0] == f.Started("a", "moving", 1, DATA, "ann")

    def test_load_keeps_the_order_asked_for(self, store: Store) -> None:
        store.commit([started(id) for id in "abc"])
        assert [one.id for one in store.load(["c", "nobody", "a", "c"])] == ["c", "a", "c"]
        assert store.load([]) == []

    # Due

    def test_due_is_what_waits_in_a_queue_that_is_served(self, store: Store) -> None:
        group = [
            started("here", queue="q1"),
            started("elsewhere", queue="q2"),
            started("default"),
            started("other", machine="resizing", queue="q1"),
            running("running"),
            started("waiting", f.Entered("one", kind="waiting")),
            started("paused", f.Entered("one", queue="q1"), f.Paused()),
            started("stuck", f.Entered("one", queue="q1"), f.GotStuck("no-exit", "because")),
            started("ended", f.Entered("end", kind="final", outcome="failed")),
        ]
        store.commit(group)

        def due(*queues: str, machines: tuple[str, ...] = MACHINES) -> list[str]:
            return [one.id for one in store.due(machines, queues, 1.0, 10)]

        assert due("q1") == ["here", "other"]
        assert due("q1", "", "q2", "q1") == ["here", "elsewhere", "default", "other"]
        assert due("q1", machines=("resizing",)) == ["other"]
        assert due("q1", machines=()) == due() == due("unknown") == []
        assert store.due(MACHINES, ["q1"], 0.999, 10) == []
        assert store.due(MACHINES, ["q1"], 1.0, 10)[0] == group[0].snapshot

    def test_due_is_what_a_timer_moves(self, store: Store) -> None:
        timers = {"within": 50.0, "after:0": 40.0}
        store.commit(
            [
                started("waiting", f.Entered("one", kind="waiting", timers=timers)),
                started("queued", f.Entered("one", queue="far", timers={"deadline": 45.0})),
                started("running", f.Entered("one", timers=timers), f.Issued("w", until=30.0)),
                started("paused", f.Entered("one", kind="waiting", timers=timers), f.Paused()),
                started("other", f.Entered("one", kind="waiting", timers=timers), machine="resizing"),
            ]
        )
        assert store.due(["moving"], [], 39.9, 10) == []
        assert [one.id for one in store.due(["moving"], [], 40.0, 10)] == ["waiting"]
        assert [one.id for one in store.due(["moving"], ["q"], 45.0, 10)] == ["waiting", "queued"]
        assert [one.id for one in store.due(MACHINES, ["q"], 99.0, 10)] == ["waiting", "other", "queued"]

    def test_longest_due_comes_first_each_once(self, store: Store) -> None:
        store.commit(
            [
                started("late", at=9.0),
                started("both", f.Entered("one", timers={"within": 8.0}), at=3.0),
                started("both-2", f.Entered("one", timers={"within": 2.0}), at=7.0),
                started("early", at=1.0),
                started("early-2", at=1.0),
            ]
        )
        order = ["early", "early-2", "both-2", "both", "late"]
        for limit in range(1, 7):
            assert [one.id for one in store.due(MACHINES, [""], 10.0, limit)] == order[:limit]
            assert [one.id for one in store.due(MACHINES, [""], 10.0, 2, limit)] == order[limit:][:2]
        assert [one.id for one in store.due(MACHINES, [""], 2.0, 9)] == ["early", "early-2", "both-2"]
        assert store.next_due(MACHINES, [""]) == 1.0

    def test_next_due(self, store: Store) -> None:
        assert store.next_due(MACHINES, [""]) is None
        store.commit(
            [
                started("a", at=20.0, queue="q1"),
                started("b", f.Entered("one", kind="waiting", timers={"within": 30.0})),
                running("c"),
            ]
        )
        assert store.next_due(MACHINES, ["q1"]) == 20.0
        assert store.next_due(MACHINES, ["q2"]) == 30.0
        assert store.next_due(["resizing"], ["q1"]) is None
        assert store.next_due([], []) is None

    def test_what_was_taken_is_due_no_longer(self, store: Store) -> None:
        queued = started("a")
        store.commit([queued])
        taken = decided(queued.snapshot, f.Issued("w1"))
        store.commit([taken])
        assert store.due(MACHINES, [""], 99.0, 10) == [] and store.next_due(MACHINES, [""]) is None
        assert store.held("w1", 10) == [taken.snapshot]
        lost = decided(taken.snapshot, f.AttemptLost(), at=5.0)
        store.commit([lost])
        assert store.due(MACHINES, [""], 99.0, 10) == [lost.snapshot] and store.held("w1", 10) == []

    # Workers

    def test_held(self, store: Store) -> None:
        store.commit([running("a"), running("b", "w2"), running("c"), started("d")])
        assert [one.id for one in store.held("w1", 10)] == ["a", "c"]
        assert [one.id for one in store.held("w1", 1)] == ["a"]
        assert store.held("nobody", 10) == []
        store.commit([ended(running("a").snapshot)])
        assert [one.id for one in store.held("w1", 10)] == ["c"]

    def test_leases(self, store: Store) -> None:
        assert store.leases() == []
        second, first = Lease("w2", 5.0), Lease("w1", 6.0, "boot/1/2", ("", "host:a"), ("moving",), 7)
        store.renew(second)
        store.renew(first)
        assert store.leases() == [first, second]
        store.renew(Lease("w1", 7.5, "boot/1/2"))
        assert store.leases() == [Lease("w1", 7.5, "boot/1/2"), second]
        store.retire("w1")
        store.retire("w1")
        assert store.leases() == [second]

    def test_progress_is_the_newest_of_the_newest_attempt(self, store: Store) -> None:
        assert store.progress("a") is None
        store.report([Progress("a", 3, 1.0, 10.0), Progress("b", 3, 1.0, 1.0, 2.0, "MiB", "copying ☃")])
        store.report([Progress("a", 3, 2.0, 20.0)])
        assert store.progress("a") == Progress("a", 3, 2.0, 20.0)
        assert store.progress("b") == Progress("b", 3, 1.0, 1.0, 2.0, "MiB", "copying ☃")
        store.report([Progress("a", 7, 3.0, 1.0), Progress("a", 3, 4.0, 30.0)])
        assert store.progress("a") == Progress("a", 7, 3.0, 1.0)
        store.report([])

    # Definitions

    def test_definitions_are_kept_for_ever(self, store: Store) -> None:
        document = {"machine": "moving", "states": {"two": {"then": "one"}, "one": {}}, "wait": 1.5, "text": "ü☃"}
        store.define("moving", 10, document)
        store.define("moving", 9, {})
        store.define("moving", 10, {key: document[key] for key in reversed(document)})
        assert store.definition("moving", 10) == document
        assert store.definitions() == [("moving", 9), ("moving", 10)]
        assert store.definition("moving", 8) is None and store.definition("nobody", 9) is None

    def test_a_definition_keeps_the_order_of_its_states(self, store: Store) -> None:
        states = {"zeta": 1, "alpha": 2, "mid": 3}
        store.define("moving", 1, {"states": states})
        found = store.definition("moving", 1)
        assert found is not None and [*found["states"]] == [*states]

    def test_a_version_with_another_content_is_refused(self, store: Store) -> None:
        store.define("moving", 1, {"states": {"one": {"undo": True}}})
        with pytest.raises(Refused, match=r"machine `moving` version 1 .* give the changed machine a new version"):
            store.define("moving", 1, {"states": {"one": {"undo": 1}}})
        assert store.definition("moving", 1) == {"states": {"one": {"undo": True}}}

    def test_nobody_shares_a_definition_with_the_store(self, store: Store) -> None:
        document: dict[str, Any] = {"states": {}}
        store.define("moving", 1, document)
        document["states"]["new"] = 1
        found = store.definition("moving", 1)
        assert found == {"states": {}}
        found["states"]["new"] = 1
        assert store.definition("moving", 1) == {"states": {}}

    # Journal

    def test_the_journal_is_read_in_pages(self, store: Store) -> None:
        entries = five_steps("a")
        store.commit([running("b"), *entries[:3], started("c")])
        store.commit([*entries[3:], stepped(running("b").snapshot, "two")])
        assert [record.seq for record in store.journal("a", 0, 100)] == [3, 6, 9, 12, 15, 17]
        assert [record.seq for record in store.journal("a", 6, 2)] == [9, 12]
        assert [record.seq for record in store.journal("a", 7, 2)] == [9, 12]
        assert store.journal("a", 17, 10) == store.journal("nobody", 0, 10) == []
        assert [(one.position, one.operation, one.seq) for one in store.tail(0, 100)] == [
            (1, "b", 3), (2, "a", 3), (3, "a", 6), (4, "a", 9), (5, "c", 2), (6, "a", 12), (7, "a", 15), (8, "a", 17), (9, "b", 6)
        ]  # fmt: skip
        assert [one.position for one in store.tail(3, 2)] == [4, 5]
        assert store.tail(9, 5) == [] and store.tail(-5, 1)[0].position == 1
        assert store.position() == 9

    def test_folding_the_journal_gives_the_snapshot(self, store: Store) -> None:
        store.commit(five_steps("a"))
        snapshot = None
        for record in store.journal("a", 0, 100):
            for fact in record.facts:
                snapshot = fold(snapshot, fact, record.at)
        assert [snapshot] == store.load(["a"])

    # Lists

    def test_search_finds_newest_first_what_matches_everything(self, store: Store) -> None:
        store.commit([started("a"), running("b"), started("c", machine="resizing"), started("d")])
        store.commit([stepped(running("b").snapshot, "two"), ended(started("d", f.Entered("one")).snapshot)])

        def found(**asked: Any) -> str:
            page = store.search(**{**SEARCH, **asked})
            assert page.cursor is None
            return "".join(one.id for one in page.snapshots)

        assert found() == "dcba"
        assert found(machine="moving") == "dba" and found(machine="nobody") == ""
        assert found(status=("queued",)) == "ca" and found(status=("running", "succeeded")) == "db"
        assert found(state="one") == "ca" and found(state="two", status=["running"], machine="moving") == "b"
        assert store.search(**{**SEARCH, "state": "two"}).snapshots == tuple(store.load(["b"]))

    def test_pages_stay_where_they_are_while_new_operations_arrive(self, store: Store) -> None:
        store.commit([started(f"a{number}", machine=MACHINES[number % 2]) for number in range(10)])
        asked = {**SEARCH, "machine": "moving", "limit": 2}
        pages: list[Page] = []
        while not pages or pages[-1].cursor is not None:
            pages.append(store.search(**{**asked, "cursor": pages[-1].cursor if pages else None}))
            store.commit([started(f"new{len(pages)}")])
        assert [[one.id for one in page.snapshots] for page in pages] == [["a8", "a6"], ["a4", "a2"], ["a0"]]
        assert [one.id for one in store.search(**asked).snapshots] == ["new3", "new2"]

    def test_a_full_last_page_has_no_cursor(self, store: Store) -> None:
        store.commit([started("a"), started("b")])
        page = store.search(**{**SEARCH, "limit": 2})
        assert len(page.snapshots) == 2 and page.cursor is None

    @pytest.mark.parametrize("cursor", ["x", "", "-1", "1.5", "²", "9" * 30])
    def test_a_cursor_that_no_page_gave_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(Refused, match="is none of this store"):
            store.search(**{**SEARCH, "cursor": cursor})

    def test_counts(self, store: Store) -> None:
        assert store.counts() == {}
        store.commit([started("a"), running("b"), started("c"), started("d", machine="resizing")])
        assert store.counts() == {
            ("moving", "one", "queued"): 2,
            ("moving", "one", "running"): 1,
            ("resizing", "one", "queued"): 1,
        }

    def test_close_twice(self, store: Store) -> None:
        store.close()
        store.close()
