"""Reports to text and machine formats: one file a format, and one line in the table below.

Everything here returns or yields strings; what is done with them is the command line's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckpt_doctor.results import Report

    from .presentation import Presentation

_MODULES = {"text": "text", "concise": "concise", "json": "json_document"}

FORMATS = tuple(_MODULES)
"""Values of ``--output-format``, the default first."""


def report_lines(report: Report, output_format: str, look: Presentation) -> Iterator[str]:
    """The report in one of :data:`FORMATS`: pieces of text, each to be followed by a newline."""
    module = import_module(f".{_MODULES[output_format]}", __name__)
    lines: Iterator[str] = module.lines(report, look)
    return lines
