"""Schedules: each time starts one operation, whoever fires it and however often; what was missed is made up for once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from interlock import Actions, Interlock, Refused, Unknown
from interlock.cli.app import app
from interlock.runtime.schedules import Schedules, following, operation_id
from interlock.stores.contract import Schedule, Store
from interlock.stores.sqlite import SqliteStore
from tests.deliveries import a_store, eventually
from tests.test_between import Hosts, Move

MINUTE = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = MINUTE - 30

    def now(self) -> float:
        return self.at


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    one = a_store(request.param, tmp_path)
    yield one
    one.close()


def engine(store: Store, clock: Hands, hosts: Hosts | None = None) -> Interlock:
    actions: list[Actions[Any]] = hosts.actions() if hosts else []
    return Interlock(store, actions, clock=clock, poll_seconds=0.01, lease_seconds=1e9, machines=[Move])


async def ids_of(interlock: Interlock) -> list[str]:
    return sorted(one.id for one in (await interlock.list()).snapshots)


async def until_next(interlock: Interlock, after: float) -> Schedule:
    """Wait until the one schedule is due later than ``after``."""
    async with asyncio.timeout(10):
        while (one := (await interlock.schedules())[0]).next_at <= after:
            await asyncio.sleep(0.005)
        return one


async def test_each_time_starts_one_operation(store: Store) -> None:
    clock, hosts = Hands(), Hosts()
    beside = SqliteStore(store.path) if isinstance(store, SqliteStore) else store  # a connection serves one engine only
    async with engine(store, clock, hosts) as one, engine(beside, clock, hosts) as other:
        made = await one.schedule("nightly", Move, "* * * * *", guest="web-1", by="ann")
        assert made.next_at == MINUTE and await ids_of(one) == []
        for number in range(3):
            clock.at = MINUTE + 60 * number + 1
            known = await until_next(one, clock.at)
            assert (
                known.next_at == MINUTE + 60 * (number + 1)
                and known.last_at == MINUTE + 60 * number
                and not known.missed
            )
            await one.finished(known.last, 10)
        found = await ids_of(other)
        assert found == [f"nightly@20270115T080{number}00Z" for number in range(3)] and found[-1] == known.last
        assert (await one.show(found[0])).by == "ann" and hosts.did == ["move web-1"] * 3


async def test_what_nobody_was_there_for_is_made_up_for_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    clock, hosts = Hands(), Hosts()
    async with engine(store, clock) as client:
        await client.schedule("nightly", Move, "0 * * * *", guest="web-1")
        clock.at = MINUTE + 10 * 3600 + 5
        async with engine(store, clock, hosts) as interlock:
            known = await until_next(interlock, clock.at)
            assert await ids_of(interlock) == ["nightly@20270115T180000Z"]
            assert (known.missed, known.next_at) == (10, MINUTE + 11 * 3600) and "10 of its times" in caplog.text


async def test_what_is_there_already_is_not_started_again(store: Store) -> None:
    """Somebody has set the schedule up anew on a machine whose clock is behind."""
    clock, hosts = Hands(), Hosts()
    async with engine(store, clock, hosts) as interlock:
        made = await interlock.schedule("nightly", Move, "* * * * *", guest="web-1")
        clock.at = MINUTE + 1
        known = await until_next(interlock, clock.at)
        await interlock.finished(operation_id(made), 10)
        assert store.set_schedule(made, known)
        clock.at += 2
        known = await until_next(interlock, clock.at)
        assert (
            known.last == operation_id(made) and await ids_of(interlock) == [known.last] and hosts.did == ["move web-1"]
        )


@pytest.mark.parametrize("meanwhile", ["dropped", "changed", "fired by another"])
async def test_who_comes_late_starts_nothing(store: Store, meanwhile: str) -> None:
    """A worker stands still between its look and its start; and the schedule is not what it saw any more."""
    clock, hosts = Hands(), Hosts()
    async with engine(store, clock, hosts) as interlock:
        made = await interlock.schedule("nightly", Move, "* * * * *", guest="web-1")
        changed = {"dropped": None, "changed": replace(made, cron="0 * * * *", next_at=MINUTE + 3600)}.get(
            meanwhile, replace(made, next_at=MINUTE + 660, last_at=MINUTE + 600, last="refused: taken", missed=10)
        )
        assert store.set_schedule(changed, made) if changed else store.drop_schedule("nightly")
        assert interlock._worker is not None
        await Schedules(interlock._worker).fire([made], MINUTE + 1)
        assert list(await interlock.schedules()) == ([changed] if changed else [])
        assert await ids_of(interlock) == [] and hosts.did == []


async def test_what_is_refused_is_noted_and_the_next_time_comes(store: Store) -> None:
    clock, hosts = Hands(), Hosts()
    hosts.gate = asyncio.Event()
    async with engine(store, clock, hosts) as interlock:
        held = await interlock.start(Move, guest="web-1")
        await eventually(lambda: hosts.at_once == 1)
        await interlock.schedule("nightly", Move, "* * * * *", guest="web-1")
        clock.at = MINUTE + 1
        known = await until_next(interlock, clock.at)
        assert known.last.startswith("refused: ") and held.id in known.last and await ids_of(interlock) == [held.id]
        hosts.gate.set()
        await held.finished(10)
        clock.at = MINUTE + 61
        assert (await until_next(interlock, clock.at)).last == "nightly@20270115T080100Z"


async def test_a_schedule_is_replaced_listed_and_forgotten(store: Store) -> None:
    clock = Hands()
    async with engine(store, clock) as interlock:
        await interlock.schedule("b", Move, "0 0 1 1 *", guest="web-1")
        await interlock.schedule("a", "move", "0 0 * * *", {"guest": "web-2"}, timezone="Europe/Berlin")
        await interlock.schedule("b", Move, "0 12 * * *", guest="web-3", on_conflict="wait")
        a, b = await interlock.schedules()
        assert (a.name, a.next_at) == ("a", MINUTE + 15 * 3600)
        assert (b.cron, b.on_conflict, b.data) == ("0 12 * * *", "wait", {"guest": "web-3"})
        await interlock.unschedule("a")
        with pytest.raises(Unknown, match="there is no schedule `a`"):
            await interlock.unschedule("a")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"name": "no name"}, "is no name"),
        ({"name": ""}, "is no name"),
        ({"name": "n" * 101}, "at most 100"),
        ({"cron": "now and then"}, "no cron expression"),
        ({"cron": "0 0 31 2 *"}, "no time|no cron"),
        ({"timezone": "Mars/Phobos"}, "no time zone"),
        ({"guest": 5}, "guest"),
        ({"on_conflict": "shove"}, "on_conflict"),
    ],
)
async def test_what_is_wrong_is_refused_at_the_door(store: Store, words: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"name": "nightly", "cron": "* * * * *", "guest": "web-1", **words}
    name, cron = given.pop("name"), given.pop("cron")
    async with engine(store, Hands()) as interlock:
        with pytest.raises(Refused, match=says):
            await interlock.schedule(name, Move, cron, **given)
        assert await interlock.schedules() == ()


def test_summer_time_has_its_hour() -> None:
    """In Berlin 02:30 is skipped on 2027-03-28, and comes twice on 2027-10-31: it fires once on each of these days."""
    spring, autumn = 1_806_184_800.0, 1_824_933_600.0  # the nights before
    for night in (spring, autumn):
        first = following("30 2 * * *", "Europe/Berlin", night)
        assert night < first < night + 6 * 3600 and following("30 2 * * *", "Europe/Berlin", first) - first > 20 * 3600


def test_a_time_that_came_in_the_first_of_two_same_hours_does_not_come_again() -> None:
    """Set up when clocks have gone back already, it is not due an hour ago."""
    second = datetime(2026, 10, 25, 1, 0, 5, tzinfo=UTC).timestamp()  # 02:00:05 for the second time
    assert following("1 2 * * *", "Europe/Berlin", second) == datetime(2026, 10, 26, 1, 1, tzinfo=UTC).timestamp()


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_STORE", f"sqlite:///{tmp_path}/ops.db")

    def said(status: int, *words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == status, result.output
        return result.output

    move = ["tests.test_between:Move", "guest=web-1"]
    assert "nightly: first at " in said(0, "schedule", "nightly", "30 2 * * *", *move)
    assert "no cron expression" in said(2, "schedule", "weekly", "sometimes", *move)
    assert "nightly  30 2 * * * UTC  move  next " in said(0, "schedules")
    assert json.loads(said(0, "schedules", "--json"))["schedules"][0]["data"] == {"guest": "web-1"}
    said(0, "unschedule", "nightly")
    assert said(0, "schedules") == "no schedules\n" and "there is no schedule" in said(2, "unschedule", "nightly")
