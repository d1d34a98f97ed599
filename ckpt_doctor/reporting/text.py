"""The report that a person reads: short where all is well, one block a finding where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.core.wording import byte_size, counted, healthy

from .escape import printable
from .finding_text import contents, finding_lines
from .presentation import Presentation
from .prose import joined, wrapped

if TYPE_CHECKING:
    from ckpt_doctor.core.judgement import Judged


def lines(judged: Judged, look: Presentation) -> Iterator[str]:
    """The whole report, line by line. With ``quiet``, nothing where there is nothing to say."""
    if isinstance(judged, Report):
        yield from _inspected(judged, look)
        return
    # Imported here because most reports are of an inspection alone.
    from ckpt_doctor.core.coverage import Coverage

    from . import coverage_text

    if isinstance(judged, Coverage):
        yield from coverage_text.lines(judged, look)
        return
    yield from _inspected(judged.report, look)
    if judged.coverage is not None:
        if not (look.quiet and judged.coverage.complete):
            yield ""
        yield from coverage_text.lines(judged.coverage, look)


def _inspected(report: Report, look: Presentation) -> Iterator[str]:
    body = _statistics(report, look) if look.statistics else chain(_checkpoints(report, look), _unread(report, look))
    summary = _summary(report, look)
    written = False
    for line in body:
        written = True
        yield line
    if written and summary:
        yield ""
    yield from summary


def _statistics(report: Report, look: Presentation) -> Iterator[str]:
    from .statistics import table

    yield from table(report.findings, look)


def _checkpoints(report: Report, look: Presentation) -> Iterator[str]:
    previous: Diagnosis | None = None
    for diagnosis in report.diagnoses:
        if look.quiet and not diagnosis.findings:
            continue
        # Healthy checkpoints stand line below line; a block of findings gets room.
        if previous is not None and (previous.findings or diagnosis.findings):
            yield ""
        yield from _header(diagnosis, look)
        if diagnosis.findings:
            yield ""
            yield from finding_lines(diagnosis.findings, look)
        previous = diagnosis


def _unread(report: Report, look: Presentation) -> Iterator[str]:
    """What belongs to no checkpoint and was not read; what is next to one is a finding of that."""
    items = report.unread
    if not items or look.quiet:
        return
    yield ""
    yield look.paint("not judged", "bold")
    for item in items[:_MOST_UNREAD]:
        number = f"{counted(item.files, 'file')}, " if item.files > 1 else ""
        size = f"{byte_size(item.nbytes)}, " if item.nbytes else ""
        text = f"{printable(item.path)}: {item.kind}, {number}{size}{printable(item.reason)}"
        first, *others = wrapped(text, look.width - 4)
        yield f"  {first}"
        yield from (f"    {line}" for line in others)
    if len(items) > _MOST_UNREAD:
        yield f"  and {len(items) - _MOST_UNREAD:,} more: --output-format json names all"


_MOST_UNREAD = 10


def _header(diagnosis: Diagnosis, look: Presentation) -> Iterator[str]:
    """What lies there, on one line, with less detail where the line is too long; two lines if the path is."""
    checkpoint = diagnosis.checkpoint
    path = printable(checkpoint.path)
    variant = printable(checkpoint.variant or checkpoint.layout)
    verdict = "" if diagnosis.findings else f"   {healthy(deep=diagnosis.deep)}"
    if not diagnosis.judged:
        verdict = "   not judged"
    room = look.width - len(path) - len(look.separator) - len(verdict)
    totals = contents(checkpoint)
    for details in (totals, totals[1:2] + totals[3:], totals[3:], []):
        line = look.separator.join([variant, *([", ".join(details)] if details else [])])
        if len(line) <= room:
            yield look.paint(path, "bold") + look.separator + line + look.paint(verdict, "green")
            return
    yield look.paint(path, "bold")
    *first, last = joined([variant, ", ".join(totals)], look.separator, look.width - 2 - len(verdict))
    for line in first:
        yield f"  {line}"
    yield f"  {last}{look.paint(verdict, 'green')}"


def _summary(report: Report, look: Presentation) -> list[str]:
    pieces = []
    if len(report.diagnoses) > 1 and not (look.quiet and not report.findings):
        sound = report.sound
        pieces.append(counted(len(report.diagnoses), "checkpoint"))
        if sound:
            number = "all" if len(sound) == len(report.diagnoses) else f"{len(sound):,}"
            deep = all(diagnosis.deep for diagnosis in sound)
            pieces.append(look.paint(f"{number} {healthy(deep=deep)}", "green"))
    for severity in Severity:
        count = report.number_of(severity)
        if count:
            pieces.append(look.paint_severity(counted(count, severity.value), severity))
    return joined([*pieces, *_fixable(report, look.width)], look.separator, look.width)


def _fixable(report: Report, width: int) -> Iterator[str]:
    safe, unsafe = len(report.fixes("safe")), len(report.fixes("unsafe"))
    if safe:
        exact = f"{safe:,} fixable with `{printable(report.fix_command or '')}`"
        fits = report.fix_command is not None and len(exact) <= width
        yield exact if fits else f"{safe:,} fixable with `ckpt-doctor fix PATH`"
    if unsafe:
        yield f"{unsafe:,} {'more ' if safe else 'fixable '}with --unsafe-fixes"
