"""Which fixes are applied: one after the other in the order of the codes, each judged by what inspection then says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import (
    ConversionError,
    NoCheckpointError,
    PathNotFoundError,
    RepairError,
)
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.inspection import diagnose

from .applying import apply
from .draft import Draft
from .outcome import Rejected, Step
from .place import Place


@dataclass
class Plan:
    """What will be done: the state that is meant, the steps that lead there, and what was left alone."""

    draft: Draft
    diagnoses: list[Diagnosis]
    steps: list[Step] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


_Identity = tuple[str, "str | None", str, tuple[str, ...]]
"""What tells two findings apart: code, path, title of the fix, tensors."""


@dataclass(frozen=True)
class _Debt:
    """A step after which there were errors that had not been there, the state before it, and what is said of it.

    ``tried`` are the findings that had been tried until then, this one among them.
    """

    before: Plan
    tried: set[_Identity]
    finding: Finding
    objection: str


def plan(place: Place, policy: Policy, known: Iterable[Checkpoint], *, unsafe: bool) -> Plan:
    """Plan the repair of what lies at ``place``; ``known`` are its checkpoints as they were read, and scanned.

    Nothing is written. Raises ``RepairError`` if a file cannot be read any more, and ``OSError``.
    """
    known = list(known)
    draft = Draft(known=known_files(known))
    start = Plan(draft, _diagnoses(place, draft, policy))
    _refuse_unreadable(new_errors([diagnose(checkpoint, every_rule(policy)) for checkpoint in known], start.diagnoses))
    return _Planner(start, place, policy, unsafe=unsafe).finished()


class _Planner:
    """A plan in the making. ``given_up`` are steps that were taken and led nowhere, which are not tried again."""

    def __init__(self, start: Plan, place: Place, policy: Policy, *, unsafe: bool) -> None:
        self.plan = start
        self.place = place
        self.policy = policy
        self.unsafe = unsafe
        self.tried: set[_Identity] = set()
        self.given_up: list[Rejected] = []
        self.debt: _Debt | None = None

    def finished(self) -> Plan:
        """The plan, once no fix is left that was not tried. Raises as :func:`plan`."""
        while True:
            candidate = next(self._candidates(self.plan.diagnoses), None)
            if candidate is not None:
                self._attempt(*candidate)
            elif self.debt is not None:
                self._go_back(self.debt)
            else:
                return self.plan

    def _candidates(self, diagnoses: list[Diagnosis]) -> Iterator[tuple[Path, Finding]]:
        return _candidates(diagnoses, self.policy, self.tried, unsafe=self.unsafe)

    def _attempt(self, root: Path, finding: Finding) -> None:
        """Try the fix of one finding on a copy of the draft, and keep the copy where nothing speaks against it."""
        self.tried.add(_identity(finding))
        trial = self.plan.draft.copy()
        try:
            diagnoses = _try(trial, root, finding, self.place, self.policy)
        except (ConversionError, RepairError, NoCheckpointError, PathNotFoundError) as error:
            self.plan.rejected.append(Rejected(finding, str(error)))
            return
        objection = self._objection(finding, diagnoses)
        if objection is not None:
            self.plan.rejected.append(Rejected(finding, objection))
            return
        self._take_step(finding, trial, diagnoses)

    def _objection(self, finding: Finding, diagnoses: list[Diagnosis]) -> str | None:
        """Why the step is not taken, after which inspection says ``diagnoses``; ``None`` if it is.

        Where it brings errors to light that have fixes of their own, it is taken as a debt.
        """
        useless = _useless(self.plan, diagnoses, finding)
        worse = new_errors(self.plan.diagnoses, diagnoses)
        _refuse_unreadable(worse)
        if useless or not worse or self.debt is not None:
            return useless
        first = worse[0]
        objection = f"it would lead to {first.code} {first.name}: {first.message}"
        mendable = {item.code for _, item in self._candidates(diagnoses)}
        if any(item.code not in mendable for item in worse):
            return objection
        before = replace(self.plan, steps=[*self.plan.steps], rejected=[*self.plan.rejected])
        self.debt = _Debt(before, set(self.tried), finding, objection)
        return None

    def _take_step(self, finding: Finding, trial: Draft, diagnoses: list[Diagnosis]) -> None:
        plan = self.plan
        plan.draft, plan.diagnoses = trial, diagnoses
        plan.steps.append(Step(finding))
        # What could not be done before may be possible now.
        self.tried -= {_identity(item.finding) for item in plan.rejected if item not in self.given_up}
        plan.rejected[:] = self.given_up
        if self.debt is not None and not new_errors(self.debt.before.diagnoses, diagnoses):
            self.debt = None

    def _go_back(self, debt: _Debt) -> None:
        """Back to the state before a step whose consequences could not be mended after all."""
        self.plan, self.tried = debt.before, debt.tried
        self.plan.rejected.append(Rejected(debt.finding, debt.objection))
        self.given_up.append(Rejected(debt.finding, debt.objection))
        self.debt = None


def _try(trial: Draft, root: Path, finding: Finding, place: Place, policy: Policy) -> list[Diagnosis]:
    assert finding.fix is not None
    for action in finding.fix.actions:
        apply(trial, root, action)
    return _diagnoses(place, trial, policy)


def _diagnoses(place: Place, draft: Draft, policy: Policy) -> list[Diagnosis]:
    return [diagnose(checkpoint, every_rule(policy)) for checkpoint in place.read(draft)]


def _candidates(
    diagnoses: list[Diagnosis], policy: Policy, tried: set[_Identity], *, unsafe: bool
) -> Iterator[tuple[Path, Finding]]:
    """Findings that have a fix which was not tried, in the order of their codes, each with its checkpoint's root."""
    found = [
        (diagnosis.checkpoint.root, finding)
        for diagnosis in diagnoses
        for finding in diagnosis.findings
        if finding.fix is not None
        and finding.fix.actions
        and (unsafe or finding.fix.safety == "safe")
        and policy.runs(finding.code, finding.name)
        and not policy.ignores(finding, diagnosis.checkpoint)
        and _identity(finding) not in tried
    ]
    return iter(sorted(found, key=lambda item: (item[1].code, item[1].path or "", item[1].tensors)))


