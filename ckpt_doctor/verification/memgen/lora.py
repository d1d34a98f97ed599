"""The configuration of MemGen's adapters: from the user, from ``adapter_config.json``, or read off the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.core.parts import Part

from .config import MemGenSettings
from .contents import ADAPTERS, Contents
from .names import lora_shape

if TYPE_CHECKING:
    from peft import PeftConfig

# MemGen's default configuration.
_USUAL_LORA = {"r": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
# PEFT imports a module that a configuration names where megatron_config is set, and fetches the adapters that an
# X-LoRA names: a file must not be able to ask for either.
_IGNORED = ("megatron_config", "auto_mapping", "base_model_name_or_path", "revision")
_REFUSED_TYPES = ("XLORA", "ADAPTION_PROMPT")


class AdapterConfig(NamedTuple):
    """The configuration of an adapter, and a ``note`` where some of it had to be assumed; or why there can be none.

    Both are ``None`` if neither the checkpoint nor the user knows of such an adapter.
    """

    config: PeftConfig | None = None
    note: str | None = None
    error: VerificationError | None = None


def adapter_configs(contents: Contents, settings: MemGenSettings) -> Mapping[str, AdapterConfig]:
    """The configurations of ``weaver`` and ``trigger``, or of a lone trigger, by these names."""
    names = ("trigger",) if contents.lone_trigger else ADAPTERS
    return {name: _attempted(contents, name, settings) for name in names}


def _attempted(contents: Contents, adapter: str, settings: MemGenSettings) -> AdapterConfig:
    try:
        return AdapterConfig(*adapter_config(contents, adapter, settings))
    except VerificationError as error:  # a trigger beside a weaver may do without
        return AdapterConfig(error=error)


def adapter_config(contents: Contents, adapter: str, settings: MemGenSettings) -> tuple[PeftConfig | None, str | None]:
    """The configuration and the note of an :class:`AdapterConfig`. Raises ``VerificationError``.

    What the user says wins: an evaluation builds its model from that, whatever was trained.
    """
    asked = settings.weaver_lora if adapter == "weaver" else settings.trigger_lora
    part = next((part for name, part in contents.adapters if name == adapter), None)
    if part is not None and asked is None and part.config is not None and part.config.data is not None:
        return _peft_config(part.config.data, part.config.path), None
    if asked is not None and (part is not None or contents.whole):
        return _peft_config({**_USUAL_LORA, **asked, "peft_type": "LORA"}, f"lora_config of the {adapter}"), None
    return _from_tensors(contents, part, adapter)


def _from_tensors(contents: Contents, part: Part | None, adapter: str) -> tuple[PeftConfig | None, str | None]:
    recorded: Mapping[str, Any] = {}
    if part is None:
        part = next(contents.checkpoint.parts_with("model"), None)
        config = part.config.data if part and part.config and part.config.data else {}
        lora = config.get(f"{adapter}_lora_config")
        recorded = lora if isinstance(lora, dict) else {}
    if part is None:
        return None, None
    shape = lora_shape(part.loaded_tensors, adapter)
    if shape is None:
        if part.role != "adapter" or (not part.required and not part.files):
            return None, None
        note = f"the {adapter} adapter has neither tensors nor a configuration: MemGen's defaults were used"
        return _peft_config({**_USUAL_LORA, "peft_type": "LORA"}, "MemGen's default LoRA"), note
    rank = shape.usual_rank
    data = {
        "lora_alpha": rank,
        **recorded,
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "target_modules": list(shape.ranks),
        "rank_pattern": {module: r for module, r in shape.ranks.items() if r != rank},
        "use_dora": shape.dora,
    }
    assumed = "" if "lora_alpha" in recorded else f", and lora_alpha was assumed to be {rank}"
    note = (
        f"without a configuration of the {adapter} adapter, its rank and modules were taken from the tensors{assumed}"
    )
    return _peft_config(data, f"the {adapter} adapter"), note


def _peft_config(data: Mapping[str, Any], source: str) -> PeftConfig:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = data.get("peft_type")
    kinds = {str(getattr(known, "value", known)): config for known, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if not isinstance(kind, str) or kind not in kinds:
        raise VerificationError(f"{source}: PEFT knows no adapter of the type {str(kind)[:80]!r}")
    known = {field.name for field in fields(kinds[kind])} - set(_IGNORED)
    wanted = {key: value for key, value in data.items() if key in known}
    if isinstance(wanted.get("init_lora_weights"), str):
        # PiSSA and the like change the base model when an adapter is made, not when it is loaded.
        wanted["init_lora_weights"] = True
    try:
        config: PeftConfig = kinds[kind](**wanted)
    except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise VerificationError(f"{source}: PEFT refuses this configuration: {error}") from error
    if config.is_prompt_learning or kind in _REFUSED_TYPES:
        raise VerificationError(f"{source}: a MemGen adapter cannot be of the type {kind}")
    return config
