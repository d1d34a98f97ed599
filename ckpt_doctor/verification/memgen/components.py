"""Which part of a MemGen model each tensor of a checkpoint belongs to, as reports call it."""

from __future__ import annotations

from collections.abc import Mapping

from ckpt_doctor.core.checkpoint import Checkpoint

from .contents import ADAPTERS, Key, contents_of
from .names import adapter_in


def components(checkpoint: Checkpoint) -> Mapping[Key, str]:
    """``(file path, tensor name)`` to the part of the model that the tensor belongs to, in the order of the files.

    The parts are ``weaver adapter``, ``trigger adapter``, ``projections``, ``query latents``, ``latent norms`` (with
    the scales), ``trigger head``; in whole models also ``reasoner``, ``weaver base`` and ``trigger base``; and
    ``other``.
    """
    return {
        key: item.part.name
        if item.part.role == "adapter"
        else _component(item.tensor.name, whole=item.part.role == "model")
        for key, item in contents_of(checkpoint).tensors.items()
    }


def _component(name: str, *, whole: bool) -> str:
    owner, _, rest = name.partition(".")
    if owner in ("reasoner_to_weaver", "weaver_to_reasoner"):
        return "projections"
    if whole:
        adapter = adapter_in(name)
        if adapter is not None:
            return f"{adapter} adapter"
        if owner == "reasoner":
            return owner
        if owner in ADAPTERS and rest.startswith("model."):
            return f"{owner} base"
        name = rest
    if name.endswith("_query_latents"):
        return "query latents"
    if "_latent_ln." in name or name.endswith("_latent_scale"):
        return "latent norms"
    return "trigger head" if name.startswith("output_layer.") else "other"
