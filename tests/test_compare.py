"""Versions compared: what changed, what becomes of operations that stand in each state, and of those that live."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result

from interlock import Actions, Claim, Final, Interlock, Machine, Refused, State
from interlock.cli.app import app
from interlock.definition.compare import compare, mistaken, unable
from interlock.definition.document import from_document
from interlock.definition.machine import Definition
from interlock.interpreter.snapshot import Snapshot, fold
from interlock.interpreter.upgrade import stranded
from interlock.stores.memory import MemoryStore
from interlock.testing.machines import newer_machine
from interlock.testing.simulate import Simulation
from tests.rollouts import Rollout, Rollout2, Rollout3

Run = Callable[..., Result]
ENDS = {name: {"final": name} for name in ("succeeded", "failed", "cancelled")}


def machine(version: int, **more: Any) -> Definition:
    """Return a version of a machine of two acting states with a wait between them, changed as ``more`` says; None removes."""
    states: dict[str, Any] = {
        "making": {"initial": True, "undo": True, "timeout": "1m", "then": "waiting"},
        "waiting": {"on": {"go": "using"}, "after": {"1h": "using"}},
        "using": {"pivot": True, "retry": {"attempts": "forever"}, "then": "succeeded"},
    }
    renames, data = more.pop("renames", {}), more.pop("data", None)
    for name, state in more.items():
        if state is None:
            del states[name]
        else:
            states[name] = {**states.get(name, {}), **state}
    document = {"machine": "thing", "version": version, "states": {**states, **ENDS}}
    return from_document({**document, **({"renames": renames} if renames else {}), **({"data": data} if data else {})})


def verdict(new: Definition, state: str) -> tuple[str, str]:
    change = compare(machine(1), new).states[state]
    return change.verdict, "; ".join([*change.what, change.unsafe, *change.lost])


def test_the_same_machine_is_the_same_everywhere() -> None:
    found = compare(machine(1), machine(2))
    assert {change.verdict for change in found.states.values()} == {"same"} and not found.stranded and not found.added


@pytest.mark.parametrize(
    ("changed", "state", "says"),
    [
        ({"making": {"timeout": "2m"}}, "making", "timeout is 2m, was 1m"),
        (
            {"waiting": {"on": {"go": "using", "stop": {"rollback": "cancelled"}}}},
            "waiting",
            "`stop` is new, to a rollback to `cancelled`",
        ),
        ({"waiting": {"after": {"2h": "using"}}}, "waiting", "`after 1h` is gone; `after 2h` is new"),
        ({"making": {"queue": "host:a"}}, "making", "queue is host:a, was the default one"),
        ({"using": {"retry": {"attempts": 9}}}, "using", "retry is 9 attempts"),
    ],
)
def test_what_changed_is_told(changed: dict[str, Any], state: str, says: str) -> None:
    how, what = verdict(machine(2, **changed), state)
    assert how == "changed" and says in what


def test_claims_that_come_new_strand_nobody_who_holds_nothing() -> None:
    one, two = machine(1), replace(machine(2), claims=[Claim("thing:a", limit=2)])
    found = compare(one, two)
    assert found.claims == ("`thing:a` is claimed now",) and not found.stranded
    more = compare(two, replace(two, version=3, claims=[Claim("thing:a", limit=3)]))
    assert more.claims == ("`thing:a` is claimed for 3, was for 2",)
    assert more.stranded == ("making", "waiting", "using") and more.states["succeeded"].verdict == "same"


def test_what_an_end_hands_over_is_told() -> None:
    end = Final("succeeded", hands_over=("disk",), name="succeeded")
    found = compare(machine(1), replace(machine(2), states={**machine(2).states, "succeeded": end}))
    assert found.states["succeeded"].what == ("it hands over disk, was nothing",)


def test_a_state_that_is_called_otherwise_has_moved() -> None:
    making = {"initial": True, "undo": True, "timeout": "1m", "then": "waiting"}
    new = machine(2, making=None, building=making, renames={"making": "building"})
    change = compare(machine(1), new).states["making"]
    assert (change.verdict, change.to, compare(machine(1), new).added) == ("moved", "building", ())
    lost = compare(machine(1), machine(2, making=None, building=making))
    assert lost.states["making"].verdict == "stranded" and "`renames` does not say" in lost.states["making"].unsafe
    assert lost.added == ("building",) and lost.states["waiting"].lost == ("making",), (
        "its step could not be undone later either"
    )


FOREVER = {"retry": {"attempts": "forever"}}
EARLY_PIVOT = {"initial": True, "pivot": True, **FOREVER, "then": "waiting"}
UNSAFE: dict[str, tuple[dict[str, Any], str]] = {
    "gone": ({"waiting": None, "making": {"then": "using"}}, "it is gone"),
    "not undone": ({"making": {"undo": "nothing"}}, "making"),
    "of another kind": (
        {"waiting": None, "making": {"then": "acts"}, "acts": {"undo": "nothing", "then": "using"}, "renames": {"waiting": "acts"}},
        "it was waiting and is acting now",
    ),
    "past the pivot": (
        {"making": None, "made": EARLY_PIVOT, "using": None, "used": {**FOREVER, "then": "succeeded"},
         "waiting": {"on": {"go": "used"}, "after": {"1h": "used"}}, "renames": {"making": "made", "using": "used"}},
        "it stands before the pivot and would stand past it",
    ),
    "other data": ({"data": {"zone": "string"}}, "field `zone` is required and may be missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSAFE)
def test_what_is_not_safe_strands_with_the_reason(case: str) -> None:
    changed, says = UNSAFE[case]
    how, what = verdict(machine(2, **changed), "waiting")
    assert how == "stranded" and says in what, what


def test_a_lower_version_and_another_machine_are_refused() -> None:
    with pytest.raises(Refused, match="give the changed machine a higher version"):
        compare(machine(2), machine(1))
    with pytest.raises(Refused, match="two machines"):
        compare(machine(1), Rollout.definition)


def test_a_name_that_another_state_is_given_is_noticed() -> None:
    making = {"initial": True, "undo": True, "timeout": "1m", "then": "waiting"}
    one, two = machine(1), machine(2, making=None, building=making, renames={"making": "building"})
    kept = machine(3, making=None, raising=making, renames={"making": "raising", "building": "raising"})
    back = machine(3, renames={"building": "making"})
    dropped = machine(3, making=None, raising=making, renames={"building": "raising"})
    for fine in (kept, back, dropped):
        assert not mistaken([two, one], fine)
    other = {"undo": "nothing", "then": "waiting"}
    reused = machine(3, making={**other, "undo": "nothing"}, building={**making, "then": "making"})
    assert not mistaken([one], reused) and not mistaken([two], reused)
    assert "state `making` of version 1 has become `building`" in mistaken([two, one], reused)


async def test_a_machine_that_takes_one_state_for_another_is_refused_by_the_store() -> None:
    making = {"initial": True, "undo": True, "timeout": "1m", "then": "waiting"}
    two = machine(2, making=None, building=making, renames={"making": "building"})
    three = machine(3, making={"initial": False, "then": "waiting"}, building={**making, "then": "making"})
    async with Interlock(MemoryStore(), machines=[machine(1), two], worker=False) as interlock:
        with pytest.raises(Refused, match="version 3: state `making` of version 1 has become `building`"):
            await interlock.start(three, {})
        assert await interlock.machines() == (("thing", 1), ("thing", 2))


def test_what_newer_actions_lack_for_an_older_version() -> None:
    one, two, three = Rollout.definition, Rollout2.definition, Rollout3.definition
    assert unable(two, three, "perform", "writing") == "" == unable(one, two, "undo", "installing")
    assert unable(one, two, "perform", "installing") == "they may add `zone`, and version 1 has no such field"
    assert unable(two, three, "perform", "probing") == "no action is bound to `probing`"
    assert unable(three, two, "perform", "imaging") == "they were written for version 2"


def test_what_is_said_of_a_state_holds_for_every_operation_that_stands_in_it() -> None:
    """Where a comparison strands nobody, no operation that the simulator ever brought there is stranded by what it did."""
    judged: Counter[str] = Counter()
    for seed in range(25):
        simulation = Simulation(seed, deploys=False)
        assert not simulation.play()
        random = Random(seed)
        newer = {one.name: newer_machine(random, newer_machine(random, one)) for one in simulation.machines}
        own = {one.name: one for one in simulation.machines}
        for snapshot in _whatever_was(simulation):
            old, new = own[snapshot.machine], newer[snapshot.machine]
            said = compare(old, new).states[snapshot.state].verdict
            if said != "stranded" and not (snapshot.ended or snapshot.breakpoints or snapshot.held or snapshot.choice):
                assert stranded(old, new, snapshot) is None, f"seed {seed}: {snapshot}"
            judged[said] += 1
    assert min(judged[verdict] for verdict in ("same", "changed", "moved", "stranded")) > 5, judged


def _whatever_was(simulation: Simulation) -> Iterator[Snapshot]:
    """Yield every operation as it was after each of its facts."""
    for last in simulation.store.search(machine=None, status=(), state=None, cursor=None, limit=1_000).snapshots:
        snapshot: Snapshot | None = None
        for record in simulation.store.journal(last.id, 0, 100_000):
            for fact in record.facts:
                snapshot = fold(snapshot, fact, record.at)
            assert snapshot is not None
            yield snapshot


# On the command line, with what lives


@dataclass
class Volume:
    name: str


class Grow(Machine[Volume], version=1):
    claims = [Claim("volume:{name}")]

    making = State(initial=True, undo=True, then="waiting")
    waiting = State(on={"go": "using"}, after={"1h": "using"})
    using = State(undo="nothing", then="used")
    used = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class OtherGrow(Machine[Volume], version=1, name="grow"):
    making = State(initial=True, undo=True, then="used")
    used = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Grow2(Machine[Volume], version=2, name="grow"):
    """`waiting` is gone, and nobody says what it became."""

    claims = [Claim("volume:{name}")]

    making = State(initial=True, undo=True, timeout="1m", then="holding")
    holding = State(on={"go": "using"}, after={"1h": "using"})
    using = State(undo="nothing", then="used")
    used = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


class Grow3(Machine[Volume], version=3, name="grow"):
    """The same with its name, and with another claim."""

    renames = {"waiting": "holding"}
    claims = [Claim("disk:{name}")]

    making = State(initial=True, undo=True, timeout="1m", then="holding")
    holding = State(on={"go": "using"}, after={"1h": "using"})
    using = State(undo="nothing", then="used")
    used = Final("succeeded")
    failed = Final("failed")
    cancelled = Final("cancelled")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    yield invoke


def said(result: Result, status: int = 0) -> str:
    assert result.exit_code == status, f"{result.exit_code}: {result.output} {result.exception!r}"
    return result.output


async def leave_some(url: str) -> None:
    """Leave one operation queued in its first state, and two waiting."""
    actions = Actions(Grow)
    actions.perform("making")(lambda op: None)
    actions.perform("using")(lambda op: None)
    actions.undo("making")(lambda op: None)
    async with Interlock(url, [actions]) as interlock:
        for number in range(2):
            op = await interlock.start(Grow, name=f"v{number}")
            async for record in op.watch():
                if any(getattr(fact, "state", "") == "waiting" for fact in record.facts):
                    break
    async with Interlock(url) as interlock:
        await interlock.start("grow", name="v9")


def test_live_operations_are_counted_by_what_becomes_of_them(run: Run) -> None:
    names = [f"tests.test_compare:{name}" for name in ("Grow", "Grow2", "Grow3")]
    assert "needs renames: if it is one of holding now" in said(run("compare", *names[:2]), 1)
    claimed = said(run("compare", names[0], names[2]), 1)
    assert (
        "claims: `volume:{name}` is no longer claimed" in claimed and "claims: `disk:{name}` is claimed now" in claimed
    )
    assert "what an operation holds is not what version 3 claims: `volume:{name}` is no longer claimed" in claimed
    store = ["--store", "sqlite:///ops.db"]
    assert "there is no store" in said(run("compare", *names[:2], *store), 2)
    asyncio.run(leave_some("sqlite:///ops.db"))
    text = said(run("compare", *names[:2], *store), 1)
    assert "2  version 1 in waiting: stranded: it is gone" in text and "1  version 1 in making: changed" in text
    assert "2 of 3 would be stranded" in text
    found = json.loads(said(run("compare", *names[:2], *store, "--json"), 1))
    assert {(one["state"], one["verdict"], one["count"]) for one in found["live"]} == {
        ("waiting", "stranded", 2),
        ("making", "changed", 1),
    }
    assert next(one for one in found["live"] if one["state"] == "waiting")["examples"]
    claims = said(run("compare", names[0], names[2], *store), 1)
    why = "stranded: it holds `volume:{name}`, and version 3 claims `disk:{name}` ("
    assert f"2  version 1 in waiting: {why}" in claims and f"1  version 1 in making: {why}" in claims
    assert "3 of 3 would be stranded" in claims
    assert "0 of 3 would be stranded" in said(run("compare", names[0], names[0], *store))
    other = said(run("compare", "tests.test_compare:OtherGrow", names[1], *store), 2)
    assert "version 1 of machine `grow` has another content in this store" in other


def test_what_cannot_be_compared_is_said(run: Run) -> None:
    assert "two machines" in said(run("compare", "tests.test_compare:Grow", "tests.rollouts:Rollout"), 2)
    assert "higher version" in said(run("compare", "tests.test_compare:Grow2", "tests.test_compare:Grow"), 2)
    assert run("compare", "tests.test_compare:Nothing", "tests.test_compare:Grow").exit_code == 2
