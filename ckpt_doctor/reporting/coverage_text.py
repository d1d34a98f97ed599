"""Load coverage as a person reads it: a table by component, what did not arrive, what is wrong, what was said."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.coverage import NOTHING_ARRIVED, Coverage
from ckpt_doctor.core.wording import counted

from .escape import printable
from .finding_text import finding_lines
from .presentation import Presentation
from .prose import joined, wrapped

_NAMES = 8
_LOG_LINES = 12


def lines(coverage: Coverage, look: Presentation) -> Iterator[str]:
    """The report, line by line. With ``quiet``, nothing where the load is complete."""
    if look.quiet and coverage.complete:
        return
    yield from _title(coverage, look)
    yield from _model(coverage, look)
    yield ""
    for line in coverage.table():
        lost = NOTHING_ARRIVED if line.endswith(NOTHING_ARRIVED) else ""
        yield printable(line.removesuffix(lost)) + look.paint(lost, "red")
    yield from _absent(coverage, look)
    if coverage.findings:
        yield ""
        yield from finding_lines(coverage.findings, look)
    yield from _log(coverage, look)
    yield ""
    yield _verdict(coverage, look)
    if coverage.caveat is not None:
        yield coverage.caveat


def _title(coverage: Coverage, look: Presentation) -> Iterator[str]:
    what = {"load": "load coverage", "keys": "key coverage", "forward": "load coverage"}[coverage.mode]
    pieces = [look.paint(f"{what} of {printable(coverage.path)}", "bold"), f"by {printable(coverage.loaded_by)}"]
    if coverage.model:
        pieces.append(f"into {printable(coverage.model)}")
    yield from joined(pieces, " ", look.width)


def _model(coverage: Coverage, look: Presentation) -> Iterator[str]:
    """Which class the base was built as, and what else the ecosystem's own loader would not have done."""
    said = [*(coverage.model_class.lines() if coverage.model_class is not None else ()), *coverage.departures]
    for text in said:
        for line in wrapped(printable(text), look.width - 2):
            yield look.paint(f"  {line}", "dim")


def _absent(coverage: Coverage, look: Presentation) -> Iterator[str]:
    absent = coverage.not_restored()
    if not absent:
        return
    yield ""
    yield f"not restored ({len(absent):,}):"
    for tensor in absent[:_NAMES]:
        yield f"  {printable(tensor.name)}"
        if tensor.detail:
            for line in wrapped(f"{tensor.status}: {printable(tensor.detail)}", look.width - 4):
                yield look.paint(f"    {line}", "dim")
    if len(absent) > _NAMES:
        yield f"  and {len(absent) - _NAMES:,} more (see --output-format json)"


def _log(coverage: Coverage, look: Presentation) -> Iterator[str]:
    if not coverage.log:
        return
    yield ""
    yield "said while loading:"
    for entry in coverage.log[:_LOG_LINES]:
        for line in wrapped(printable(entry)[:500], look.width - 4):
            yield look.paint(f"  | {line}", "dim")
    if len(coverage.log) > _LOG_LINES:
        yield f"  and {counted(len(coverage.log) - _LOG_LINES, 'more line')}"


def _verdict(coverage: Coverage, look: Presentation) -> str:
    if coverage.outcome == "passed":
        seen = "fits by name and shape" if coverage.mode == "keys" else "arrived"
        return look.paint(f"complete: every tensor {seen}", "green")
    if coverage.outcome == "not judged":
        return look.paint("not judged", "bold", "yellow") + f": the forward pass ({printable(coverage.unjudged or '')})"
    absent = coverage.expected - coverage.restored
    reason = f"{counted(absent, 'tensor')} did not arrive" if absent else counted(coverage.errors, "error")
    return look.paint("not complete", "bold", "red") + f": {reason if coverage.expected else 'no tensors'}"
