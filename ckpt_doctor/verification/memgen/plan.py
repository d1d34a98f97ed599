"""How a MemGen checkpoint is loaded: the entry ``memgen`` of ``LOADS``."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import MEMGEN_UPSTREAM
from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.hosting.specs import BaseModel, MemGenConfig
from ckpt_doctor.verification.model.bases import base_config, has_weights, model_class, real_model
from ckpt_doctor.verification.model.plan import Load, Plan
from ckpt_doctor.verification.question import Question

from .bases import Bases, find_bases, named
from .building import build_model
from .config import MemGenSettings, read_memgen_yaml
from .names import components, is_lone_trigger
from .own_loader import load
from .their_loaders import LOADERS


def plan(question: Question) -> Plan:
    """A MemGen model on the base models that the user, a YAML or the adapters name."""
    require("transformers")
    torch = require("torch")
    require("peft")
    checkpoint, spec = question.checkpoint, question.model
    settings = read_memgen_yaml(spec.path) if isinstance(spec, MemGenConfig) else MemGenSettings()
    given = spec.name if isinstance(spec, BaseModel) else None
    bases = find_bases(checkpoint, named(settings, given, question.weaver_model, question.trigger_model))
    names = _bases(question, bases)
    configs = [None if name is None else base_config(name) for name in names]

    def built(models: list[Any], **options: Any) -> Any:
        # MemGen makes what it trains in PyTorch's default dtype, whatever that of the base models is.
        return build_model(checkpoint, *models, settings=settings, trained_dtype=torch.float32, **options)

    def hollow() -> Any:
        return built(configs, device="meta")

    def build() -> Any:
        models = [
            real_model(name, config, model_class(config, "CAUSAL_LM")) if name and has_weights(name) else config
            for name, config in zip(names, configs, strict=True)
        ]
        return built(models)

    shown = str(spec.path) if isinstance(spec, MemGenConfig) else bases.reasoner
    return Plan(
        shown,
        build,
        hollow,
        partial(into, checkpoint=checkpoint),
        loader="The MemGen loader of ckpt-doctor",
        lines=bases.lines,
    )


def into(model: Any, checkpoint: Checkpoint) -> Any:
    """Load every part into ``model``, which bears MemGen's names, by the loader of this package."""
    for line in load(model, checkpoint).warnings:
        logging.getLogger(__name__).warning(line)
    return model


def _bases(question: Question, bases: Bases) -> list[str | None]:
    """The base models of reasoner, weaver and trigger for ``build_model``."""
    if is_lone_trigger(question.checkpoint):
        return [bases.reasoner, None, bases.trigger]
    if question.ours and question.names.loader == MEMGEN_UPSTREAM:
        return _apart(bases)
    return _shared(bases, question.weaver_model, question.trigger_model)


def _shared(bases: Bases, weaver_model: str | None, trigger_model: str | None) -> list[str | None]:
    """The names for ``build_model``: two parts of one name share a model, except where the user named them apart."""
    reasoner, weaver, trigger = bases.reasoner, bases.weaver, bases.trigger
    own_weaver = weaver if weaver != reasoner or weaver_model is not None else None
    own_trigger = trigger if trigger != weaver or trigger_model is not None else None
    return [reasoner, own_weaver, own_trigger]


def _apart(bases: Bases) -> list[str | None]:
    """A model for each part even where two are the same by name, as upstream MemGen does."""
    return [bases.reasoner, bases.weaver or bases.reasoner, bases.trigger or bases.reasoner]


def _switches(_: Checkpoint) -> bool:
    """A MemGen runs with one of its adapters after the other."""
    return True


LOAD = Load(
    plan,
    into,
    title="MemGen",
    loaders=LOADERS,
    reads_yaml=True,
    has_own=True,
    components=components,
    switches=_switches,
    entries_are_unique=True,
)
