"""SARIF 2.1.0, the format of code scanning: one run, with the rules that reported something and what they reported.

What no text should hold is written out in names from a checkpoint: not every reader takes NUL or half a surrogate pair.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ckpt_doctor.core.envelope import TOOL
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.judgement import Judged
from ckpt_doctor.core.results import RuleInfo

from .escape import printable
from .markdown_text import rendered
from .presentation import Presentation
from .sections import Section, all_findings, sections

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_FINGERPRINT = "ckptDoctor/v1"
_PLAIN = Presentation()


def lines(judged: Judged, look: Presentation) -> Iterator[str]:
    """The document. Its properties name every checkpoint that was judged, and with ``statistics`` count by rule."""
    parts = sections(judged)
    codes = sorted({(finding.code, finding.name) for finding in all_findings(parts)})
    index = {code: number for number, (code, _) in enumerate(codes)}
    driver = {
        **TOOL,
        "rules": [_rule(code, name, look.rule(code)) for code, name in codes],
    }
    properties: dict[str, Any] = {"checkpoints": [_checkpoint(part) for part in parts]}
    if look.statistics:
        from .statistics import documents

        properties["statistics"] = documents(all_findings(parts))
    run = {"tool": {"driver": driver}, "results": list(_results(parts, index)), "properties": properties}
    text = json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False)
    yield text


def _checkpoint(part: Section) -> dict[str, Any]:
    return {
        "path": printable(part.path),
        "layout": part.judgement.layout,
        "kind": printable(part.kind),
        "contents": part.contents,
        "healthy": part.judgement.healthy,
        **({} if part.judgement.deep is None else {"deep": part.judgement.deep}),
        "components": [{**item._asdict(), "name": printable(item.name)} for item in part.components],
    }


def _rule(code: str, name: str, info: RuleInfo | None) -> dict[str, Any]:
    if info is None:
        return {"id": code, "name": name}
    return {
        "id": code,
        "name": name,
        "shortDescription": {"text": info.summary},
        "fullDescription": {"text": _what_it_does(info)},
        "help": {"text": "\n".join(rendered(info.documentation, _PLAIN)), "markdown": info.documentation},
        "defaultConfiguration": {"level": info.severity.value},
    }


def _what_it_does(info: RuleInfo) -> str:
    """The summary and the section under the heading that every rule has."""
    does = info.documentation.partition("## What it does\n")[2].partition("\n## ")[0]
    return " ".join(f"{info.summary} {does}".split())


def _results(parts: Sequence[Section], index: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    seen: Counter[str] = Counter()
    for part in parts:
        for finding in part.findings:
            # Where the checkpoint lies is part of what is wrong; equal findings are told apart by their number.
            identity = json.dumps([part.root, finding.fingerprint]).encode()
            fingerprint = hashlib.sha256(identity).hexdigest()[:32]
            seen[fingerprint] += 1
            yield {
                "ruleId": finding.code,
                "ruleIndex": index[finding.code],
                # Severities bear the names of SARIF's levels.
                "level": finding.severity.value,
                "message": {"text": _message(finding.message)},
                "locations": [_location(part, finding)],
                "partialFingerprints": {_FINGERPRINT: f"{fingerprint}:{seen[fingerprint]}"},
                "properties": _properties(finding),
            }


def _message(text: str) -> str:
    """``text`` without what SARIF takes for a link in a plain message: ``[text](address)``."""
    return printable(text).replace("](", "] (")


def _location(part: Section, finding: Finding) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(part.file(finding))},
            # A binary file has no lines, but readers refuse, or do not show, what has none.
            "region": {"startLine": 1},
        }
    }
    names = dict.fromkeys(map(printable, finding.tensors))
    if names:
        location["logicalLocations"] = [
            {"name": name.rpartition(".")[2], "fullyQualifiedName": name, "kind": "member"} for name in names
        ]
    return location


def _properties(finding: Finding) -> dict[str, Any]:
    fix = finding.fix
    return {
        "evidence": _plain(finding.evidence),
        "tensorCount": finding.tensor_count,
        "fix": None
        if fix is None
        else {"title": printable(fix.title), "safety": fix.safety, "command": printable(fix.command)},
    }


def _plain(value: Any) -> Any:
    """A JSON value with every text made printable, and with numbers that JSON does not know as text."""
    if isinstance(value, Mapping):
        return {printable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return printable(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _uri(path: str) -> str:
    """A relative reference for a path below the working directory, and a ``file`` URI for another one.

    >>> _uri("runs/a b:1/ü.bin"), _uri("/data/x.bin")
    ('runs/a%20b%3A1/%C3%BC.bin', 'file:///data/x.bin')
    """
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        raw = path.encode("utf-8", "surrogatepass")  # half a pair that means no byte of a file name
    return f"file:///{quote(raw).lstrip('/')}" if Path(path).is_absolute() else quote(raw)
