"""The words for what a run found: a diagnosis for each checkpoint, and the report over all of them."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from .actions import Safety
from .checkpoint import Checkpoint, Unread
from .findings import FailOn, Finding, Fix, Severity
from .layout import Grain
from .wording import shell

Outcome = Literal["passed", "failed", "not judged"]
"""How a run ends: nothing that fails was found, something was, or nothing was judged."""


class RuleInfo(NamedTuple):
    """What the outside needs to know about a rule; ``documentation`` is Markdown."""

    code: str
    name: str
    severity: Severity
    needs: str
    fix: Safety | Literal["none"]
    summary: str
    documentation: str


class SettingInfo(NamedTuple):
    """One setting: its value as JSON has it (``None`` if it is not set), who set it, and what holds else."""

    key: str
    value: Any
    source: str
    default: str


class Diagnosis(NamedTuple):
    """One checkpoint with its findings, most severe first; ``deep`` says whether its values were read."""

    checkpoint: Checkpoint
    findings: tuple[Finding, ...]
    deep: bool = False

    @property
    def path(self) -> str:
        """The checkpoint, as it is shown."""
        return self.checkpoint.path

    @property
    def root(self) -> str:
        """What the paths of findings are relative to, as it is shown; that of a lone file is the file itself."""
        return self.path

    @property
    def layout(self) -> str:
        """The name of the checkpoint's kind."""
        return self.checkpoint.layout

    @property
    def grain(self) -> Grain:
        """True if the checkpoint is one file."""
        return self.checkpoint.kind.grain

    @property
    def components(self) -> tuple[()]:
        """The parts of a model: an inspection has none."""
        return ()

    @property
    def judged(self) -> bool:
        """True if there was anything to judge: weights of a kind that is read here, or something that is wrong."""
        return self.checkpoint.judged or any(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def healthy(self) -> bool:
        """True if it was judged, and no error is left after all settings."""
        return self.judged and all(finding.severity is not Severity.ERROR for finding in self.findings)


class Report(NamedTuple):
    """The diagnoses of every checkpoint that was found, in the order of their paths.

    ``unread`` is what is or may hold weights and belongs to no checkpoint; ``unjudged`` are the paths that were asked
    for and at which nothing was judged.
    """

    diagnoses: tuple[Diagnosis, ...]
    unread: tuple[Unread, ...] = ()
    unjudged: tuple[str, ...] = ()

    @property
    def not_judged(self) -> tuple[Unread, ...]:
        """Everything that is or may hold weights and was not judged, with paths as they are shown."""
        return (*self.unread, *(item for checkpoint in self.checkpoints for item in _as_shown(checkpoint)))

    @property
    def healthy(self) -> bool:
        """True if every checkpoint is healthy."""
        return all(diagnosis.healthy for diagnosis in self.diagnoses)

    @property
    def sound(self) -> tuple[Diagnosis, ...]:
        """The diagnoses of the healthy checkpoints."""
        return tuple(diagnosis for diagnosis in self.diagnoses if diagnosis.healthy)

    @property
    def deep(self) -> bool:
        """True if the values of every checkpoint were read, and not only headers and configs."""
        return bool(self.diagnoses) and all(diagnosis.deep for diagnosis in self.diagnoses)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The checkpoints that were judged."""
        return tuple(diagnosis.checkpoint for diagnosis in self.diagnoses)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings of all checkpoints."""
        return tuple(finding for diagnosis in self.diagnoses for finding in diagnosis.findings)

    def number_of(self, severity: Severity) -> int:
        """Number of findings of this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def failing(self, fail_on: FailOn) -> Iterator[Finding]:
        """The findings that turn the exit code to 1 under this ``--fail-on``."""
        return (finding for finding in self.findings if finding.fails(fail_on))

    def outcome(self, fail_on: FailOn) -> Outcome:
        """How a run with this report ends. Findings count before checkpoints that could not be judged."""
        if any(self.failing(fail_on)):
            return "failed"
        return "not judged" if self.unjudged else "passed"

    def excuses(self, diagnosis: Diagnosis) -> bool:
        """True if the diagnosis fails nothing though it judged nothing: something else at that path was judged."""
        return not diagnosis.judged and not self.unjudged

    def fixes(self, safety: Safety) -> tuple[tuple[str, Fix], ...]:
        """The fixes of this safety that the findings offer, each with the path of its checkpoint."""
        return tuple(
            (diagnosis.checkpoint.path, finding.fix)
            for diagnosis in self.diagnoses
            for finding in diagnosis.findings
            if finding.fix is not None and finding.fix.safety == safety
        )

    @property
    def fix_command(self) -> str | None:
        """What to type to apply every safe fix; ``None`` if there is none, or if they belong to several checkpoints."""
        safe = self.fixes("safe")
        paths = {path for path, _ in safe}
        if len(paths) != 1:
            return None
        expected = [fix.expect for _, fix in safe if fix.expect is not None]
        deep = any(fix.deep for _, fix in safe)
        options = [*(["--expect", expected[-1]] if expected else []), *(["--deep"] if deep else [])]
        return shell("fix", *paths, *options)

    def to_dict(self) -> dict[str, Any]:
        """The document of ``--output-format json``, version 1, as plain values."""
        from .envelope import envelope  # a report that is read as text needs none

        return {
            **envelope(),
            "deep": self.deep,
            "checkpoints": [_checkpoint_document(diagnosis) for diagnosis in self.diagnoses],
            "not_judged": [unread_document(item) for item in self.not_judged],
            "summary": {
                "checkpoints": len(self.diagnoses),
                "healthy": sum(diagnosis.healthy for diagnosis in self.diagnoses),
                "errors": self.number_of(Severity.ERROR),
                "warnings": self.number_of(Severity.WARNING),
                "notes": self.number_of(Severity.NOTE),
                "fixable": sum(finding.fix is not None for finding in self.findings),
            },
        }

    def to_json(self) -> str:
        """The document of ``--output-format json`` as text."""
        return json.dumps(self.to_dict(), indent=2)


def _checkpoint_document(diagnosis: Diagnosis) -> dict[str, Any]:
    checkpoint = diagnosis.checkpoint
    totals = checkpoint.totals
    return {
        "path": checkpoint.path,
        "layout": checkpoint.layout,
        "variant": checkpoint.variant,
        "healthy": diagnosis.healthy,
        "deep": diagnosis.deep,
        "files": [
            {
                "path": file.path,
                "role": part.role,
                "part": part.name,
                "format": file.format,
                "bytes": file.nbytes,
                "tensors": len(file.tensors),
            }
            for part in checkpoint.parts
            for file in part.files
        ],
        "totals": {
            "tensors": totals.tensor_count,
            "parameters": totals.parameters,
            "bytes": totals.nbytes,
            "unique_bytes": totals.unique_nbytes,
        },
        "not_judged": [unread_document(item) for item in checkpoint.not_judged],
        "findings": [finding_document(finding) for finding in diagnosis.findings],
    }


def unread_document(item: Unread) -> dict[str, Any]:
    """The items that were not judged, as in every JSON document."""
    return {"path": item.path, "kind": item.kind, "bytes": item.nbytes, "files": item.files, "reason": item.reason}


def _as_shown(checkpoint: Checkpoint) -> Iterator[Unread]:
    path = checkpoint.path
    folder = posixpath.dirname(path) if checkpoint.kind.grain == "file" and checkpoint.files else path
    for item in checkpoint.not_judged:
        yield item._replace(path=posixpath.normpath(posixpath.join(folder, item.path)))


def finding_document(finding: Finding) -> dict[str, Any]:
    """A finding as in every JSON document."""
    fix = finding.fix
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": finding.message,
        "path": finding.path,
        "tensors": list(finding.tensors),
        "tensor_count": finding.tensor_count,
        "evidence": dict(finding.evidence),
        "fix": None if fix is None else {"title": fix.title, "safety": fix.safety, "command": fix.command},
        "fingerprint": finding.fingerprint,
    }
