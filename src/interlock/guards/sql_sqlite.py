"""The triggers that guard a column in SQLite.

They run after the row was written and undo the statement: so what is judged is what is stored, whatever other triggers, defaults and
``OR REPLACE`` made of it, and an upsert that becomes an update is judged as one.

``INSERT OR REPLACE`` and ``UPDATE OR REPLACE`` throw rows out without a trigger being told. So before an insert, and before an update of
the key, the value of the row that may be thrown out is put aside, in a table of the guard's own with one row at most; afterwards, if the
new row really took its place, that was a move from the value put aside.
"""

from __future__ import annotations

from collections.abc import Iterator

from interlock.guards.sql_words import Subject, listed

__all__ = ["create", "not_closed", "remove"]

_AT = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
_AUDIT = (
    '"seq" INTEGER PRIMARY KEY AUTOINCREMENT, "at" TIMESTAMP NOT NULL, "machine" TEXT NOT NULL, "record" TEXT NOT NULL, '
    '"came_from" TEXT, "went_to" TEXT NOT NULL, "by" TEXT NOT NULL, "reason" TEXT NOT NULL'
)


def create(subject: Subject) -> Iterator[str]:
    """Yield the statements that put the guard in place, in whatever state it is."""
    column = subject.quoted(subject.column)
    before, after = f"OLD.{column}", f"NEW.{column}"
    yield from remove(subject)
    if subject.audit is not None:
        yield f"CREATE TABLE IF NOT EXISTS {_audit(subject)} ({_AUDIT})"
    if subject.key:
        yield from _putting_aside(subject)
        replaced, aside = _replaced(subject), "aside.value"
        inserted = [
            f"SELECT {_verdict(subject, aside, after)} FROM {replaced} AND {_differ(aside, after)}",
            f"SELECT {_verdict(subject, None, after)} WHERE NOT EXISTS (SELECT 1 FROM {replaced})",
        ]
        inserted += _audited(subject, aside, f"FROM {replaced} AND {_differ(aside, after)}")
        inserted += _audited(subject, "NULL", f"WHERE NOT EXISTS (SELECT 1 FROM {replaced})")
        rekeyed = [inserted[0], *_audited(subject, aside, f"FROM {replaced} AND {_differ(aside, after)}")]
        yield _trigger(subject, "rekeyed", "AFTER UPDATE", _new_key(subject), rekeyed)
    else:
        inserted = [f"SELECT {_verdict(subject, None, after)}"]
    yield _trigger(subject, "insert", "AFTER INSERT", "", inserted)
    updated = [f"SELECT {_verdict(subject, before, after)}", *_audited(subject, before, "")]
    yield _trigger(subject, "update", f"AFTER UPDATE OF {column}", f" WHEN {_differ(before, after)}", updated)


def remove(subject: Subject) -> Iterator[str]:
    """Yield the statements that take the guard away; the audit table stays."""
    for part in ("insert", "update", "replace", "rekey", "rekeyed"):
        yield f"DROP TRIGGER IF EXISTS {subject.name(part)}"
    yield f"DROP TABLE IF EXISTS {subject.name('aside')}"


def not_closed(subject: Subject) -> Iterator[str]:
    """Yield what the guard does not see."""
    if not subject.key:
        yield "INSERT OR REPLACE and UPDATE OR REPLACE over a row that is there: name the record's key to close them"
    else:
        yield "INSERT OR REPLACE, if another trigger of the table inserts into the same table meanwhile"
    yield "incremental BLOB I/O, which is no SQL"


