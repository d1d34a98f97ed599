"""Annotations of a GitHub workflow: one command a finding, and a line that sums them up.

The runner shows ten errors, ten warnings and ten notices of a step; the markdown report in the step's summary has all.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.judgement import Judged

from .escape import printable, shortened
from .finding_text import fix_line
from .presentation import Presentation
from .sections import Section, all_findings, sections, summary

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def lines(judged: Judged, look: Presentation) -> Iterator[str]:
    """``::error file=…,title=…::message`` for each finding, then the summary, which is no command.

    ``statistics`` adds the counts by rule to it, and ``quiet`` leaves it out where nothing was found.
    """
    parts = sections(judged)
    for part in parts:
        for finding in part.findings:
            yield _command(part, finding)
    if look.statistics:
        from .statistics import table

        yield from table(all_findings(parts), look)
    if not look.quiet or any(part.findings for part in parts):
        yield f"ckpt-doctor: {summary(parts, look.separator)}"


def _command(part: Section, finding: Finding) -> str:
    properties = {"file": part.file(finding), "title": f"{finding.code} {finding.name}"}
    # The working directory is no file that an annotation could stand at.
    given = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value != ".")
    message = shortened(printable(finding.message))
    if finding.fix is not None:
        message += f"\n{fix_line(finding.fix)}"
    return f"::{_COMMANDS[finding.severity]} {given}::{_data(message)}"


def _data(text: str) -> str:
    r"""``text`` as the runner takes it: what ends a line and the sign of an escape are escaped.

    >>> _data("50 %\nfix: …")
    '50 %25%0Afix: …'
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A value before the second ``::``: there the signs that part properties are escaped too, and names are made inert.

    >>> _property("a,b::c")
    'a%2Cb%3A%3Ac'
    """
    return _data(printable(text)).replace(":", "%3A").replace(",", "%2C")
