"""Which fixes are applied: one after the other in the order of the codes, each judged by what inspection then says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import (
    ConversionError,
    MissingDependencyError,
    NoCheckpointError,
    PathNotFoundError,
    RepairError,
)
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.inspection import diagnose
from ckpt_doctor.layouts import discover

from .applying import apply
from .draft import Draft
from .outcome import Rejected, Step

NOTHING_RENAMED: Mapping[Path, Path] = {}
"""Of a repair that renames no file."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint is looked for: the path that leads to it and, where several lie there, its own root.

    ``layout`` is what the user asked for, if anything, and ``layouts`` are those that a team has defined.
    ``found_from_above`` says that a folder above was asked for, and what lies there is judged as a search finds it.
    """

    path: Path
    layout: str | None
    layouts: tuple[Layout, ...] = ()
    found_from_above: bool = False

    def read(self, draft: Draft) -> list[Checkpoint]:
        """What lies there according to the draft. Raises ``NoCheckpointError`` and ``PathNotFoundError``."""
        path = successor_of(self.path, draft.renamed)
        if path != self.path and self.found_from_above:
            # Under its new name, a lone file can make its folder a checkpoint, of which other things are expected.
            whole = discover(path.parent, self.layout, draft, self.layouts)
            whole = [item for item in whole if item.kind.grain != "file"]
            here = [item for item in whole if os.path.abspath(item.root) == os.path.abspath(path.parent)]
            if here:
                return here
        return discover(path, self.layout, draft, self.layouts)


def successor_of(path: Path, renamed: Mapping[Path, Path]) -> Path:
    """What a file is called now; ``renamed`` maps absolute paths."""
    while (successor := renamed.get(Path(os.path.abspath(path)))) is not None:
        path = path.with_name(successor.name)
    return path


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

    Nothing is written. Raises ``MissingDependencyError`` where nothing can be repaired without torch, ``RepairError``
    where a file cannot be read any more, and ``OSError``.
    """
    known = list(known)
    draft = Draft(known=known_files(known))
    result = Plan(draft, _diagnoses(place, draft, policy))
    _refuse_unreadable(new_errors([diagnose(checkpoint, every_rule(policy)) for checkpoint in known], result.diagnoses))
    tried: set[_Identity] = set()
    given_up: list[Rejected] = []
    missing: MissingDependencyError | None = None
    debt: _Debt | None = None
    while True:
        candidate = next(_candidates(result.diagnoses, policy, tried, unsafe=unsafe), None)
        if candidate is None:
            if debt is None:
                if missing is not None and not result.steps:
                    raise missing
                return result
            # What came to light could not be mended after all: back to where it was not known.
            result, tried = debt.before, debt.tried
            result.rejected.append(Rejected(debt.finding, debt.objection))
            given_up.append(Rejected(debt.finding, debt.objection))
            debt = None
            continue
        root, finding = candidate
        tried.add(_identity(finding))
        trial = result.draft.copy()
        try:
            diagnoses = _try(trial, root, finding, place, policy)
        except (ConversionError, RepairError, NoCheckpointError, PathNotFoundError, MissingDependencyError) as error:
            if isinstance(error, MissingDependencyError):
                missing = error
            result.rejected.append(Rejected(finding, str(error)))
            continue
        objection = _useless(result, diagnoses, finding)
        worse = new_errors(result.diagnoses, diagnoses)
        _refuse_unreadable(worse)
        if worse and debt is None and not objection:
            first = worse[0]
            objection = f"it would lead to {first.code} {first.name}: {first.message}"
            mendable = {item.code for _, item in _candidates(diagnoses, policy, tried, unsafe=unsafe)}
            if all(item.code in mendable for item in worse):
                # What came to light has a fix of its own. Only where that works out, the step counts.
                before = replace(result, steps=[*result.steps], rejected=[*result.rejected])
                debt = _Debt(before, set(tried), finding, objection)
                objection = None
        if objection is not None:
            result.rejected.append(Rejected(finding, objection))
            continue
        result.draft, result.diagnoses = trial, diagnoses
        result.steps.append(Step(finding))
        # What could not be done before may be possible now.
        tried -= {_identity(item.finding) for item in result.rejected if item not in given_up}
        result.rejected[:] = given_up
        if debt is not None and not new_errors(debt.before.diagnoses, diagnoses):
            debt = None


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
            return f"it would bring {code} back"
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
