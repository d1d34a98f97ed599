"""The step between plan and load: the model that is loaded into is built."""

from __future__ import annotations

from typing import Any, NamedTuple

from ckpt_doctor.core.errors import VerificationError

from .hosting.isolation import Outcome, run
from .model.plan import Plan
from .question import Question


class Built(NamedTuple):
    """The model, or ``None`` if the loader makes its own; ``lines`` is what building it said."""

    model: Any
    lines: tuple[str, ...] = ()


def build(question: Question, plan: Plan) -> Built:
    """The model that the loader is given. Raises ``VerificationError`` if there is none, or it does not suit."""
    if question.factory is not None or (question.loader is None and plan.loads_alone):
        return Built(None)

    def accepted() -> Any:
        model = plan.build()
        if question.loader is None:
            plan.refuse(model)
        return model

    question.stage("building", plan.name)
    outcome = run(accepted, own_file=plan.file)
    if outcome.error is not None:
        raise not_built(question, plan, outcome)
    return Built(outcome.result, tuple(outcome.lines))


def not_built(question: Question, plan: Plan, outcome: Outcome) -> VerificationError:
    """The error of a load for which there is no model that anything could be loaded into."""
    if isinstance(outcome.error, VerificationError):
        return outcome.error
    at = f", at {outcome.place}" if outcome.place else ""
    advice = ". --mode load builds it with memory" if question.mode == "keys" and not plan.ours else ""
    return VerificationError(f"{plan.name} could not be built: {outcome.failure}{at}{advice}")
