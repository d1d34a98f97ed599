"""The last step of a verification: a loaded model, or a model without memory, to the coverage."""

from __future__ import annotations

import gc

from ckpt_doctor.core.coverage import MISSING, Coverage
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.rules.loader_raised import LoaderRaised

from .building import not_built
from .hosting.isolation import Outcome, run
from .loading import Loaded
from .model.loads import load_of
from .model.plan import Plan
from .proof.assess import assess
from .proof.counting import nothing_arrived
from .proof.evidence import Evidence
from .proof.safety import Safety
from .question import Question
from .result import Tensors, planned_coverage


def judge_load(question: Question, plan: Plan, safety: Safety, load: Loaded) -> Coverage:
    """What of the checkpoint arrived in the model. Raises ``VerificationError`` if the load changed the files."""
    if load.outcome.error is not None:
        return _judge_refusal(question, plan, safety, load)
    safety.files.check()
    question.stage("judging", question.path)
    gc.collect()  # what the loader left in cycles is not part of the model
    evidence = Evidence(
        load.outcome.result,
        question.checkpoint,
        fates=load.marks.fates(load.outcome.result),
        whole=load.ours and plan.whole,
        final=True,
        folder=question.path,
        reference=None if load.ours else load_of(question.checkpoint).reference(question, plan),
        progress=question.progress,
    )
    tensors, problems, notes = assess(evidence)
    load.marks.lift()
    lines = [*plan.lines, *load.lines, *notes]
    unjudged: list[str] = []
    if question.mode == "forward":
        more, unjudged = _forward(load, tensors, problems, lines)
        problems += more
    judged = planned_coverage(question, plan, safety, tensors, problems, lines)
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
    if outcome.error is not None:
        if plan.model_class is None or not plan.model_class.absent:
            raise not_built(question, plan, outcome)
        # The base could be built, as its modules are known: the adapter is one of another base.
        nothing = nothing_arrived(question.checkpoint)
        return planned_coverage(question, plan, safety, nothing, [_raised("PEFT", outcome)], lines)
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
    return planned_coverage(question, plan, safety, tensors, problems, lines)


def _judge_refusal(question: Question, plan: Plan, safety: Safety, load: Loaded) -> Coverage:
    """The coverage of a load that ended with an error."""
    tensors, problems = _why_refused(question, plan) if load.ours else (nothing_arrived(question.checkpoint), [])
    problems = [_raised(load.by, load.outcome), *problems]
    return planned_coverage(question, plan, safety, tensors, problems, [*plan.lines, *load.lines])


def _forward(
    load: Loaded, tensors: Tensors, problems: list[Finding], lines: list[str]
) -> tuple[list[Finding], list[str]]:
    """What a forward pass shows beyond ``problems``, and why it could not be judged; that goes to ``lines`` too."""
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
