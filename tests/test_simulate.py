"""The simulator: two thousand seeds hold, a seed always tells the same story, and every way of breaking the engine is found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from interlock.definition import compare
from interlock.interpreter import attempts, children, upgrade, ways
from interlock.interpreter import facts as f
from interlock.interpreter import plan as plans
from interlock.interpreter import snapshot as snapshots
from interlock.interpreter.snapshot import Joining, Running, Snapshot
from interlock.interpreter.status import STATUS
from interlock.interpreter.turn import Turn
from interlock.runtime import schedules, scheduling
from interlock.runtime.between import Between, Sight
from interlock.runtime.schedules import following
from interlock.stores.contract import Entry, Schedule
from interlock.stores.memory import MemoryStore
from interlock.stores.stored import encode
from interlock.testing.process import Killed, View
from interlock.testing.simulate import Simulation, main
from tests.scenario import replay
from tests.test_decide import SCENARIOS

CHUNK = 250


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    log = logging.getLogger("interlock")
    before, log.level = log.level, logging.CRITICAL
    yield
    log.setLevel(before)


def holds(seeds: range) -> tuple[set[type], set[tuple[str, str]]]:
    """Play seeds; return the kinds of facts and the edges between statuses that they took."""
    taken: set[type] = set()
    edges: set[tuple[str, str]] = set()
    for seed in seeds:
        simulation = Simulation(seed)
        broken = simulation.play()
        assert not broken, f"seed {seed}: {broken}; replay: python -m interlock.testing.simulate --seed {seed} --story"
        taken |= {type(fact) for fact in simulation.facts()}
        edges |= set(statuses(simulation.store))
    return taken, edges


def statuses(store: MemoryStore) -> Iterator[tuple[str, str]]:
    """Yield every change of status that a store's journal tells of."""
    now: dict[str, Snapshot] = {}
    for record in store.tail(0, 1_000_000):
        before = after = now.get(record.operation)
        for fact in record.facts:
            after = snapshots.fold(after, fact, record.at)
        assert after is not None
        if before is not None and before.status != after.status:
            yield before.status, after.status
        now[record.operation] = after


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(8))
def test_two_thousand_seeds_hold(chunk: int) -> None:
    taken, edges = holds(range(chunk * CHUNK, (chunk + 1) * CHUNK))
    if chunk == 0:
        edges |= {edge for path in SCENARIOS for edge in replay(path)[2].edges}
        every = {(one, other) for one in STATUS.states for other in STATUS.moves[one]}
        assert every - edges == set(), "no scenario and no seed took these edges between statuses"
    rare = {f.Asked, f.Answered, f.SignalHeld, f.ChildrenStopped, f.Disowned}
    assert set(get_args(f.Fact)) - taken <= rare, "every kind of fact, but for rare ones, in every chunk"


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("chunk", range(8, 88))
def test_twenty_thousand_more_hold(chunk: int) -> None:
    holds(range(chunk * CHUNK, (chunk + 1) * CHUNK))


def test_a_seed_always_tells_the_same_story() -> None:
    one, other = Simulation(18), Simulation(18)
    assert one.play() == other.play() == [] and one.scheduled
    assert one.story == other.story and len(one.story) > 20
    assert one.facts() == other.facts()
    assert Simulation(13).play() == [] and Simulation(13).story != one.story


def test_the_program_says_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0..3"]) == 0
    said = capsys.readouterr().out
    assert "3 seeds in" in said and "0 do not hold" in said and "operations" in said
    assert main(["--seed", "2", "--story"]) == 0
    assert "p0     starts" in capsys.readouterr().out


# Mutations: each breaks one thing that the design rests on; the simulator has to find it within so many seeds


def found(seeds: int, make: Callable[[int], Simulation] = Simulation, saying: str = "") -> str:
    """Return what the first seed says that does not hold, and says so; "" if there is none."""
    for seed in range(seeds):
        simulation = make(seed)
        try:
            broken = simulation.play()
        except AssertionError as fault:
            return str(fault)
        said = "; ".join(broken)
        if said and saying in said:
            return said
    return ""


