"""What of a MemGen a checkpoint holds, found once: everything that depends on it is read off this value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.verification.names.wanted import Wanted

ADAPTERS = ("weaver", "trigger")
"""The names of the two adapters."""

Key = tuple[str, str]
"""File, relative to the checkpoint, and tensor name, as in ``Checkpoint.tensors``."""


class Adapter(NamedTuple):
    """An adapter by the name that MemGen or PEFT knows it by, such as ``weaver`` for the part ``weaver adapter``."""

    name: str
    part: Part


@dataclass(frozen=True)
class Contents:
    """The contents of a MemGen ``checkpoint``.

    ``whole`` says that it is the state dict of a whole ``MemGenModel``, in one or more files, and ``lone_trigger`` that
    its kind has a trigger and no weaver, so of a MemGen model only the trigger is needed. ``adapters`` are all of
    them, in the order of the parts. ``tensors`` are those of the files that an evaluation reads: no second copy in
    another format, no training state.
    """

    checkpoint: Checkpoint
    whole: bool
    lone_trigger: bool
    adapters: tuple[Adapter, ...]
    tensors: Mapping[Key, Wanted]


def contents_of(checkpoint: Checkpoint) -> Contents:
    """Look through the parts of a MemGen checkpoint."""
    return Contents(
        checkpoint,
        whole=any(checkpoint.parts_with("model")),
        lone_trigger=all(part.name != "weaver" for part in checkpoint.kind.parts),
        adapters=tuple(Adapter(adapter_of(part), part) for part in checkpoint.parts_with("adapter")),
        tensors={
            (file.path, tensor.name): Wanted(part, file, tensor)
            for part in checkpoint.parts
            if not part.auxiliary
            for file in part.preferred
            for tensor in file.tensors
        },
    )


def adapter_of(part: Part) -> str:
    """The name of the adapter in this part: ``weaver`` for the part ``weaver adapter``."""
    return part.name.removesuffix(" adapter")
