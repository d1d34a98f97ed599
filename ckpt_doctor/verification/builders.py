"""A layout and a ``--model`` to a plan: how the model is built, with memory and without, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ckpt_doctor.checkpoint import Checkpoint
from ckpt_doctor.coverage import ModelClass
from ckpt_doctor.errors import VerificationError
from ckpt_doctor.findings import Finding

from . import loaders
from .choosing import choose, kinds, none_fits
from .dependencies import require
from .growing import growth
from .models import (
    adapted_config,
    attempted,
    base_config,
    fitting_class,
    has_weights,
    hollow_model,
    model_class,
    new_model,
    real_model,
    resized,
)
from .specs import BaseModel, MemGenConfig, ModelSpec, UserCode
from .steps import fitting_elsewhere


@dataclass(frozen=True)
class Plan:
    """``build`` makes the model that a loader is given, ``hollow`` the loaded one on the meta device.

    ``load`` is the ecosystem's own loader. ``file`` is the user's file, ``ours`` is unset where the model is the
    user's, and ``whole`` is set where the model was built for the checkpoint and must be covered in every parameter.
    ``loads_alone`` says that ``load`` makes its own model. ``model_class`` is the class of an adapter's base,
    ``departures`` what is done that the ecosystem's own loader would not do, ``problems`` what is known to be wrong
    without a load, and ``advice`` what to do where names do not fit. ``reference`` makes the base of a merged adapter.
    """

    name: str
    build: Callable[[], Any]
    hollow: Callable[[], Any]
    load: Callable[[Any], Any]
    file: str | None = None
    ours: bool = True
    whole: bool = False
    loads_alone: bool = False
    loader: str = "The ecosystem's own loader"
    model_class: ModelClass | None = None
    departures: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()
    advice: Callable[[], str] = str
    reference: Callable[[], Any] | None = None


def plan(checkpoint: Checkpoint, spec: ModelSpec | None, *, mode: str, weaver_model: str | None = None) -> Plan:
    """How to get a model for ``checkpoint`` out of ``spec``. Raises ``VerificationError`` where there is no way."""
    if isinstance(spec, UserCode):
        return _of_user(checkpoint, spec)
    if checkpoint.layout in loaders.MEMGEN:
        return _memgen(checkpoint, spec, weaver_model)
    if isinstance(spec, MemGenConfig):
        raise VerificationError(f"{checkpoint.path} is no MemGen checkpoint: name a base model instead of {spec.path}")
    require("transformers")
    if checkpoint.layout == "transformers":
        return _transformers(checkpoint, spec)
    part = loaders.model_part(checkpoint)
    base = spec.name if spec is not None else _own_base(checkpoint)
    if part.role == "adapter":
        return _adapter(checkpoint, base)
    config = base_config(base)
    chosen = attempted(base, lambda: fitting_class(config, part))
    return Plan(
        base,
        lambda: real_model(base, config, chosen),
        lambda: hollow_model(config, chosen),
        lambda model: loaders.load(model, checkpoint),
    )


def _of_user(checkpoint: Checkpoint, spec: UserCode) -> Plan:
    def build() -> Any:
        model = spec(str(checkpoint.root)) if spec.takes_path else spec()
        if not hasattr(model, "named_parameters"):
            raise VerificationError(f"{spec.name} returned {type(model).__name__}, not a torch.nn.Module")
        return model

    def hollow() -> Any:
        torch = require("torch")
        if spec.takes_path:
            raise VerificationError(f"{spec.name} loads by itself, which needs memory: use --mode load")

        def on_meta() -> Any:
            with torch.device("meta"):
                return build()

        model = on_meta()
        if checkpoint.layout == "peft" and not hasattr(model, "peft_config"):
            return loaders.hollow_adapter(on_meta, checkpoint)
        return model

    return Plan(spec.name, build, hollow, lambda model: loaders.load(model, checkpoint), spec.file, ours=False)


def _adapter(checkpoint: Checkpoint, base: str) -> Plan:
    part = loaders.model_part(checkpoint)
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

    def hollow() -> Any:
        return loaders.hollow_adapter(lambda: enlarged(hollow_model(config, choice.kind)), checkpoint)

    return Plan(
        base,
        build,
        hollow,
        lambda model: loaders.load(enlarged(model), checkpoint),
        model_class=choice.report,
        departures=tuple(filter(None, (widened, grown.line if grown is not None and grown.happens else None))),
        problems=() if grown is None or grown.happens else (grown.finding(),),
        advice=lambda: none_fits(choice),
        reference=reference,
    )


def _transformers(checkpoint: Checkpoint, spec: BaseModel | None) -> Plan:
    part = loaders.model_part(checkpoint)
    name = spec.name if spec is not None else str(checkpoint.root / part.directory)
    config = base_config(name)
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        kind = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        raise VerificationError(
            f"{checkpoint.path} is quantised ({kind}): its values are packed again on loading, so that nothing can be "
            "compared. An adapter on a quantised base can be verified; so can your own model and loader"
        )
    chosen = attempted(name, lambda: fitting_class(config, part))
    return Plan(
        name,
        lambda: new_model(config, chosen),
        lambda: hollow_model(config, chosen),
        lambda _: loaders.load_transformers(checkpoint, config, chosen),
        whole=True,
        loads_alone=True,
        advice=lambda: fitting_elsewhere(config, lambda: kinds(config), part, chosen),
    )


def _memgen(checkpoint: Checkpoint, spec: BaseModel | MemGenConfig | None, weaver_model: str | None) -> Plan:
    require("transformers")
    require("peft")
    from .memgen import MemGenSettings, build_model, read_memgen_yaml

    settings = read_memgen_yaml(spec.path) if isinstance(spec, MemGenConfig) else MemGenSettings()
    base = spec.name if isinstance(spec, BaseModel) else settings.model_name or _own_base(checkpoint)
    weaver = weaver_model or settings.weaver_model_name
    trigger = settings.trigger_model_name or (weaver if checkpoint.layout == "trigger" else None)
    shown = str(spec.path) if isinstance(spec, MemGenConfig) else base
    # The same name twice is one model with both adapters, except where the user says that they are two.
    configs = [base_config(name) if name and name != base else None for name in (weaver, trigger)]
    if weaver_model is not None:
        configs[0] = base_config(weaver_model)
    config = base_config(base)

    def hollow() -> Any:
        return build_model(checkpoint, config, *configs, settings=settings, device="meta")

    def build() -> Any:
        names = (base, weaver, trigger)
        models = [
            real_model(name, own, model_class(own, "CAUSAL_LM"))
            if name and own is not None and has_weights(name)
            else own
            for name, own in zip(names, (config, *configs), strict=True)
        ]
        return build_model(checkpoint, *models, settings=settings)

    load = partial(loaders.load, checkpoint=checkpoint)
    return Plan(shown, build, hollow, load, loader="The MemGen loader of ckpt-doctor")


def _own_base(checkpoint: Checkpoint) -> str:
    """The base that the adapter names, if it is a folder here: nothing is downloaded that nobody asked for."""
    for part in checkpoint.parts_with("adapter"):
        data = (part.config.data if part.config is not None else None) or {}
        name = data.get("base_model_name_or_path")
        if isinstance(name, str) and name and (Path(name) / "config.json").is_file():
            return name
    raise VerificationError(f"{checkpoint.path} names no base model that is here: name one with --model")
