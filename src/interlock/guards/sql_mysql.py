"""The triggers that guard a column in MySQL and MariaDB.

They run after the row was written and undo the statement: so what is judged is what is stored, whatever other triggers and defaults made
of it, and an insert that becomes an update is judged as one. Values are compared as bytes, for the usual collations take `ACTIVE` for
`active` and leave trailing spaces out.

``REPLACE`` throws the old row out, then inserts: the trigger on deletes puts the value thrown out into a session variable, which each
insert empties first; if it is set when the row is in, that was a move from there. Of several rows thrown out the first counts, which is
the one with the same primary key if there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

from interlock.guards.sql_words import Subject, listed, shown

__all__ = ["create", "not_closed", "remove"]

_MESSAGE = 128
"""Characters that MySQL keeps of an error's text."""
_NAME = 20
"""Characters of a name or a value that a long error's text shows, so that there is room for what is allowed."""
_AUDIT = (
    "`seq` BIGINT AUTO_INCREMENT PRIMARY KEY, `at` DATETIME(6) NOT NULL, `machine` VARCHAR(64) NOT NULL, `record` TEXT NOT NULL, "
    "`came_from` TEXT, `went_to` TEXT NOT NULL, `by` VARCHAR(255) NOT NULL, `reason` TEXT NOT NULL"
)


def create(subject: Subject) -> Iterator[str]:
    """Yield the statements that put the guard in place, in whatever state it is.

    No transaction holds them; a lock keeps writers out until all are in place.
    """
    table, column = subject.place(subject.table), subject.quoted(subject.column)
    if subject.audit is not None:
        audit = subject.audit._replace(schema=subject.audit.schema or subject.table.schema)
        kind = "ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        yield f"CREATE TABLE IF NOT EXISTS {subject.place(audit)} ({_AUDIT}) {kind}"
    yield f"LOCK TABLES {table} WRITE"
    yield from remove(subject)
    replaced, old, new = f"@{subject.plain_name('replaced')}", _utf8(f"OLD.{column}"), _utf8(f"NEW.{column}")
    yield _trigger(subject, "begin", "BEFORE INSERT", [f"SET {replaced} = NULL;"])
    yield _trigger(subject, "delete", "BEFORE DELETE", [f"SET {replaced} = COALESCE({replaced}, {old});"])
    moved = "came_from IS NULL OR NOT (came_from <=> went_to)"
    yield _trigger(subject, "insert", "AFTER INSERT", _judged(subject, replaced, new, moved))
    yield _trigger(subject, "update", "AFTER UPDATE", _judged(subject, old, new, "NOT (came_from <=> went_to)"))
    yield "UNLOCK TABLES"


def remove(subject: Subject) -> Iterator[str]:
    """Yield the statements that take the guard away; the audit table stays."""
    for part in ("begin", "delete", "insert", "update"):
        yield f"DROP TRIGGER IF EXISTS {subject.name(part)}"


def not_closed(subject: Subject) -> Iterator[str]:
    """Yield what the guard does not see."""
    yield "a foreign key of the guarded column with ON UPDATE or ON DELETE actions: the engine writes it past all triggers"
    yield "engines without transactions (MyISAM, Aria, MEMORY): the error comes, but the row stays as it was written"


def _utf8(value: str) -> str:
    """A value in the one character set whose bytes are compared: the variables that take it are binary."""
    return f"CONVERT({value} USING utf8mb4)"


def _judged(subject: Subject, before: str, after: str, moved: str) -> list[str]:
    """The body of a trigger that judges what became of a row, if it moved, and writes the audit row."""
    edges = [f"    WHEN came_from IS NULL THEN went_to IN ({subject.values(subject.initial)})"]
    lists = [f"      WHEN came_from IS NULL THEN {subject.message(listed(subject.initial))}"]
    for value, to in subject.edges:
        edges.append(f"    WHEN came_from = {subject.values([value])} THEN went_to IN ({subject.values(to)})")
        lists.append(f"      WHEN came_from = {subject.values([value])} THEN {subject.message(listed(to))}")
    where = subject.message(f"{_where(subject)}: ")
    names = f"TABLE_NAME = {subject.text(subject.table.name)}, COLUMN_NAME = {subject.text(subject.column)}"
    return [
        f"DECLARE came_from LONGBLOB DEFAULT {before};",
        f"DECLARE went_to LONGBLOB DEFAULT {after};",
        "DECLARE message TEXT CHARACTER SET utf8mb4;",
        f"IF {moved} THEN",
        "  IF NOT COALESCE(CASE",
        *edges,
        "    ELSE FALSE",
        "  END, FALSE) THEN",
        f"    SET message = CONCAT({where},",
        f"      COALESCE(CONCAT('`', {_short('came_from')}, '` -> '), 'a new record as '), '`',",
        f"      COALESCE({_short('went_to')}, 'NULL'), '` refused; allowed: ', CASE",
        *lists,
        "      ELSE 'nothing'",
        "    END);",
        f"    IF CHAR_LENGTH(message) > {_MESSAGE} THEN SET message = CONCAT(LEFT(message, {_MESSAGE - 3}), '...'); END IF;",
        f"    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = message, {names};",
        "  END IF;",
        *_audited(subject),
        "END IF;",
    ]


def _short(value: str) -> str:
    return f"LEFT({_utf8(value)}, {_NAME})"


def _where(subject: Subject) -> str:
    """``table.column``, each cut if they are long together; the error carries both whole beside its text."""
    names = shown(subject.table.name), shown(subject.column)
    long = sum(map(len, names)) > 2 * _NAME
    return ".".join(f"{name[: _NAME - 3]}..." if long and len(name) > _NAME else name for name in names)


def _audited(subject: Subject) -> Iterator[str]:
    """The statement that writes the audit row, if there is an audit table; one without a schema is in the guarded table's."""
    if subject.audit is None:
        return
    audit = subject.place(subject.audit._replace(schema=subject.audit.schema or subject.table.schema))
    record = ", ".join(f"NEW.{subject.quoted(one)}" for one in subject.key)
    yield f"  INSERT INTO {audit} (`at`, `machine`, `record`, `came_from`, `went_to`, `by`, `reason`)"
    yield f"    VALUES (UTC_TIMESTAMP(6), {subject.text(subject.rules.machine.name)}, CONCAT_WS(',', {record}),"
    yield f"    {_utf8('came_from')}, {_utf8('went_to')},"
    yield "    COALESCE(NULLIF(@interlock_by, ''), USER()), COALESCE(@interlock_reason, ''));"


def _trigger(subject: Subject, part: str, when: str, body: list[str]) -> str:
    lines = "".join(f"  {line}\n" for line in body)
    return (
        f"CREATE TRIGGER {subject.name(part)} {when} ON {subject.place(subject.table)} FOR EACH ROW\nBEGIN\n{lines}END"
    )
