"""What the user expects: which format, which rules, how severe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .findings import Finding, Severity

EXPECTATIONS = ("safetensors", "bin", "any")
"""Values of ``--expect``."""

FAIL_ON = ("error", "warning", "note", "never")
"""Values of ``--fail-on``."""


class Policy(NamedTuple):
    """Immutable settings of one run.

    ``expect`` and ``layout`` are ``None`` where the layout decides. ``select`` and ``ignore`` hold codes, code prefixes
    or rule names; an empty ``select`` means every stable rule.
    """

    expect: str | None = None
    layout: str | None = None
    deep: bool = False
    preview: bool = False
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str = "error"
    severity: Mapping[str, Severity] = {}

    def expected_format(self, layout: str) -> str:
        """``safetensors``, ``bin`` or ``any``: what the weights of a checkpoint of this layout should be."""
        if self.expect is not None:
            return self.expect
        return "safetensors" if layout in ("weaver", "trigger") else "any"

    def runs(self, code: str, name: str, *, stable: bool) -> bool:
        """Whether the rule of this code and name is to run."""
        if any(_matches(choice, code, name) for choice in self.ignore):
            return False
        if self.select:
            return any(_matches(choice, code, name) for choice in self.select) and (stable or self.preview)
        return stable or self.preview

    def adjusted(self, finding: Finding) -> Finding:
        """The finding with the severity that the user gave its rule, if any."""
        severity = self.severity.get(finding.code, self.severity.get(finding.name))
        return finding if severity is None else finding._replace(severity=severity)


def _matches(choice: str, code: str, name: str) -> bool:
    return choice == name or code.startswith(choice.upper())
