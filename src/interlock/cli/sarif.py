"""Findings as a SARIF 2.1.0 log, the form in which code hosts and editors take what a checker found."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.checking.finding import CODES, SEALED, Finding

if TYPE_CHECKING:
    from interlock.cli.check import Checked

__all__ = ["sarif_log"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
Part = dict[str, Any]


def sarif_log(every: list[Checked]) -> Part:
    """Return a log with one run: a rule for each code, a result for each finding, its story as a code flow."""
    used = sorted({finding.code for one in every for finding in one.findings})
    results = [_result(one, finding, used.index(finding.code)) for one in every for finding in one.findings]
    try:
        release = version("interlock")
    except PackageNotFoundError:
        release = "0"
    driver = {"name": "interlock", "semanticVersion": release, "rules": [_rule(code) for code in used]}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _rule(code: str) -> Part:
    known = CODES.get(code)
    meaning = known.meaning if known else SEALED.get(code, code)
    level = known.severity if known else "error"
    return {"id": code, "shortDescription": {"text": meaning}, "defaultConfiguration": {"level": level}}


def _result(one: Checked, finding: Finding, rule: int) -> Part:
    place = _place(one, finding.state)
    message = f"{finding.state + ': ' if finding.state else ''}{finding.what}. {finding.mend}"
    result: Part = {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": finding.severity,
        "message": {"text": message},
        "locations": [place],
        "partialFingerprints": {"interlock/v1": f"{one.name}:{finding.code}:{finding.state}"},
    }
    if finding.story:
        steps = [{"location": {**place, "message": {"text": words}}} for words in finding.story]
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    if finding.accepted:
        result["suppressions"] = [{"kind": "inSource", "justification": finding.accepted}]
    return result


def _place(one: Checked, state: str) -> Part:
    path = _file(one.target)
    logical = {"name": state or one.name, "fullyQualifiedName": f"{one.name}.{state}" if state else one.name}
    place: Part = {"logicalLocations": [logical]} if logical["name"] else {}
    if path is not None:
        region = {"startLine": _line(path, state)}
        place["physicalLocation"] = {"artifactLocation": {"uri": _uri(path)}, "region": region}
    return place


def _file(target: str) -> Path | None:
    """Return the file in which a target is written: the document, or the module's source."""
    if Path(target).is_file():
        return Path(target)
    source = getattr(sys.modules.get(target.partition(":")[0]), "__file__", None)
    return Path(source) if source else None


def _uri(path: Path) -> str:
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return path.resolve().as_uri()


def _line(path: Path, state: str) -> int:
    """Return the first line that declares a state, as a class's attribute or a document's key; 1 if there is none."""
    declared = re.compile(rf'\s*["\']?{re.escape(state)}["\']?\s*[:=]') if state else None
    if declared:
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if declared.match(line):
                return number
    return 1
