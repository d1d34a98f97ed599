"""The step between building and judging: the loader runs, while the model holds marks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckpt_doctor.core.errors import IncompleteLoadError, VerificationError

from .building import Built
from .hosting.isolation import Outcome, run
from .hosting.specs import UserCode
from .model.plan import Plan
from .question import Question
from .values.marks import Marks


@dataclass(frozen=True)
class Loaded:
    """``outcome`` has the loaded model, or the error of the loader ``by``; ``marks`` are in the model.

    ``lines`` is what building and loading said. ``ours`` says that a library's loader or one of this package ran, and
    none of the user's.
    """

    outcome: Outcome
    marks: Marks
    lines: tuple[str, ...]
    by: str
    ours: bool = False


def load(question: Question, plan: Plan, built: Built, marks: Marks) -> Loaded:
    """Run the loader that the question asks for: a function that makes its own model, the user's, or a library's.

    Raises ``VerificationError`` if nothing is loaded that could be judged.
    """
    factory, loader = question.factory, question.loader
    if factory is not None:
        return _by_code(question, factory, lambda: factory(question.path), built, marks)
    if loader is not None:
        return _by_code(question, loader, lambda: loader(built.model, question.path), built, marks)
    return _by_library(question, plan, built, marks)


def _by_code(question: Question, code: UserCode, call: Callable[[], Any], built: Built, marks: Marks) -> Loaded:
    """By code of the user."""
    question.stage("loading", code.name)
    with marks.watched():
        outcome = run(call, own_file=code.file)
    lines = (*built.lines, *code.lines, *outcome.lines)
    if outcome.error is None:
        outcome.result, more = _module(outcome.result, built.model, code.name)
        lines = (*lines, *more)
    return Loaded(outcome, marks, lines, code.name)


def _by_library(question: Question, plan: Plan, built: Built, marks: Marks) -> Loaded:
    """By the ecosystem's own loader, into the model that was built or, where there is none, one that it makes."""
    question.stage("loading", plan.loader)
    with marks.watched():
        outcome = run(lambda: plan.load(built.model))
    said = [*built.lines, *outcome.lines]
    if isinstance(outcome.error, IncompleteLoadError):
        # Our MemGen loader loads what fits before it complains: the comparison says more.
        if plan.ours:
            said.append(f"MemGen loader: {outcome.error}")
        outcome.result, outcome.error = built.model, None
    if outcome.error is not None and plan.quantised:
        raise VerificationError(
            f"{question.path} is quantised ({plan.quantised}) and cannot be loaded here ({outcome.failure}). "
            "--mode keys compares names and shapes"
        )
    return Loaded(outcome, marks, tuple(said), plan.loader, ours=True)


def _module(result: Any, model: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """The model to judge, and a line where it is not what the call returned.

    It is the one that was returned, also beside a tokenizer, else the one that the loader was given.
    """
    import torch

    items = result.values() if isinstance(result, dict) else result if isinstance(result, (tuple, list)) else [result]
    modules = [item for item in items if isinstance(item, torch.nn.Module)]
    if len(modules) == 1:
        return modules[0], ()
    what = f"{len(modules)} models" if modules else type(result).__name__
    if model is None:
        raise VerificationError(f"{name} returned {what}, not a torch.nn.Module")
    if result is None:
        return model, ()
    return model, (f"{name} returned {what}: the model it was given is judged",)
