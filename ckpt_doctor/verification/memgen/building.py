"""MemGen checkpoints: a model that they fit into, and a loader for each of their layouts.

:func:`build_model` makes the model that an evaluation would make; :func:`load` reads every variant that
``ckpt_doctor.open_checkpoint`` knows into it; :func:`components` says which tensor is for what.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError

from .components import components
from .config import MemGenSettings, read_memgen_yaml
from .contents import Contents, contents_of
from .lora import adapter_configs
from .own_loader import LoadLog, load, required, targets

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from torch import nn
    from transformers import PretrainedConfig

    from .model import MemGenModel, MemGenTrigger, MemGenWeaver

    Base = PretrainedConfig | nn.Module
    Own = TypeVar("Own", MemGenWeaver, MemGenTrigger)

__all__ = [
    "LoadLog",
    "MemGenSettings",
    "build_model",
    "components",
    "load",
    "read_memgen_yaml",
    "required",
    "targets",
]

_USUAL_LENGTH = 8


def build_model(
    checkpoint: Checkpoint,
    base_config: Base,
    weaver_config: Base | None = None,
    trigger_config: Base | None = None,
    *,
    settings: MemGenSettings | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    trained_dtype: torch.dtype | None = None,
) -> MemGenModel:
    """A MemGen model of the modules that ``checkpoint`` is about, in evaluation mode and with random weights.

    ``base_config`` is the reasoner's configuration, or a causal language model that is there already and is adapted in
    place. Without ``weaver_config`` the weaver is the same model as the reasoner; without ``trigger_config`` the
    trigger is the same ``PeftModel`` as the weaver. A whole model whose names show that they were separate gets
    separate ones. Hidden sizes come from these configurations, latents lengths and LoRA settings from
    ``settings``, and what nobody configured from the checkpoint: a checkpoint that does not fit is so found on loading.
    On the device ``meta`` nothing takes memory. ``dtype`` is by default that of ``base_config``, and ``trained_dtype``,
    that of what MemGen trains (adapters, projections, latents, classifier), by default ``dtype``.

    Raises ``VerificationError`` if no such model can be built.
    """
    import torch

    if checkpoint.kind.loads != "memgen":
        raise VerificationError(f"{checkpoint.path} is not a MemGen checkpoint: its layout is {checkpoint.layout}")
    contents = contents_of(checkpoint)
    builder = _Builder(contents, settings or MemGenSettings(), dtype or _dtype_of(base_config), trained_dtype)
    with torch.device(device):
        if contents.lone_trigger:
            model = builder.lone_trigger(trigger_config or base_config)
        else:
            model = builder.whole(base_config, weaver_config, trigger_config)
    return model.eval()


class _Builder:
    """Makes the modules of one model, and remembers what had to be assumed."""

    def __init__(
        self,
        contents: Contents,
        settings: MemGenSettings,
        dtype: torch.dtype,
        trained_dtype: torch.dtype | None,
    ) -> None:
        self.contents = contents
        self.settings = settings
        self.dtype = dtype
        self.trained_dtype = trained_dtype
        self.notes: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.names: list[str] = []
        for item in contents.tensors.values():
            if item.part.role != "adapter":
                self.names.append(item.tensor.name)
                self.shapes[item.tensor.name.removeprefix("weaver.")] = item.tensor.shape
        self.configs = adapter_configs(contents, settings)

    def lone_trigger(self, base: Base) -> MemGenModel:
        from .model import MemGenModel

        language_model = self.language_model(base)
        trigger = self.trigger(language_model, self.config_of("trigger"))
        return MemGenModel(None, None, trigger, hidden_sizes=None, lora_notes=tuple(self.notes))

    def whole(self, base: Base, weaver_base: Base | None, trigger_base: Base | None) -> MemGenModel:
        from .model import MemGenModel

        if self.contents.whole:
            # In a whole model the names tell who shared a model with whom, where the user does not.
            if not self._reasoner_is_adapted():
                weaver_base = weaver_base or base
            if not any(".trigger." in name and not name.startswith("trigger.") for name in self.names):
                trigger_base = trigger_base or weaver_base or base
        elif weaver_base is None:
            self._refuse_a_weaver_of_another_size(_hidden_size(base))
        reasoner = self.language_model(base)
        weaver_model = reasoner if weaver_base is None else self.language_model(weaver_base)
        weaver = self.weaver(weaver_model, self.config_of("weaver"))
        trigger = self.trigger_beside(weaver, trigger_base)
        sizes = (_hidden_size(reasoner), _hidden_size(weaver_model))
        model = MemGenModel(reasoner, weaver, trigger, hidden_sizes=sizes, lora_notes=tuple(self.notes))
        for projection in (model.reasoner_to_weaver, model.weaver_to_reasoner):
            projection.to(self.trained_dtype or self.dtype)
        return model

    def weaver(self, language_model: nn.Module, config: PeftConfig | None) -> MemGenWeaver:
        from .model import BANKS, MemGenWeaver

        hidden = _hidden_size(language_model)
        adapted = self.adapted(language_model, config, "weaver")
        lengths = {bank: self.length(bank) for bank in BANKS}
        norms = any("_latent_ln." in name for name in self.names)
        scales = any(name.endswith("_latent_scale") for name in self.names)
        try:
            weaver = MemGenWeaver(adapted, hidden, lengths, norms=norms, scales=scales)
        except RuntimeError as error:  # lengths are numbers out of a file: negative, or more than memory holds
            raise VerificationError(f"no query latents of the lengths {lengths} can be made: {error}") from error
        return self._own_modules_cast(weaver)

    def trigger(self, language_model: nn.Module, config: PeftConfig | None) -> MemGenTrigger:
        from .model import MemGenTrigger

        hidden = _hidden_size(language_model)
        # Whole models of older versions have no classifier; everywhere else the module is there, saved or not.
        classified = not self.contents.whole or "trigger.output_layer.weight" in self.names
        trigger = MemGenTrigger(self.adapted(language_model, config, "trigger"), hidden if classified else None)
        return self._own_modules_cast(trigger)

    def trigger_beside(self, weaver: MemGenWeaver, base: Base | None) -> MemGenTrigger | None:
        """The trigger, on the weaver's ``PeftModel`` or on a model of its own, if the checkpoint has one."""
        try:
            config = self.config_of("trigger")
            if config is None and not any(name.startswith("trigger.") for name in self.names):
                return None
            return self.trigger(weaver.model if base is None else self.language_model(base), config)
        except VerificationError as error:
            if not any(name == "trigger" and part.secondary for name, part in self.contents.adapters):
                raise
            self.notes.append(f"the trigger's adapter beside the weaver's was left out: {error}")
            return None

    def config_of(self, adapter: str) -> PeftConfig | None:
        known = self.configs[adapter]
        if known.error is not None:
            raise known.error
        if known.note is not None:
            self.notes.append(known.note)
        return known.config

    def language_model(self, base: Base) -> nn.Module:
        """A causal language model of this configuration with random weights, or the one that is given."""
        from torch import nn
        from transformers import AutoModelForCausalLM

        if isinstance(base, nn.Module):
            return base
        config = copy.deepcopy(base)  # transformers writes its choices into it
        try:
            # A configuration may name code to run; it is never run.
            auto: Any = AutoModelForCausalLM
            model: nn.Module = auto.from_config(config, dtype=self.dtype, trust_remote_code=False)
        except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
            kind = getattr(base, "model_type", type(base).__name__)
            raise VerificationError(
                f"no causal language model can be built from this {kind} config: {error}"
            ) from error
        return model

    def adapted(self, language_model: Any, config: PeftConfig | None, adapter: str) -> Any:
        """``language_model`` as a ``PeftModel`` with this adapter; one that is a ``PeftModel`` gets it in addition."""
        from peft import PeftModel, get_peft_model

        if config is None:
            path = self.contents.checkpoint.path
            raise VerificationError(f"{path} does not say what its {adapter} adapter looks like: no tensors, no config")
        try:
            if isinstance(language_model, PeftModel):
                adapted = language_model
                adapted.add_adapter(adapter, config, autocast_adapter_dtype=False)
            else:
                adapted = get_peft_model(language_model, config, adapter_name=adapter, autocast_adapter_dtype=False)
        except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
            raise VerificationError(f"the base model cannot carry the {adapter} adapter: {error}") from error
        dtype = self.trained_dtype or adapted.get_input_embeddings().weight.dtype
        for name, parameter in adapted.named_parameters():
            # PEFT gives an adapter the dtype of its base, but not on the meta device.
            wanted = parameter.is_meta or self.trained_dtype is not None
            if wanted and f".{adapter}" in name and parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        return adapted

    def length(self, bank: str) -> int:
        """Number of latents in a bank: as configured, else as the checkpoint's config says, else as it is."""
        asked = getattr(self.settings, f"{bank}_latents_len")
        if asked is not None:
            return int(asked)
        for part in self.contents.checkpoint.parts_with("model"):
            if part.config is not None and part.config.data is not None:
                recorded = part.config.data.get(f"{bank}_latents_len")
                if isinstance(recorded, int) and recorded >= 0:
                    return recorded
        for known in self.contents.checkpoint.known_sizes:
            if known.dim == f"{bank} latents length":
                return known.size
        shape = self.shapes.get(f"{bank}_query_latents", ())
        return shape[0] if len(shape) == 2 else _USUAL_LENGTH

    def _own_modules_cast(self, module: Own) -> Own:
        """Cast what is not part of the language model, which may have been given with a dtype of its own."""
        for name, child in module.named_children():
            if name != "model":
                child.to(self.trained_dtype or self.dtype)
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(self.trained_dtype or self.dtype)
        return module

    def _reasoner_is_adapted(self) -> bool:
        return any(name.startswith("reasoner.") and (".base_layer." in name or ".lora_" in name) for name in self.names)

    def _refuse_a_weaver_of_another_size(self, hidden: int) -> None:
        shape = self.shapes.get("reasoner_to_weaver.weight", ())
        if len(shape) == 2 and shape[1] == hidden != shape[0]:
            path = self.contents.checkpoint.path
            raise VerificationError(
                f"the weaver of {path} has hidden size {shape[0]} and the reasoner's model {hidden}: "
                "name the weaver's model too, with --weaver-model"
            )


def _config_of(base: Base) -> Any:
    from torch import nn

    return getattr(base, "config", None) if isinstance(base, nn.Module) else base


def _hidden_size(base: Base) -> int:
    config = _config_of(base)
    size = getattr(config.get_text_config(), "hidden_size", None) if hasattr(config, "get_text_config") else None
    if not isinstance(size, int):
        raise VerificationError("the base model's config has no hidden_size")
    return size


def _dtype_of(base: Base) -> torch.dtype:
    import torch

    dtype = getattr(_config_of(base), "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32
