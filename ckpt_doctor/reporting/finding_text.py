"""A finding, its fix and what a checkpoint holds, in the words that several reports share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Fix
from ckpt_doctor.core.wording import byte_size, counted, scaled

from .escape import printable, shortened
from .presentation import Presentation
from .prose import command_lines, wrapped


def finding_lines(findings: Iterable[Finding], look: Presentation) -> Iterator[str]:
    """The findings, a block for each; their titles stand below each other."""
    findings = tuple(findings)
    column = max((len(finding.severity.value) for finding in findings), default=0)
    for finding in findings:
        yield from _block(finding, column, look)


def _block(finding: Finding, column: int, look: Presentation) -> Iterator[str]:
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
        for part in command_lines(fix_lead(finding.fix), printable(finding.fix.command), look.width - len(indent)):
            yield indent + part


def fix_lead(fix: Fix) -> str:
    """What stands in front of the command of a fix."""
    return "fix:" if fix.safety == "safe" else "unsafe fix:"


def fix_line(fix: Fix) -> str:
    """The fix on one line: what to type."""
    return f"{fix_lead(fix)} {printable(fix.command)}"


def contents(checkpoint: Checkpoint) -> list[str]:
    """What a checkpoint holds in numbers: files, tensors, parameters, bytes."""
    totals = checkpoint.totals
    if not checkpoint.files:
        return ["no weight files"]
    if not totals.tensor_count and checkpoint.not_judged:
        return [counted(len(checkpoint.files), "file"), byte_size(sum(file.nbytes for file in checkpoint.files))]
    size = byte_size(totals.nbytes)
    if totals.unique_nbytes < totals.nbytes:
        size += f" ({byte_size(totals.unique_nbytes)} unique)"
    tensors = counted(totals.tensor_count, "tensor")
    return [counted(len(checkpoint.files), "file"), tensors, f"{scaled(totals.parameters)} parameters", size]
