"""What a guard on a Django field knows of an object: assignments, reading, copies, and what it was saved with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from interlock import IllegalMove
from interlock.guards.django_watch import WATCHED
from tests.django_app import Move, Proxy, Record, Seen, fresh, held, history, seen, servers


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from servers(request, tmp_path_factory)


@pytest.fixture
def database(server: str) -> str:
    fresh()
    return server


def _raw(status: str, model: Any = Record, key: int = 1) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {model._meta.db_table} SET status = %s WHERE id = %s", [status, key])


def test_a_refused_assignment_changes_nothing(database: str) -> None:
    record = Record.objects.get(pk=1)
    with pytest.raises(IllegalMove, match="Record 1: machine `volume` does not allow `free` -> `gone`") as caught:
        record.status = "gone"
    assert (caught.value.current, caught.value.wanted, list(caught.value.allowed)) == ("free", "gone", ["used"])
    assert record.status == "free"
    record.save()
    assert (held(), history()) == ("free", [])


def test_the_attribute_stays_what_django_made_it(database: str) -> None:
    assert Record.status.field is Record._meta.get_field("status")
    record = Record.objects.defer("status").get(pk=2)
    assert "status" not in record.__dict__ and record.get_deferred_fields() == {"status"}
    assert record.status == "used" and record.get_deferred_fields() == set()
    del record.status
    assert record.status == "used"
    assert Record(status="used").status == "used" and Record().status == "free"


def test_an_unknown_value_is_counted_when_it_is_read_and_refused_nowhere(database: str) -> None:
    record, observed = Record.objects.get(pk=1), Seen.objects.get(pk=1)
    _raw("lost")
    _raw("lost", Seen)
    record.refresh_from_db()
    observed.refresh_from_db(fields=["status"])
    async_to_sync(observed.arefresh_from_db)()
    assert (record.status, observed.status) == ("lost", "lost")
    rules = WATCHED[Record._meta.db_table][0].rules
    for each in (rules, seen):
        assert any(one.loaded and one.wanted == "lost" and __file__ in one.site for one in each.sightings())
    with pytest.raises(IllegalMove, match="`lost` -> `used`"):
        record.status = "used"
    with pytest.raises(IllegalMove):
        Record.objects.filter(pk=1).update(status="used")
    record.note = "x"
    record.save()
    assert (held(), Record.objects.get(pk=1).note) == ("lost", "x"), "what is there may stay"
    observed.status = "used"
    observed.save()
    assert held(Seen) == "used"


def test_a_refreshed_object_may_hold_what_no_edge_leads_to(database: str) -> None:
    record = Record.objects.get(pk=1)
    _raw("ending")
    record.refresh_from_db()
    assert record.status == "ending"
    record.status = "gone"
    record.save()
    assert history() == [("1", "ending", "gone")]


def test_steps_before_a_save_are_each_judged_and_forgotten_with_it(database: str) -> None:
    record = Record.objects.get(pk=2)
    record.status = "free"
    record.status = "used"
    record.save()
    assert history() == [], "there and back again leaves the row where it was"
    record.status = "free"
    record.status = "used"
    record.status = "ending"
    record.save()
    assert history() == [("2", "used", "free"), ("2", "free", "used"), ("2", "used", "ending")]
    record.save()
    assert len(history()) == 3


def test_a_save_of_other_fields_keeps_the_steps_for_later(database: str) -> None:
    record = Record.objects.get(pk=1)
    record.status, record.note = "used", "x"
    record.save(update_fields=["note"])
    assert (held(), history()) == ("free", [])
    record.status = "ending"
    record.save()
    assert history() == [("1", "free", "used"), ("1", "used", "ending")]


def test_a_deferred_field_that_is_assigned_begins_at_what_the_database_holds(database: str) -> None:
    record = Record.objects.defer("status").get(pk=1)
    record.status = "used"
    record.status = "ending"
    record.save()
    assert history() == [("1", "free", "used"), ("1", "used", "ending")]
    other = Record.objects.only("note").get(pk=2)
    other.status = "gone"
    with pytest.raises(IllegalMove, match="`used` -> `gone`"):
        other.save()


def test_a_copy_goes_its_own_way(database: str) -> None:
    record = Record.objects.get(pk=2)
    copied = Record()
    copied.__setstate__(copy.deepcopy(record.__reduce__()[2]))  # what copying and pickling come to
    copied.status = "ending"
    copied.__setstate__(record.__reduce__()[2])
    copied.status = "ending"
    assert record.status == "used"
    record.save()
    assert history() == []


def test_a_rollback_that_the_object_does_not_know_of_is_found_when_it_is_saved(database: str) -> None:
    record = Record.objects.get(pk=1)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        record.status = "used"
        record.save()
        raise ZeroDivisionError
    record.status = "ending"
    with pytest.raises(IllegalMove, match="read it again"):
        record.save()
    record.refresh_from_db()
    record.status = "used"
    record.save()
    assert (held(), history()) == ("used", [("1", "free", "used")])


def test_a_proxy_and_its_model_are_one(database: str) -> None:
    proxy: Any = Proxy.objects.get(pk=1)
    with pytest.raises(IllegalMove):
        proxy.status = "gone"
    proxy.status = "used"
    proxy.save()
    Proxy.objects.create(pk=9)
    assert history() == [("1", "free", "used"), ("9", None, "free")]


def test_a_value_that_the_field_cannot_store_is_refused_by_the_field(database: str) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    for model in (Record, Seen):
        record = model.objects.get(pk=1)
        record.status = Broken()
        with pytest.raises(RuntimeError), transaction.atomic():
            record.save()
        assert held(model) == "free"


def test_removing_a_record_is_no_move(database: str) -> None:
    Record.objects.get(pk=1).delete()
    Record.objects.filter(pk=2).delete()
    assert Record.objects.count() == 0 == Move.objects.count()
    Record.objects.create(pk=1)
    assert history() == [("1", None, "free")]
