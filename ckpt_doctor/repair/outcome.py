"""The result of a repair, real or planned, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckpt_doctor.core.envelope import envelope
from ckpt_doctor.core.findings import FailOn, Finding
from ckpt_doctor.core.results import Outcome, Report


@dataclass(frozen=True, slots=True)
class Step:
    """A finding that was repaired."""

    finding: Finding

    @property
    def title(self) -> str:
        """What was done about it."""
        return self.finding.fix.title if self.finding.fix is not None else ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A finding with a fix that was not applied, and why."""

    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """One file: ``action`` is ``written``, ``rewritten``, ``renamed``, ``copied`` or ``removed``.

    ``path`` is relative to the checkpoint. ``before`` and ``after`` are sizes in bytes, ``None`` if there is no such
    file; ``exact`` is unset where ``after`` is an estimate. ``source`` is the old name of what was renamed or copied.
    """

    path: str
    action: str
    before: int | None
    after: int | None
    exact: bool = True
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done for one checkpoint, or would be.

    ``backup`` is the folder with the originals, if there is one. ``error`` says why nothing could be done for this one
    of several checkpoints.
    """

    path: str
    steps: tuple[Step, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    changes: tuple[Change, ...] = ()
    backup: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Repairs:
    """All checkpoints of one run. ``remaining`` is the report on what is there now, or would be after a dry run.

    ``rolled_back`` names interrupted repairs that were taken back first.
    """

    repairs: tuple[Repair, ...]
    remaining: Report
    rolled_back: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def changes_anything(self) -> bool:
        """True if there was, or is, anything to do."""
        return any(repair.steps for repair in self.repairs)

    @property
    def failed(self) -> tuple[Repair, ...]:
        """Those of which nothing could be done."""
        return tuple(repair for repair in self.repairs if repair.error is not None)

    def outcome(self, fail_on: FailOn) -> Outcome:
        """How the run ends; a dry run fails where there is something to do."""
        if self.failed:
            return "not judged"
        if any(self.remaining.failing(fail_on)) or (self.dry_run and self.changes_anything):
            return "failed"
        judged = any(diagnosis.judged for diagnosis in self.remaining.diagnoses)
        return "passed" if judged else "not judged"

    def to_dict(self) -> dict[str, Any]:
        """The document of ``--output-format json``, version 1, as plain values."""
        return {
            **envelope(),
            "dry_run": self.dry_run,
            "rolled_back": list(self.rolled_back),
            "repairs": [_document(repair) for repair in self.repairs],
            "remaining": self.remaining.to_dict(),
        }


def _document(repair: Repair) -> dict[str, Any]:
    return {
        "path": repair.path,
        "steps": [{**_finding(step.finding), "title": step.title} for step in repair.steps],
        "rejected": [{**_finding(item.finding), "reason": item.reason} for item in repair.rejected],
        "changes": [
            {
                "path": change.path,
                "action": change.action,
                "bytes_before": change.before,
                "bytes_after": change.after,
                "exact": change.exact,
                "source": change.source,
            }
            for change in repair.changes
        ],
        "backup": repair.backup,
        "error": repair.error,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {"code": finding.code, "name": finding.name, "path": finding.path}
