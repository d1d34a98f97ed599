"""The verdict on each checkpoint, by an inspection or a load; both answer the same questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from .coverage import Component, Coverage
from .findings import FailOn, Finding, Severity
from .layout import Grain
from .nothing import NOTHING
from .results import Diagnosis, Report


class Gated(NamedTuple):
    """The results of a gate for one checkpoint: the inspection, and the load if one was requested.

    ``additions`` are what its JSON document has besides that of the report.
    """

    report: Report
    coverage: Coverage | None = None
    additions: Mapping[str, Any] = NOTHING


Judged: TypeAlias = Report | Coverage | Gated
"""The results of a run, as commands hand it to a reporter."""


Subject: TypeAlias = Diagnosis | Coverage
"""An inspection or a load; both have ``path``, ``root``, ``layout``, ``grain``, ``deep`` and ``components``."""


class Judgement(NamedTuple):
    """One checkpoint, with what is reported of it.

    ``subject`` is what was judged. ``findings`` are those that a report shows. ``judged`` is unset where nothing was
    judged that counts.
    """

    subject: Subject
    findings: tuple[Finding, ...]
    judged: bool = True

    @property
    def path(self) -> str:
        """The checkpoint, or the folder inside it that was asked for, as it is shown."""
        return self.subject.path

    @property
    def root(self) -> str:
        """What the paths of findings are relative to, as it is shown; that of a lone file is the file itself."""
        return self.subject.root or self.path

    @property
    def layout(self) -> str:
        """The name of the checkpoint's kind."""
        return self.subject.layout

    @property
    def grain(self) -> Grain:
        """True if the checkpoint is one file."""
        return self.subject.grain

    @property
    def deep(self) -> bool | None:
        """True if an inspection read the values; ``None`` for a load."""
        return self.subject.deep

    @property
    def components(self) -> tuple[Component, ...]:
        """The parts of the model, for a load."""
        return self.subject.components

    @property
    def healthy(self) -> bool:
        """True if it was judged, and no error is left after all settings."""
        return self.judged and all(finding.severity is not Severity.ERROR for finding in self.findings)

    def failing(self, fail_on: FailOn) -> tuple[Finding, ...]:
        """The findings that make a run fail under this ``--fail-on``."""
        return tuple(finding for finding in self.findings if finding.fails(fail_on))

    def passes(self, fail_on: FailOn) -> bool:
        """True if it was judged, and nothing is at or above this ``--fail-on``."""
        return self.judged and not self.failing(fail_on)


class Summary(NamedTuple):
    """The sums over all judgements.

    Of the ``checkpoints`` that many are ``healthy``; ``deep`` says that the values of all these were read, and is
    ``None`` if only a load was judged. ``loads`` says of each load that was judged beside an inspection whether it
    is complete. ``counts`` are the numbers of findings of each severity, those that are 0 left out.
    """

    checkpoints: int
    healthy: int
    deep: bool | None
    loads: tuple[bool, ...]
    counts: tuple[tuple[Severity, int], ...]


def judgements(judged: Judged) -> tuple[Judgement, ...]:
    """What was judged, one by one, in the order of their paths; a load comes last."""
    if isinstance(judged, Coverage):
        return (Judgement(judged, judged.told),)
    if isinstance(judged, Report):
        return tuple(Judgement(item, item.findings, item.judged or judged.excuses(item)) for item in judged.diagnoses)
    return tuple(item for part in (judged.report, judged.coverage) if part is not None for item in judgements(part))


def summed(items: Iterable[Judgement]) -> Summary:
    """The sums over what was judged."""
    everything = tuple(items)
    inspected = [item for item in everything if item.deep is not None]
    checkpoints = inspected or everything
    healthy = [item for item in checkpoints if item.healthy]
    return Summary(
        len(checkpoints),
        len(healthy),
        # Of several, each says what was read of it; the sum says what was read of all.
        all(item.deep for item in healthy) if inspected else None,
        # Of one that was inspected and loaded, the load counts for itself.
        tuple(item.healthy for item in everything if item.deep is None) if inspected else (),
        tuple(severity_counts(finding for item in everything for finding in item.findings)),
    )


def severity_counts(findings: Iterable[Finding]) -> Iterator[tuple[Severity, int]]:
    """How many findings of each severity there are, the worst first; nothing for those of which there are none."""
    found = tuple(findings)
    for severity in Severity:
        number = sum(finding.severity is severity for finding in found)
        if number:
            yield severity, number
