"""CKD010: LoRA that the model scales otherwise than its config says, which changes as much as wrong weights do."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.rules.adapter_settings_differ import AdapterSettingsDiffer, Scaling

from .idle import adapted_layers

if TYPE_CHECKING:
    from torch import nn

    from ckpt_doctor.verification.names.matching import PartMatch

_OWN = "base_model.model."  # before the names that the patterns of a config are for


def scaled_otherwise(model: nn.Module, matches: Iterable[PartMatch]) -> Iterator[Finding]:
    """CKD010: the adapters whose live ``scaling`` is not that of the checkpoint's config."""
    for match in matches:
        config = match.part.config
        adapter = match.naming.adapter
        if adapter is None or match.part.secondary or config is None or config.data is None:
            continue
        different = _different(model, match, config.data) if config.data.get("peft_type") == "LORA" else {}
        if different:
            yield AdapterSettingsDiffer().report(config.path, adapter, different)


def _different(model: nn.Module, match: PartMatch, config: Mapping[str, Any]) -> dict[str, Scaling]:
    """By module, the scalings that differ."""
    whole = {name for target in match.targets.values() if target.whole for name in target.names}
    different = {}
    for name, layer in adapted_layers(model, match).items():
        start = f"{match.naming.path}.{name}." if match.naming.path else f"{name}."
        live, rank = (_number(getattr(layer, key, None), match.naming.adapter or "") for key in ("scaling", "r"))
        asked = _asked(config, name.removeprefix(_OWN), rank)
        # What PEFT fused out of several tensors has another rank and another scaling than each of them.
        if live is None or asked is None or not any(item.startswith(start) for item in whole):
            continue
        if not math.isclose(live, asked, rel_tol=1e-6):
            different[name] = Scaling(live, asked)
    return different


def _asked(config: Mapping[str, Any], module: str, rank: float | None) -> float | None:
    """The scaling that PEFT gives to a module of this config; ``None`` if it does not say."""
    asked = _of_module(config, "rank_pattern", "r", module)
    alpha = _of_module(config, "alpha_pattern", "lora_alpha", module)
    if alpha is None or asked is None or asked != rank or rank <= 0:
        return None
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_module(config: Mapping[str, Any], pattern: str, usual: str, module: str) -> float | None:
    patterns = config.get(pattern) or {}
    if not isinstance(patterns, Mapping):
        return None
    try:
        fits = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), None)
    except re.error:
        return None
    return _number(config if fits is None else patterns, usual if fits is None else fits)


def _number(values: Any, key: str) -> float | None:
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
