"""`guard(Model.status, machine)` on Django models: every bypass is tried, and the row is found unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models, transaction
from django.db.models import F

from interlock import IllegalMove, Refused, because, guard
from interlock.guards.django_watch import WATCHED
from tests.django_app import (
    BIRTHS,
    MOVES,
    Large,
    Move,
    Owner,
    Proxy,
    Record,
    Seen,
    Volume,
    fresh,
    held,
    history,
    seen,
    servers,
)

Way = Callable[[Any], Any]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from servers(request, tmp_path_factory)


@pytest.fixture
def database(server: str) -> str:
    fresh()
    return server


# Enforcing


@pytest.mark.parametrize("way", MOVES)
@pytest.mark.parametrize("model", [Record, Proxy], ids=lambda model: model.__name__)
def test_no_way_moves_a_row_along_what_is_no_edge(database: str, model: Any, way: str) -> None:
    with pytest.raises(IllegalMove, match="`free` -> `gone`"):
        MOVES[way](model)
    assert held() == "free" and held(key=2) == "used" and history() == [], "nor the other rows of the same statement"


@pytest.mark.parametrize("way", BIRTHS)
def test_no_way_makes_a_row_in_a_state_that_is_not_initial(database: str, way: str) -> None:
    with pytest.raises(IllegalMove, match="`gone`"):
        BIRTHS[way](Record)
    assert held(key=9) is None is held(key=8) and history() == []


def test_a_bulk_create_that_sets_the_field_of_rows_that_are_there_is_refused(database: str) -> None:
    named = {} if database == "mariadb" else {"unique_fields": ["id"]}  # MariaDB knows no target of a conflict
    with pytest.raises(Refused, match="update_conflicts"):
        Record.objects.bulk_create(
            [Record(pk=1, status="gone")], update_conflicts=True, update_fields=["status"], **named
        )
    assert held() == "free"


def test_edges_are_taken_and_written_down_with_who_and_why(database: str) -> None:
    with because("a person asked", by="ann"):
        record = Record.objects.create(pk=9)
        record.status = "used"
        record.save()
    Record.objects.filter(pk__in=[1, 2]).update(status="used", note="x")
    Record.objects.filter(status="used").update(status="ending")
    assert history()[:2] == [("9", None, "free"), ("9", "free", "used")]
    assert sorted(history()[2:]) == [
        ("1", "free", "used"),
        ("1", "used", "ending"),
        ("2", "used", "ending"),
        ("9", "used", "ending"),
    ]
    first = Move.objects.order_by("seq").first()
    assert (first.machine, first.by, first.reason) == ("volume", "ann", "a person asked") and first.at is not None
    assert held() == "ending"


def test_what_the_database_knows_counts_not_what_was_read(database: str) -> None:
    mine, yours = Record.objects.get(pk=2), Record.objects.get(pk=2)
    yours.status = "ending"
    yours.save()
    mine.status = "free"
    with pytest.raises(IllegalMove, match="came too late: somebody else has moved it to `ending`"):
        mine.save()
    assert held(key=2) == "ending" and history() == [("2", "used", "ending")]


def test_two_steps_between_two_saves_are_both_judged_and_written_down(database: str) -> None:
    record = Record.objects.get(pk=1)
    record.status = "used"
    record.status = "ending"
    record.save()
    assert history() == [("1", "free", "used"), ("1", "used", "ending")] and held() == "ending"


def test_other_fields_may_be_written_at_any_time(database: str) -> None:
    record = Record.objects.get(pk=1)
    record.note = "hello"
    record.save()
    Record.objects.filter(pk=2).update(note=F("status"))
    Record.objects.filter(pk=2).update(status="used")
    assert history() == [] and Record.objects.get(pk=2).note == "used"


def test_a_transaction_that_is_rolled_back_takes_its_moves_along(database: str) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Record.objects.filter(pk=1).update(status="used")
        raise ZeroDivisionError
    assert held() == "free" and history() == []


def test_a_refused_move_spoils_the_transaction_it_is_in(database: str) -> None:
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        Record.objects.filter(pk=2).update(status="ending")
        with pytest.raises(IllegalMove):
            Record.objects.update(status="gone")
        Record.objects.count()
    assert held(key=2) == "used"


def test_a_model_that_inherits_the_table_is_guarded_with_it(database: str) -> None:
    large: Any = Large.objects.create(pk=9, size=3)
    ways: list[Callable[[], Any]] = [
        lambda: Large.objects.filter(pk=9).update(status="gone", size=4),
        lambda: Large(pk=9, status="gone").save(),
    ]
    for way in ways:
        with pytest.raises(IllegalMove):
            way()
    assert held(key=9) == "free" and Large.objects.get(pk=9).size == 3
    large.status = "used"
    large.save()
    assert held(key=9) == "used" and history() == [("9", None, "free"), ("9", "free", "used")]


def test_rows_by_way_of_a_relation(database: str) -> None:
    owner = Owner.objects.create(pk=1, name="ann")
    Record.objects.filter(pk__in=[1, 2]).update(owner=owner)
    with pytest.raises(IllegalMove):
        owner.records.update(status="gone")
    with pytest.raises(IllegalMove):
        Record.objects.filter(owner__name="ann", pk=1).update(status="gone")
    assert held() == "free" and Record.objects.filter(owner__name="ann", pk=1).update(status="used") == 1
    owner.records.all().delete()
    assert Record.objects.count() == 0, "deleting is no move"


def test_a_refreshed_object_begins_anew(database: str) -> None:
    record = Record.objects.get(pk=1)
    Record.objects.filter(pk=1).update(status="used")
    record.refresh_from_db()
    record.status = "ending"
    record.save()
    assert held() == "ending"


def test_a_new_object_is_judged_where_it_is_moved(database: str) -> None:
    record = Record()
    with pytest.raises(IllegalMove):
        record.status = "gone"
    assert record.status == "free"


# Observing


@pytest.mark.parametrize("way", MOVES)
def test_observing_lets_every_move_happen_and_counts_it(database: str, way: str) -> None:
    MOVES[way](Seen)
    assert held(Seen) == "gone"
    assert any((one.current, one.wanted) == ("free", "gone") for one in seen.sightings()), seen.sightings()


@pytest.mark.parametrize("way", BIRTHS)
def test_observing_lets_every_row_be_made_and_counts_it(database: str, way: str) -> None:
    BIRTHS[way](Seen)
    assert held(Seen, 9) == "gone" and any(one.wanted == "gone" for one in seen.sightings())


def test_observing_counts_an_unknown_value_that_is_read_and_where(database: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE guarded_seen SET status = 'lost' WHERE id = 1")
    assert Seen.objects.get(pk=1).status == "lost"
    (sighting,) = [one for one in seen.sightings() if one.wanted == "lost"]
    assert sighting.loaded and "test_django.py" in sighting.site


def test_observing_goes_on_when_the_guard_itself_fails(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock.guards import django_writes

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault of the guard's")

    monkeypatch.setattr(django_writes, "_rows", broken)
    assert Seen.objects.filter(pk=1).update(status="gone") == 1 and held(Seen) == "gone"
    assert any("not judged" in one.wanted and "ZeroDivisionError" in one.wanted for one in seen.sightings())


# What can be guarded


def test_what_is_no_plain_field_is_refused() -> None:
    class Abstract(models.Model):  # type: ignore[misc, unused-ignore]
        status = models.CharField(max_length=9)

        class Meta:
            app_label, abstract = "guarded", True

    for attribute, says in [
        (Record.id, "primary key"),
        (Record.owner, "no column|no plain"),
        (Record.status, "guarded already"),
    ]:
        with pytest.raises(Refused, match=says):
            guard(attribute, Volume)
    with pytest.raises(Refused, match="MoveModel"):
        guard(Owner.name, Volume, audit=Owner)
    assert "guarded_owner" not in WATCHED
    with pytest.raises((Refused, AttributeError, ImproperlyConfigured)):
        guard(Abstract.status, Volume)
