"""The coverage that the report shows."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt_doctor.core.coverage import Coverage, TensorCoverage
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.rules.loader_raised import LoaderRaised

from .model.loads import load_of
from .model.plan import Plan
from .proof.counting import nothing_arrived
from .proof.safety import Safety
from .proof.steps import advised
from .question import AUTO, Question

Tensors = tuple[TensorCoverage, ...]


def not_run(question: Question, safety: Safety) -> Coverage:
    """The coverage of a load that was not tried, because the files could run code."""
    refused = "the user's loader was not run: --trust-checkpoint lets it read these files"
    log = [] if question.runs_known_code else [refused]
    return coverage(question, nothing_arrived(question.checkpoint), safety.unsafe, log)


def process_ended(question: Question, safety: Safety, who: str, how: str, lines: Sequence[str]) -> Coverage:
    """The coverage of a load that ``who`` ended the process of."""
    problems = [LoaderRaised().report(who, f"its process {how}"), *safety.broken]
    return coverage(question, nothing_arrived(question.checkpoint), problems, lines)


def planned_coverage(
    question: Question, plan: Plan, safety: Safety, tensors: Tensors, problems: list[Finding], lines: Sequence[str]
) -> Coverage:
    """The coverage with what is known from the plan and from the files themselves."""
    # Who trusts the checkpoint is told all the same what is in it.
    trusted = [item._replace(severity=Severity.WARNING) for item in safety.unsafe]
    told = advised([*problems, *safety.broken, *trusted, *plan.problems], plan.advice)
    judged = coverage(question, tensors, told, lines)
    return judged._replace(model_class=plan.model_class, departures=plan.departures)


def coverage(question: Question, tensors: Tensors, problems: Sequence[Finding], lines: Sequence[str]) -> Coverage:
    """The values as the report has them, the gravest findings first."""
    checkpoint = question.checkpoint
    found = sorted(problems, key=lambda item: (item.severity.rank, item.code, item.path or "", item.tensors))
    return Coverage(
        question.path,
        checkpoint.kind.name,
        *question.names,
        question.mode,
        tensors,
        tuple(found),
        tuple(lines),
        checkpoint.path,
        own_loader=question.names.loader == AUTO and load_of(checkpoint).has_own,
        grain=checkpoint.kind.grain,
    )
