"""The step between plan and judgement: the model is built, marked and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ckpt_doctor.core.errors import IncompleteLoadError, VerificationError

from .hosting.isolation import Outcome, run
from .hosting.specs import UserCode
from .model.plan import Plan
from .question import Question
from .values.marks import Marks


@dataclass(frozen=True)
class Loaded:
    """``outcome`` has the loaded model, or the error of the loader ``by``; ``marks`` stand in the model.

    ``lines`` is what building and loading said. ``ours`` says that a library's loader or one of this package ran, and
    none of the user's.
    """

    outcome: Outcome
    marks: Marks
    lines: tuple[str, ...]
    by: str
    ours: bool = False


@contextmanager
def loaded(question: Question, plan: Plan) -> Iterator[Loaded]:
    """The load that the question asks for. When the block ends, the marks are gone from the model.

    Raises ``VerificationError`` where no model can be built, or nothing is loaded that could be judged.
    """
    if question.factory is not None:
        model, load = None, _by_factory(question, question.factory)
    elif question.loader is not None:
        model, lines = built(question, plan, plan.build)
        load = _by_user(question, question.loader, model, lines)
    else:
        model, lines = (None, ()) if plan.loads_alone else built(question, plan, plan.build, plan.refuse)
        load = _by_library(question, plan, model, lines)
    with Marks(model, question.checkpoint) as marks:
        yield load(marks)


def built(
    question: Question, plan: Plan, build: Callable[[], Any], refuse: Callable[[Any], None] | None = None
) -> tuple[Any, tuple[str, ...]]:
    """The model that ``build`` makes, and what that said. Raises ``VerificationError`` where it makes none."""

    def accepted() -> Any:
        model = build()
        if refuse is not None:
            refuse(model)
        return model

    question.stage("building", plan.name)
    outcome = run(accepted, own_file=plan.file)
    raise_if_not_built(question, plan, outcome)
    return outcome.result, tuple(outcome.lines)


def raise_if_not_built(question: Question, plan: Plan, outcome: Outcome) -> None:
    """Raise ``VerificationError`` where there is no model that anything could be loaded into."""
    if outcome.error is None:
        return
    if isinstance(outcome.error, VerificationError):
        raise outcome.error
    at = f", at {outcome.place}" if outcome.place else ""
    advice = ". --mode load builds it with memory" if question.mode == "keys" and not plan.ours else ""
    raise VerificationError(f"{plan.name} could not be built: {outcome.failure}{at}{advice}") from None


_Load = Callable[[Marks], Loaded]


def _by_factory(question: Question, spec: UserCode) -> _Load:
    """A function of the user that is given the path and returns a model that is loaded already."""
    return lambda marks: _by_code(question, spec, lambda: spec(question.path), None, (), marks)


def _by_user(question: Question, code: UserCode, model: Any, lines: tuple[str, ...]) -> _Load:
    return lambda marks: _by_code(question, code, lambda: code(model, question.path), model, lines, marks)


def _by_code(
    question: Question,
    code: UserCode,
    call: Callable[[], Any],
    model: Any,
    lines: tuple[str, ...],
    marks: Marks,
) -> Loaded:
    question.stage("loading", code.name)
    with marks.watched():
        outcome = run(call, own_file=code.file)
    lines = (*lines, *code.lines, *outcome.lines)
    if outcome.error is None:
        outcome.result, more = _module(outcome.result, model, code.name)
        lines = (*lines, *more)
    return Loaded(outcome, marks, lines, code.name)


def _by_library(question: Question, plan: Plan, model: Any, lines: tuple[str, ...]) -> _Load:
    """The ecosystem's own loader, with ``model`` or, where that is ``None``, one that it makes itself."""

    def load(marks: Marks) -> Loaded:
        question.stage("loading", plan.loader)
        with marks.watched():
            outcome = run(lambda: plan.load(model))
        said = [*lines, *outcome.lines]
        if isinstance(outcome.error, IncompleteLoadError):
            # Our MemGen loader loads what fits before it complains: the comparison says more.
            if plan.ours:
                said.append(f"MemGen loader: {outcome.error}")
            outcome.result, outcome.error = model, None
        if outcome.error is not None and plan.quantised:
            raise VerificationError(
                f"{question.path} is quantised ({plan.quantised}) and cannot be loaded here ({outcome.failure}). "
                "--mode keys compares names and shapes"
            )
        return Loaded(outcome, marks, tuple(said), plan.loader, ours=True)

    return load


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
    return model, (f"{name} returned {what}: the model that it was given is judged",)
