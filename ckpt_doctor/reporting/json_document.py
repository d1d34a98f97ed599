"""The report for scripts: one JSON document in ASCII, complete also where all is well."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ckpt_doctor.coverage import Coverage
from ckpt_doctor.results import Report

from .presentation import Presentation


def lines(judged: Report | Coverage, look: Presentation) -> Iterator[str]:
    """The document of version 1; with ``statistics`` the counts by rule stand in it too, under that name."""
    if not look.statistics:
        yield judged.to_json()
        return
    from .statistics import documents

    document = judged.to_dict()
    document["statistics"] = documents(judged.findings)
    yield json.dumps(document, indent=2)
