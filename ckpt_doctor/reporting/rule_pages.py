"""The rules, as a table, as a document, and one by one with their documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckpt_doctor.core.envelope import envelope
from ckpt_doctor.core.results import RuleInfo

from .markdown_text import rendered
from .presentation import Presentation


def page(rule: RuleInfo, look: Presentation) -> Iterator[str]:
    """What ``explain`` shows of one rule, line by line."""
    yield look.paint(f"{rule.code} {rule.name}", "bold")
    fix = {"none": "no automatic fix", "safe": "safe fix", "unsafe": "unsafe fix"}.get(rule.fix, rule.fix)
    yield look.separator.join([look.paint_severity(rule.severity.value, rule.severity), f"reads {rule.needs}", fix])
    yield ""
    yield from rendered(rule.documentation, look)


def pages(rules: Iterable[RuleInfo], look: Presentation) -> Iterator[str]:
    """All pages, with a rule between them."""
    for number, rule in enumerate(rules):
        if number:
            yield from ("", ("-" if look.ascii_only else "─") * look.width, "")
        yield from page(rule, look)


def table(rules: Iterable[RuleInfo], look: Presentation) -> Iterator[str]:
    """What ``rules`` shows, line by line."""
    from tabulate import tabulate

    cells = [
        (
            rule.code,
            rule.name,
            look.paint_severity(rule.severity.value, rule.severity),
            "" if rule.fix == "none" else rule.fix,
            _short(rule.needs),
        )
        for rule in rules
    ]
    yield from tabulate(cells, headers=("code", "name", "severity", "fix", "needs"), disable_numparse=True).splitlines()


def _short(needs: str) -> str:
    """What a rule reads, in a column that leaves the table room on a terminal of 80."""
    return needs.replace(", and ", ", ").removesuffix(" to compare").replace("tensor bytes", "values")


def document(rules: Iterable[RuleInfo]) -> str:
    """What ``rules --output-format json`` shows: version 1."""
    import json

    return json.dumps(
        {
            **envelope(),
            "rules": [
                {
                    "code": rule.code,
                    "name": rule.name,
                    "severity": rule.severity.value,
                    "fix": rule.fix,
                    "needs": rule.needs,
                    "summary": rule.summary,
                    "documentation": rule.documentation,
                }
                for rule in rules
            ],
        },
        indent=2,
    )
