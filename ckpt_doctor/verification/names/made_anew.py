"""Tensors of older checkpoints that a model of transformers computes by itself: positions, frequencies, masks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.verification.model.live import plain_name

from .namings import transformers_models

if TYPE_CHECKING:
    from torch import nn

# What transformers overlooks in every model, beside that which a class says of itself.
_IN_EVERY_MODEL = (r"rotary_emb\.inv_freq$", r"(^|\.)position_ids$")


def made_anew(model: nn.Module, tensors: list[TensorInfo]) -> set[str]:
    """The names of those ``tensors`` that no loader restores, and that no model needs.

    They are buffers that ``model`` no longer saves; and where its class says that such names are overlooked, those
    that have moved to another module, those that a module which is still there does without, and single numbers such
    as a version. Weights of whole modules that a class overlooks were trained, and are none of these.
    """
    found: set[str] = set()
    for module in transformers_models(model) if tensors else ():
        buffers = set(_unsaved_buffers(module))
        kinds = {name.rpartition(".")[2] for name in buffers}
        modules = {plain_name(name) for name, _ in module.named_modules(remove_duplicate=False) if name}
        prefix = f"{module.base_model_prefix}." if module.base_model_prefix else ""
        patterns = [*_IN_EVERY_MODEL, *(getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ())]
        for tensor in tensors:
            parent, _, kind = tensor.name.rpartition(".")
            overlooked = any(re.search(pattern, tensor.name) for pattern in patterns)
            # A model and its headless twin differ in the prefix.
            same = not buffers.isdisjoint(_with_and_without(prefix, tensor.name))
            kept = kind in kinds or not modules.isdisjoint(_with_and_without(prefix, parent))
            if same or (overlooked and (kept or tensor.numel == 1)):
                found.add(tensor.name)
    return found


def _with_and_without(prefix: str, name: str) -> tuple[str, str, str]:
    return name, prefix + name, name.removeprefix(prefix)


def _unsaved_buffers(model: Any) -> Iterator[str]:
    for path, module in model.named_modules(remove_duplicate=False):
        for name in module._non_persistent_buffers_set & module._buffers.keys():
            yield plain_name(f"{path}.{name}" if path else name)
