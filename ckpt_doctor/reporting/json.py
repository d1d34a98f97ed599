"""The report for scripts: one JSON document in ASCII, complete also where all is well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ckpt_doctor.core.judgement import Gated, Judged

from .presentation import Presentation


def lines(judged: Judged, look: Presentation) -> Iterator[str]:
    """The document as text."""
    yield json.dumps(_document(judged, look), indent=2)


def _document(judged: Judged, look: Presentation) -> dict[str, Any]:
    """The document of version 1; with ``statistics`` the counts by rule stand in it too, under that name."""
    if isinstance(judged, Gated):
        return {**_document(judged.report, look), **judged.additions}
    values = judged.to_dict()
    if look.statistics:
        from .statistics import documents

        values["statistics"] = documents(judged.findings)
    return values
