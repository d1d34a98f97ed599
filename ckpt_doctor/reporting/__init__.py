"""Reports to text and machine formats: one file a format, and one line in the table below.

Everything here returns or yields strings; what is done with them is the command line's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckpt_doctor.core.coverage import Coverage
    from ckpt_doctor.core.results import Report

    from .presentation import Presentation
    from .sections import Judged

_MODULES = {
    "text": "text",
    "concise": "concise",
    "json": "json_document",
    "github": "github",
    "sarif": "sarif",
    "junit": "junit",
    "markdown": "markdown",
}

FORMATS = tuple(_MODULES)
"""Values of ``--output-format``, the default first."""


def report_lines(report: Report, output_format: str, look: Presentation) -> Iterator[str]:
    """The report in one of :data:`FORMATS`: pieces of text, each to be followed by a newline."""
    return _lines(_MODULES[output_format], report, look)


def coverage_lines(coverage: Coverage, output_format: str, look: Presentation) -> Iterator[str]:
    """What a load restored, in one of :data:`FORMATS`. Where it is not complete, every format says that it failed."""
    return _lines("coverage_text" if output_format == "text" else _MODULES[output_format], coverage, look)


def gate_lines(report: Report, coverage: Coverage, output_format: str, look: Presentation) -> Iterator[str]:
    """Both of them, in one of :data:`FORMATS` but JSON: the lines of one after the other, or one document."""
    if output_format != "text":
        yield from _lines(_MODULES[output_format], (report, coverage), look)
        return
    yield from report_lines(report, output_format, look)
    if not (look.quiet and coverage.complete):
        yield ""
    yield from coverage_lines(coverage, output_format, look)


def _lines(module: str, judged: Judged, look: Presentation) -> Iterator[str]:
    lines: Iterator[str] = import_module(f".{module}", __name__).lines(judged, look)
    return lines
