"""YAML as people expect it: only true and false are booleans, a key stands once, and nothing refers to anything else.

YAML 1.1 reads ``on``, ``yes`` and ``no`` as booleans, ``010`` as eight and ``1:30`` as ninety; here plain words are what YAML 1.2's core
schema says they are. Anchors and aliases are refused: with them a small document can stand for a huge one.
"""

from __future__ import annotations

import re
from typing import Any

from interlock.errors import IllegalDocument

__all__ = ["read_yaml", "write_yaml"]

DEPTH = 20

_PLAIN = (
    ("null", r"^(?:~|null|Null|NULL|)$", ("~", "n", "N", "")),
    ("bool", r"^(?:true|false)$", ("t", "f")),
    ("int", r"^[-+]?[0-9]+$", tuple("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", tuple("-+.0123456789")),
)


def read_yaml(yaml: Any, text: str, where: str) -> Any:
    """Return a YAML document as plain data.

    Args:
        yaml: the module PyYAML.
        text: the document.
        where: what to call it in an error.

    Raises:
        IllegalDocument: it is no YAML, or uses what is refused here.
    """
    loader = None
    try:
        _bounded(yaml, text)
        loader = _loader(yaml)(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise IllegalDocument(f"{where}{line}: {getattr(error, 'problem', None) or error}") from None
    except ValueError as error:
        raise IllegalDocument(f"{where}: {error}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _bounded(yaml: Any, text: str) -> None:
    """Refuse anchors, aliases, tags and deep nesting before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_base(yaml)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.constructor.ConstructorError(
                None, None, "anchors and aliases are not used in documents", event.start_mark
            )
        if getattr(event, "tag", None):
            raise yaml.constructor.ConstructorError(
                None, None, f"tags are not used in documents: {event.tag}", event.start_mark
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH:
                raise yaml.constructor.ConstructorError(
                    None, None, f"nested too deeply; at most {DEPTH} levels", event.start_mark
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _base(yaml: Any) -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _loader(yaml: Any) -> Any:
    class Loader(_base(yaml)):  # type: ignore[misc]  # PyYAML is imported late
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key `{key.value}` stands twice", key.start_mark
                        )
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

        def whole_number(self, node: Any) -> int:
            return int(self.construct_scalar(node))

    Loader.yaml_implicit_resolvers = _resolvers()
    Loader.add_constructor("tag:yaml.org,2002:int", Loader.whole_number)
    return Loader


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return which plain words are more than text, by their first letter: null, true and false, and numbers."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, firsts in _PLAIN:
        for first in firsts:
            found.setdefault(first, []).append((f"tag:yaml.org,2002:{tag}", re.compile(pattern)))
    return found


def write_yaml(yaml: Any, document: Any) -> str:
    """Return plain data as YAML that `read_yaml` reads back."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML is imported late
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
            return super().increase_indent(flow, False)

    Dumper.yaml_implicit_resolvers = _resolvers()
    text: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
