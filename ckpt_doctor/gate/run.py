"""A path, or the newest save in a tree, to a verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ckpt_doctor.core.checkpoint import Unread
from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import CkptDoctorError, NoCheckpointError, VerificationError
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Report
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.inspection import Progress, Standard, at, judge
from ckpt_doctor.layouts import Found

from .seal import Seal
from .verdict import Choice, PassedOver, Verdict

if TYPE_CHECKING:
    from .save import Save

Load = Callable[[str], Coverage]
"""Proves a load from the path that it is given, as ``ckpt_doctor.verify`` does."""

# What is trusted afterwards: headers alone show no NaN and no flipped bit.
_DEFAULT = Policy(deep=True)


class _Subject(NamedTuple):
    """What is to be judged: ``path`` as it is shown and ``given`` as a loader gets it."""

    path: str
    given: str
    found: tuple[Found, ...]
    choice: Choice | None = None
    unread: tuple[Unread, ...] = ()
    gone: str = ""


def decide(
    path: str | os.PathLike[str],
    policy: Policy = _DEFAULT,
    *,
    latest: bool = False,
    fallback: bool = False,
    standard: Standard | None = None,
    load: Load | None = None,
    progress: Progress | None = None,
    counter: Progress | None = None,
    jobs: int = 1,
) -> Verdict:
    """True if the checkpoints at ``path`` are healthy and, with ``load``, whether all of it arrives.

    With ``latest``, ``path`` is a tree and the newest save in it is judged; with ``fallback`` too, the newest one that
    an inspection finds healthy. ``load`` is tried once and only on what is healthy. The other arguments are those of
    ``inspection.judge``.

    Raises ``NoCheckpointError`` if there is none, or the newest save holds none, ``GateError`` where nobody can tell
    which is the newest, and what ``inspect`` raises.
    """
    passed_over: list[PassedOver] = []
    first: Verdict | None = None
    for subject in _newest(path, policy) if latest else [_asked_for(path, policy)]:
        if subject.found:
            seal = Seal(subject.found)
            report = judge(subject.found, policy, standard=standard, progress=progress, counter=counter, jobs=jobs)
            report = report._replace(unread=subject.unread)
            reason = _failure(report, policy)
            verdict = Verdict(
                subject.path,
                absolute(subject.given),
                report,
                seal,
                reason=reason,
                passed_over=tuple(passed_over),
                choice=subject.choice,
            )
            if reason is None and not any(diagnosis.judged for diagnosis in report.diagnoses):
                verdict = _nothing_judged(verdict)
                reason = str(verdict.reason)
            elif reason is None:
                return _sealed(_loaded(verdict, subject, load))
            first = first or verdict
        else:
            reason = subject.gone or "no checkpoint is in it"
        if not fallback:
            break
        passed_over.append(PassedOver(subject.path, reason))
    if first is None:
        raise _unfinished(path, subject.path, subject.gone)
    if len(passed_over) > 1:
        first = first._replace(reason=f"{first.reason}; and no older save is healthy")
    return first


def _nothing_judged(verdict: Verdict) -> Verdict:
    kinds = listed(dict.fromkeys(item.kind for item in verdict.report.not_judged))
    reason = f"nothing was judged in {verdict.path}: " + (kinds or "it holds no tensors")
    report = verdict.report._replace(unjudged=(verdict.path,))
    return verdict._replace(report=report, reason=reason, error=NoCheckpointError(reason))


def latest(tree: str | os.PathLike[str], policy: Policy = _DEFAULT) -> Choice:
    """The newest save in ``tree``, whatever its health.

    Raises ``NoCheckpointError`` if there is none, or the newest save holds none, and ``GateError`` where nobody can
    tell which is the newest.
    """
    from .order import newest
    from .saves import saves

    everything = saves(tree, policy)
    save = newest(everything)
    if not save.found:
        raise _unfinished(tree, save.path, save.gone)
    return _choice(save, everything)


def _choice(save: Save, saves: Sequence[Save]) -> Choice:
    from .bases import is_adapter, is_whole
    from .order import by_name, left_out, reason, written_later

    first = save.found[0] if save.found else None
    later = written_later(save, saves)
    adapters = [other for other in saves if other.found and is_adapter(other.found[0])]
    doubtful = first is not None and is_whole(first) and adapters and not by_name(saves)
    return Choice(
        save.path,
        first.layout if first is not None else "",
        reason(saves),
        later.path if later else None,
        tuple(
            PassedOver(item.path, f"it is the base model of {listed(item.base_of, 2)}")
            for item in left_out(save, saves)
        ),
        max(adapters, key=lambda other: other.written).path if doubtful else None,
    )


def _unfinished(tree: str | os.PathLike[str], path: str, gone: str = "") -> NoCheckpointError:
    if gone:
        return NoCheckpointError(
            f"the newest save in {os.fspath(tree)} is gone: {gone}. Copy it back, or ask for an older one that is "
            "healthy (gate --fallback, latest --healthy)"
        )
    return NoCheckpointError(
        f"the newest save in {os.fspath(tree)} is {path}, and no checkpoint is in it: its run is not finished, or its "
        "save was interrupted. Wait for it, or ask for an older one that is healthy (gate --fallback, latest --healthy)"
    )


def absolute(path: str) -> str:
    """The path from the root, for a process that may look from elsewhere; it leads to the same place."""
    # Behind a link, ".." leads out of the folder that the link points to: only the file system knows where.
    return os.path.realpath(path) if ".." in Path(path).parts else os.path.abspath(path)


def _asked_for(path: str | os.PathLike[str], policy: Policy) -> _Subject:
    given = os.fspath(path)
    found, unread = at(path, policy)
    return _Subject(given, given, tuple(found), unread=unread)


def _newest(tree: str | os.PathLike[str], policy: Policy) -> Iterator[_Subject]:
    from .order import newest_first
    from .saves import saves

    left = saves(tree, policy)
    for save in newest_first(left):
        yield _Subject(save.path, absolute(save.path), save.found, _choice(save, left), gone=save.gone)
        left = [other for other in left if other is not save]


def _failure(report: Report, policy: Policy) -> str | None:
    failing = list(report.failing(policy.fail_on))
    if not failing:
        return None
    numbers = [(severity, sum(item.severity is severity for item in failing)) for severity in Severity]
    counts = ", ".join(counted(number, severity.value) for severity, number in numbers if number)
    rules = listed(dict.fromkeys(f"{item.code} {item.name}" for item in failing))
    return f"{counts}: {rules}"


def _loaded(verdict: Verdict, subject: _Subject, load: Load | None) -> Verdict:
    if load is None:
        return verdict
    try:
        coverage = load(subject.given)
    except CkptDoctorError as error:
        return verdict._replace(reason=f"the load could not be judged: {error}", error=error)
    verdict = verdict._replace(coverage=coverage)
    if coverage.complete:
        return verdict
    if coverage.arrived:
        reason = f"the forward pass could not be judged: {coverage.unjudged}. --mode load judges the load alone"
        return verdict._replace(reason=reason, error=VerificationError(reason))
    arrived = f"{coverage.restored:,} of {counted(coverage.expected, 'tensor')} arrived"
    rules = listed(dict.fromkeys(f"{item.code} {item.name}" for item in coverage.findings))
    return verdict._replace(reason=f"{arrived}: {rules}" if rules else arrived)


def _sealed(verdict: Verdict) -> Verdict:
    if not verdict.passed:
        return verdict
    try:
        verdict.seal.check(verdict.report.checkpoints)
    except CkptDoctorError as error:
        return verdict._replace(reason=str(error), error=error)
    return verdict
