"""The report for scripts: one JSON document in ASCII, complete also where all is well."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ckpt_doctor.results import Report

from .presentation import Presentation


def lines(report: Report, look: Presentation) -> Iterator[str]:
    """The document of version 1; with ``statistics`` the counts by rule stand in it too, under that name."""
    if not look.statistics:
        yield report.to_json()
        return
    from .statistics import counts

    document = report.to_dict()
    document["statistics"] = [
        {
            "code": row.code,
            "name": row.name,
            "severity": row.severity.value,
            "count": row.findings,
            "fixable": row.fixable,
        }
        for row in counts(report)
    ]
    yield json.dumps(document, indent=2)
