"""Quantised weights on disk against a model that is not quantised: by names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.verification.model.dtypes import torch_dtype
from ckpt_doctor.verification.model.live import Target

from .matching import PartMatch, matched_names
from .quantisers import Piece, partners, pieces

if TYPE_CHECKING:
    from torch import nn


def quantisation(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """What the config of a whole model says about how it is quantised; empty if it is not."""
    for part in checkpoint.parts_with("model"):
        data = (part.config.data if part.config is not None else None) or {}
        for place in (data, data.get("text_config")):
            settings = place.get("quantization_config") if isinstance(place, Mapping) else None
            if isinstance(settings, Mapping):
                return settings
    return {}


def add_packed(model: nn.Module, part: PartMatch, settings: Mapping[str, Any]) -> None:
    """Give the pieces of quantised weights in ``part`` their targets, in place."""
    found = list(pieces(item.tensor for item in part.tensors))
    weights = _weights(model, part, dict.fromkeys(piece.weight for piece in found))
    for piece in found:
        weight, name = weights.get(piece.weight), piece.tensor.name
        if weight is not None and (piece.tensor.shape != weight.shape or name not in part.targets):
            part.targets[name] = _target(piece, weight, settings)


def _target(piece: Piece, weight: Target, settings: Mapping[str, Any]) -> Target:
    """The weight as the target of a piece, with the shape of the piece where that is as it should be."""
    tensor = piece.tensor
    if piece.fits(tensor.shape, weight.shape, settings):
        shape = tensor.shape
    else:
        shape = weight.shape if weight.shape != tensor.shape else (*weight.shape, 0)  # never the same
    names = weight.names if piece.is_code else ()
    return Target(weight.name, names, shape, torch_dtype(tensor), weight.value, weight.trained, computed=True)


def _weights(model: nn.Module, part: PartMatch, names: Iterable[str]) -> dict[str, Target]:
    prefix = getattr(model, "base_model_prefix", "")
    found: dict[str, Target] = {}
    for naming in part.namings:
        if naming.adapter is None:
            for targets in matched_names(names, naming.targets, exact=True, prefix=prefix):
                found = {**targets, **found}
    return found


def lacks(part: Part, settings: Mapping[str, Any]) -> dict[str, str]:
    """Codes without what they have to be multiplied by, and the name of that, as far as the quantiser needs it."""
    names = {tensor.name for tensor in part.loaded_tensors}
    found = {}
    for tensor in part.loaded_tensors:
        wanted = next((item for item in partners(tensor, settings) if item not in names), None)
        begun = wanted is not None and wanted.endswith("*") and any(name.startswith(wanted[:-1]) for name in names)
        if wanted is not None and not begun:
            found[tensor.name] = wanted
    return found
