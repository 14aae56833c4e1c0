"""A Django without a project for the tests of its guard: settings, models with guarded fields, and every way of writing to them.

Each way tries the same: to take record 1 from ``free`` to ``gone``, or to create record 9 as ``gone``; the machine allows neither.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
import pymysql
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection, connections, models
from django.db.models import Case, F, Subquery, Value, When
from django.db.models.functions import Concat, Replace
from sqlalchemy.engine import make_url

from interlock import Final, Machine, State, guard
from tests.databases import _database

if not settings.configured:
    pymysql.version_info = (2, 2, 1, "final", 0)  # what Django asks of the driver that it stands for
    pymysql.install_as_MySQLdb()
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()

from interlock.guards.django import MoveModel


class Volume(Machine[Any]):
    free = State(initial=True, to=["used"])
    used = State(to=["free", "ending"])
    ending = State(to=["gone"])
    gone = Final("succeeded")


class Power(Machine[Any]):
    off = State(initial=True, to=["on"])
    on = State(to=["off", "broken"])
    broken = Final("failed")


class Owner(models.Model):  # type: ignore[misc, unused-ignore]  # Django is untyped
    name = models.CharField(max_length=20)

    class Meta:
        app_label = "guarded"


class Move(MoveModel):  # type: ignore[misc, unused-ignore]
    class Meta:
        app_label = "guarded"


class Record(models.Model):  # type: ignore[misc, unused-ignore]
    """Guarded, with an audit table."""

    status = models.CharField(max_length=20, default="free")
    note = models.CharField(max_length=20, default="")
    owner = models.ForeignKey(Owner, null=True, on_delete=models.CASCADE, related_name="records")

    class Meta:
        app_label = "guarded"


class Proxy(Record):
    class Meta:
        app_label = "guarded"
        proxy = True


class Large(Record):
    size = models.IntegerField(default=1)

    class Meta:
        app_label = "guarded"


class Colour(models.TextChoices):  # type: ignore[misc, unused-ignore]
    RED = "free"
    GREEN = "used"
    BLUE = "gone"


class Odd(models.Model):  # type: ignore[misc, unused-ignore]
    """Guarded: keys that are no numbers, NULL, choices, and another name for the column."""

    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    status = models.CharField(max_length=20, null=True, choices=Colour.choices, db_column="state")

    class Meta:
        app_label = "guarded"


class Begun(models.Model):  # type: ignore[misc, unused-ignore]
    """Guarded: the database gives the first value."""

    status = models.CharField(max_length=20, db_default=Concat(Value("fr"), Value("ee")))

    class Meta:
        app_label = "guarded"


class Pair(models.Model):  # type: ignore[misc, unused-ignore]
    """Guarded: a key of two fields."""

    pk = models.CompositePrimaryKey("host", "number")
    host = models.CharField(max_length=20)
    number = models.IntegerField()
    status = models.CharField(max_length=20, default="free")

    class Meta:
        app_label = "guarded"


class Twin(models.Model):  # type: ignore[misc, unused-ignore]
    """Two guarded fields: one enforced, one observed."""

    status = models.CharField(max_length=20, default="free")
    power = models.CharField(max_length=20, default="off")

    class Meta:
        app_label = "guarded"


class Seen(models.Model):  # type: ignore[misc, unused-ignore]
    """Observed."""

    status = models.CharField(max_length=20, default="free")
    note = models.CharField(max_length=20, default="")

    class Meta:
        app_label = "guarded"


MODELS = (Owner, Move, Record, Large, Odd, Begun, Pair, Twin, Seen)
for each in (Record, Odd, Begun, Pair, Twin):
    guard(each.status, Volume, audit=Move)
twin = guard(Twin.power, Power, mode="observe", audit=Move)
seen = guard(Seen.status, Volume, mode="observe")
BACKENDS = {"sqlite": "sqlite3", "postgresql": "postgresql", "mysql": "mysql"}


def settings_of(url: str) -> dict[str, Any]:
    """Return what Django needs to know of a database's URL."""
    parts = make_url(url)
    host = parts.query.get("unix_socket") or parts.query.get("host") or parts.host or ""
    return {
        "ENGINE": f"django.db.backends.{BACKENDS[parts.get_backend_name()]}",
        "NAME": parts.database or "",
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": str(host),
        "PORT": str(parts.port or ""),
        **{
            "ATOMIC_REQUESTS": False,
            "AUTOCOMMIT": True,
            "CONN_MAX_AGE": 0,
            "CONN_HEALTH_CHECKS": False,
            "TIME_ZONE": None,
        },
        "OPTIONS": {"timeout": 10} if parts.get_backend_name() == "sqlite" else {},
        "TEST": {},
    }


