"""Older code and the engine on the same records: partly driven, adopted in the middle, in step both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from interlock import Actions, Interlock, Operation, Refused
from interlock.interpreter.facts import Entered, Reported, Undone
from interlock.records.records import Records
from tests.deliveries import eventually
from tests.moving_service import MOVES, TABLE, Moving, create, data, database, read, write

STATES = ("queued", "preparing", "copying", "switching")


def actions(did: list[str], reported: Sequence[str] = (), broken: str = "") -> Actions[dict[str, Any]]:
    """Return actions that note what they did; ``reported`` are left to older code, ``broken`` fails."""
    bound = Actions(Moving, reported=reported)
    for state in STATES:
        if state not in reported:

            async def perform(op: Operation[dict[str, Any]]) -> None:
                did.append(f"{'recover' if op.recovering else 'perform'} {op.state}")
                if op.state == broken:
                    raise ValueError("it broke")

            bound.perform(state)(perform)
        if state in ("preparing", "copying"):

            async def undo(op: Operation[dict[str, Any]]) -> None:
                did.append(f"undo {op.state}")

            bound.undo(state)(undo)
    return bound


@asynccontextmanager
async def running(
    engine: sa.Engine, store: str, bound: Actions[dict[str, Any]], **options: Any
) -> AsyncIterator[tuple[Interlock, Records]]:
    async with Interlock(store, actions=[bound], poll_seconds=0.05) as interlock:
        keys = {"table": TABLE, "status": "status", "moves": MOVES, "data": data, "poll_seconds": 0.02, **options}
        async with Records(interlock, Moving, engine, **keys) as records:
            yield interlock, records


async def ends(interlock: Interlock, record: int) -> str:
    """Wait until a record has an operation and that has come to rest."""
    async for one in interlock.watch(after=0):
        snapshot = await interlock.show(one.operation)
        if snapshot.record == str(record):
            snapshot = await interlock.finished(snapshot.id)
            return f"{snapshot.status} in {snapshot.state}"
    raise AssertionError("the journal has no end")


async def test_all_driven_a_created_record_is_performed_and_its_column_follows(tmp_path: Path) -> None:
    engine, did = database(tmp_path), list[str]()
    async with running(engine, "memory:", actions(did)) as (interlock, records):
        id = create(engine, "web-1")
        assert await ends(interlock, id) == "succeeded in done"
        await eventually(lambda: read(engine, id) == "done")
        assert did == ["perform queued", "perform preparing", "perform copying", "perform switching"]
        assert records.refused == []
        assert (await interlock.operation_of(Moving, str(id)).show()).data == {"guest": "web-1"}
    with engine.connect() as connection:
        written = [*connection.execute(sa.select(MOVES.c.went_to, MOVES.c.by).order_by(MOVES.c.seq))]
    assert written[0] == ("queued", "") and {by for _, by in written[1:]} == {"interlock"}
    assert [status for status, _ in written] == ["queued", "preparing", "copying disk", "switching", "done"]


async def test_partly_driven_older_code_copies_and_the_engine_does_the_rest(tmp_path: Path) -> None:
    engine, did = database(tmp_path), list[str]()
    async with running(engine, "memory:", actions(did, ["copying"])) as (interlock, records):
        id = create(engine, "web-1")
        await eventually(lambda: read(engine, id) == "copying disk")
        operation = interlock.operation_of(Moving, str(id))
        assert (await operation.why()).waits_for == "a report: other code performs `copying`"
        write(engine, id, "switching")
        assert await ends(interlock, id) == "succeeded in done"
        await eventually(lambda: read(engine, id) == "done")
        assert did == ["perform queued", "perform preparing", "perform switching"]
        facts = [fact for record in await operation.history() for fact in record.facts]
        assert [(one.to, one.by) for one in facts if isinstance(one, Reported)] == [("switching", "older code")]
        assert records.refused == []


async def test_older_code_fails_what_it_performs_and_the_engine_undoes_the_rest(tmp_path: Path) -> None:
    engine, did = database(tmp_path), list[str]()
    async with running(engine, "memory:", actions(did, ["copying"])) as (interlock, _):
        id = create(engine, "web-1")
        await eventually(lambda: read(engine, id) == "copying disk")
        write(engine, id, "failed")
        assert await ends(interlock, id) == "failed in failed"
        assert did[-2:] == ["undo copying", "undo preparing"]


@pytest.mark.parametrize(("broken", "ended"), [("", "succeeded in done"), ("copying", "failed in failed")])
async def test_what_older_code_left_half_way_is_adopted_in_the_middle(tmp_path: Path, broken: str, ended: str) -> None:
    engine, did = database(tmp_path), list[str]()
    before = [create(engine, name) for name in ("a", "b", "c")]
    write(engine, before[0], "preparing", "copying disk")
    write(engine, before[1], "preparing", "copying disk", "switching", "done")
    with engine.begin() as connection:  # as if the guard had been attached only now
        connection.execute(sa.delete(MOVES))
    async with running(engine, f"sqlite:///{tmp_path / 'ops.db'}", actions(did, broken=broken)) as (interlock, records):
        assert await records.adopt_all() == 2
        assert await ends(interlock, before[0]) == ended
        await eventually(lambda: read(engine, before[0]) == ended.split()[-1])
        mine = [one for one in did if one != "perform queued"]
        assert mine[0] == "recover copying"
        if broken:
            assert [one for one in did if one.startswith("undo")][:2] == ["undo copying", "undo preparing"]
        assert await records.adopt_all() <= 1, "adopted once"
        assert read(engine, before[1]) == "done"
        page = await interlock.list(Moving)
        assert {one.record for one in page.snapshots} == {str(before[0]), str(before[2])}


async def test_nothing_is_lost_while_the_engine_is_down(tmp_path: Path) -> None:
    engine, did, store = database(tmp_path), list[str](), f"sqlite:///{tmp_path / 'ops.db'}"
    async with running(engine, store, actions(did, ["copying"])) as (interlock, _):
        id = create(engine, "web-1")
        await eventually(lambda: read(engine, id) == "copying disk")
    write(engine, id, "switching")
    other = create(engine, "web-2")
    async with running(engine, store, actions(did, ["copying"])) as (interlock, records):
        assert await ends(interlock, id) == "succeeded in done"
        await eventually(lambda: read(engine, id) == "done")
        await eventually(lambda: read(engine, other) == "copying disk")
        assert records.refused == []


async def test_a_move_that_the_engine_cannot_follow_is_kept_and_the_rest_goes_on(tmp_path: Path) -> None:
    engine, did = database(tmp_path), list[str]()
    async with running(engine, "memory:", actions(did, ["copying"])) as (interlock, records):
        id = create(engine, "web-1")
        await eventually(lambda: read(engine, id) == "copying disk")
        await interlock.operation_of(Moving, str(id)).pause("lunch")
        await interlock.operation_of(Moving, str(id)).cancel("changed my mind")
        assert await ends(interlock, id) == "cancelled in cancelled"
        await eventually(lambda: read(engine, id) == "cancelled")
        with engine.begin() as connection:  # another program, past the guard
            connection.execute(sa.text("UPDATE migrations SET status='switching' WHERE id=:id"), {"id": id})
            connection.execute(
                sa.insert(MOVES).values(
                    at=sa.func.now(),
                    machine="moving",
                    record=str(id),
                    came_from="cancelled",
                    went_to="switching",
                    by="",
                    reason="",
                )
            )
            connection.execute(
                sa.insert(MOVES).values(
                    at=sa.func.now(),
                    machine="moving",
                    record=str(id),
                    came_from="switching",
                    went_to="nonsense",
                    by="",
                    reason="",
                )
            )
        await eventually(lambda: len(records.refused) == 2)
        assert "but it is over" in records.refused[0].why
        assert records.refused[1].why == "no state of `moving` is stored so"
        other = create(engine, "web-2")
        await eventually(lambda: read(engine, other) == "copying disk")


async def test_the_journal_of_an_adopted_operation_says_so(tmp_path: Path) -> None:
    engine, did = database(tmp_path), list[str]()
    id = create(engine, "web-1")
    write(engine, id, "preparing")
    async with running(engine, "memory:", actions(did, broken="preparing")) as (interlock, _):
        assert await ends(interlock, id) == "failed in failed"
        facts = [fact for one in await interlock.operation_of(Moving, str(id)).history() for fact in one.facts]
        assert next(fact.state for fact in facts if isinstance(fact, Entered)) == "preparing"
        assert [fact.state for fact in facts if isinstance(fact, Undone)] == ["preparing"]


async def test_a_table_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    engine = database(tmp_path)
    async with Interlock("memory:", actions=[actions([])]) as interlock:
        with pytest.raises(Refused, match="has no column `state`; it has id, guest, status"):
            Records(interlock, Moving, engine, table=TABLE, status="state", moves=MOVES, data=data)
        pair = sa.Table("pairs", sa.MetaData(), *(sa.Column(name, sa.Integer, primary_key=True) for name in "ab"))
        with pytest.raises(Refused, match="`pairs` has 2 key columns"):
            Records(interlock, Moving, engine, table=pair, status="a", moves=MOVES, data=data)