def test_steps_that_count_only_when_done_leave_things_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 4: leaving out the steps that were cut off half-way."""
    issued, performed = snapshots._FOLDS[f.Issued], snapshots._FOLDS[f.Performed]
    steps: set[str] = set()

    def forgetful(before: Snapshot, fact: f.Issued, at: float) -> dict[str, Any]:
        if fact.step:
            steps.add(f"{before.machine} {before.state}")
        return issued(before, replace(fact, step=False), at)

    def late(before: Snapshot, fact: f.Performed, at: float) -> dict[str, Any]:
        if f"{before.machine} {before.state}" not in steps:
            return performed(before, fact, at)
        rest = tuple(state for state in before.steps if state != before.state)
        return {**performed(before, fact, at), "steps": (*rest, before.state)}

    def make(seed: int) -> Simulation:
        steps.clear()
        return Simulation(seed)

    monkeypatch.setitem(snapshots._FOLDS, f.Issued, forgetful)
    monkeypatch.setitem(snapshots._FOLDS, f.Performed, late)
    assert "behind" in found(100, make)


class Frozen(Simulation):
    """Processes stand still again and again, and come back when others have taken over."""

    def _event(self) -> Callable[[], None]:
        return self.random.choice([self._start, self._freeze, self._freeze, self._launch])


def test_an_outcome_without_its_token_is_recorded_for_another_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 5: whoever comes back last wins."""

    def trusting(turn: Turn, token: int) -> Running:
        phase = turn.after.phase
        if not isinstance(phase, Running):
            phase = Running("perform", turn.after.state, token, "nobody", 0.0)
        return phase

    monkeypatch.setattr(attempts, "running", trusting)
    assert found(400, lambda seed: Frozen(seed, deploys=False, reports=False), "ends an attempt that does not run")


def test_an_undo_that_does_not_wait_for_the_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 6: the rollback begins while the action still runs."""

    def hasty(turn: Turn, cause: f.Cause, name: str, cut: f.CutCause) -> None:
        ways._conclude_way(turn, cause, name)

    monkeypatch.setattr(ways, "leave", hasty)
    assert found(100)


def test_a_store_that_does_not_compare_is_found() -> None:
    """Both of two writers win."""

    class Careless(MemoryStore):
        def commit(self, entries: Sequence[Entry]) -> list[bool]:
            won = super().commit(entries)
            for entry, wins in zip(entries, won, strict=True):
                if not wins:
                    one = entry.snapshot.id
                    self._stored[one], self._snapshots[one] = encode(entry.snapshot), entry.snapshot
                    self._journal.append((one, entry.snapshot.seq, entry.at, encode(entry.facts)))
            return [True] * len(entries)

    assert found(300, lambda seed: Simulation(seed, Careless()))


def test_a_key_that_is_not_remembered_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated signal counts twice."""
    for kind in (f.Signalled, f.SignalHeld):
        fold = snapshots._FOLDS[kind]

        def forgetful(before: Snapshot, fact: Any, at: float, fold: Any = fold) -> dict[str, Any]:
            return {name: value for name, value in fold(before, fact, at).items() if name != "keys"}

        monkeypatch.setitem(snapshots._FOLDS, kind, forgetful)
    assert "times in its journal" in found(600)


def test_an_upgrade_that_forgets_what_was_started_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new version cannot undo a step, and the operation goes on in it all the same."""
    fact_of = upgrade._upgrade

    def careless(old: Any, new: Any, snapshot: Snapshot, now: float) -> Any:
        fact = fact_of(old, new, replace(snapshot, steps=()), now)
        steps = tuple(name for step in snapshot.steps if new.table[name := new.renames.get(step, step)].undo)
        return fact if isinstance(fact, str) else replace(fact, steps=steps)

    monkeypatch.setattr(upgrade, "_upgrade", careless)
    monkeypatch.setattr(compare, "_lost", lambda old, new: {})
    assert "behind" in found(400, lambda seed: Simulation(seed, scheduled=0))


def test_a_claim_that_the_store_does_not_look_at_is_found() -> None:
    """Two take it at once."""

    class Generous(MemoryStore):
        def _free(self, snapshot: Snapshot) -> bool:
            return True

    assert " takes " in found(300, lambda seed: Simulation(seed, Generous()))


def test_a_parent_that_does_not_wait_for_its_children_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(turn: Turn) -> None:
        phase = turn.after.phase
        if isinstance(phase, Joining) and phase.live and phase.succeeded:
            return children._leave(turn, "done", "")
        go_on(turn)

    go_on = children.go_on
    monkeypatch.setattr(children, "go_on", hasty)
    assert "while its children" in found(300)


def test_what_follows_from_a_commit_and_is_not_looked_at_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process dies between a commit and the start of the child that it issued, or with the news of a child's end."""
    monkeypatch.setattr(Between, "look", lambda self, store, now: Sight(store.waiters(0, 100)))
    assert "Joining" in found(600)


