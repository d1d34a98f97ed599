"""What was judged, in the words that the formats for programs and for pull requests share."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.core.coverage import Component, Coverage
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.judgement import Judged, Judgement, judgements, severity_counts, summed
from ckpt_doctor.core.results import Diagnosis
from ckpt_doctor.core.wording import counted, healthy

from .finding_text import contents


class Section(NamedTuple):
    """One judgement, in words.

    ``root`` is the place of the checkpoint as seen from the working directory; paths of findings are below it. ``kind``
    and ``contents`` say in a few words what was judged. ``sound`` is the word for one that nothing is wrong with; it
    promises no more than was read.
    """

    judgement: Judgement
    root: str
    kind: str
    contents: str
    sound: str

    @property
    def path(self) -> str:
        """The checkpoint as it is shown."""
        return self.judgement.path

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is reported of it."""
        return self.judgement.findings

    @property
    def components(self) -> tuple[Component, ...]:
        """The parts of the model, if a load was judged."""
        return self.judgement.components

    @property
    def verdict(self) -> str:
        """How many findings of which severity there are, or that there are none."""
        return ", ".join([*([] if self.judgement.judged else ["not judged"]), *_counts(self.findings)]) or self.sound

    def file(self, finding: Finding) -> str:
        """The file that is meant, as seen from the working directory; the checkpoint where no file is."""
        path = posixpath.normpath(finding.path or ".")
        # A lone file is the checkpoint itself. A name that leads out of the checkpoint is no file of it.
        if self.judgement.grain == "file" or path == "." or path.startswith(("../", "/")) or path == "..":
            return self.root
        return path if self.root == "." else f"{self.root}/{path}"


def sections(judged: Judged) -> list[Section]:
    """A section for each judgement, in their order."""
    return [_section(judgement) for judgement in judgements(judged)]


def all_findings(parts: Iterable[Section]) -> Iterator[Finding]:
    """The findings of all sections, in their order."""
    return (finding for part in parts for finding in part.findings)


def summary(parts: Sequence[Section], separator: str) -> str:
    """How many checkpoints there are, how many of them are sound, and how many findings of which severity."""
    sums = summed(part.judgement for part in parts)
    pieces = [counted(sums.checkpoints, "checkpoint")]
    if sums.healthy:
        pieces.append(f"{sums.healthy:,} {_COMPLETE if sums.deep is None else healthy(deep=sums.deep)}")
    pieces += [f"load {'' if complete else 'not '}{_COMPLETE}" for complete in sums.loads]
    return separator.join([*pieces, *_worded(sums.counts)])


_COMPLETE = "complete"


def _counts(findings: Iterable[Finding]) -> list[str]:
    return _worded(severity_counts(findings))


def _worded(counts: Iterable[tuple[Severity, int]]) -> list[str]:
    return [counted(number, severity.value) for severity, number in counts]


def _section(judgement: Judgement) -> Section:
    subject = judgement.subject
    words = _inspected(subject) if isinstance(subject, Diagnosis) else _loaded(subject)
    return Section(judgement, _seen_from_here(judgement.root), *words)


def _inspected(diagnosis: Diagnosis) -> tuple[str, str, str]:
    checkpoint = diagnosis.checkpoint
    kind = checkpoint.variant or checkpoint.layout
    return kind, ", ".join(contents(checkpoint)), healthy(deep=diagnosis.deep)


def _loaded(coverage: Coverage) -> tuple[str, str, str]:
    kind = f"{'keys compared' if coverage.mode == 'keys' else 'loaded'} by {coverage.loaded_by}"
    return kind, f"{coverage.restored:,} of {counted(coverage.expected, 'tensor')} restored", _COMPLETE


def _seen_from_here(path: str) -> str:
    """``path`` relative to the working directory if it lies below that, and else absolute; with ``/``."""
    absolute = os.path.abspath(path)
    try:
        relative = os.path.relpath(absolute)
    except ValueError:
        relative = os.pardir  # another drive
    return Path(absolute if os.pardir in Path(relative).parts else relative).as_posix()
