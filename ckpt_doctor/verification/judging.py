"""The last step of a verification: a loaded model, or a model without memory, to the coverage."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckpt_doctor.core.coverage import MISSING, Coverage, TensorCoverage
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.rules.loader_raised import LoaderRaised

from .hosting.isolation import Outcome, run
from .loading import Loaded, raise_if_not_built
from .model.loads import load_of
from .model.plan import Plan
from .proof.assess import assess
from .proof.counting import nothing_arrived
from .proof.evidence import Evidence
from .proof.safety import Safety
from .proof.steps import advised
from .question import AUTO, Question

if TYPE_CHECKING:
    from torch import nn

Tensors = tuple[TensorCoverage, ...]


def judge_load(question: Question, plan: Plan, safety: Safety, load: Loaded) -> Coverage:
    """What of the checkpoint arrived in the model. Raises ``VerificationError`` where the load changed the files."""
    lines = [*plan.lines, *load.lines]
    if load.outcome.error is not None:
        tensors, problems = _why_refused(question, plan) if load.ours else (nothing_arrived(question.checkpoint), [])
        return _planned(question, plan, safety, tensors, [_raised(load.by, load.outcome), *problems], lines)
    safety.files.check()
    question.stage("judging", question.path)
    gc.collect()  # what the loader left in cycles is not part of the model
    tensors, problems, notes = assess(_evidence(question, plan, load))
    load.marks.lift()
    lines += notes
    if question.mode != "forward":
        return _planned(question, plan, safety, tensors, problems, lines)
    more, unjudged = _forward(load, tensors, problems, lines)
    judged = _planned(question, plan, safety, tensors, [*problems, *more], lines)
    return judged._replace(unjudged=unjudged[0] if unjudged else None)


def judge_keys(question: Question, plan: Plan, safety: Safety) -> Coverage:
    """Names, shapes and nothing else, against a model without memory."""
    lines = list(plan.lines)
    if question.loader is not None:
        lines.append(f"{question.loader.name} was not run: --mode keys compares names and shapes, and loads nothing")
    question.stage("building", plan.name)
    outcome = run(plan.hollow, own_file=plan.file)
    question.stage("judging", question.path)
    lines += outcome.lines
    if outcome.error is not None and plan.model_class is not None and plan.model_class.absent:
        # The base could be built, as its modules are known: the adapter is one of another base.
        nothing = nothing_arrived(question.checkpoint)
        return _planned(question, plan, safety, nothing, [_raised("PEFT", outcome)], lines)
    raise_if_not_built(question, plan, outcome)
    if plan.quantised:
        lines.append(
            f"the checkpoint is quantised ({plan.quantised}): names and shapes were compared with those of the "
            "model that is not, and no values were read"
        )
    evidence = Evidence(
        outcome.result,
        question.checkpoint,
        values=False,
        whole=plan.whole,
        exact=plan.ours and plan.exact,
        folder=question.path,
    )
    tensors, problems, _ = assess(evidence)
    return _planned(question, plan, safety, tensors, problems, lines)


def not_run(question: Question, safety: Safety) -> Coverage:
    """The coverage of a load that was not tried, because the files could run code."""
    refused = "the user's loader was not run: --trust-checkpoint lets it read these files"
    log = [] if question.runs_known_code else [refused]
    return coverage(question, nothing_arrived(question.checkpoint), safety.unsafe, log)


def process_ended(question: Question, safety: Safety, who: str, how: str, lines: Sequence[str]) -> Coverage:
    """The coverage of a load that ``who`` ended the process of."""
    problems = [LoaderRaised().report(who, f"its process {how}"), *safety.broken]
    return coverage(question, nothing_arrived(question.checkpoint), problems, lines)


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


def _planned(
    question: Question, plan: Plan, safety: Safety, tensors: Tensors, problems: list[Finding], lines: Sequence[str]
) -> Coverage:
    """The coverage with what is known from the plan and from the files themselves."""
    # Who trusts the checkpoint is told all the same what is in it.
    trusted = [item._replace(severity=Severity.WARNING) for item in safety.unsafe]
    told = advised([*problems, *safety.broken, *trusted, *plan.problems], plan.advice)
    judged = coverage(question, tensors, told, lines)
    return judged._replace(model_class=plan.model_class, departures=plan.departures)


def _evidence(question: Question, plan: Plan, load: Loaded) -> Evidence:
    model: nn.Module = load.outcome.result
    return Evidence(
        model,
        question.checkpoint,
        fates=load.marks.fates(model),
        whole=load.ours and plan.whole,
        final=True,
        folder=question.path,
        reference=None if load.ours else load_of(question.checkpoint).reference(question, plan),
        progress=question.progress,
    )


def _forward(
    load: Loaded, tensors: Tensors, problems: list[Finding], lines: list[str]
) -> tuple[list[Finding], list[str]]:
    """What a forward pass shows beyond ``problems``, and why it could not be judged; that goes to ``lines`` as well."""
    from .proof.forward import forward_findings, same_random_state

    parameters = [tensor.parameter for tensor in tensors if tensor.expected and tensor.parameter]
    with same_random_state():
        found, unjudged = forward_findings(load.outcome.result, parameters, lines, ours=load.ours)
    lines += [f"forward: {reason}" for reason in unjudged]
    idle = any(item.code == "CKD006" for item in problems)
    return [item for item in found if item.code != "CKD006" or not idle], unjudged


def _why_refused(question: Question, plan: Plan) -> tuple[Tensors, list[Finding]]:
    """Why a library's loader may have refused: what is absent or does not fit, seen without memory."""
    outcome = run(plan.hollow)
    if outcome.error is not None:
        return nothing_arrived(question.checkpoint), []
    evidence = Evidence(outcome.result, question.checkpoint, values=False, exact=plan.ours and plan.exact)
    tensors, problems, _ = assess(evidence)
    lost = tuple(item._replace(status=MISSING) if item.arrived else item for item in tensors)
    return lost, [item for item in problems if item.code in ("CKD003", "CKD004")]


def _raised(loader: str, outcome: Outcome) -> Finding:
    return LoaderRaised().report(loader, outcome.failure, outcome.place, outcome.wanted_file)