def test_who_waits_for_claims_and_is_not_looked_at_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Between, "look", lambda self, store, now: Sight((), ()))
    assert "Beginning" in found(300, lambda seed: Simulation(seed, deploys=False))


def test_a_delayed_start_that_does_not_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = snapshots._FOLDS[f.Postponed]
    monkeypatch.setitem(
        snapshots._FOLDS, f.Postponed, lambda before, fact, at: fold(before, replace(fact, until=at), at)
    )
    assert "was to begin" in found(100)


class Clocked(Simulation):
    """Schedules in every seed."""

    def __init__(self, seed: int, store: MemoryStore | None = None) -> None:
        super().__init__(seed, store, scheduled=1)


def fires_otherwise(monkeypatch: pytest.MonkeyPatch, change: Callable[[Schedule, Schedule], Schedule | None]) -> None:
    """Have what a schedule starts move it on to something else; None: to nothing."""
    commit = View.commit

    def moving(entry: Entry) -> Entry:
        if entry.fires is None:
            return entry
        changed = change(entry.fires[1], entry.fires[0])
        return replace(entry, fires=changed and (entry.fires[0], changed))

    monkeypatch.setattr(View, "commit", lambda self, entries: commit(self, [moving(entry) for entry in entries]))


def test_a_schedule_that_does_not_move_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is doubled, as ids follow from times; but what was started was noted by nobody."""
    fires_otherwise(monkeypatch, lambda schedule, before: None)
    assert "which has not fired for that time" in found(20, Clocked)


def test_a_missed_time_that_is_not_counted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fires_otherwise(monkeypatch, lambda schedule, before: replace(schedule, missed=before.missed))
    assert "says that it missed 0" in found(100, Clocked)


def test_a_start_that_does_not_ask_whether_its_schedule_is_still_the_same_is_found() -> None:
    """A worker stands still between its look and its start; meanwhile another one has counted that time as missed."""

    class Careless(MemoryStore):
        def commit(self, entries: Sequence[Entry]) -> list[bool]:
            won = super().commit([replace(entry, fires=None) for entry in entries])
            for entry, wins in zip(entries, won, strict=True):
                if wins and entry.fires is not None:
                    self.set_schedule(entry.fires[1], entry.fires[0])
            return won

    assert "which has not fired for that time" in found(600, lambda seed: Clocked(seed, Careless()))


def test_ids_that_do_not_follow_from_the_time_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers start two operations at one time."""
    numbers = iter(range(100_000))
    monkeypatch.setattr(schedules, "operation_id", lambda schedule: f"{schedule.name}@{next(numbers)}")
    assert "which has not fired for that time" in found(20, Clocked)


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (lambda cron, zone, after: following(cron, zone, following(cron, zone, after)), "is due at"),
        (lambda cron, zone, after: following(cron, "UTC", after), "is due at"),
    ],
    ids=["every other time is left out", "the time zone is not looked at"],
)
def test_wrong_times_are_found(
    monkeypatch: pytest.MonkeyPatch, after: Callable[[str, str, float], float], says: str
) -> None:
    monkeypatch.setattr(schedules, "following", after)
    monkeypatch.setattr(scheduling, "following", after)
    assert found(200, Clocked)


def test_a_dropped_schedule_that_starts_on_is_found() -> None:
    class Keeping(MemoryStore):
        def drop_schedule(self, name: str) -> bool:
            return name in self._schedules

    assert "which has not fired for that time" in found(20, lambda seed: Clocked(seed, Keeping()))


def test_a_plan_that_leaves_states_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plans._ahead
    monkeypatch.setattr(plans, "_ahead", lambda machine, first: whole(machine, first)[:2])
    assert "and its plan had named" in found(20)


def test_an_acknowledgement_before_the_commit_is_durable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was acknowledged is lost when the process dies."""

    doomed: set[int] = set()

    def lazy(self: View, entries: Sequence[Entry]) -> list[bool]:
        if self.dead or id(self) in doomed:
            self.dead = True
            raise Killed
        if self._random.random() < self._faults.kill:
            doomed.add(id(self))
            return [True] * len(entries)
        return self._store.commit(entries)

    monkeypatch.setattr(View, "commit", lazy)
    assert found(600, saying="was acknowledged")  # other seeds find what is left behind
