"""A layout and a ``--model`` to a plan: how the model is built, with memory and without, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.coverage import Mode, ModelClass
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.verification.hosting.dependencies import require
from ckpt_doctor.verification.hosting.specs import BaseModel, MemGenConfig, ModelSpec, UserCode
from ckpt_doctor.verification.proof.steps import fitting_elsewhere

from . import loaders
from .bases import (
    adapted_config,
    attempted,
    base_config,
    fitting_class,
    has_weights,
    hollow_model,
    model_class,
    new_model,
    quantiser,
    real_model,
    resized,
    without_quantiser,
)
from .choosing import choose, kinds, none_fits
from .growing import growth

if TYPE_CHECKING:
    from ckpt_doctor.verification.memgen.bases import Bases


@dataclass(frozen=True)
class Plan:
    """``build`` makes the model that a loader is given, ``hollow`` the loaded one on the meta device.

    ``load`` is the ecosystem's own loader. ``file`` is the user's file, ``ours`` is unset where the model is the
    user's, and ``whole`` is set where the model was built for the checkpoint and must be covered in every parameter.
    ``loads_alone`` says that ``load`` makes its own model. ``lines`` say what was decided that nobody asked for.
    ``quantised`` names the quantiser of a whole model, if any. ``model_class`` is the class of an adapter's base,
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
    lines: tuple[str, ...] = ()
    quantised: str = ""
    model_class: ModelClass | None = None
    departures: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()
    advice: Callable[[], str] = str
    reference: Callable[[], Any] | None = None


def plan(
    checkpoint: Checkpoint,
    spec: ModelSpec | None,
    *,
    mode: Mode,
    weaver_model: str | None = None,
    trigger_model: str | None = None,
    apart: bool = False,
) -> Plan:
    """How to get a model for ``checkpoint`` out of ``spec``. Raises ``VerificationError`` where there is no way.

    Of MemGen, ``weaver_model`` and ``trigger_model`` are base models of their own, and with ``apart`` no two parts
    share one.
    """
    if isinstance(spec, UserCode):
        return _of_user(checkpoint, spec)
    if checkpoint.layout in loaders.MEMGEN:
        return _memgen(checkpoint, spec, weaver_model, trigger_model, apart=apart)
    if isinstance(spec, MemGenConfig):
        raise VerificationError(f"{checkpoint.path} is no MemGen checkpoint: name a base model instead of {spec.path}")
    require("transformers")
    if checkpoint.layout == "transformers":
        return _transformers(checkpoint, spec, mode)
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


def _transformers(checkpoint: Checkpoint, spec: BaseModel | None, mode: Mode) -> Plan:
    part = loaders.model_part(checkpoint)
    name = spec.name if spec is not None else str(checkpoint.root / part.directory)
    config = base_config(name)
    quantised = quantiser(config)
    if quantised and mode != "keys" and quantised != "fp8":
        raise VerificationError(
            f"{checkpoint.path} is quantised ({quantised}): its values are packed again on loading, so that they "
            "cannot be compared. --mode keys compares names and shapes. An adapter on a quantised base can be "
            "verified; so can your own model and loader"
        )
    plain = without_quantiser(config)
    chosen = attempted(name, lambda: fitting_class(plain, part))
    return Plan(
        name,
        lambda: new_model(config, chosen),
        lambda: hollow_model(plain, chosen),
        lambda _: loaders.load_transformers(checkpoint, config, chosen),
        whole=True,
        loads_alone=True,
        advice=lambda: fitting_elsewhere(config, lambda: kinds(config), part, chosen),
        quantised=quantised,
    )


def _memgen(
    checkpoint: Checkpoint,
    spec: BaseModel | MemGenConfig | None,
    weaver_model: str | None,
    trigger_model: str | None,
    *,
    apart: bool,
) -> Plan:
    """``apart`` makes a model for each part even where two are the same by name, as upstream MemGen does."""
    require("transformers")
    torch = require("torch")
    require("peft")
    from ckpt_doctor.verification.memgen.bases import find_bases, named
    from ckpt_doctor.verification.memgen.building import MemGenSettings, build_model, read_memgen_yaml

    settings = read_memgen_yaml(spec.path) if isinstance(spec, MemGenConfig) else MemGenSettings()
    given = spec.name if isinstance(spec, BaseModel) else None
    bases = find_bases(checkpoint, named(settings, given, weaver_model, trigger_model))
    if checkpoint.layout == "trigger":
        names = [bases.reasoner, None, bases.trigger]
    else:
        names = _apart(bases) if apart else _shared(bases, weaver_model, trigger_model)
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
    load = partial(loaders.load, checkpoint=checkpoint)
    return Plan(shown, build, hollow, load, loader="The MemGen loader of ckpt-doctor", lines=bases.lines)


def _shared(bases: Bases, weaver_model: str | None, trigger_model: str | None) -> list[str | None]:
    """The names for ``build_model``: two parts of one name share a model, except where the user named them apart."""
    reasoner, weaver, trigger = bases.reasoner, bases.weaver, bases.trigger
    own_weaver = weaver if weaver != reasoner or weaver_model is not None else None
    own_trigger = trigger if trigger != weaver or trigger_model is not None else None
    return [reasoner, own_weaver, own_trigger]


def _apart(bases: Bases) -> list[str | None]:
    return [bases.reasoner, bases.weaver or bases.reasoner, bases.trigger or bases.reasoner]


def _own_base(checkpoint: Checkpoint) -> str:
    """The base that the adapter names, if it is a folder here: nothing is downloaded that nobody asked for."""
    for part in checkpoint.parts_with("adapter"):
        data = (part.config.data if part.config is not None else None) or {}
        name = data.get("base_model_name_or_path")
        if isinstance(name, str) and name and (Path(name) / "config.json").is_file():
            return name
    raise VerificationError(f"{checkpoint.path} names no base model that is here: name one with --model")
