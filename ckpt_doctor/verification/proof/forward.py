"""One forward pass of random inputs: are the logits finite, and does the adapter change them?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.rules.adapter_without_effect import AdapterWithoutEffect
from ckpt_doctor.rules.forward_not_finite import ForwardNotFinite
from ckpt_doctor.rules.loader_raised import LoaderRaised
from ckpt_doctor.verification.hosting.isolation import Outcome, run
from ckpt_doctor.verification.model.inputs import Inputs, attempts, random_tokens
from ckpt_doctor.verification.model.live import LiveModel

if TYPE_CHECKING:
    import torch
    from torch import nn

Try = tuple[Callable[[], Any], Callable[[], Any] | None]
"""A pass with the adapter, and without it where there is one."""


def forward_findings(
    model: nn.Module, parameters: Iterable[str], lines: list[str], *, ours: bool
) -> tuple[list[Finding], list[str]]:
    """Run ``model`` and return CKD006 and CKD007 where they apply, and why a pass could not be judged.

    A pass that ends with an exception is CKD002 where the user's code built or loaded the model. Where it is ``ours``,
    or wants other arguments, random input is none for this kind of model, which says nothing about the checkpoint.

    A MemGen is run through its weave, any other model as it is, and one that holds models, without being one, through
    those that the checkpoint's ``parameters`` are in.
    """
    found: list[Finding] = []
    unjudged: list[str] = []
    passes = list(_passes(model, frozenset(parameters)))
    if not passes:
        unjudged.append("random input cannot be made for the kinds of input that the config names")
    for name, tries in passes:
        outcome, bare = _run_in_eval_mode(model, tries)
        if outcome.error is None:
            found += _of_logits(name, outcome.result, bare, lines)
        elif ours or isinstance(outcome.error, TypeError):
            unjudged.append(f"{name} does not run on random input ({outcome.failure})")
        else:
            found.append(LoaderRaised().report(f"The forward pass of {name}", outcome.failure, outcome.place))
    return found, unjudged


def _run_in_eval_mode(model: nn.Module, tries: list[Try]) -> tuple[Outcome, Outcome | None]:
    import torch

    training = [module for module in model.modules() if module.training]
    model.eval()
    with torch.no_grad():
        outcomes = _run(tries)
    for module in training:
        module.training = True
    return outcomes


def _of_logits(name: str, logits: torch.Tensor, bare: Outcome | None, lines: list[str]) -> Iterator[Finding]:
    """What the logits with the adapter say, beside the ``bare`` ones without it where there are any."""
    import torch

    nonfinite = int((~torch.isfinite(logits)).sum())
    if nonfinite:
        yield ForwardNotFinite().report(name, nonfinite, logits.numel())
    elif bare is not None and bare.error is not None:
        lines.append(f"forward: {name} cannot be run without its adapter: {bare.failure}")
    elif bare is not None and bare.result.shape == logits.shape and torch.equal(bare.result, logits):
        yield AdapterWithoutEffect().report_same_logits(name)


def _run(tries: list[Try]) -> tuple[Outcome, Outcome | None]:
    """What the first try that runs computed, with and without the adapter; else the error of the first one."""
    first = None
    for compute, without in tries:
        outcome = run(compute)
        if outcome.error is None:
            return outcome, run(without) if without is not None else None
        first = first or outcome
    assert first is not None
    return first, None


def _passes(model: Any, parameters: frozenset[str]) -> Iterator[tuple[str, list[Try]]]:
    """What to run: its name, and the ways to do it, of which the first one that works counts."""
    weaves = callable(getattr(model, "weave", None)) and getattr(model, "reasoner", None) is not None
    judges = callable(getattr(model, "judge", None)) and getattr(model, "trigger", None) is not None
    if weaves or judges:
        tokens = random_tokens(model)
        own_pass = model.weave if weaves else model.judge
        name = "the weaver" if weaves else "the trigger"
        yield name, [(lambda: own_pass(tokens), lambda: own_pass(tokens, adapter=False))]
        return
    whole = hasattr(model, "peft_config") or hasattr(model, "config")
    for path, module in [("the model", model)] if whole else LiveModel(model).adapted:
        tries = [_try(module, inputs) for inputs in attempts(module)]
        if tries and (whole or any(name.startswith(f"{path}.") for name in parameters)):
            yield path, tries


def _try(model: Any, inputs: Inputs) -> Try:
    def without() -> Any:
        with model.disable_adapter():
            return _logits(model, inputs)

    adapted = hasattr(model, "peft_config") and hasattr(model, "disable_adapter")
    return lambda: _logits(model, inputs), without if adapted else None


def _logits(model: Any, inputs: Inputs) -> torch.Tensor:
    import torch

    output = model(**inputs)
    values = [getattr(output, "logits", None), *(output.values() if hasattr(output, "values") else ())]
    values += output if isinstance(output, tuple) else [output]
    result: torch.Tensor = next(value for value in values if isinstance(value, torch.Tensor)).float()
    # A prompt in front of the tokens makes the output longer: compared are the tokens themselves.
    length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    return result[:, -length:] if result.dim() == 3 and length else result


@contextlib.contextmanager
def same_random_state() -> Iterator[None]:
    """Within this block torch's random numbers may be drawn; afterwards they go on as if none had been."""
    import torch

    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
