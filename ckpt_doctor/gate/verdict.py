"""The gate's verdict on a checkpoint."""

from __future__ import annotations

from typing import Any, NamedTuple

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import CkptDoctorError
from ckpt_doctor.core.judgement import Gated
from ckpt_doctor.core.results import Report
from ckpt_doctor.rules.not_judged import NotJudged

from .seal import Seal


class PassedOver(NamedTuple):
    """A newer save that was not taken, and why."""

    path: str
    reason: str


class Choice(NamedTuple):
    """Which save of a tree was taken, and why.

    ``path`` is its checkpoint as it is shown, ``layout`` its kind, and ``reason`` says in a few words why it is the
    newest. ``written_later`` is one that is older by its name and newer by its files. ``left_out`` are models that are
    newer by their files and the base of adapters in the tree. ``adapter`` is the newest adapter, where a whole model
    was taken and no name tells that it is newer.
    """

    path: str
    layout: str
    reason: str
    written_later: str | None = None
    left_out: tuple[PassedOver, ...] = ()
    adapter: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The choice as JSON has it."""
        return {**self._asdict(), "left_out": [item._asdict() for item in self.left_out]}


class Verdict(NamedTuple):
    """True if a command may read this checkpoint.

    ``path`` is the checkpoint as it is shown and ``checkpoint`` the same as an absolute path. ``reason`` says why it
    does not pass, and ``error`` is set where that is because it could not be judged. ``passed_over`` are newer saves,
    and ``choice`` says why this one was taken, where a tree was given. ``seal`` tells whether what was judged is still
    there.
    """

    path: str
    checkpoint: str
    report: Report
    seal: Seal
    coverage: Coverage | None = None
    reason: str | None = None
    error: CkptDoctorError | None = None
    passed_over: tuple[PassedOver, ...] = ()
    choice: Choice | None = None

    @property
    def passed(self) -> bool:
        """True if nothing stands against it."""
        return self.reason is None

    @property
    def shown(self) -> Report:
        """The report, with what could not be judged as a finding: no reader of it may take the checkpoint for sound."""
        told = self.coverage is not None and self.coverage.unjudged is not None
        if self.error is None or told or not self.report.diagnoses:
            return self.report
        finding = NotJudged().report(self.reason or "")
        first, *others = self.report.diagnoses
        return Report((first._replace(findings=(finding, *first.findings)), *others))

    @property
    def judged(self) -> Gated:
        """What a reporter gets."""
        return Gated(self.shown, self.coverage, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """What ``gate`` adds to the document of an inspection."""
        return {
            "verification": None if self.coverage is None else self.coverage.to_dict(),
            "gate": {
                "passed": self.passed,
                "checkpoint": self.checkpoint,
                "reason": self.reason,
                "passed_over": [item._asdict() for item in self.passed_over],
                "latest": None if self.choice is None else self.choice.to_dict(),
            },
        }
