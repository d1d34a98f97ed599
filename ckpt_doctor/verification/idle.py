"""Adapters that were loaded and do nothing: another one is active, or all of them are switched off. CKD006."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ckpt_doctor.findings import Finding

from . import findings as words
from .memgen_names import LAYOUTS

if TYPE_CHECKING:
    from torch import nn

    from ckpt_doctor.checkpoint import Checkpoint

    from .matching import PartMatch


def idle_adapters(model: nn.Module, checkpoint: Checkpoint, found: Iterable[PartMatch]) -> Iterator[Finding]:
    """The adapters of ``checkpoint`` that no layer of ``model`` applies as it stands.

    A MemGen switches between its two adapters while it runs, so that there only one that is off is idle.
    """
    for part in found:
        adapter = part.naming.adapter
        if adapter is None or part.part.secondary:
            continue
        states = _states(model, part)
        if states == {"off"}:
            yield words.idle(adapter, "switched off", "model.enable_adapter_layers()")
        elif states and "on" not in states and checkpoint.layout not in LAYOUTS:
            yield words.idle(adapter, "not the active one", f"model.set_adapter({adapter!r})")


def is_applied(model: nn.Module, part: PartMatch) -> bool:
    """Whether any layer of ``model`` applies the adapter that ``part`` was matched with."""
    return "on" in _states(model, part)


def _states(model: nn.Module, part: PartMatch) -> set[str]:
    adapter, path = part.naming.adapter, part.naming.path
    if adapter is None:
        return set()
    names = [name for target in part.targets.values() for name in target.names]
    return {_state(layer, adapter) for layer in _layers(model.get_submodule(path), path, names)} if names else set()


def _layers(module: Any, path: str, names: Iterable[str]) -> Iterator[Any]:
    """PEFT's layers around the parameters called ``names``; for learned prompts, which have none, the model itself."""
    start = f"{path}." if path else ""
    above = {name[: end + 1] for name in names for end, char in enumerate(name) if char == "."}
    layers = [
        layer
        for name, layer in module.named_modules()
        if f"{start}{name}." in above
        and hasattr(type(layer), "active_adapters")
        and hasattr(layer, "_disable_adapters")
    ]
    yield from layers or [module]


def _state(layer: Any, adapter: str) -> str:
    if getattr(layer, "_disable_adapters", False) or getattr(layer, "_adapters_disabled", False):
        return "off"
    active = layer.active_adapters
    if callable(active):  # transformers' own models have a method of that name
        return "on"
    return "on" if adapter in active or adapter in getattr(layer, "merged_adapters", ()) else "inactive"
