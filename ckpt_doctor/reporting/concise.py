"""One line a finding, for grep and for editors; nothing where there are none."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.results import Report

from .escape import printable
from .presentation import Presentation


def lines(report: Report, look: Presentation) -> Iterator[str]:
    """``checkpoint:file: CODE severity name message`` for each finding, each on a line of its own."""
    if look.statistics:
        from .statistics import table

        yield from table(report, look)
        return
    for diagnosis in report.diagnoses:
        for finding in diagnosis.findings:
            place = diagnosis.checkpoint.path if finding.path is None else f"{diagnosis.checkpoint.path}:{finding.path}"
            severity = look.paint_severity(finding.severity.value, finding.severity)
            yield f"{printable(place)}: {finding.code} {severity} {finding.name} {printable(finding.message)}"
