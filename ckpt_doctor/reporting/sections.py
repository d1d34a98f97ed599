"""What the formats for programs and for pull requests share: checkpoints with findings, however they were judged."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.core.coverage import Component, Coverage
from ckpt_doctor.core.findings import MAX_TENSORS, Finding, Severity
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.core.wording import counted
from ckpt_doctor.core.wording import healthy as word_for_healthy

from .text import contents

Judged = Report | Coverage | tuple[Report, Coverage]
"""What an inspection said, or what a load restored, or both of one checkpoint."""


class Section(NamedTuple):
    """One checkpoint. ``root`` is its place as seen from the working directory; paths of findings are below it.

    ``kind`` and ``contents`` say in a few words what was judged. ``sound`` is the word for one that nothing is wrong
    with; it promises no more than was read. ``deep`` says whether an inspection read the values, and is ``None`` for a
    load. ``components`` is empty unless a load was judged. ``lone`` marks a checkpoint that is a single file.
    """

    path: str
    root: str
    layout: str
    kind: str
    contents: str
    sound: str
    findings: tuple[Finding, ...]
    components: tuple[Component, ...] = ()
    deep: bool | None = None
    judged: bool = True
    lone: bool = False

    @property
    def healthy(self) -> bool:
        """Whether it was judged, and no error is left after all settings."""
        return self.judged and all(finding.severity is not Severity.ERROR for finding in self.findings)

    @property
    def verdict(self) -> str:
        """How many findings of which severity there are, or that there are none."""
        return ", ".join([*([] if self.judged else ["not judged"]), *_counts(self.findings)]) or self.sound

    def file(self, finding: Finding) -> str:
        """The file that is meant, as seen from the working directory; the checkpoint where no file is."""
        path = posixpath.normpath(finding.path or ".")
        # A lone file is the checkpoint itself. A name that leads out of the checkpoint is nobody's file.
        if self.lone or path == "." or path.startswith(("../", "/")) or path == "..":
            return self.root
        return path if self.root == "." else f"{self.root}/{path}"

    def passes(self, fail_on: str) -> bool:
        """Whether it was judged, and nothing is at or above this ``--fail-on``."""
        return self.judged and not any(finding.fails(fail_on) for finding in self.findings)


def sections(judged: Judged) -> list[Section]:
    """The checkpoints of a report, or the one whose load was judged; the load comes last."""
    if isinstance(judged, Coverage):
        return [_loaded(judged)]
    if isinstance(judged, Report):
        # Where something else was judged at the same path, what could not be judged fails nothing.
        return [_inspected(diagnosis, strict=bool(judged.unjudged)) for diagnosis in judged.diagnoses]
    return [section for part in judged for section in sections(part)]


def all_findings(parts: Iterable[Section]) -> Iterator[Finding]:
    """The findings of all sections, in their order."""
    return (finding for part in parts for finding in part.findings)


def summary(parts: Sequence[Section], separator: str) -> str:
    """How many checkpoints there are, how many of them are sound, and how many findings of which severity."""
    inspected = [part for part in parts if part.deep is not None]
    checkpoints = inspected or parts
    pieces = [counted(len(checkpoints), "checkpoint")]
    # Of several, each says what was read of it; the sum says what was read of all.
    sound = sorted((part for part in checkpoints if part.healthy), key=lambda part: bool(part.deep))
    if sound:
        pieces.append(f"{len(sound):,} {sound[0].sound}")
    if inspected:
        # Of one that was inspected and loaded, the load counts for itself.
        pieces += [f"load {'' if part.healthy else 'not '}{part.sound}" for part in parts if part.deep is None]
    return separator.join([*pieces, *_counts(tuple(all_findings(parts)))])


def _counts(findings: tuple[Finding, ...]) -> list[str]:
    numbers = [(sum(finding.severity is severity for finding in findings), severity) for severity in Severity]
    return [counted(number, severity.value) for number, severity in numbers if number]


def _inspected(diagnosis: Diagnosis, *, strict: bool) -> Section:
    checkpoint = diagnosis.checkpoint
    return Section(
        path=checkpoint.path,
        root=_seen_from_here(checkpoint.path),
        layout=checkpoint.layout,
        kind=checkpoint.variant or checkpoint.layout,
        contents=", ".join(contents(checkpoint)),
        sound=word_for_healthy(deep=diagnosis.deep),
        findings=diagnosis.findings,
        deep=diagnosis.deep,
        judged=diagnosis.judged or not strict,
        lone=checkpoint.kind.grain == "file",
    )


def _loaded(coverage: Coverage) -> Section:
    findings = coverage.findings
    if not coverage.complete and all(finding.severity is not Severity.ERROR for finding in findings):
        findings = (_incomplete(coverage), *findings)
    return Section(
        path=coverage.path,
        root=_seen_from_here(coverage.root or coverage.path),
        layout=coverage.layout,
        kind=f"{'keys compared' if coverage.mode == 'keys' else 'loaded'} by {coverage.loaded_by}",
        contents=f"{coverage.restored:,} of {counted(coverage.expected, 'tensor')} restored",
        sound="complete",
        findings=findings,
        components=coverage.components,
        lone=coverage.lone,
    )


def _incomplete(coverage: Coverage) -> Finding:
    """What stands for a load that is not complete where no rule found an error: it must not look like a success."""
    absent = [tensor.name for tensor in coverage.not_restored()]
    message = f"{counted(len(absent), 'tensor')} of {coverage.expected:,} did not arrive."
    if coverage.arrived:
        message = f"All tensors arrived, but the forward pass could not be judged: {coverage.unjudged}."
    return Finding(
        "CKD001",
        "tensor-not-restored",
        Severity.ERROR,
        message if absent else "There were no tensors that could have arrived.",
        tensors=tuple(absent[:MAX_TENSORS]),
        tensor_count=len(absent),
        always_fails=True,
    )


def _seen_from_here(path: str) -> str:
    """``path`` relative to the working directory if it lies below that, and else absolute; with ``/``."""
    absolute = os.path.abspath(path)
    try:
        relative = os.path.relpath(absolute)
    except ValueError:
        relative = os.pardir  # another drive
    return Path(absolute if os.pardir in Path(relative).parts else relative).as_posix()
