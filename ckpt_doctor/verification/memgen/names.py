"""What the tensors of a MemGen checkpoint are for, told by the file they lie in and by their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.layouts.registry import TRIGGER

ADAPTERS = ("weaver", "trigger")
"""The names of the two adapters."""

# Where an adapter's modules stand in the state dict of a whole model; the reasoner where it is the same model.
_ADAPTED = ("weaver.model.base_model.model.", "trigger.model.base_model.model.", "base_model.model.", "reasoner.")


class Read(NamedTuple):
    """A tensor that a loader of the layout reads, with its file and the unit that this belongs to."""

    part: Part
    file: WeightFile
    tensor: TensorInfo

    @property
    def key(self) -> tuple[str, str]:
        """File and tensor name, as in ``Checkpoint.tensors``."""
        return self.file.path, self.tensor.name


def read_by_a_loader(checkpoint: Checkpoint) -> Iterator[Read]:
    """Every tensor of the files that an evaluation reads: no second copy in another format, no training state."""
    for part in checkpoint.parts:
        if not part.auxiliary:
            for file in part.preferred:
                for tensor in file.tensors:
                    yield Read(part, file, tensor)


def is_whole(checkpoint: Checkpoint) -> bool:
    """Whether it is the state dict of a whole ``MemGenModel`` in one or more files."""
    return any(checkpoint.parts_with("model"))


def is_lone_trigger(checkpoint: Checkpoint) -> bool:
    """Whether it holds a trigger and no weaver, so that of a MemGen model only the trigger is needed."""
    return checkpoint.kind == TRIGGER


def adapter_of(part: Part) -> str:
    """The name of the adapter in this part: ``weaver`` for the part ``weaver adapter``."""
    return part.name.removesuffix(" adapter")


def components(checkpoint: Checkpoint) -> Mapping[tuple[str, str], str]:
    """``(file path, tensor name)`` to the part of the model that the tensor belongs to, in the order of the files.

    The parts are ``weaver adapter``, ``trigger adapter``, ``projections``, ``query latents``, ``latent norms`` (with
    the scales), ``trigger head``; in whole models also ``reasoner``, ``weaver base`` and ``trigger base``; and
    ``other``.
    """
    found = {}
    for read in read_by_a_loader(checkpoint):
        if read.part.role == "adapter":
            found[read.key] = read.part.name
        else:
            found[read.key] = _component(read.tensor.name, whole=read.part.role == "model")
    return found


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
    """Read the adapter ``adapter`` off the names and shapes of its ``lora_A`` matrices; ``None`` where there are none.

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
