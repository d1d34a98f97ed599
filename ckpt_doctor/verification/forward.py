"""One forward pass of random tokens: are the logits finite, and does the adapter change them?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ckpt_doctor.findings import Finding

from . import findings as words
from .isolation import run
from .namings import adapted_modules

if TYPE_CHECKING:
    import torch
    from torch import nn

_TOKENS = 16
_SEED = 20_240_701


def forward_findings(
    model: nn.Module, parameters: Iterable[str], lines: list[str], *, ours: bool
) -> tuple[list[Finding], list[str]]:
    """Run ``model`` and return CKD006 and CKD007 where they apply, and why a pass could not be judged.

    A pass that ends with an exception is CKD002 where the user's code built or loaded the model. Where it is ``ours``,
    random tokens are no input for this kind of model, which says nothing about the checkpoint.

    A MemGen is run through its weave; any other model that takes ``input_ids`` is run as it is, and one that holds such
    models, without being one, through those that the checkpoint's ``parameters`` are in.
    """
    import torch

    found: list[Finding] = []
    unjudged: list[str] = []
    passes = list(_passes(model, frozenset(parameters)))
    if not passes:
        unjudged.append("no part of the model takes input_ids")
    for name, compute, without in passes:
        training = [module for module in model.modules() if module.training]
        model.eval()
        with torch.no_grad():
            outcome = run(compute)
            bare = run(without) if without is not None and outcome.error is None else None
        for module in training:
            module.training = True
        if outcome.error is not None and ours:
            unjudged.append(f"{name} does not run on random tokens alone ({outcome.failure})")
            continue
        if outcome.error is not None:
            found.append(words.raised(f"The forward pass of {name}", outcome.failure, outcome.place, None))
            continue
        logits = outcome.result
        wrong = int((~torch.isfinite(logits)).sum())
        if wrong:
            message = f"{wrong:,} of the {logits.numel():,} logits of {name} are NaN or Inf in the first pass."
            found.append(words.finding("CKD007", message, evidence={"nonfinite": wrong, "of": logits.numel()}))
        elif bare is not None and bare.error is not None:
            lines.append(f"forward: {name} cannot be run without its adapter: {bare.failure}")
        elif bare is not None and bare.result.shape == logits.shape and torch.equal(bare.result, logits):
            message = f"With and without the adapter {name} computes the same logits: the adapter changes nothing."
            found.append(words.finding("CKD006", message))
    return found, unjudged


_Pass = tuple[str, Callable[[], Any], Callable[[], Any] | None]


def _passes(model: Any, parameters: frozenset[str]) -> Iterator[_Pass]:
    """Each pass to run: what it is of, with the adapter, and without it where there is one."""
    tokens = _random_tokens(model)
    if tokens is None:
        return
    if callable(getattr(model, "weave", None)) and getattr(model, "reasoner", None) is not None:
        yield "the weaver", lambda: model.weave(tokens), lambda: model.weave(tokens, adapter=False)
    elif callable(getattr(model, "judge", None)) and getattr(model, "trigger", None) is not None:
        yield "the trigger", lambda: model.judge(tokens), lambda: model.judge(tokens, adapter=False)
    elif hasattr(model, "peft_config") or hasattr(model, "config"):
        yield "the model", lambda: _logits(model, tokens), _without(model, tokens)
    else:
        for path, module in adapted_modules(model):
            if not any(name.startswith(f"{path}.") for name in parameters):
                continue
            yield path, partial(_logits, module, tokens), _without(module, tokens)


def _without(model: Any, tokens: torch.Tensor) -> Callable[[], Any] | None:
    if not hasattr(model, "peft_config") or not hasattr(model, "disable_adapter"):
        return None

    def compute() -> Any:
        with model.disable_adapter():
            logits = _logits(model, tokens)
        return logits

    return compute


def _logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    inputs = {"input_ids": tokens}
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens
    output = model(**inputs)
    logits = getattr(output, "logits", None)
    if logits is None:
        logits = output[0] if isinstance(output, tuple) or hasattr(output, "keys") else output
    result: torch.Tensor = logits.float()
    # A prompt in front of the tokens makes the output longer: compared are the tokens themselves.
    return result[:, -tokens.shape[1] :] if result.dim() == 3 else result


def _random_tokens(model: Any) -> torch.Tensor | None:
    import torch

    sizes = []
    for module in model.modules():
        config = getattr(module, "config", None)
        for part in (config, getattr(config, "text_config", None)):
            size = getattr(part, "vocab_size", None)
            if isinstance(size, int) and size > 1:
                sizes.append(size)
    if not sizes:
        return None
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randint(1, min(sizes), (1, _TOKENS), generator=generator).to(device)


@contextlib.contextmanager
def same_random_state() -> Iterator[None]:
    """Within this block torch's random numbers may be drawn; afterwards they go on as if none had been."""
    import torch

    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
