"""Which tensors of a checkpoint a load must restore."""

from __future__ import annotations

from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile


class Wanted(NamedTuple):
    """One tensor of the checkpoint, with the file and the part that it is of."""

    part: Part
    file: WeightFile
    tensor: TensorInfo


def wanted(checkpoint: Checkpoint) -> dict[str, list[Wanted]]:
    """By part, the tensors of the files that a loader reads; training state and stray files are none.

    Where two files of one part hold a tensor of one name, the last one counts, as it does for transformers.
    """
    found: dict[str, list[Wanted]] = {}
    for number, part in enumerate(checkpoint.parts):
        if part.auxiliary:
            continue
        by_name: dict[str, Wanted] = {}
        for file in part.preferred:
            for tensor in file.state:
                by_name[tensor.name] = Wanted(part, file, tensor)
        found[f"{number}"] = list(by_name.values())
    return found
