"""How often each rule reported something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ckpt_doctor.core.findings import Finding, Severity

from .presentation import Presentation


class RuleCount(NamedTuple):
    """Findings of one rule at one severity: how many, and how many of them offer a fix, safe or not."""

    code: str
    name: str
    severity: Severity
    findings: int
    fixable: int


def counts(findings: Iterable[Finding]) -> list[RuleCount]:
    """The rules that reported something, the most frequent first."""
    rows: dict[tuple[str, Severity], RuleCount] = {}
    for finding in findings:
        key = finding.code, finding.severity
        row = rows.get(key) or RuleCount(finding.code, finding.name, finding.severity, 0, 0)
        rows[key] = row._replace(findings=row.findings + 1, fixable=row.fixable + (finding.fix is not None))
    return sorted(rows.values(), key=lambda row: (-row.findings, row.code, row.severity.rank))


def documents(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The counts as documents show them."""
    return [
        {
            "code": row.code,
            "name": row.name,
            "severity": row.severity.value,
            "count": row.findings,
            "fixable": row.fixable,
        }
        for row in counts(findings)
    ]


def table(findings: Iterable[Finding], look: Presentation) -> Iterator[str]:
    """The counts for people, line by line; nothing where nothing was found."""
    rows = counts(findings)
    if not rows:
        return
    # tabulate costs as much as everything else at start-up, so only those pay who want a table.
    from tabulate import tabulate

    cells = [
        (
            f"{row.findings:,}",
            row.code,
            row.name,
            look.paint_severity(row.severity.value, row.severity),
            f"{row.fixable:,}",
        )
        for row in rows
    ]
    text = tabulate(
        cells,
        headers=("count", "code", "name", "severity", "fixable"),
        disable_numparse=True,
        colalign=("right", "left", "left", "left", "right"),
    )
    yield from text.splitlines()