@contextmanager
def django_on(url: str, *more: Any) -> Iterator[None]:
    """Let Django's default database be another, with the tables of all models in it, and of ``more``."""
    before = connections.databases["default"]
    connections.close_all()
    connections.databases["default"] = settings_of(url)
    _forget()
    try:
        with connection.schema_editor() as editor:
            for model in (*MODELS, *more):
                editor.create_model(model)
        yield
    finally:
        connections.close_all()
        connections.databases["default"] = before
        _forget()


def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Let a fixture's parameter name the server of Django's default database: a new database in it, or a new file."""
    if request.param == "sqlite":
        with django_on(f"sqlite:///{tmp_path_factory.mktemp('django') / 'test.db'}"):
            yield request.param
        return
    drop = "DROP DATABASE {} WITH (FORCE)" if request.param == "postgresql" else "DROP DATABASE {}"
    with _database(request.getfixturevalue(f"{request.param}_url"), drop) as url, django_on(url):
        yield request.param


def _forget() -> None:
    """Have the next use of the default database connect anew, in this thread."""
    if any(one.alias == "default" for one in connections.all(initialized_only=True)):
        del connections["default"]


def fresh() -> None:
    """Record 1 is ``free``, record 2 is ``used``; nothing is written down, nothing was seen."""
    with connection.cursor() as cursor:
        for model in (Large, Record, Odd, Begun, Pair, Twin, Seen, Move, Owner):
            cursor.execute(f"DELETE FROM {model._meta.db_table}")
        for model in (Record, Seen):
            cursor.execute(
                f"INSERT INTO {model._meta.db_table} (id, status, note) VALUES (1, 'free', ''), (2, 'used', '')"
            )
        cursor.execute("INSERT INTO guarded_owner (id, name) VALUES (7, 'gone')")
        if connection.vendor == "postgresql":
            for model in (Record, Seen):
                cursor.execute(f"SELECT setval(pg_get_serial_sequence('{model._meta.db_table}', 'id'), 100)")
    seen._seen.clear()


def held(model: Any = Record, key: int = 1) -> str | None:
    """What raw SQL finds."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT status FROM {model._meta.db_table} WHERE id = {key}")
        row = cursor.fetchone()
    return None if row is None else row[0]


def history() -> list[tuple[str, str | None, str]]:
    return list(Move.objects.order_by("seq").values_list("record", "came_from", "went_to"))


Way = Callable[[Any], Any]


def _assigned(model: Any) -> None:
    record = model.objects.get(pk=1)
    record.status = "gone"
    record.save()


def _around_the_attribute(model: Any, **options: Any) -> None:
    record = model.objects.get(pk=1)
    record.__dict__["status"] = "gone"
    record.save(**options)


def _bulk(model: Any) -> None:
    records = list(model.objects.filter(pk__in=[1, 2]).order_by("pk"))
    records[0].__dict__["status"], records[1].__dict__["status"] = "gone", "ending"
    model.objects.bulk_update(records, ["status"])


def _deferred(model: Any) -> None:
    record = model.objects.defer("status").get(pk=1)
    record.status = "gone"
    record.save()


