"""How a MemGen checkpoint is loaded: the entry ``memgen`` of ``LOADS``."""

from __future__ import annotations

from functools import partial
from typing import Any

from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.hosting.specs import BaseModel, MemGenConfig
from ckpt_doctor.verification.model.bases import base_config, has_weights, model_class, real_model
from ckpt_doctor.verification.model.plan import Load, Plan, always
from ckpt_doctor.verification.question import Question

from .bases import base_models, find_bases, named
from .building import build_model
from .components import components
from .config import MemGenSettings, read_memgen_yaml
from .contents import contents_of
from .own_loader import into
from .their_loaders import LOADERS


def plan(question: Question) -> Plan:
    """A MemGen model on the base models that the user, a YAML or the adapters name."""
    require("transformers")
    torch = require("torch")
    require("peft")
    checkpoint, spec = question.checkpoint, question.model
    settings = read_memgen_yaml(spec.path) if isinstance(spec, MemGenConfig) else MemGenSettings()
    given = spec.name if isinstance(spec, BaseModel) else None
    contents = contents_of(checkpoint)
    bases = find_bases(contents, named(settings, given, question.weaver_model, question.trigger_model))
    names = base_models(question, contents, bases)
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


LOAD = Load(
    plan,
    into,
    title="MemGen",
    loaders=LOADERS,
    reads_yaml=True,
    has_own=True,
    components=components,
    switches=always,  # a MemGen runs with one of its adapters after the other
    entries_are_unique=True,
)
