"""The report for scripts: one JSON document in ASCII, complete also where all is well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ckpt_doctor.results import Report

from .presentation import Presentation


def lines(report: Report, look: Presentation) -> Iterator[str]:
    """The document as text."""
    yield json.dumps(document(report, look), indent=2)


def document(report: Report, look: Presentation) -> dict[str, Any]:
    """The document of version 1; with ``statistics`` the counts by rule stand in it too, under that name."""
    values = report.to_dict()
    if not look.statistics:
        return values
    from .statistics import counts

    values["statistics"] = [
        {
            "code": row.code,
            "name": row.name,
            "severity": row.severity.value,
            "count": row.findings,
            "fixable": row.fixable,
        }
        for row in counts(report)
    ]
    return values
