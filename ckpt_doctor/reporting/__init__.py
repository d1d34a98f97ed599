"""Reports to text and machine formats.

To add a format, write one file here that is called like it, with a function ``lines`` that is a
:class:`.reporter.Reporter`, and add its name as one line to :data:`OutputFormat`. Everything here returns or yields
strings; what is done with them is the command line's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from ckpt_doctor.core.judgement import Judged

    from .presentation import Presentation
    from .reporter import Reporter

OutputFormat = Literal[
    "text",
    "concise",
    "json",
    "github",
    "sarif",
    "junit",
    "markdown",
]
"""A value of ``--output-format``, and the name of the file here that writes it."""

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
"""Values of ``--output-format``, the default first."""


def reporter_for(output_format: OutputFormat) -> Reporter:
    """What writes a report in this format. It is imported here because a run needs one or two of them."""
    lines: Reporter = import_module(f".{output_format}", __name__).lines
    return lines


def report_lines(judged: Judged, output_format: OutputFormat, look: Presentation) -> Iterator[str]:
    """What was judged, in one of :data:`FORMATS`: pieces of text, each to be followed by a newline."""
    return reporter_for(output_format)(judged, look)
