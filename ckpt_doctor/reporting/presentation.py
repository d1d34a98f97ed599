"""How a report for people looks: width, colours, and which of its parts are wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ckpt_doctor.core.findings import FailOn, Severity

if TYPE_CHECKING:
    from ckpt_doctor.core.results import RuleInfo

_SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_SEVERITY_STYLES = {Severity.ERROR: ("bold", "red"), Severity.WARNING: ("bold", "yellow"), Severity.NOTE: ("cyan",)}


def _undocumented(code: str) -> RuleInfo | None:
    return None


class Presentation(NamedTuple):
    """Settings of one report. ``width`` counts columns; ``ascii_only`` is for streams that cannot encode more.

    ``quiet`` leaves out what is healthy, ``statistics`` shows counts by rule instead of the findings; in documents
    for programs nothing is left out, and the counts stand beside the findings. ``fail_on`` says which findings make a
    report a failure. ``rule`` looks up the rule of a code, for the formats that explain what they report;
    ``None`` if there is none.
    """

    width: int = 80
    colour: bool = False
    ascii_only: bool = False
    quiet: bool = False
    statistics: bool = False
    fail_on: FailOn = "error"
    rule: Callable[[str], RuleInfo | None] = _undocumented

    @property
    def separator(self) -> str:
        """The part between the pieces of a header or a summary."""
        return " - " if self.ascii_only else " · "

    def paint(self, text: str, *styles: str) -> str:
        """``text`` in these styles, or as it is where colours are off."""
        if not self.colour or not text:
            return text
        return f"\x1b[{';'.join(_SGR[style] for style in styles)}m{text}\x1b[0m"

    def paint_severity(self, text: str, severity: Severity) -> str:
        """``text`` in the colour of this severity."""
        return self.paint(text, *_SEVERITY_STYLES[severity])
