"""The report for scripts: one JSON document in ASCII, complete also where all is well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.results import Report

from .presentation import Presentation


def lines(judged: Report | Coverage, look: Presentation) -> Iterator[str]:
    """The document as text."""
    yield json.dumps(document(judged, look), indent=2)


def document(judged: Report | Coverage, look: Presentation) -> dict[str, Any]:
    """The document of version 1; with ``statistics`` the counts by rule stand in it too, under that name."""
    values = judged.to_dict()
    if look.statistics:
        from .statistics import documents

        values["statistics"] = documents(judged.findings)
    return values
