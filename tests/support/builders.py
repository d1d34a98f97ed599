"""Checkpoint values written by hand, for the logic of rules that needs no file."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint, OtherFile
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import Storage, TensorInfo, TensorScan, WeightFile
from ckpt_doctor.layouts.registry import kind_named
from ckpt_doctor.rules._kit.rule import Rule


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def tensor(
    name: str,
    shape: tuple[int, ...] = (4, 8),
    *,
    dtype: str = "float32",
    storage: str | None = None,
    storage_nbytes: int | None = None,
    storage_offset: int = 0,
    stride: tuple[int, ...] | None = None,
    at: int | None = 64,
    device: str = "cpu",
) -> TensorInfo:
    """A tensor with a storage of its own, unless one is named; ``at`` is where that lies in the file."""
    kind = BY_NAME[dtype]
    nbytes = kind.nbytes(prod(shape)) if storage_nbytes is None else storage_nbytes
    return TensorInfo(
        name=name,
        dtype=kind,
        shape=shape,
        stride=strides(shape) if stride is None else stride,
        storage=Storage(storage or name, nbytes, at, device),
        storage_offset=storage_offset,
        path=(name,),
    )


def file(path: str, *tensors: TensorInfo | str, **fields: Any) -> WeightFile:
    """A weight file; a name alone stands for a small tensor."""
    found = tuple(item if isinstance(item, TensorInfo) else tensor(item) for item in tensors)
    kind = "safetensors" if path.endswith(".safetensors") else "torch-zip"
    metadata = {"format": "pt"} if kind == "safetensors" else None
    return WeightFile(
        **{"format": kind, "nbytes": 100_000, "metadata": metadata, **fields, "path": path, "tensors": found}
    )


def scan(nonfinite: int = 0, first: int | None = None, *, zero: bool = False, digest: str | None = None) -> TensorScan:
    return TensorScan(nonfinite, first, zero, zero, digest)


def part(*files: WeightFile, role: str = "model", **fields: Any) -> Part:
    active = tuple(item.path for item in files if item.path.endswith(".safetensors"))
    active = active or tuple(item.path for item in files)
    return Part(**{"name": role, "role": role, "files": files, "active": active, **fields})


def checkpoint(
    *parts: Part, others: tuple[OtherFile, ...] = (), layout: str = "transformers", **fields: Any
) -> Checkpoint:
    return Checkpoint(
        **{
            "root": Path("here"),
            "path": "here",
            "kind": kind_named(layout),
            "variant": "",
            "parts": parts,
            "others": others,
            **fields,
        }
    )


def run(rule: type[Rule], *parts: Part, deep: bool = False, expect: str | None = None, **fields: Any) -> list[Finding]:
    """What a rule says about a checkpoint of these parts."""
    return list(rule().check(checkpoint(*parts, **fields), Policy(deep=deep, expect=expect)))


def severities(findings: list[Finding] | Iterator[Finding]) -> list[str]:
    return [finding.severity.value for finding in findings]