def _identity(finding: Finding) -> _Identity:
    title = finding.fix.title if finding.fix is not None else ""
    return finding.code, finding.path, title, finding.tensors


def known_files(checkpoints: Iterable[Checkpoint]) -> dict[Path, WeightFile]:
    """Absolute path to weight file, as it was read."""
    return {
        Path(os.path.abspath(checkpoint.root / file.path)): file
        for checkpoint in checkpoints
        for file in checkpoint.files
    }


def _refuse_unreadable(findings: list[Finding]) -> None:
    """Raise where something could be read before and cannot be any more: nobody knows what to do then."""
    for finding in findings:
        if finding.always_fails:
            raise RepairError(f"{finding.path}: {finding.message} Nothing was changed")


def every_rule(policy: Policy) -> Policy:
    """The policy with every rule looking: what the user did not ask for must not get worse."""
    return policy._replace(select=(), ignore=(), per_path_ignores=())


def new_errors(before: list[Diagnosis], after: list[Diagnosis]) -> list[Finding]:
    """The errors of every code of which there are more than before."""
    old, new = _errors(before), _errors(after)
    return [
        finding
        for diagnosis in after
        for finding in diagnosis.findings
        if finding.severity is Severity.ERROR and new[finding.code] > old[finding.code]
    ]


def _useless(before: Plan, after: list[Diagnosis], finding: Finding) -> str | None:
    """Why a step is not taken that does not help, or that brings back what was repaired."""
    for code in sorted({step.finding.code for step in before.steps}):
        if _count(after, code) > _count(before.diagnoses, code):
            return f"it would cause {code} again"
    assert finding.fix is not None
    if any(isinstance(action, Rewrite) and action.keeps for action in finding.fix.actions):
        return None  # the damaged file stays, and so does what is said about it
    if _count(after, finding.code) >= _count(before.diagnoses, finding.code):
        return f"{finding.code} would still be there"
    return None


def _errors(diagnoses: list[Diagnosis]) -> Counter[str]:
    return Counter(f.code for d in diagnoses for f in d.findings if f.severity is Severity.ERROR)


def _count(diagnoses: list[Diagnosis], code: str) -> int:
    return sum(finding.code == code for diagnosis in diagnoses for finding in diagnosis.findings)
