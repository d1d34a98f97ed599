"""An adapter of PEFT: into a base model that is built for it, or into the user's."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.question import Question

from .asked import asked_part, named_base
from .bases import adapted_config, attempted, hollow_model, real_model, resized
from .choosing import choose, none_fits
from .growing import growth
from .plan import Load, Plan

NamedFolder: TypeAlias = tuple[str, Path]
"""The name of an adapter, and the folder that it lies in."""

_NAME = "default"
"""PEFT's name for an adapter without a name."""


def plan(question: Question) -> Plan:
    """The base of the class in which the adapter's modules exist, and PEFT's loader."""
    checkpoint, base = question.checkpoint, named_base(question)
    part = asked_part(checkpoint)
    require("peft")
    config, task, widened = attempted(base, lambda: adapted_config(base, part))
    choice = choose(base, config, task, part)
    grown = growth(choice.model, part, checkpoint.root / part.directory)

    def build() -> Any:
        return real_model(base, config, choice.kind)

    def enlarged(model: Any) -> Any:
        return grown.apply(model) if grown is not None else model

    def reference() -> Any:
        # A loader that merged the adapter has resized the base before.
        model = build()
        resized(model, [part])
        return model

    return Plan(
        base,
        build,
        lambda: hollow(lambda: enlarged(hollow_model(config, choice.kind)), _only(checkpoint)),
        lambda model: into(enlarged(model), checkpoint),
        model_class=choice.report,
        departures=tuple(filter(None, (widened, grown.line if grown is not None and grown.happens else None))),
        problems=() if grown is None or grown.happens else (grown.finding(),),
        advice=lambda: none_fits(choice),
        reference=reference,
    )


def into(model: Any, checkpoint: Checkpoint) -> Any:
    """Load the adapter into ``model``, and return the ``PeftModel`` that holds it."""
    peft = require("peft")
    folder = checkpoint.root / asked_part(checkpoint).directory
    if isinstance(model, peft.PeftModel):
        load_into_own(model, folder, own_adapter(model))
        return model
    return peft.PeftModel.from_pretrained(model, str(folder))


def own_adapter(model: Any) -> str:
    """The name of the adapter that a ``PeftModel`` is made with."""
    return str(model.active_adapter if isinstance(model.active_adapter, str) else model.active_adapter[0])


def load_into_own(model: Any, folder: Path, name: str) -> None:
    """Load into the adapter of this name that a ``PeftModel`` has, as a training script that resumes does."""
    peft = require("peft")
    weights = peft.load_peft_weights(str(folder), device="cpu")
    peft.set_peft_model_state_dict(model, weights, adapter_name=name)


def hollow(build: Callable[[], Any], adapters: Sequence[NamedFolder]) -> Any:
    """The base on the meta device that ``build`` makes, with these adapters in it: each its name and its folder.

    Raises ``VerificationError`` for the few types of adapters that are computed from the base's weights.
    """
    if not adapters:
        return build()
    *earlier, (name, folder) = adapters
    config = require("peft").PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True  # as PeftModel.from_pretrained does
    ranks = getattr(config, "rank_pattern", None) if config.peft_type == "ADALORA" else None
    model = _around(lambda: hollow(build, earlier), name, config)
    _with_pruned_ranks(model, name, config, ranks or {})
    return model


def _around(build: Callable[[], Any], name: str, config: Any) -> Any:
    """One more adapter around what ``build`` makes."""
    torch = require("torch")
    # MonteCLoRA makes no sampler on the meta device, and saves one.
    context = contextlib.nullcontext() if getattr(config, "monteclora_config", None) else torch.device("meta")
    try:
        with context:
            return _added(build(), name, copy.deepcopy(config))
    except (NotImplementedError, RuntimeError):
        # Some compute small tensors of their own while they are built: then the adapter alone gets memory.
        try:
            return _added(build(), name, config)
        except (NotImplementedError, RuntimeError) as error:
            raise VerificationError(
                f"a {config.peft_type.value} adapter is computed from the weights of its base, which --mode keys does "
                f"not have ({' '.join(str(error).split())[:200]}): use --mode load"
            ) from None


def _added(model: Any, name: str, config: Any) -> Any:
    peft = require("peft")
    if not isinstance(model, peft.PeftModel):
        return peft.get_peft_model(model, config, adapter_name=name)
    model.add_adapter(name, config)
    return model


def _with_pruned_ranks(model: Any, adapter: str, config: Any, ranks: Mapping[str, Any]) -> None:
    """What AdaLoRA does with the masks of its pruned ranks, without the values that it would keep."""
    for name, kept in ranks.items():
        words = name.split(".")
        layer = model.base_model.model.get_submodule(".".join(words[: -2 if adapter in words else -1]))
        layer.update_layer(adapter, sum(kept), config.lora_alpha, config=config)


def _only(checkpoint: Checkpoint) -> tuple[NamedFolder]:
    return ((_NAME, checkpoint.root / asked_part(checkpoint).directory),)


def _hollow_of_users(build: Callable[[], Any], checkpoint: Checkpoint) -> Any:
    model = build()
    return model if hasattr(model, "peft_config") else hollow(build, _only(checkpoint))


def _reference(question: Question, prepared: Plan) -> Callable[[], Any] | None:
    """The base once more. A factory that loads makes none, so the adapter's own base has to do."""
    try:
        known = prepared if question.factory is None else plan(replace(question, model=None))
    except VerificationError:
        return None
    return known.reference or known.build


LOAD = Load(plan, into, hollow=_hollow_of_users, reference=_reference, must_be_active=True)
