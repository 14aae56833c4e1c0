"""How names, texts and values are written in each dialect of SQL, so that nothing in them is ever read as SQL.

Identifiers are always quoted. A text of plain printable characters is an ordinary literal; any other is written in a form that means the
same whatever the session's settings (MySQL's ``NO_BACKSLASH_ESCAPES``, PostgreSQL's ``standard_conforming_strings``, the client's
character set) and whatever the client does with line ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, NamedTuple, get_args

from interlock.errors import Refused, did_you_mean
from interlock.guards.rules import Rules

__all__ = ["Dialect", "Place", "Subject", "dialect_named", "place_named"]

Dialect = Literal["sqlite", "postgresql", "mysql"]
_DIALECTS: dict[str, Dialect] = {**{one: one for one in get_args(Dialect)}, "mariadb": "mysql"}
_POSTGRESQL_BYTES = 63
_MYSQL_CHARACTERS = 64
_PART = r'(?:"(?:[^"]|"")+"|[^".]+)'
_PLACE = re.compile(rf"(?:({_PART})\.)?({_PART})", re.DOTALL)


class Place(NamedTuple):
    """A table: its schema, if one was named, and its name."""

    schema: str | None
    name: str


def dialect_named(name: str) -> Dialect:
    """Return the dialect of that name; raises `Refused`."""
    if name in _DIALECTS:
        return _DIALECTS[name]
    raise Refused(f"no dialect `{name}`{did_you_mean(name, _DIALECTS)}; there are {', '.join(_DIALECTS)}", dialect=name)


def place_named(text: str) -> Place:
    """Read ``table`` or ``schema.table``; a part with a dot or a quote in it is written in double quotes, as in SQL.

    >>> place_named('ops."volumes.old"')
    Place(schema='ops', name='volumes.old')
    """
    found = _PLACE.fullmatch(text)
    if found is None:
        raise Refused(
            f"{text!r} names no table: write table or schema.table; a part with a dot or a quote in it goes in double quotes, "
            'as in schema."my.table"',
            table=text,
        )
    schema, name = (part and _unquoted(part) for part in found.groups())
    return Place(schema, name)


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


@dataclass(frozen=True)
class Subject:
    """What a guard in a database is about; its methods write the words of its dialect.

    Raises `Refused` for what the dialect cannot name or hold.

    Args:
        rules: what may be.
        dialect: whose words.
        table: the guarded table.
        column: the guarded column of it.
        key: the columns that tell one record from another.
        audit: the table that takes a row for every move; None for none.
    """

    rules: Rules
    dialect: Dialect
    table: Place
    column: str
    key: tuple[str, ...] = ()
    audit: Place | None = None

    def __post_init__(self) -> None:
        tables = {"table": self.table, "audit table": self.audit or self.table}
        for what, place in tables.items():
            self._check(what, place.name)
            if place.schema is not None:
                self._check(f"schema of the {what}", place.schema)
        for what, name in (("column", self.column), *(("key column", one) for one in self.key)):
            self._check(what, name)
        folded = [one if self.dialect == "postgresql" else one.lower() for one in (self.column, *self.key)]
        if folded[0] in folded[1:]:
            raise Refused(f"`{self.column}` is the guarded column: the key is what stays when it moves, such as `id`")
        if len(set(folded)) < len(folded):
            raise Refused("a key column is named twice")
        if self.audit is not None and self.audit in (self.table, Place(None, self.table.name)):
            raise Refused(f"`{self.audit.name}` is the guarded table: audit rows want a table of their own")
        if self.audit is not None and not self.key:
            raise Refused("an audit row names its record: say which columns do, --key id")
        for value in self.rules.allowed:
            if fault := _not_text(value):
                raise Refused(f"the stored value {value!r} {fault}: no database can hold it as text; change `status`")

    def _check(self, what: str, name: str) -> None:
        fault = _not_text(name)
        if not name:
            fault = "is empty"
        elif self.dialect == "postgresql" and not fault and len(name.encode()) > _POSTGRESQL_BYTES:
            fault = f"is longer than {_POSTGRESQL_BYTES} bytes, PostgreSQL would cut it"
        elif self.dialect == "mysql" and len(name) > _MYSQL_CHARACTERS:
            fault = f"is longer than {_MYSQL_CHARACTERS} characters"
        elif self.dialect == "mysql" and (name.endswith(" ") or max(name) > "\uffff"):
            fault = "ends with a space or has a character above U+FFFF, which MySQL's names cannot"
        if fault:
            raise Refused(f"the {what} {name!r} {fault}; name what is in the database", name=name)

    @property
    def where(self) -> str:
        """``table.column``, for people."""
        return f"{shown(self.table.name)}.{shown(self.column)}"

    @property
    def edges(self) -> Iterator[tuple[str, list[str]]]:
        """Each stored value that may be left, with those that may follow, all in order."""
        return ((one, sorted(self.rules.targets[one])) for one in sorted(self.rules.targets) if self.rules.targets[one])

    @property
    def known(self) -> list[str]:
        """Every stored value."""
        return sorted(self.rules.allowed)

    @property
    def initial(self) -> list[str]:
        """The values that a record may be created with."""
        return sorted(self.rules.initial)

    def name(self, part: str) -> str:
        """Return the quoted name of one of the guard's own parts, in the table's schema: the same for the same table and column."""
        return self.place(self.table._replace(name=self.plain_name(part)))

    def plain_name(self, part: str) -> str:
        """Return the same in letters, digits and underscores, not quoted; of 63 characters at most."""
        table, column = self.table.name, self.column
        if self.dialect != "postgresql":
            column = column.lower()  # where case does not tell columns apart, it must not tell guards apart
        if self.dialect == "sqlite":
            table = table.lower()
        digest = sha256(f"{len(table)} {table} {column}".encode()).hexdigest()[:8]
        words = "_".join(re.sub(r"[^a-z0-9]+", "_", one.lower())[:15].strip("_") for one in (table, column))
        return f"interlock_{words}_{digest}_{part}"

    def place(self, place: Place, *, bare: bool = False) -> str:
        """Return a table's name, with its schema unless it is to be bare."""
        schema = f"{self.quoted(place.schema)}." if place.schema is not None and not bare else ""
        return schema + self.quoted(place.name)

    def quoted(self, name: str) -> str:
        """Return an identifier as the dialect quotes it."""
        mark = "`" if self.dialect == "mysql" else '"'
        return mark + name.replace(mark, mark * 2) + mark

    def text(self, value: str) -> str:
        """Return a literal for a text."""
        plain = "'" + value.replace("'", "''") + "'"
        if self.dialect == "mysql":
            simple = value.isascii() and value.isprintable() and "\\" not in value
            return plain if simple else f"_utf8mb4 X'{value.encode().hex()}'"
        if value.isprintable() and not (self.dialect == "postgresql" and "\\" in value):
            return plain
        if self.dialect == "postgresql":
            escaped = "".join(one if one.isprintable() else _escape(one) for one in plain.replace("\\", "\\\\"))
            return f"E{escaped}"
        return f"CAST(X'{value.encode().hex()}' AS TEXT)"

    def values(self, values: Iterable[str]) -> str:
        """Return literals for stored values, separated by commas; in MySQL their bytes are UTF-8, whatever the connection speaks."""
        texts = [self.text(value) for value in values]
        if self.dialect == "mysql":
            texts = [text if text.startswith("_") else f"_utf8mb4{text}" for text in texts]
        return ", ".join(texts)

    def message(self, text: str) -> str:
        """Return a plain literal for a sentence to people: what does not print is shown escaped."""
        return self.text(shown(text))


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _not_text(value: str) -> str:
    """Return why a text can be neither a name nor a value in a database; empty if it can."""
    if "\0" in value:
        return "has a NUL in it"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair in it"
    return ""


def shown(text: str) -> str:
    """Return a text for people on one line: what does not print is escaped.

    >>> shown("in\\nuse")
    'in\\\\nuse'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def listed(values: Iterable[str]) -> str:
    """Return values as a message names them.

    >>> listed(["free", "used"])
    '`free`, `used`'
    """
    return ", ".join(f"`{shown(value)}`" for value in values)
