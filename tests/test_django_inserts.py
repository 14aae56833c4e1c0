"""INSERT on a guarded table of Django's: whatever creates a row, it begins in an initial state, and is written down with its key."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models import Value
from django.db.models.functions import Concat, Lower
from django.test.utils import CaptureQueriesContext

from interlock import IllegalMove, Refused, guard
from interlock.guards.django_watch import WATCHED
from tests.django_app import (
    Begun,
    Colour,
    Move,
    Odd,
    Owner,
    Record,
    Seen,
    Volume,
    django_on,
    fresh,
    held,
    history,
    servers,
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from servers(request, tmp_path_factory)


@pytest.fixture
def database(server: str) -> str:
    fresh()
    return server


def test_creations_are_written_down_with_the_keys_that_the_database_gave(database: str) -> None:
    one = Record.objects.create()
    two = Record()
    two.save()
    many = Record.objects.bulk_create([Record(note="a"), Record(note="b"), Record(note="c")], batch_size=2)
    keys = [str(record.pk) for record in (one, two, *many)]
    assert history() == [(key, None, "free") for key in keys] and len(set(keys)) == 5 and "None" not in keys


def test_a_new_object_that_was_moved_before_it_is_saved_is_created_and_moved(database: str) -> None:
    record = Record()
    record.status = "used"
    record.status = "ending"
    record.save()
    assert held(key=record.pk) == "ending"
    assert [(came, went) for _, came, went in history()] == [(None, "free"), ("free", "used"), ("used", "ending")]


def test_one_bad_row_of_many_keeps_all_of_them_out(database: str) -> None:
    with pytest.raises(IllegalMove, match="does not let a record begin as `gone`; it may begin as `free`"):
        Record.objects.bulk_create(
            [*(Record(pk=number) for number in range(100, 600)), Record(pk=9, status="gone")], 50
        )
    assert Record.objects.count() == 2 and history() == []


def test_conflicts_that_are_ignored_are_not_written_down(database: str) -> None:
    Record.objects.bulk_create([Record(pk=1), Record(pk=9), Record(pk=2, note="x")], ignore_conflicts=True)
    assert history() == [("9", None, "free")]
    assert (held(), held(key=2), held(key=9), Record.objects.get(pk=2).note) == ("free", "used", "free", "")


def test_an_upsert_that_leaves_the_field_alone_is_judged_as_a_creation(database: str) -> None:
    named: dict[str, Any] = {"update_conflicts": True, "update_fields": ["note"]}
    named |= {} if database == "mariadb" else {"unique_fields": ["id"]}
    with pytest.raises(Refused, match="cannot be told and written down"):
        Record.objects.bulk_create([Record(pk=1, note="x")], **named)
    watch = WATCHED[Record._meta.db_table][0]
    audit, watch.audit = watch.audit, None
    try:
        with pytest.raises(IllegalMove):
            Record.objects.bulk_create([Record(pk=1, note="x"), Record(pk=9, status="gone")], **named)
        assert (Record.objects.get(pk=1).note, held(key=9)) == ("", None)
        Record.objects.bulk_create([Record(pk=2, note="x"), Record(pk=9)], **named)
    finally:
        watch.audit = audit
    assert (held(key=2), Record.objects.get(pk=2).note, held(key=9)) == ("used", "x", "free")


def test_an_upsert_is_let_through_and_counted_by_an_observer(database: str) -> None:
    named: dict[str, Any] = {"update_conflicts": True, "update_fields": ["status"]}
    named |= {} if database == "mariadb" else {"unique_fields": ["id"]}
    seen = WATCHED[Seen._meta.db_table][0].rules
    Seen.objects.bulk_create([Seen(pk=1, status="gone")], **named)
    assert held(Seen) == "gone"
    assert ["update_conflicts" in one.wanted for one in seen.sightings()] == [True]


def test_a_row_that_is_there_is_no_creation(database: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Record(pk=1).save(force_insert=True)
    with pytest.raises(IllegalMove):
        Record(pk=1, status="gone").save(force_insert=True)
    assert held() == "free" and history() == []


def test_get_or_create_and_update_or_create_take_edges(database: str) -> None:
    assert Record.objects.get_or_create(pk=1, defaults={"status": "gone"})[1] is False
    assert Record.objects.update_or_create(pk=1, defaults={"status": "used"})[1] is False
    assert Record.objects.update_or_create(pk=9, defaults={"note": "x"})[1] is True
    with pytest.raises(IllegalMove):
        Record.objects.update_or_create(pk=10, defaults={"status": "free"}, create_defaults={"status": "used"})
    owner = Owner.objects.get(pk=7)
    with pytest.raises(IllegalMove):
        owner.records.create(status="used")
    assert owner.records.count() == 0 and held(key=10) is None
    assert history() == [("1", "free", "used"), ("9", None, "free")]


def test_a_copy_under_another_key_is_a_creation(database: str) -> None:
    record = Record.objects.get(pk=2)
    record.pk, record._state.adding = None, True
    with pytest.raises(IllegalMove, match="`used`"):
        record.save()
    free = Record.objects.get(pk=1)
    free.pk, free._state.adding = None, True
    free.save()
    assert history() == [(str(free.pk), None, "free")]


def test_an_expression_is_judged_as_what_it_gives_and_worked_out_once(database: str) -> None:
    with CaptureQueriesContext(connection) as asked:
        record = Record.objects.create(pk=9, status=Lower(Value("FREE")))
    (written,) = [each["sql"] for each in asked if "INSERT INTO" in each["sql"] and "guarded_record" in each["sql"]]
    assert "LOWER" not in written, "worked out again it might give something else"
    assert held(key=9) == "free" and history() == [("9", None, "free")]
    record.refresh_from_db()
    record.status = "used"
    record.save()
    with pytest.raises(IllegalMove):
        Record.objects.bulk_create([Record(pk=10), Record(pk=11, status=Concat(Value("us"), Value("ed")))])
    assert held(key=9) == "used" and held(key=10) is None


def test_what_the_database_gives_is_asked_for(database: str) -> None:
    begun = Begun.objects.create()
    assert history() == [(str(begun.pk), None, "free")]
    begun.refresh_from_db()
    begun.status = "used"
    begun.save()
    with pytest.raises(IllegalMove):
        Begun.objects.create(status="used")
    assert list(Begun.objects.values_list("status", flat=True)) == ["used"]


def test_members_of_an_enumeration_stand_for_their_values(database: str) -> None:
    key = uuid.uuid4()
    with pytest.raises(IllegalMove, match="`used`"):
        Odd.objects.create(pk=key, status=Colour.GREEN)
    Odd.objects.bulk_create([Odd(pk=key, status=Colour.RED)])
    assert history() == [(str(key), None, "free")]


def test_a_creation_goes_with_its_transaction(database: str) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Record.objects.bulk_create([Record(pk=9), Record(pk=10)])
        assert Move.objects.count() == 2
        raise ZeroDivisionError
    assert history() == [] and held(key=9) is None


def test_a_row_is_not_there_if_it_cannot_be_written_down(database: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE guarded_move RENAME TO elsewhere")
    try:
        with pytest.raises(DatabaseError, match="guarded_move"):
            Record.objects.create(pk=9)
        with pytest.raises(DatabaseError, match="guarded_move"):
            Record.objects.bulk_create([Record(pk=9)])
        with pytest.raises(DatabaseError, match="guarded_move"):
            Record.objects.filter(pk=1).update(status="used")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO guarded_move")
    assert held(key=9) is None and held() == "free"


def test_an_observer_that_fails_lets_the_row_be_made(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock.guards import django_inserts

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of the guard's")

    monkeypatch.setattr(django_inserts, "_judge", broken)
    seen = WATCHED[Seen._meta.db_table][0].rules
    with transaction.atomic():
        assert len(Seen.objects.bulk_create([Seen(pk=9, status=Lower(Value("GONE")))])) == 1
    assert held(Seen, 9) == "gone" and "ZeroDivisionError" in seen.sightings()[0].wanted


class Fickle(models.CharField):  # type: ignore[misc, unused-ignore]  # Django is untyped
    """Gives another value each time it is asked what to write."""

    def pre_save(self, record: Any, add: bool) -> str:
        record.asked = getattr(record, "asked", 0) + 1
        return "free" if record.asked == 1 else "gone"


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_a_field_is_asked_once_what_to_write_and_that_is_what_was_judged(sqlite: str, mode: Any) -> None:
    meta = type("Meta", (), {"app_label": "guarded"})
    fields = {"status": Fickle(max_length=9), "asked": 0, "__module__": __name__, "Meta": meta}
    model: Any = type(f"Fickle_{mode}", (models.Model,), fields)
    guard(model.status, Volume, mode=mode)
    with django_on(sqlite, model):
        record = model.objects.create(pk=1)
        assert (held(model), record.asked) == ("free", 1)
