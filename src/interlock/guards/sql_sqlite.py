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
    before, after = _text(f"OLD.{column}"), _text(f"NEW.{column}")
    yield from remove(subject)
    if subject.audit is not None:
        yield f"CREATE TABLE IF NOT EXISTS {_audit(subject)} ({_AUDIT})"
    created, moved = f"NULL AS came_from, {after} AS went_to", " WHERE came_from COLLATE BINARY IS NOT went_to"
    again = ""
    if subject.key:
        yield from _putting_aside(subject)
        aside = _aside_of_this(subject)
        created, again = (
            f"(SELECT aside.value {aside}) AS came_from, {after} AS went_to",
            f"{moved} OR came_from IS NULL",
        )
        rekeyed = _judged(subject, f"aside.value AS came_from, {after} AS went_to {aside}", moved)
        yield _trigger(subject, "rekeyed", "AFTER UPDATE", _new_key(subject), rekeyed)
    yield _trigger(subject, "insert", "AFTER INSERT", "", _judged(subject, created, again))
    updated = _judged(subject, f"{before} AS came_from, {after} AS went_to", moved)
    yield _trigger(
        subject, "update", f"AFTER UPDATE OF {column}", f" WHEN {_differ(f'OLD.{column}', f'NEW.{column}')}", updated
    )


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
    value = _text(f"{table}.{subject.quoted(subject.column)}")
    kept = ", ".join(f"{table}.{subject.quoted(one)} AS k{number}" for number, one in enumerate(subject.key))
    yield (
        f"CREATE TABLE {subject.name('aside')} AS "
        f"SELECT {kept}, {value} AS value FROM {subject.place(subject.table)} WHERE 0"
    )
    news = ", ".join(f"NEW.{subject.quoted(one)}" for one in subject.key)
    same = " AND ".join(f"{table}.{subject.quoted(one)} = NEW.{subject.quoted(one)}" for one in subject.key)
    body = [
        f"DELETE FROM {_aside(subject)} WHERE 1",
        f"INSERT INTO {_aside(subject)} SELECT {news}, {value} FROM {table} WHERE {same}",
    ]
    yield _trigger(subject, "replace", "BEFORE INSERT", "", body)
    yield _trigger(subject, "rekey", "BEFORE UPDATE", _new_key(subject), body)


def _new_key(subject: Subject) -> str:
    """The key changes; not ``UPDATE OF``, which an update of the key by its other name, ``rowid``, would pass by."""
    quoted = [subject.quoted(one) for one in subject.key]
    return " WHEN " + " OR ".join(_differ(f"OLD.{one}", f"NEW.{one}") for one in quoted)


def _aside_of_this(subject: Subject) -> str:
    """FROM what was put aside, if the new row took that row's place."""
    same = (f"aside.k{number} IS NEW.{subject.quoted(one)}" for number, one in enumerate(subject.key))
    return f"FROM {_aside(subject)} AS aside WHERE {' AND '.join(same)}"


def _aside(subject: Subject) -> str:
    return subject.quoted(subject.plain_name("aside"))


def _differ(one: str, other: str) -> str:
    return f"{one} COLLATE BINARY IS NOT {other}"


def _text(value: str) -> str:
    """An integer as text, as states' stored values are: in a trigger no affinity of the column helps."""
    return f"CASE typeof({value}) WHEN 'integer' THEN CAST({value} AS TEXT) ELSE {value} END"


def _judged(subject: Subject, move: str, condition: str) -> list[str]:
    """The statements that raise if a move is none of the machine's, and write the audit row if it is one; SQLite knows no users."""
    source = f"\n  FROM (SELECT {move}){condition}"
    statements = [f"SELECT {_verdict(subject)}{source}"]
    if subject.audit is not None:
        record = " || ',' || ".join(f"CAST(NEW.{subject.quoted(one)} AS TEXT)" for one in subject.key)
        columns = '"at", "machine", "record", "came_from", "went_to", "by", "reason"'
        values = f"{_AT}, {subject.text(subject.rules.machine.name)}, {record}, came_from, went_to, '', ''"
        audit = subject.place(subject.audit, bare=True)
        statements.append(f"INSERT INTO {audit} ({columns})\n  SELECT {values}{source}")
    return statements


def _verdict(subject: Subject) -> str:
    def unless(values: list[str], message: str) -> str:
        refusal = (
            f"RAISE(ABORT, {subject.message(f'{subject.where}: machine `{subject.rules.machine.name}` {message}')})"
        )
        if not values:
            return refusal
        return f"CASE WHEN went_to COLLATE BINARY IN ({subject.values(values)}) THEN 1 ELSE {refusal} END"

    possible = listed(subject.initial)
    begin = unless(subject.initial, f"does not let a record begin with this value; it may begin as {possible}")
    arms = [f"WHEN came_from IS NULL THEN {begin}"]
    for value in subject.known:
        to = sorted(subject.rules.targets[value])
        possible = f"to {listed(to)}" if to else "nowhere"
        refused = unless(to, f"does not allow this move from {listed([value])}; from there it may go {possible}")
        arms.append(f"WHEN came_from COLLATE BINARY = {subject.text(value)} THEN {refused}")
    unknown = unless(
        [], "does not know the row's present value; it may go nowhere until it is mended, without the guard"
    )
    return "\n    ".join(["CASE", *arms, f"ELSE {unknown}"]) + "\n  END"


def _audit(subject: Subject) -> str:
    assert subject.audit is not None
    return subject.place(subject.audit._replace(schema=subject.table.schema))


def _trigger(subject: Subject, part: str, when: str, condition: str, body: list[str]) -> str:
    lines = "".join(f"  {statement};\n" for statement in body)
    table = subject.place(subject.table, bare=True)
    return f"CREATE TRIGGER {subject.name(part)} {when} ON {table} FOR EACH ROW{condition}\nBEGIN\n{lines}END"
