"""The facts in the names of a MemGen checkpoint's tensors: of which adapter each is, and what shape that has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from ckpt_doctor.core.weight_file import TensorInfo

# Where an adapter's modules stand in the state dict of a whole model; the reasoner where it is the same model.
_ADAPTED = ("weaver.model.base_model.model.", "trigger.model.base_model.model.", "base_model.model.", "reasoner.")


def adapter_in(name: str) -> str | None:
    """The adapter whose parameter this is, where a state dict was saved with the adapters' names in it.

    >>> adapter_in("reasoner.model.layers.0.self_attn.q_proj.lora_A.trigger.weight")
    'trigger'
    """
    words = name.split(".")
    for word, following in pairwise(words):
        if word.startswith("lora_") and following != "weight":
            return following
    return None


class LoraShape(NamedTuple):
    """What the tensors of one LoRA adapter tell: its rank for each module (paths in the base model), and its kind."""

    ranks: Mapping[str, int]
    dora: bool

    @property
    def usual_rank(self) -> int:
        """The rank of most modules."""
        ranks = list(self.ranks.values())
        return max(sorted(set(ranks)), key=ranks.count)


def lora_shape(tensors: Iterable[TensorInfo], adapter: str) -> LoraShape | None:
    """Read the adapter ``adapter`` off the names and shapes of its ``lora_A`` matrices; ``None`` if there are none.

    Names without an adapter's name in them are taken for this one.
    """
    ranks: dict[str, int] = {}
    dora = False
    for tensor in tensors:
        if adapter_in(tensor.name) not in (None, adapter):
            continue
        dora = dora or ".lora_magnitude_vector" in tensor.name
        for parameter in (".lora_A", ".lora_embedding_A"):
            module, found, _ = tensor.name.partition(parameter)
            if found and tensor.shape:
                root = next((root for root in _ADAPTED if module.startswith(root)), "")
                ranks[module.removeprefix(root)] = tensor.shape[0]
    return LoraShape(ranks, dora) if ranks else None
