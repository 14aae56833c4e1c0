"""What every store promises of claims, and of who waits: each store's tests run all of this."""

from __future__ import annotations

from msgspec.structs import replace

from interlock.interpreter import facts as f
from interlock.interpreter.snapshot import Snapshot
from interlock.stores.contract import Entry, Schedule, Store
from tests.store_contract import decided, ended, running, started


def claiming(id: str, *names: str, limit: int = 1, held: bool = True, parent: f.Parent | None = None) -> Entry:
    """Return the entry of a start that takes claims, or waits for them."""
    start = f.Started(id, "moving", 1, {}, parent=parent)
    if not held:
        claims = tuple(f.Holding(name, limit, held=False) for name in names)
        return decided(None, start, f.ClaimsAwaited("one", claims))
    return decided(None, start, f.Claimed(tuple(f.Holding(name, limit) for name in names)), f.Entered("one"))


def begun(waiting: Snapshot) -> Entry:
    """Return the entry by which an operation that waits takes its claims."""
    return decided(
        waiting, f.Claimed(tuple(f.Holding(one.name, one.limit) for one in waiting.claims)), f.Entered("one")
    )


class ClaimsContract:
    """Give it a fixture `store`: a new one, empty."""

    def line(self, store: Store, name: str) -> list[tuple[str, bool]]:
        return [(one.operation, one.held) for one in store.standing([name], 100)[name]]

    def test_what_one_holds_no_other_gets(self, store: Store) -> None:
        first = claiming("a", "guest:1", "host:x")
        assert store.commit([first, claiming("b", "host:y", "host:x")]) == [True, False]
        assert store.commit([claiming("c", "host:y"), claiming("d", "host:x")]) == [True, False]
        assert store.load(["b", "d"]) == [] and self.line(store, "host:x") == [("a", True)]
        assert self.line(store, "host:y") == [("c", True)] and self.line(store, "host:z") == []
        assert store.commit([ended(decided(first.snapshot, f.Issued("w1")).snapshot)]) == [False]
        issued = decided(first.snapshot, f.Issued("w1"))
        end = ended(issued.snapshot)
        assert end.claims and not issued.claims and store.commit([issued, end]) == [True, True]
        assert self.line(store, "host:x") == [] == self.line(store, "guest:1")
        assert store.commit([claiming("e", "host:x", "guest:1")]) == [True]

    def test_a_loser_of_its_number_takes_no_claim(self, store: Store) -> None:
        wait = claiming("b", "guest:1", held=False)
        store.commit([wait])
        moved = decided(wait.snapshot, f.Paused("ann"))
        assert store.commit([moved, begun(wait.snapshot)]) == [True, False]
        assert self.line(store, "guest:1") == [("b", False)]

    def test_as_many_hold_it_as_may(self, store: Store) -> None:
        entries = [claiming(id, "host:x", limit=2) for id in "abc"]
        assert store.commit(entries) == [True, True, False]
        assert self.line(store, "host:x") == [("a", True), ("b", True)]

    def test_who_waits_comes_in_order(self, store: Store) -> None:
        first, second, third = claiming("a", "x"), claiming("b", "x", "y", held=False), claiming("c", "x", held=False)
        assert store.commit([first, second, third]) == [True] * 3
        assert self.line(store, "x") == [("a", True), ("b", False), ("c", False)] and self.line(store, "y") == [
            ("b", False)
        ]
        assert [one.snapshot.id for one in store.waiters(0, 10)] == ["b"], "it is first for y"
        issued = decided(first.snapshot, f.Issued("w1"))
        store.commit([issued, ended(issued.snapshot)])
        (waiter,) = store.waiters(0, 10)
        assert waiter.snapshot == second.snapshot and store.waiters(waiter.place, 10) == []
        assert waiter.standing == {"x": store.standing(["x"], 9)["x"], "y": store.standing(["y"], 9)["y"]}
        assert store.commit([begun(third.snapshot), claiming("d", "x")]) == [False, False], (
            "the second was there before"
        )
        assert store.commit([begun(second.snapshot), begun(third.snapshot)]) == [True, False]
        assert self.line(store, "x") == [("b", True), ("c", False)] and store.waiters(0, 10) == []

    def test_who_gives_up_leaves_the_line(self, store: Store) -> None:
        wait = claiming("b", "x", held=False)
        over = decided(
            wait.snapshot,
            f.CancelAccepted("ann"),
            f.RollbackBegan("cancelled"),
            f.Entered("end", "final", outcome="cancelled"),
        )
        assert store.commit([claiming("a", "x"), wait, claiming("c", "x", held=False), over]) == [True] * 4
        assert self.line(store, "x") == [("a", True), ("c", False)]

    def test_a_child_waits_for_holders_but_its_ancestors(self, store: Store) -> None:
        store.commit([claiming("mother", "x"), claiming("b", "x", held=False), claiming("h", "z")])
        store.commit(
            [claiming("w", "z", held=False), claiming("child", "x", "z", held=False, parent=f.Parent("mother"))]
        )
        assert [one.snapshot.id for one in store.waiters(0, 10)] == ["child"]
        (child,) = store.load(["child"])
        assert store.commit([begun(child)]) == [False], "h holds z"
        (holder,) = store.load(["h"])
        issued = decided(holder, f.Issued("w1"))
        assert store.commit([issued, ended(issued.snapshot), begun(child)]) == [True] * 3, "it goes before w"
        assert self.line(store, "x") == [("mother", True), ("child", True), ("b", False)]
        assert store.commit([claiming("other", "x", parent=f.Parent("mother", 1))]) == [False], "its sister holds it"

    def test_waiters_come_by_their_places(self, store: Store) -> None:
        store.commit([claiming(f"w{number}", f"x{number}", held=False) for number in range(5)])
        first = store.waiters(0, 2)
        assert [one.snapshot.id for one in first] == ["w0", "w1"]
        assert [one.snapshot.id for one in store.waiters(first[-1].place, 9)] == ["w2", "w3", "w4"]

    def test_who_has_children_is_found_until_they_are_over(self, store: Store) -> None:
        parent = f.Entered("many", "parent", children=2)
        entries = [started(id, parent, f.ChildIssued(0, f"{id}.1.0")) for id in "cab"]
        store.commit([*entries, started("idle", parent)])
        assert [one.id for one in store.awaiting("", 2)] == ["a", "b"]
        assert store.awaiting("b", 10) == [entries[0].snapshot]
        store.commit([decided(entries[0].snapshot, f.ChildEnded(0, "succeeded"))])
        assert [one.id for one in store.awaiting("", 10)] == ["a", "b"]

    def test_who_owns_something_is_found_until_it_ends(self, store: Store) -> None:
        entries = [started(id, f.Entered("one"), f.Issued("w1"), f.Owned("port", id)) for id in "cab"]
        store.commit([*entries, running("poor")])
        assert [one.id for one in store.owning("", 2)] == ["a", "b"]
        assert store.owning("b", 10) == [entries[0].snapshot]
        store.commit([decided(entries[0].snapshot, f.Disowned("port", "c")), ended(entries[1].snapshot)])
        assert [one.id for one in store.owning("", 10)] == ["b"]

    def test_a_schedule_is_written_over_the_one_that_was_read(self, store: Store) -> None:
        made = Schedule(name="nightly ü", machine="moving", cron="* * * * *", data={"a": [1, None]}, next_at=5.5)
        moved = replace(made, next_at=65.5, last_at=5.5, last="op", missed=2)
        assert store.schedules() == [] and not store.set_schedule(moved, made) and not store.drop_schedule(made.name)
        assert store.set_schedule(made, None) and not store.set_schedule(moved, None) and store.schedules() == [made]
        assert store.set_schedule(moved, made) and not store.set_schedule(made, made) and store.schedules() == [moved]
        other = replace(made, name="a")
        assert store.set_schedule(other, None) and store.schedules() == [other, moved]
        assert store.drop_schedule("a") and store.schedules() == [moved]

    def test_a_start_wins_only_while_its_schedule_is_the_one_that_was_read(self, store: Store) -> None:
        made = Schedule(name="nightly ü", machine="moving", cron="* * * * *", data={"a": [1, None]}, next_at=5.5)
        moved = replace(made, next_at=65.5, last_at=5.5, last="a")
        begins = [replace(claiming(id, "host:x", limit=9), fires=(made, moved)) for id in "abc"]
        assert store.commit(begins[:1]) == [False] and store.load(["a"]) == [] == self.line(store, "host:x")
        store.set_schedule(made, None)
        assert store.commit([running("z"), *begins[:2]]) == [True, True, False] and store.schedules() == [moved]
        assert [one.id for one in store.load(["z", "a", "b"])] == ["z", "a"] and self.line(store, "host:x") == [
            ("a", True)
        ]
        assert store.commit(begins[2:]) == [False] and store.schedules() == [moved] and store.load(["c"]) == []

    def test_a_start_that_loses_leaves_its_schedule_alone(self, store: Store) -> None:
        made = Schedule(name="nightly", machine="moving", cron="* * * * *", next_at=5.5)
        store.set_schedule(made, None)
        fires = made, replace(made, next_at=65.5, last="b")
        store.commit([claiming("a", "guest:1")])
        assert store.commit([replace(claiming("b", "guest:1"), fires=fires)]) == [False]
        assert store.commit([replace(running("a"), fires=fires)]) == [False]
        assert store.schedules() == [made]
        assert store.commit([replace(claiming("b", "guest:2"), fires=fires)]) == [True]
        assert store.schedules() == [fires[1]]