MOVES: dict[str, Way] = {
    "an assignment": _assigned,
    "past the attribute": _around_the_attribute,
    "past the attribute, update_fields": lambda model: _around_the_attribute(model, update_fields=["status"]),
    "a made-up object": lambda model: model(pk=1, status="gone").save(),
    "a made-up object, force_update": lambda model: model(pk=1, status="gone").save(force_update=True),
    "a deferred field": _deferred,
    "update()": lambda model: model.objects.filter(pk=1).update(status="gone"),
    "update() of all": lambda model: model.objects.update(status="gone"),
    "update() with Value": lambda model: model.objects.filter(pk=1).update(status=Value("gone")),
    "update() with Case": lambda model: model.objects.filter(pk=1).update(
        status=Case(When(pk=1, then=Value("gone")), default=F("status"))
    ),
    "update() with a subquery": lambda model: model.objects.filter(pk=1).update(
        status=Subquery(Owner.objects.filter(name="gone").values("name")[:1])
    ),
    "update() with an annotation": lambda model: (
        model.objects.annotate(wanted=Concat(Value("go"), Value("ne"))).filter(pk=1).update(status=F("wanted"))
    ),
    "a fixture that is loaded": lambda model: model(pk=1, status="gone").save_base(raw=True),
    "update() with a function": lambda model: model.objects.filter(pk=1).update(
        status=Replace(F("status"), Value("free"), Value("gone"))
    ),
    "an expression that is saved": lambda model: _saved_expression(model),
    "bulk_update": _bulk,
    "update_or_create": lambda model: model.objects.update_or_create(pk=1, defaults={"status": "gone"}),
    "select_for_update": lambda model: _locked(model),
    "aupdate": lambda model: async_to_sync(_aupdate)(model),
    "asave": lambda model: async_to_sync(_asave)(model),
    "aupdate_or_create": lambda model: async_to_sync(_aupdate_or_create)(model),
    "abulk_update": lambda model: async_to_sync(_abulk)(model),
    "a sliced query": lambda model: (
        model.objects.filter(pk__in=model.objects.order_by("pk").values("pk")[:1]).update(status="gone")
        if connection.vendor != "mysql"
        else model.objects.filter(pk=1).update(status="gone")
    ),
}
BIRTHS: dict[str, Way] = {
    "create": lambda model: model.objects.create(pk=9, status="gone"),
    "save": lambda model: model(pk=9, status="gone").save(),
    "save, force_insert": lambda model: model(pk=9, status="gone").save(force_insert=True),
    "bulk_create": lambda model: model.objects.bulk_create([model(pk=8), model(pk=9, status="gone")]),
    "bulk_create, ignore_conflicts": lambda model: model.objects.bulk_create(
        [model(pk=9, status="gone")], ignore_conflicts=True
    ),
    "get_or_create": lambda model: model.objects.get_or_create(pk=9, defaults={"status": "gone"}),
    "update_or_create": lambda model: model.objects.update_or_create(pk=9, defaults={"status": "gone"}),
    "acreate": lambda model: async_to_sync(_acreate)(model),
    "abulk_create": lambda model: async_to_sync(_abulk_create)(model),
    "aget_or_create": lambda model: async_to_sync(_aget_or_create)(model),
    "a fixture that is loaded": lambda model: model(pk=9, status="gone").save_base(raw=True),
    "an expression": lambda model: model.objects.create(pk=9, status=Concat(Value("go"), Value("ne"))),
}


def _saved_expression(model: Any) -> None:
    record = model.objects.get(pk=1)
    record.status = Value("gone")
    record.save()


def _locked(model: Any) -> None:
    from django.db import transaction

    with transaction.atomic():
        record = model.objects.select_for_update().get(pk=1)
        record.__dict__["status"] = "gone"
        record.save()


async def _acreate(model: Any) -> None:
    await model.objects.acreate(pk=9, status="gone")


async def _abulk_create(model: Any) -> None:
    await model.objects.abulk_create([model(pk=8), model(pk=9, status="gone")])


async def _aget_or_create(model: Any) -> None:
    await model.objects.aget_or_create(pk=9, defaults={"status": "gone"})


async def _aupdate_or_create(model: Any) -> None:
    await model.objects.aupdate_or_create(pk=1, defaults={"status": "gone"})


async def _aupdate(model: Any) -> None:
    await model.objects.filter(pk=1).aupdate(status="gone")


async def _asave(model: Any) -> None:
    await model(pk=1, status="gone").asave()


async def _abulk(model: Any) -> None:
    record = await model.objects.aget(pk=1)
    record.__dict__["status"] = "gone"
    await model.objects.abulk_update([record], ["status"])
