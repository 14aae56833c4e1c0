"""The audit table of a Django guard: a row for every move, complete and in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock import IllegalMove, because
from interlock.guards.django_moves import MoveModel
from interlock.guards.django_watch import WATCHED
from tests.django_app import Move, Record, Seen, fresh, history, servers


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from servers(request, tmp_path_factory)


@pytest.fixture
def database(server: str) -> str:
    fresh()
    return server


def test_a_move_is_written_down_with_its_time_in_utc_and_its_reason(database: str) -> None:
    with because("r" * 1000, by="b" * 300):
        Record.objects.filter(pk=1).update(status="used")
    row = Move.objects.get()
    assert [field.name for field in Move._meta.fields] == [
        "seq", "at", "machine", "record", "came_from", "went_to", "by", "reason"
    ]  # fmt: skip
    assert (row.machine, row.record, row.came_from, row.went_to) == ("volume", "1", "free", "used")
    assert (row.by, row.reason) == ("b" * 300, "r" * 1000)
    assert row.at.tzinfo and timedelta(0) <= datetime.now(UTC) - row.at < timedelta(minutes=1)
    assert str(row) == "1: free -> used"


def test_who_and_why_reach_what_async_code_writes(database: str) -> None:
    async def move() -> None:
        with because("drained", by="bob"):
            record = await Record.objects.aget(pk=1)
            record.status = "used"
            await record.asave()

    async_to_sync(move)()
    row = Move.objects.get()
    assert (row.came_from, row.went_to, row.by, row.reason) == ("free", "used", "bob", "drained")


def test_without_a_reason_both_are_empty_and_a_creation_came_from_nothing(database: str) -> None:
    Record.objects.create(pk=9)
    row = Move.objects.get()
    assert (row.came_from, row.went_to, row.by, row.reason, str(row)) == (None, "free", "", "", "9: (created) -> free")


def test_the_class_is_abstract_and_made_once() -> None:
    from interlock.guards import django, django_moves

    assert MoveModel._meta.abstract and django.MoveModel is django_moves.MoveModel is MoveModel
    with pytest.raises(AttributeError, match="Missing"):
        _ = django_moves.Missing
    with pytest.raises(AttributeError, match="Missing"):
        _ = django.Missing


def test_an_observing_guard_writes_down_what_really_happened_also_if_it_is_no_edge(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WATCHED[Seen._meta.db_table][0], "audit", Move)
    record = Seen.objects.create(pk=9, status="used")
    record.status = "gone"
    record.save()
    Seen.objects.filter(pk__in=[1, 9, 77]).update(status="free")
    Seen.objects.filter(pk=77).update(status="gone")
    Seen.objects.bulk_create([Seen(pk=9, status="used"), Seen(pk=10, status="used")], ignore_conflicts=True)
    assert history() == [("9", None, "used"), ("9", "used", "gone"), ("9", "gone", "free"), ("10", None, "used")]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["save", "update", "bulk_update", "create", "bulk_create", "two steps", "refused", "rolled back"]
        ),
        st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True),
        st.sampled_from(["free", "used", "ending", "gone"]),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_the_table_tells_the_whole_history_of_every_row_in_order(
    database: str, steps: list[tuple[str, list[int], str]]
) -> None:
    """Replaying it from nothing gives what the table holds; each row's entries follow one another."""
    Record.objects.all().delete()
    Move.objects.all().delete()
    for way, keys, wanted in steps:
        try:
            with transaction.atomic():
                _do(way, keys, wanted)
        except (IllegalMove, ZeroDivisionError):
            pass
    replayed = dict[str, str]()
    for record, came, went in history():
        assert replayed.get(record) == came
        replayed[record] = went
    assert replayed == {str(key): status for key, status in Record.objects.values_list("pk", "status")}


def _do(way: str, keys: list[int], wanted: str) -> None:
    there = list(Record.objects.filter(pk__in=keys).order_by("pk"))
    if way == "update":
        Record.objects.filter(pk__in=keys).update(status=wanted)
    elif way in ("create", "bulk_create"):
        missing = [Record(pk=key, status=wanted) for key in keys if key not in {record.pk for record in there}]
        if way == "bulk_create":
            Record.objects.bulk_create(missing)
        for record in missing if way == "create" else ():
            record.save(force_insert=True)
    elif way == "bulk_update":
        for record in there:
            record.__dict__["status"] = wanted
        Record.objects.bulk_update(there, ["status"])
    else:
        for record in there:
            if way == "two steps" and record.status == "free":
                record.status = "used"
            record.status = wanted
            record.save()
        if way == "rolled back":
            raise ZeroDivisionError
