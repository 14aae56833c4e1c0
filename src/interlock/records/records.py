"""`Records`: what older code writes reaches the operations, and where the operations are reaches the status column.

Theory of operation:

1.  Older code writes through a guard with ``audit=``: each move of a record is a row of the moves table, in the writer's own
    transaction. So the moves table is an outbox: nothing that was committed is lost, whatever dies.
2.  `Records` reads it in order and reports each move to the record's operation; the key of the report is the row's number, so that
    reading a row twice does nothing. A record without an operation is adopted in the state it is in.
3.  Rows of transactions that overlap may become visible out of order. The place that is remembered stays ``settle_seconds`` behind what
    was seen; what lies in between is read again.
4.  The other way it reads the engine's journal, and writes the status of every state that an operation enters, if the record is where
    the machine's edges lead from. The place in the journal is kept in the same transaction as the writes: each is made once, in order.
5.  Its own writes are signed ``by`` and not reported back. What cannot be reported or written is kept in ``refused`` and logged, and the
    rest goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from interlock.definition.declare import Final
from interlock.definition.machine import Definition, Machine, definition_of
from interlock.errors import IllegalMove, NotPossible, Refused, Unavailable, Unknown
from interlock.guards.reason import because
from interlock.interpreter.facts import Entered
from interlock.records.beside import predecessors
from interlock.runtime.engine import Interlock
from interlock.stores.contract import Record

__all__ = ["NotTaken", "Records"]

log = logging.getLogger("interlock.records")
BATCH = 500
KEPT = 1_000


@dataclass(frozen=True)
class NotTaken:
    """A move that one side made and the other could not follow: ``record`` went to ``status``; ``why`` it was not followed."""

    record: str
    status: str
    why: str


class Records:
    """Keeps the records of a table and the operations of a machine in step. Use it as ``async with``, beside a running `Interlock`.

    Args:
        interlock: with the machine's actions; ``Actions(machine, reported=[...])`` names the states that older code still performs.
        machine: class or definition.
        engine: SQLAlchemy engine (synchronous) of the records' database; it is used in threads.
        table: the table of the records.
        status: its status column.
        moves: the audit table that the guard of that column writes (`interlock.guards.sqlalchemy.moves_table`).
        data: makes an operation's data of a record's row.
        writes_status: False where the store does it in its own transaction (`interlock.records.beside`).
        by: how its own writes are signed.
        poll_seconds: how often it looks.
        settle_seconds: how long transactions of other writers may overlap.

    Attributes:
        refused: the last moves that could not be followed.
    """

    def __init__(
        self,
        interlock: Interlock,
        machine: Definition | type[Machine[Any]],
        engine: sa.Engine,
        *,
        table: sa.Table,
        status: str,
        moves: sa.Table,
        data: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        writes_status: bool = True,
        by: str = "interlock",
        poll_seconds: float = 0.2,
        settle_seconds: float = 10.0,
    ) -> None:
        keys = list(table.primary_key.columns)
        if len(keys) != 1:
            raise Refused(f"table `{table.name}` has {len(keys)} key columns; a record is named by one")
        if status not in table.columns:
            raise Refused(f"table `{table.name}` has no column `{status}`; it has {', '.join(table.columns.keys())}")
        self.refused: list[NotTaken] = []
        self._interlock = interlock
        self._machine = machine
        self._definition = definition_of(machine)
        self._engine = engine
        self._table, self._key, self._status, self._moves = table, keys[0], table.columns[status], moves
        self._data = data
        self._writes_status = writes_status
        self._by = by
        self._poll_seconds, self._settle_seconds = poll_seconds, settle_seconds
        self._states = {row.status: name for name, row in self._definition.table.items()}
        self._before = predecessors(self._definition)
        self._seen: dict[int, float] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._places = sa.Table(
            "interlock_places",
            sa.MetaData(),
            sa.Column("name", sa.String(200), primary_key=True),
            sa.Column("place", sa.BigInteger, nullable=False),
        )

    async def __aenter__(self) -> Records:
        await asyncio.to_thread(self._places.metadata.create_all, self._engine)
        self._keeping = asyncio.get_running_loop().create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            self._keeping = None

    async def adopt_all(self) -> int:
        """Adopt every record that is not at an end and has no operation yet; return how many are in the engine's hands now."""
        ends = [row.status for row in self._definition.table.values() if row.kind == "final"]
        rows = await asyncio.to_thread(self._rows, self._status.not_in(ends))
        adopted = 0
        for row in rows:
            adopted += await self._adopt(str(row[self._key.name]), row[self._status.name], row, begun=True)
        return adopted

    async def step(self) -> int:
        """Follow both ways once; return how many moves were followed."""
        return await self._follow_moves() + (await self._follow_journal() if self._writes_status else 0)

    async def _keep(self) -> None:
        while True:
            try:
                followed = await self.step()
            except (sa.exc.SQLAlchemyError, Unavailable) as error:
                log.warning("records of %s: trying on: %s", self._table.name, error)
                followed = 0
            except Exception:
                log.exception("records of %s: a fault; trying on", self._table.name)
                followed = 0
            if not followed:
                await asyncio.sleep(self._poll_seconds)

    # From the records to the operations

    async def _follow_moves(self) -> int:
        place, rows = await asyncio.to_thread(self._read_moves)
        now, followed = time.monotonic(), 0
        for row in rows:
            if row["seq"] not in self._seen:
                await self._follow(row)
                self._seen[row["seq"]] = now
                followed += 1
        settled = place
        for row in rows:
            if now - self._seen[row["seq"]] < self._settle_seconds and len(rows) < BATCH:
                break
            settled = row["seq"]
        if settled > place:
            await asyncio.to_thread(self._move_place, "moves", settled)
            self._seen = {seq: at for seq, at in self._seen.items() if seq > settled}
        return followed

    def _read_moves(self) -> tuple[int, Sequence[Mapping[str, Any]]]:
        moves = self._moves.c
        with self._engine.connect() as connection:
            place = self._place(connection, "moves")
            wanted = sa.and_(moves.seq > place, moves.machine == self._definition.name)
            found = connection.execute(sa.select(self._moves).where(wanted).order_by(moves.seq).limit(BATCH))
            return place, [dict(row) for row in found.mappings()]

    async def _follow(self, move: Mapping[str, Any]) -> None:
        record, went_to = move["record"], move["went_to"]
        if move["by"] == self._by:
            return
        state = self._states.get(went_to)
        if state is None:
            return self._refuse(record, went_to, f"no state of `{self._definition.name}` is stored so")
        operation = self._interlock.operation_of(self._definition, record)
        try:
            await operation.report(to=state, key=f"move {move['seq']}", by=move["by"] or "older code")
        except Unknown:
            for row in await asyncio.to_thread(self._rows, sa.cast(self._key, sa.String(200)) == record):
                now = row[self._status.name]  # further on than this move, where several were made
                await self._adopt(record, now, row, begun=move["came_from"] is not None or now != went_to)
        except NotPossible as error:
            if not await self._was_there(operation.id, state):
                self._refuse(record, went_to, str(error))

    async def _was_there(self, operation: str, state: str) -> bool:
        """Return whether the operation has passed a state already: then a report of it is an echo."""
        journal = await self._interlock.history(operation)
        return any(isinstance(fact, Entered) and fact.state == state for one in journal for fact in one.facts)

    async def _adopt(self, record: str, status: str, row: Mapping[str, Any], begun: bool) -> bool:
        state = self._states.get(status)
        if state is None:
            self._refuse(record, status, f"no state of `{self._definition.name}` is stored so")
        elif not isinstance(self._definition.states[state], Final):
            await self._interlock.adopt(
                self._machine, self._data(row), state=state, record=record, begun=begun, by="older code"
            )
            return True
        return False

    def _rows(self, where: Any) -> list[Mapping[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(self._table).where(where)).mappings()]

    # From the operations to the records

    async def _follow_journal(self) -> int:
        place = await asyncio.to_thread(self._read_place)
        journal = await self._interlock.tail(place, BATCH)
        if not journal:
            return 0
        entered = [(one, fact.state) for one in journal for fact in one.facts if isinstance(fact, Entered)]
        records: dict[str, str] = {}
        for id in {one.operation for one, _ in entered}:
            snapshot = await self._interlock.show(id)
            if snapshot.machine == self._definition.name and snapshot.record:
                records[id] = snapshot.record
        await asyncio.to_thread(
            self._write,
            [(records[one.operation], state) for one, state in entered if one.operation in records],
            journal,
        )
        return len(entered)

    def _read_place(self) -> int:
        with self._engine.connect() as connection:
            return self._place(connection, "journal")

    def _write(self, moves: Sequence[tuple[str, str]], journal: Sequence[Record]) -> None:
        with because("where the engine is", by=self._by), self._engine.begin() as connection:
            for record, state in moves:
                self._write_one(connection, record, state)
            self._keep_place(connection, "journal", journal[-1].position)

    def _write_one(self, connection: sa.Connection, record: str, state: str) -> None:
        status = self._definition.row(state).status
        mine = sa.cast(self._key, sa.String(200)) == record
        now = connection.execute(sa.select(self._status).where(mine)).scalar_one_or_none()
        if now == status:
            return
        update = sa.update(self._table).where(mine, self._status == now).values({self._status.name: status})
        if now not in self._before[state]:
            return self._refuse(record, status, f"it is `{now}`, from where the machine does not lead there")
        try:
            with connection.begin_nested():
                changed = connection.execute(update).rowcount
        except (IllegalMove, sa.exc.DBAPIError) as error:
            return self._refuse(record, status, str(error))
        if not changed:
            self._refuse(record, status, "somebody else moved it meanwhile")

    # Places

    def _place(self, connection: sa.Connection, what: str) -> int:
        places = self._places.c
        found = connection.execute(sa.select(places.place).where(places.name == self._name(what))).scalar_one_or_none()
        return found or 0

    def _move_place(self, what: str, place: int) -> None:
        with self._engine.begin() as connection:
            self._keep_place(connection, what, place)

    def _keep_place(self, connection: sa.Connection, what: str, place: int) -> None:
        places = self._places
        changed = connection.execute(
            sa.update(places).where(places.c.name == self._name(what)).values(place=place)
        ).rowcount
        if (
            not changed
            and not connection.execute(sa.select(places.c.place).where(places.c.name == self._name(what))).first()
        ):
            connection.execute(sa.insert(places).values(name=self._name(what), place=place))

    def _name(self, what: str) -> str:
        return f"{what} of {self._definition.name} in {self._table.name}"[:200]

    def _refuse(self, record: str, status: str, why: str) -> None:
        self.refused = [*self.refused[-KEPT:], NotTaken(record, status, why)]
        log.warning("record %s of %s and `%s`: not followed: %s", record, self._table.name, status, why)
