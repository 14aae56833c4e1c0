"""The synchronous twin: generated, complete, and it works."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path

import pytest

import interlock
from interlock import Operation, Refused, Unknown
from interlock.interpreter.facts import Entered
from interlock.runtime.portal import Portal
from interlock.sync import Handle, Interlock
from tests.deliveries import Delivery, Depot, Letter, Parcel
from tools.generate_sync import TARGET, generate

ROOT = Path(__file__).resolve().parent.parent


def test_it_is_what_would_be_generated_now() -> None:
    assert (ROOT / TARGET).read_text() == generate()[TARGET]


@pytest.mark.parametrize(("twin", "original"), [(Interlock, interlock.Interlock), (Handle, interlock.Handle)])
def test_it_has_every_method_with_the_same_arguments_and_documentation(twin: type, original: type) -> None:
    for name, method in inspect.getmembers(original, inspect.isfunction):
        if name.startswith("_"):
            continue
        other = getattr(twin, name)
        assert [*inspect.signature(other).parameters.values()] == [*inspect.signature(method).parameters.values()], name
        assert inspect.getdoc(other) == inspect.getdoc(method), name
        assert not inspect.iscoroutinefunction(other) and not inspect.isasyncgenfunction(other), name


def test_an_operation_from_a_program_without_async(tmp_path: Path) -> None:
    depot = Depot()
    with Interlock(str(tmp_path / "ops.db"), [depot.actions(), depot.actions(Letter)]) as engine:
        op = engine.start(Delivery, name="web-1", breakpoints=["arriving"])
        entered = [
            fact.state for record in watched_until(op, "arriving") for fact in record if isinstance(fact, Entered)
        ]
        assert entered == ["packing", "driving", "arriving"]
        op.resume()
        assert op.finished(timeout=10).status == "succeeded"
        assert op.data() == Parcel("web-1") and op.snapshot is not None and op.snapshot.id == op.id
        letter = engine.start(Letter, {"name": "x"})
        letter.signal("lost", hold=True)
        assert engine.operation(letter.id).finished().status == "failed"
        assert [one.status for one in engine.list().snapshots] == ["failed", "succeeded"]
        assert [record.seq for record in op.watch()][-1] == op.show().seq
        with pytest.raises(Unknown, match="no operation `nope`"):
            engine.show("nope")
        with pytest.raises(TimeoutError):
            engine.start(Letter, {"name": "x"}).finished(timeout=0.01)
    with pytest.raises(Refused, match="`with` block"):
        engine.counts()
    engine.close()


def watched_until(op: Handle[Parcel], state: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for record in op.watch():
        found.append(record.facts)
        if any(isinstance(fact, Entered) and fact.state == state for fact in record.facts):
            break
    return found


def test_plain_actions_may_use_it_and_async_ones_are_told_what_to_use() -> None:
    depot, inside = Depot(), []
    with Interlock("memory:", [depot.actions()]) as engine:

        def act(op: Operation[Parcel]) -> None:
            try:
                engine.counts()
            except Refused as error:
                inside.append(str(error))

        depot.do["perform packing"] = act
        assert engine.start(Delivery, name="web-1").finished().status == "succeeded"
    assert "use interlock.Interlock there" in inside[0]


def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    before = ours()
    with pytest.raises(interlock.StoreFailed), Interlock(str(tmp_path / "nowhere" / "ops.db")):
        pass
    assert ours() == before


def ours() -> list[str]:
    return sorted(
        thread.name for thread in threading.enumerate() if thread.name in ("interlock-loop", "interlock-committer")
    )


def test_a_portal_ends_what_still_runs_in_it() -> None:
    portal, ended = Portal(), []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def begin() -> asyncio.Task[None]:
        running = asyncio.create_task(endless())
        await asyncio.sleep(0)
        return running

    portal.start()
    with pytest.raises(Refused, match="open already"):
        portal.start()
    portal.call(begin())
    portal.stop()
    portal.stop()
    assert ended == [True]
