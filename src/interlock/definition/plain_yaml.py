"""YAML as people expect it: only true and false are booleans, a key stands once, and nothing refers to anything else.

YAML 1.1 reads ``on``, ``yes`` and ``no`` as booleans; a machine has exits named ``on``. Anchors and aliases are refused: with them a small
document can stand for a huge one.
"""

from __future__ import annotations

import re
from typing import Any

from interlock.errors import IllegalDocument

__all__ = ["read_yaml", "write_yaml"]

DEPTH = 20


def read_yaml(yaml: Any, text: str, where: str) -> Any:
    """Return a YAML document as plain data.

    Args:
        yaml: the module PyYAML.
        text: the document.
        where: what to call it in an error.

    Raises:
        IllegalDocument: it is no YAML, or uses what is refused here.
    """
    loader = _loader(yaml)(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise IllegalDocument(f"{where}{line}: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise IllegalDocument(f"{where} is nested too deeply; at most {DEPTH} levels") from None
    finally:
        loader.dispose()


def _loader(yaml: Any) -> Any:
    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is imported late
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise yaml.constructor.ConstructorError(
                    None, None, "anchors and aliases are not used in documents", event.start_mark
                )
            self.depth += 1
            if self.depth > DEPTH:
                raise yaml.constructor.ConstructorError(
                    None, None, f"nested too deeply; at most {DEPTH} levels", event.start_mark
                )
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key `{key.value}` stands twice", key.start_mark
                    )
                seen.add(key.value if isinstance(key.value, str) else id(key))
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = _resolvers(yaml)
    return Loader


def _resolvers(yaml: Any) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return which plain words are more than text: null, true and false, and numbers."""
    kept = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:float")
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {
        first: [(tag, pattern) for tag, pattern in pairs if tag in kept]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, firsts in (
        ("bool", r"^(?:true|false)$", "tf"),
        ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ):
        for first in firsts:
            found.setdefault(first, []).insert(0, (f"tag:yaml.org,2002:{tag}", re.compile(pattern)))
    return found


def write_yaml(yaml: Any, document: Any) -> str:
    """Return plain data as YAML that `read_yaml` reads back."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML is imported late
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
            return super().increase_indent(flow, False)

    Dumper.yaml_implicit_resolvers = _resolvers(yaml)
    text: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
