"""What becomes of tensors that share bytes, since in a safetensors file each has its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from ckpt_doctor.analysis.aliasing import AliasGroup, alias_groups
from ckpt_doctor.core.actions import SharedChoice, SharedUse
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.core.wording import byte_size, counted, listed
from ckpt_doctor.knowledge.embeddings import EMBEDDINGS, INPUT_EMBEDDINGS

from .outcome import AliasOutcome

CHOICES: tuple[SharedChoice, ...] = get_args(SharedChoice)
"""Values of ``--shared``."""


@dataclass(slots=True)
class Settled:
    """``removed`` maps names that are not written to the name that is kept for them; ``outcomes`` tells all."""

    removed: dict[str, str] = field(default_factory=dict)
    outcomes: list[AliasOutcome] = field(default_factory=list)


def settle(file: WeightFile, shared: SharedUse) -> Settled:
    """Decide about every group of overlapping tensors.

    Only views that are the same in every respect are dropped: another view of the same bytes could not be made from
    the name that is kept, and gets its own. Raises ``ConversionError`` for ``error`` where there is such a group.
    """
    groups = alias_groups(file)
    settled = Settled()
    if not groups:
        return settled
    if shared == "error":
        raise ConversionError(_complaint(groups))
    by_name = file.by_name
    for group in groups:
        tensors = [by_name[name] for name in group.names]
        drops = shared == "drop" or (shared == "tied" and _only_embeddings(group))
        views = _same_views(tensors) if drops else [[tensor] for tensor in tensors]
        for view in views:
            names = tuple(tensor.name for tensor in view)
            if len(names) > 1:
                kept = _kept(names)
                settled.removed.update((name, kept) for name in names if name != kept)
                settled.outcomes.append(AliasOutcome(names, "dropped", view[0].nbytes * (len(names) - 1), kept))
        if len(views) > 1:
            written = sum(view[0].nbytes for view in views)
            more = max(0, written - group.unique_nbytes)
            settled.outcomes.append(AliasOutcome(tuple(view[0].name for view in views), "cloned", more))
    return settled


def _same_views(tensors: list[TensorInfo]) -> list[list[TensorInfo]]:
    views: dict[object, list[TensorInfo]] = {}
    for tensor in tensors:
        views.setdefault((tensor.dtype, tensor.extent, tensor.shape, tensor.stride, tensor.pending), []).append(tensor)
    return list(views.values())


def _only_embeddings(group: AliasGroup) -> bool:
    return group.identical and all(name.endswith(EMBEDDINGS) for name in group.names)


def _kept(names: Sequence[str]) -> str:
    """The input embedding, which is what transformers keeps; else the first, which is what save_model keeps."""
    for ending in INPUT_EMBEDDINGS:
        for name in sorted(names):
            if name.endswith(ending):
                return name
    return min(names)


def _complaint(groups: Sequence[AliasGroup]) -> str:
    shown = listed((" = ".join(group.names[:3]) for group in groups), 2)
    count = sum(len(group.names) for group in groups)
    more = sum(group.apparent_nbytes - group.unique_nbytes for group in groups)
    return (
        f"{counted(count, 'tensor')} share bytes: {shown}. --shared clone gives each its own "
        f"({byte_size(max(0, more))} more), --shared drop keeps one name of each"
    )
