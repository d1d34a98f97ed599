"""CKD006: adapters that were loaded and do nothing, because another one is active or all are switched off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.rules.adapter_without_effect import AdapterWithoutEffect

if TYPE_CHECKING:
    from torch import nn

    from ckpt_doctor.verification.names.matching import PartMatch

_ON, _OFF, _INACTIVE, _SCALED_AWAY = "on", "switched off", "not the active one", "scaled by 0"
_SWITCH_ON = "model.enable_adapter_layers()"
# What add_weighted_adapter gives to the adapter that it makes out of others; the rest it copies.
_OF_COMBINATIONS = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "inference_mode")


def idle_adapters(model: nn.Module, matches: Iterable[PartMatch], *, switches: bool, severe: bool) -> Iterator[Finding]:
    """CKD006: the adapters that no layer of the model applies as it stands, or not all of those that have them.

    A model that ``switches`` between its adapters while it runs has an idle one only where that is off. It is
    ``severe`` where nothing comes after the load that could still activate the adapter.
    """
    for match in matches:
        if match.naming.adapter is not None and not match.part.secondary:
            yield from _idle(model, match, switches=switches, severe=severe)


def _idle(model: nn.Module, match: PartMatch, *, switches: bool, severe: bool) -> Iterator[Finding]:
    adapter, rule = match.naming.adapter or "", AdapterWithoutEffect()
    states = _states(model, match)
    seen = set(states.values())
    if _ON in seen:
        idle = [] if switches else sorted(name for name, state in states.items() if state != _ON)
        if idle:
            yield rule.report_partly_idle(adapter, idle, len(states), states[idle[0]])
    elif seen == {_OFF}:
        yield rule.report_idle(adapter, _OFF, _SWITCH_ON, severe=severe)
    elif _INACTIVE in seen and not switches:
        combined, remedy = _combination(model, match), f"model.set_adapter({adapter!r})"
        if combined is None:
            yield rule.report_idle(adapter, _INACTIVE, remedy, severe=severe)
        else:
            yield rule.report_combined(adapter, combined, remedy)
    elif seen and not switches:
        yield rule.report_idle(adapter, _SCALED_AWAY, "the scaling that adapter_config.json asks for", severe=severe)


def is_applied(model: nn.Module, part: PartMatch) -> bool:
    """True if any layer of ``model`` applies the adapter that ``part`` was matched with."""
    return _ON in _states(model, part).values()


def adapted_layers(model: nn.Module, part: PartMatch) -> Mapping[str, Any]:
    """PEFT's layers around the targets of ``part``, by name; for learned prompts, which have none, the model itself."""
    path = part.naming.path
    names = [name for target in part.targets.values() for name in target.names]
    if part.naming.adapter is None or not names:
        return {}
    module = model.get_submodule(path)
    start = f"{path}." if path else ""
    above = {name[: end + 1] for name in names for end, char in enumerate(name) if char == "."}
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if f"{start}{name}." in above
        and hasattr(type(layer), "active_adapters")
        and hasattr(layer, "_disable_adapters")
    }
    return layers or {"": module}


def _states(model: nn.Module, part: PartMatch) -> dict[str, str]:
    adapter = part.naming.adapter or ""
    return {name: _state(layer, adapter) for name, layer in adapted_layers(model, part).items()}


def _state(layer: Any, adapter: str) -> str:
    if getattr(layer, "_disable_adapters", False) or getattr(layer, "_adapters_disabled", False):
        return _OFF
    active = layer.active_adapters
    if callable(active):  # transformers' own models have a method of that name
        return _ON
    if adapter in getattr(layer, "merged_adapters", ()):
        return _ON
    if adapter not in active:
        return _INACTIVE
    scaling = getattr(layer, "scaling", None)
    return _SCALED_AWAY if isinstance(scaling, dict) and scaling.get(adapter) == 0 else _ON


def _combination(model: nn.Module, part: PartMatch) -> str | None:
    """The active adapter, if it looks as if ``add_weighted_adapter`` had made it out of the loaded one and others."""
    configs: Any = getattr(model.get_submodule(part.naming.path), "peft_config", {})
    loaded = configs.get(part.naming.adapter)
    for layer in adapted_layers(model, part).values():
        for name in layer.active_adapters:
            config = configs.get(name)
            if config is None or loaded is None or getattr(config, "r", None) != getattr(config, "lora_alpha", 0):
                continue
            ours, theirs = loaded.to_dict(), config.to_dict()
            same = all(ours[key] == theirs.get(key) for key in ours if key not in _OF_COMBINATIONS)
            matrix = getattr(layer, "lora_B", {})
            # A fresh adapter has zeros there.
            if same and name in matrix and bool(matrix[name].weight.any()):
                return str(name)
    return None
