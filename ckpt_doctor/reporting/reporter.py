"""A reporter: it gets what was judged, and yields a report in one format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ckpt_doctor.core.judgement import Judged

from .presentation import Presentation


class Reporter(Protocol):
    """The function ``lines`` of a module of this folder, which stands in the table of formats."""

    def __call__(self, judged: Judged, look: Presentation) -> Iterator[str]:
        """Yield the report in pieces of text, each to be followed by a newline.

        ``judged`` is a ``Report`` (what an inspection found), a ``Coverage`` (what a load restored), or a ``Gated``
        (both, of one checkpoint). Where it passes or fails it says so itself: a reporter puts that into words, and
        decides nothing. Whatever comes from a checkpoint must go through ``escape.printable``, since its author chose
        it. Of ``look``, what does not fit the format is left aside. Raises nothing for any report.
        """
