"""One line a finding, for grep and for editors; nothing where there are none."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.judgement import Judged

from .escape import printable
from .presentation import Presentation
from .sections import all_findings, sections


def lines(judged: Judged, look: Presentation) -> Iterator[str]:
    """``checkpoint:file: CODE severity name message`` for each finding, each on its own line."""
    parts = sections(judged)
    if look.statistics:
        from .statistics import table

        yield from table(all_findings(parts), look)
        return
    for part in parts:
        for finding in part.findings:
            place = part.path if finding.path is None else f"{part.path}:{finding.path}"
            severity = look.paint_severity(finding.severity.value, finding.severity)
            yield f"{printable(place)}: {finding.code} {severity} {finding.name} {printable(finding.message)}"