def _putting_aside(subject: Subject) -> Iterator[str]:
    table = subject.place(subject.table, bare=True)
    kept = ", ".join(f"{table}.{subject.quoted(one)} AS k{number}" for number, one in enumerate(subject.key))
    yield (
        f"CREATE TABLE {subject.name('aside')} AS "
        f"SELECT {kept}, {table}.{subject.quoted(subject.column)} AS value FROM {subject.place(subject.table)} WHERE 0"
    )
    news = ", ".join(f"NEW.{subject.quoted(one)}" for one in subject.key)
    same = " AND ".join(f"{table}.{subject.quoted(one)} = NEW.{subject.quoted(one)}" for one in subject.key)
    body = [
        f"DELETE FROM {_aside(subject)} WHERE 1",
        f"INSERT INTO {_aside(subject)} SELECT {news}, {table}.{subject.quoted(subject.column)} FROM {table} WHERE {same}",
    ]
    yield _trigger(subject, "replace", "BEFORE INSERT", "", body)
    yield _trigger(subject, "rekey", "BEFORE UPDATE", _new_key(subject), body)


def _new_key(subject: Subject) -> str:
    """The key changes; not ``UPDATE OF``, which an update of the key by its other name, ``rowid``, would pass by."""
    quoted = [subject.quoted(one) for one in subject.key]
    return " WHEN " + " OR ".join(_differ(f"OLD.{one}", f"NEW.{one}") for one in quoted)


def _replaced(subject: Subject) -> str:
    """What follows FROM to find the value put aside, if the new row took that row's place."""
    same = (f"aside.k{number} IS NEW.{subject.quoted(one)}" for number, one in enumerate(subject.key))
    return f"{_aside(subject)} AS aside WHERE {' AND '.join(same)}"


def _aside(subject: Subject) -> str:
    return subject.quoted(subject.plain_name("aside"))


def _differ(one: str, other: str) -> str:
    return f"{one} COLLATE BINARY IS NOT {other}"


def _verdict(subject: Subject, before: str | None, after: str) -> str:
    """An expression that raises if the move is none of the machine's; ``before`` None: the record is new."""

    def unless(values: list[str], message: str) -> str:
        refusal = (
            f"RAISE(ABORT, {subject.message(f'{subject.where}: machine `{subject.rules.machine.name}` {message}')})"
        )
        if not values:
            return refusal
        return f"CASE WHEN {after} COLLATE BINARY IN ({subject.values(values)}) THEN 1 ELSE {refusal} END"

    begin = unless(
        subject.initial, f"does not let a record begin with this value; it may begin as {listed(subject.initial)}"
    )
    if before is None:
        return begin
    arms = [f"WHEN {before} IS NULL THEN {begin}"]
    for value in subject.known:
        to = sorted(subject.rules.targets[value])
        possible = f"to {listed(to)}" if to else "nowhere"
        refused = unless(to, f"does not allow this move from {listed([value])}; from there it may go {possible}")
        arms.append(f"WHEN {before} COLLATE BINARY = {subject.text(value)} THEN {refused}")
    unknown = unless(
        [], "does not know the row's present value; it may go nowhere until it is mended, without the guard"
    )
    return "\n    ".join(["CASE", *arms, f"ELSE {unknown}", "END"])


def _audited(subject: Subject, before: str, source: str) -> list[str]:
    """The statement that writes the audit row, if there is an audit table; SQLite knows no users."""
    if subject.audit is None:
        return []
    record = " || ',' || ".join(f"CAST(NEW.{subject.quoted(one)} AS TEXT)" for one in subject.key)
    values = f"{_AT}, {subject.text(subject.rules.machine.name)}, {record}, {before}, NEW.{subject.quoted(subject.column)}, '', ''"
    columns = '"at", "machine", "record", "came_from", "went_to", "by", "reason"'
    return [f"INSERT INTO {subject.place(subject.audit, bare=True)} ({columns}) SELECT {values} {source}".rstrip()]


def _audit(subject: Subject) -> str:
    assert subject.audit is not None
    return subject.place(subject.audit._replace(schema=subject.table.schema))


def _trigger(subject: Subject, part: str, when: str, condition: str, body: list[str]) -> str:
    lines = "".join(f"  {statement};\n" for statement in body)
    table = subject.place(subject.table, bare=True)
    return f"CREATE TRIGGER {subject.name(part)} {when} ON {table} FOR EACH ROW{condition}\nBEGIN\n{lines}END"
