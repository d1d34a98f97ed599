"""The expectations of the user: which format, which rules, how severe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from .findings import FailOn, Finding, Severity
from .layout import Expectation

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .layout import Layout
    from .path_ignores import PathIgnore

EXPECTATIONS: tuple[Expectation, ...] = ("safetensors", "bin", "any")
"""Values of ``--expect``."""

FAIL_ON: tuple[FailOn, ...] = ("error", "warning", "note", "never")
"""Values of ``--fail-on``."""


class Policy(NamedTuple):
    """Immutable settings of one run.

    ``expect`` and ``layout`` are ``None`` if the layout decides. ``select`` and ``ignore`` hold codes, code prefixes
    or rule names; an empty ``select`` means every rule. ``per_path_ignores`` are further rules to leave out,
    each where a path fits, and ``layouts`` are those that a team has defined.
    """

    expect: Expectation | None = None
    layout: str | None = None
    deep: bool = False
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: FailOn = "error"
    severity: Mapping[str, Severity] = {}
    per_path_ignores: tuple[PathIgnore, ...] = ()
    layouts: tuple[Layout, ...] = ()

    def expected_format(self, kind: Layout) -> Expectation:
        """The format that the weights of a checkpoint of this kind should have."""
        return self.expect if self.expect is not None else kind.expects

    def runs(self, code: str, name: str) -> bool:
        """True if the rule of this code and name is to run."""
        if is_chosen(self.ignore, code, name):
            return False
        return not self.select or is_chosen(self.select, code, name)

    @property
    def silences(self) -> bool:
        """True if findings may be missing, or fail nothing, that would count without settings."""
        choices = (self.select, self.ignore, self.severity, self.per_path_ignores)
        return any(choices) or self.fail_on == "never"

    def adjusted(self, finding: Finding) -> Finding:
        """The finding with the severity that the user gave its rule, if any; what was not judged stays as it is."""
        severity = self.severity.get(finding.code, self.severity.get(finding.name))
        return finding if severity is None or finding.always_fails else finding._replace(severity=severity)

    def ignores(self, finding: Finding, checkpoint: Checkpoint) -> bool:
        """True if the finding is to be left out because of where it was made."""
        return any(
            is_chosen(item.rules, finding.code, finding.name) and item.covers(checkpoint, finding.path)
            for item in self.per_path_ignores
        )


def is_chosen(choices: Iterable[str], code: str, name: str) -> bool:
    """True if one of the codes, code prefixes and names means the rule of this code and name."""
    return any(choice == name or code.startswith(choice.upper()) for choice in choices)
