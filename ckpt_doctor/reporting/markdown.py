"""The report for a pull request or a step's summary, in GitHub's Markdown.

Each piece ends what it begins: whoever has room for a part of the report can cut it between any two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.judgement import Judged

from .escape import printable, shortened
from .finding_text import fix_lead
from .markdown_escape import cell, code, prose, prose_cell
from .presentation import Presentation
from .sections import Section, all_findings, sections, summary

_NAMES = 5


def lines(judged: Judged, look: Presentation) -> Iterator[str]:
    """The verdict, a table of the checkpoints, and what was found in each.

    ``quiet`` leaves out the checkpoints with nothing to report; ``statistics`` shows counts instead of findings.
    """
    parts = sections(judged)
    yield from _title(parts, look)
    shown = [part for part in parts if part.findings] if look.quiet else parts
    if shown:
        rows = ([cell(part.path), prose_cell(part.kind), prose_cell(part.contents), part.verdict] for part in shown)
        yield from _table(("checkpoint", "kind", "contents", "found"), rows)
    for part in shown:
        if part.components:
            yield from _components(part)
    if look.statistics:
        yield from _statistics(parts)
        return
    for part in shown:
        if part.findings:
            yield f"### {code(part.path)}\n"
            for finding in part.findings:
                yield "\n".join(_finding(finding)) + "\n"


def _title(parts: Sequence[Section], look: Presentation) -> Iterator[str]:
    passed = all(part.judgement.passes(look.fail_on) for part in parts)
    mark = "" if look.ascii_only else f"{'✅' if passed else '❌'} "
    yield f"## {mark}ckpt-doctor: {'passed' if passed else 'failed'}\n"
    rule = [] if look.fail_on == "error" else [code(f"--fail-on {look.fail_on}")]
    yield look.separator.join([summary(parts, look.separator), *rule]) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> Iterator[str]:
    """A table, a row a piece; the last columns hold ``numbers``."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * (len(head) - numbers)}{'--:|' * numbers}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _components(part: Section) -> Iterator[str]:
    rows = [[prose_cell(item.name), f"{item.restored:,}", f"{item.expected:,}"] for item in part.components]
    total = (sum(item.restored for item in part.components), sum(item.expected for item in part.components))
    yield from _table(("component", "restored", "expected"), [*rows, ["total", *(f"{n:,}" for n in total)]], numbers=2)


def _statistics(parts: Sequence[Section]) -> Iterator[str]:
    from .statistics import counts

    rows = [
        [row.code, row.name, row.severity.value, f"{row.findings:,}", f"{row.fixable:,}"]
        for row in counts(all_findings(parts))
    ]
    if rows:
        yield from _table(("code", "name", "severity", "count", "fixable"), rows, numbers=2)


def _finding(finding: Finding) -> Iterator[str]:
    """An item of a list, with its lines set in below the first."""
    place = "" if finding.path is None else f" in {code(finding.path)}"
    texts = [f"**{finding.severity.value}** {code(f'{finding.code} {finding.name}')}{place}"]
    texts.append(prose(shortened(finding.message)))
    if finding.tensors:
        rest = finding.tensor_count - len(finding.tensors[:_NAMES])
        more = f" and {rest:,} more" if rest > 0 else ""
        texts.append("tensors: " + ", ".join(map(code, finding.tensors[:_NAMES])) + more)
    if finding.fix is not None:
        texts.append(fix_lead(finding.fix))
    yield "- " + "\\\n  ".join(texts)
    if finding.fix is not None:
        yield from ("  ```sh", f"  {printable(finding.fix.command)}", "  ```")
