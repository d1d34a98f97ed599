"""Lone weight files: everything that ``torch.save`` and ``save_file`` write of plain data."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from .common import Animal, quiet


def _state() -> dict[str, torch.Tensor]:
    return {"layer.weight": torch.randn(4, 8), "layer.bias": torch.randn(4)}


def _nested() -> object:
    return {
        "first": {"weight": torch.randn(2, 3), "bias": torch.zeros(2)},
        "second": OrderedDict(weight=torch.nn.Parameter(torch.randn(3, 2))),
        "list": [torch.randn(2), {"deep": torch.ones(1)}],
        "tuple": (torch.tensor(3), None, "text"),
        7: torch.randn(1),
        "version": 3,
        "shape": torch.Size([2, 3]),
        "flag": True,
    }


def _every_dtype() -> dict[str, torch.Tensor]:
    names = (
        "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8 uint16 uint32 uint64 "
        "bool complex64 complex128"
    )
    return {name: torch.ones(2, 3).to(getattr(torch, name)) for name in names.split()}


def _odd_shapes() -> dict[str, torch.Tensor]:
    return {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "six": torch.randn(1, 2, 1, 2, 1, 2),
        "transposed": torch.randn(4, 3).T,
        "expanded": torch.randn(3, 1).expand(3, 5),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }


def _slices() -> dict[str, torch.Tensor]:
    fused = torch.randn(12, 4)
    query, key, value = fused.chunk(3)
    return {"query": query, "key": key, "value": value}


def _tied() -> dict[str, torch.Tensor]:
    embedding = torch.randn(16, 4)
    return {"embed_tokens.weight": embedding, "lm_head.weight": embedding}


def _with_infinite_mask() -> dict[str, torch.Tensor]:
    causal = torch.full((4, 4), float("-inf")).triu(1)
    return {"attn.mask": causal, "attn.masked_bias": torch.tensor(float("-inf")), "attn.weight": torch.randn(4, 4)}


def _awkward_names() -> dict[str, torch.Tensor]:
    return {"größe": torch.ones(1), "with space": torch.ones(2), "a/b": torch.ones(3), "": torch.ones(4)}


TORCH_CONTENTS: Mapping[str, Callable[[], object]] = {
    "state-dict": _state,
    "ordered": lambda: OrderedDict(_state()),
    "module-state": lambda: torch.nn.Linear(3, 2).state_dict(),
    "nested": _nested,
    "every-dtype": _every_dtype,
    "odd-shapes": _odd_shapes,
    "slices": _slices,
    "tied": _tied,
    "one-tensor": lambda: torch.randn(3),
    "one-parameter": lambda: torch.nn.Parameter(torch.randn(3)),
    "list": lambda: [torch.randn(2), torch.randn(3)],
    "no-tensors": lambda: {"losses": [], "best": None, "steps": 3},
    "infinite-mask": _with_infinite_mask,
    "awkward-names": _awkward_names,
    "buffers": lambda: torch.nn.BatchNorm2d(4).state_dict(),
    "zero-biases": lambda: {"weight": torch.randn(3, 3), "bias": torch.zeros(3)},
    "quantised": lambda: {"weight": torch.quantize_per_tensor(torch.randn(3, 3), 0.1, 0, torch.qint8)},
    "sparse": lambda: {"weight": torch.randn(3, 3).relu().to_sparse()},
    "embedding-like": lambda: {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.randn(2, 8)}, "name": "x"},
}


def _torch_file(content: Callable[[], object], directory: Path, *, legacy: bool = False, suffix: str = ".pt") -> Path:
    path = directory / f"weights{suffix}"
    torch.save(content(), path, _use_new_zipfile_serialization=not legacy)
    return path


def _pickle_protocol(directory: Path, protocol: int) -> Path:
    path = directory / "weights.pt"
    torch.save(_nested(), path, pickle_protocol=protocol)
    return path


def _without_checksums(directory: Path) -> Path:
    path = directory / "weights.pt"
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(_state(), path)
    finally:
        torch.serialization.set_crc32_options(before)
    return path


def _safetensors_file(
    content: Callable[[], dict[str, torch.Tensor]], directory: Path, metadata: dict[str, str] | None = None
) -> Path:
    path = directory / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in content().items()}, path, metadata=metadata)
    return path


def _safetensors_dtypes() -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in _every_dtype().items() if name != "complex128"}


def _animals() -> Iterator[tuple[str, Animal]]:
    for name, content in TORCH_CONTENTS.items():
        yield f"torch-{name}", functools.partial(_torch_file, content)
    for name in ("state-dict", "nested", "slices", "odd-shapes", "tied", "every-dtype"):
        yield f"legacy-{name}", functools.partial(_torch_file, TORCH_CONTENTS[name], legacy=True)
    for protocol in range(2, 6):
        yield f"protocol-{protocol}", functools.partial(_pickle_protocol, protocol=protocol)
    yield "without-checksums", _without_checksums
    yield "bin-suffix", functools.partial(_torch_file, _state, suffix=".bin")
    yield "safetensors", functools.partial(_safetensors_file, _state)
    yield "safetensors-metadata", functools.partial(_safetensors_file, _state, metadata={"format": "pt", "note": "x"})
    yield "safetensors-dtypes", functools.partial(_safetensors_file, _safetensors_dtypes)
    yield "safetensors-shapes", functools.partial(_safetensors_file, _odd_shapes)
    yield "safetensors-names", functools.partial(_safetensors_file, _awkward_names)


ANIMALS: dict[str, Animal] = {name: quiet(animal) for name, animal in _animals()}
