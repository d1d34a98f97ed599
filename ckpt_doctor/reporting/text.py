"""The report that a person reads: short where all is well, one block a finding where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.core.wording import byte_size, counted, healthy, scaled, shell

from . import fixes
from .escape import printable, shortened
from .presentation import Presentation
from .prose import command_lines, joined, wrapped


def lines(report: Report, look: Presentation) -> Iterator[str]:
    """The whole report, line by line. With ``quiet``, nothing where there is nothing to say."""
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
            column = max(len(finding.severity.value) for finding in diagnosis.findings)
            for finding in diagnosis.findings:
                yield from finding_lines(finding, column, look)
        previous = diagnosis


def _unread(report: Report, look: Presentation) -> Iterator[str]:
    """What belongs to no checkpoint and was not read; what lies beside one is a finding of that."""
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


def contents(checkpoint: Checkpoint) -> list[str]:
    """What lies there in numbers: files, tensors, parameters, bytes."""
    totals = checkpoint.totals
    if not checkpoint.files:
        return ["no weight files"]
    if not totals.tensors and checkpoint.not_judged:
        return [counted(len(checkpoint.files), "file"), byte_size(sum(file.nbytes for file in checkpoint.files))]
    size = byte_size(totals.nbytes)
    if totals.unique_nbytes < totals.nbytes:
        size += f" ({byte_size(totals.unique_nbytes)} unique)"
    tensors = counted(totals.tensors, "tensor")
    return [counted(len(checkpoint.files), "file"), tensors, f"{scaled(totals.parameters)} parameters", size]


def finding_lines(finding: Finding, column: int, look: Presentation) -> Iterator[str]:
    """One finding as a block; ``column`` is the width of the severities, so that titles stand below each other."""
    indent = " " * (2 + column + 2)
    severity = look.paint_severity(finding.severity.value.ljust(column), finding.severity)
    title = f"{finding.code} {finding.name}"
    line = f"  {severity}  {look.paint(title, 'bold')}"
    path = printable(finding.path or "")
    if path and len(indent) + len(title) + 2 + len(path) <= look.width:
        yield f"{line}  {path}"
    else:
        yield line
        if path:
            yield indent + path
    for part in wrapped(shortened(printable(finding.message)), look.width - len(indent)):
        yield indent + part
    if finding.fix is not None:
        command = fixes.typed(finding.fix, look)
        if command is not None:
            lines = command_lines(fixes.lead(finding.fix), command, look.width - len(indent))
        else:
            lines = wrapped(fixes.in_words(finding.fix, look), look.width - len(indent))
        for part in lines:
            yield indent + part


def _summary(report: Report, look: Presentation) -> list[str]:
    pieces = []
    if len(report.diagnoses) > 1 and not (look.quiet and not report.findings):
        sound = [diagnosis for diagnosis in report.diagnoses if diagnosis.healthy]
        pieces.append(counted(len(report.diagnoses), "checkpoint"))
        if sound:
            number = "all" if len(sound) == len(report.diagnoses) else f"{len(sound):,}"
            deep = all(diagnosis.deep for diagnosis in sound)
            pieces.append(look.paint(f"{number} {healthy(deep=deep)}", "green"))
    for severity in Severity:
        count = report.number_of(severity)
        if count:
            pieces.append(look.paint_severity(counted(count, severity.value), severity))
    fixable = _fixable(report, look.width) if "fix" in look.commands else ()
    return joined([*pieces, *fixable], look.separator, look.width)


def _fixable(report: Report, width: int) -> Iterator[str]:
    safe = [diagnosis for diagnosis in report.diagnoses for item in diagnosis.findings if _fix(item) == "safe"]
    unsafe = sum(_fix(item) == "unsafe" for item in report.findings)
    if safe:
        paths = {diagnosis.checkpoint.path for diagnosis in safe}
        options = fixes.shared_options(item.fix for item in report.findings if item.fix and _fix(item) == "safe")
        exact = f"{len(safe):,} fixable with `{printable(shell('fix', *paths, *options))}`"
        fits = len(paths) == 1 and len(exact) <= width
        yield exact if fits else f"{len(safe):,} fixable with `ckpt-doctor fix PATH`"
    if unsafe:
        yield f"{unsafe:,} {'more ' if safe else 'fixable '}with --unsafe-fixes"


def _fix(finding: Finding) -> str | None:
    return None if finding.fix is None else finding.fix.safety
