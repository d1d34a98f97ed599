"""Checkpoints that lie on no disk, and a name that nobody should see as it is."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ckpt_doctor.checkpoint import Checkpoint, Part, Storage, TensorInfo, WeightFile
from ckpt_doctor.dtypes import BY_NAME

# What a terminal would act upon: a newline, an ANSI escape, a bidirectional override, C1 and invisible characters.
HOSTILE = "a\nb\r\x1b[31m\x1b]0;title\x07\u202egnp.\u2066\x9b2J\u2028\u200b\x7f"


def tensor(name: str, *shape: int, storage: str | None = None) -> TensorInfo:
    stride = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return TensorInfo(name, BY_NAME["float32"], shape, stride, Storage(storage or name, 4 * prod(shape), 0))


def checkpoint(path: str, *tensors: TensorInfo, name: str = "weaver_lora/adapter_model.bin") -> Checkpoint:
    file = WeightFile(name, "torch-zip", 1234, tensors=tensors)
    return Checkpoint(Path(path), path, "weaver", "MemGen weaver", (Part("weaver", "adapter", files=(file,)),))
