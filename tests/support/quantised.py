"""Models as quantisers leave them: names, dtypes and shapes of each scheme, without the quantisers.

The names and shapes are those that bitsandbytes 0.50.2, compressed-tensors 0.20.1, torchao 0.18.0, optimum-quanto 0.2.7
and hqq 0.2.8.post1 wrote for a tiny Llama on CPU, and those of the modules of gptqmodel 7.7.0, autoawq 0.2.9 and
transformers 5.24.0 (EETQ, FBGEMM, float8, BitNet). The numbers in the tensors mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
_FLOAT8 = torch.float8_e4m3fn
_GROUP = 16


class Kind(NamedTuple):
    """A scheme: what it writes for ``stem.weight`` of ``[rows, columns]``, and its ``quantization_config``."""

    write: Callable[[str, int, int], Tensors]
    settings: Mapping[str, Any] | None
    beside: str | None = None


def _ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


def _codes(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def _four_bits(flavour: str, *, nested: bool) -> Callable[[str, int, int], Tensors]:
    def write(stem: str, rows: int, columns: int) -> Tensors:
        name, count = f"{stem}.weight", ceil(rows * columns / 64)
        found = {
            name: _codes(rows * columns // 2, 1, dtype=torch.uint8),
            f"{name}.absmax": _codes(count, dtype=torch.uint8) if nested else _ones(count),
            f"{name}.quant_map": _ones(16),
            f"{name}.quant_state.bitsandbytes__{flavour}": _codes(90, dtype=torch.uint8),
        }
        if nested:
            found |= {f"{name}.nested_absmax": _ones(ceil(count / 256)), f"{name}.nested_quant_map": _ones(256)}
        return found

    return write


def _eight_bits(stem: str, rows: int, columns: int) -> Tensors:
    return {
        f"{stem}.weight": _codes(rows, columns, dtype=torch.int8),
        f"{stem}.SCB": _ones(rows),
        f"{stem}.weight_format": torch.tensor(0, dtype=torch.uint8),
    }


def _gptq(stem: str, rows: int, columns: int) -> Tensors:
    groups = columns // _GROUP
    return {
        f"{stem}.qweight": _codes(columns // 8, rows),
        f"{stem}.qzeros": _codes(groups, rows // 8),
        f"{stem}.scales": _ones(groups, rows).half(),
        f"{stem}.g_idx": _codes(columns),
    }


def _awq(stem: str, rows: int, columns: int) -> Tensors:
    groups = columns // _GROUP
    return {
        f"{stem}.qweight": _codes(columns, rows // 8),
        f"{stem}.qzeros": _codes(groups, rows // 8),
        f"{stem}.scales": _ones(groups, rows).half(),
    }


def _packed(*, asymmetric: bool) -> Callable[[str, int, int], Tensors]:
    def write(stem: str, rows: int, columns: int) -> Tensors:
        groups = columns // _GROUP
        found = {
            f"{stem}.weight_packed": _codes(rows, columns // 8),
            f"{stem}.weight_scale": _ones(rows, groups).bfloat16(),
            f"{stem}.weight_shape": torch.tensor([rows, columns]),
        }
        return found | ({f"{stem}.weight_zero_point": _codes(rows // 8, groups)} if asymmetric else {})

    return write


def _nvfp4(stem: str, rows: int, columns: int) -> Tensors:
    return {
        f"{stem}.weight_packed": _codes(rows, columns // 2, dtype=torch.uint8),
        f"{stem}.weight_scale": _ones(rows, columns // 16).to(_FLOAT8),
        f"{stem}.weight_global_scale": _ones(1),
        f"{stem}.input_global_scale": _ones(1),
    }


def _scaled(
    dtype: torch.dtype, ending: str, shape: Callable[[int, int], tuple[int, ...]], **more: torch.Tensor
) -> Callable[[str, int, int], Tensors]:
    def write(stem: str, rows: int, columns: int) -> Tensors:
        found = {f"{stem}.weight": _codes(rows, columns).to(dtype), f"{stem}.{ending}": _ones(*shape(rows, columns))}
        return found | {f"{stem}.{name}": value.clone() for name, value in more.items()}

    return write


def _eetq(stem: str, rows: int, columns: int) -> Tensors:
    return {f"{stem}.weight": _codes(columns, rows, dtype=torch.int8), f"{stem}.weight_scales": _ones(rows).half()}


def _bitnet(stem: str, rows: int, columns: int) -> Tensors:
    return {f"{stem}.weight": _codes(rows // 4, columns, dtype=torch.uint8), f"{stem}.weight_scale": _ones(1)}


def _torchao(stem: str, rows: int, columns: int) -> Tensors:
    return {
        f"{stem}._weight_qdata": _codes(rows, columns, dtype=torch.int8),
        f"{stem}._weight_scale": _ones(rows, 1),
        f"{stem}._weight_zero_point": _codes(rows, 1, dtype=torch.int8),
    }


def _quanto(stem: str, rows: int, columns: int) -> Tensors:
    groups = rows * columns // 32
    return {
        f"{stem}.weight._data._data": _codes(rows // 2, columns, dtype=torch.uint8),
        f"{stem}.weight._scale": _ones(groups, 1),
        f"{stem}.weight._shift": _ones(groups, 1),
        f"{stem}.input_scale": torch.tensor(1.0),
        f"{stem}.output_scale": torch.tensor(1.0),
    }


def _hqq(stem: str, rows: int, columns: int) -> Tensors:
    groups = rows * columns // _GROUP
    return {
        f"{stem}.W_q": _codes(groups // 2, _GROUP, dtype=torch.uint8),
        f"{stem}.scale": _ones(groups, 1),
        f"{stem}.zero": _ones(groups, 1),
        f"{stem}.shape": torch.tensor([rows, columns]),
        **{f"{stem}.{name}": torch.tensor(1) for name in ("nbits", "group_size", "axis")},
        f"{stem}.packing": _codes(7, dtype=torch.uint8),
    }


def _compressed(form: str, weights: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    given = {"group_size": None, "symmetric": True, "dynamic": False, **weights}
    group = {"format": form, "weights": given, "input_activations": inputs, "targets": ["Linear"]}
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": form,
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }


def _bnb(bits: int) -> dict[str, Any]:
    return {"quant_method": "bitsandbytes", "load_in_4bit": bits == 4, "load_in_8bit": bits == 8}


_GROUPS = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": _GROUP}
_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head"]}
_STATIC = {"dynamic": False, "num_bits": 8, "strategy": "tensor", "type": "float"}

KINDS: Mapping[str, Kind] = {
    "bitsandbytes-nf4": Kind(_four_bits("nf4", nested=True), _bnb(4)),
    "bitsandbytes-fp4": Kind(_four_bits("fp4", nested=False), _bnb(4)),
    "bitsandbytes-int8": Kind(_eight_bits, _bnb(8)),
    "gptq": Kind(_gptq, {"quant_method": "gptq", "bits": 4, "group_size": _GROUP, "desc_act": False}),
    "awq": Kind(_awq, {"quant_method": "awq", "bits": 4, "group_size": _GROUP, "version": "gemm"}),
    "packed": Kind(_packed(asymmetric=False), _compressed("pack-quantized", _GROUPS)),
    "packed-asymmetric": Kind(_packed(asymmetric=True), _compressed("pack-quantized", {**_GROUPS, "symmetric": False})),
    "nvfp4": Kind(
        _nvfp4,
        _compressed(
            "nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
        ),
    ),
    "compressed-int8": Kind(
        _scaled(torch.int8, "weight_scale", lambda rows, columns: (rows, 1)),
        _compressed("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}),
    ),
    "compressed-float8": Kind(
        _scaled(_FLOAT8, "weight_scale", lambda rows, columns: (1,), input_scale=_ones(1)),
        _compressed("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}, _STATIC),
    ),
    "compressed-float8-blocks": Kind(
        _scaled(_FLOAT8, "weight_scale", lambda rows, columns: (ceil(rows / 24), ceil(columns / 24))),
        _compressed(
            "float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [24, 24]}
        ),
    ),
    # Blocks that cut matrices: DeepSeek-V3's 576 rows by 128.
    "float8-blocks": Kind(
        _scaled(_FLOAT8, "weight_scale_inv", lambda rows, columns: (ceil(rows / 24), ceil(columns / 24))),
        {**_FP8, "weight_block_size": [24, 24]},
    ),
    "float8-tensors": Kind(
        _scaled(_FLOAT8, "weight_scale_inv", lambda rows, columns: (), activation_scale=torch.tensor(1.0)),
        {**_FP8, "activation_scheme": "static", "weight_block_size": None},
    ),
    "fbgemm": Kind(
        _scaled(_FLOAT8, "weight_scale", lambda rows, columns: (rows, 1)),
        {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]},
    ),
    "eetq": Kind(_eetq, {"quant_method": "eetq", "weights": "int8"}),
    "bitnet": Kind(_bitnet, {"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "offline"}),
    "torchao": Kind(
        _torchao, {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}
    ),
    # Quanto's own save writes its settings into another file.
    "quanto": Kind(_quanto, None, "quanto_qmap.json"),
    "hqq": Kind(_hqq, {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4}}}),
}
"""By name."""


def quantise(folder: Path, name: str, *, left_alone: str = "lm_head") -> Path:
    """Replace the projections in a model's single file by what the scheme writes, and say so in its config."""
    kind = KINDS[name]
    file = folder / "model.safetensors"
    state: Tensors = {}
    for key, value in load_file(file).items():
        stem = key.removesuffix("_proj.weight")
        replaced = stem != key and left_alone not in key
        state |= kind.write(f"{stem}_proj", *value.shape) if replaced else {key: value}
    save_file({key: value.contiguous() for key, value in state.items()}, file, metadata={"format": "pt"})
    if kind.settings is not None:
        configure(folder, lambda config: config.update(quantization_config=dict(kind.settings or {})))
    if kind.beside is not None:
        (folder / kind.beside).write_text("{}")
    return folder


def experts_in_mxfp4(folder: Path) -> Path:
    """Add the fused experts of gpt-oss, packed as OpenAI publishes them, to each layer of a model."""
    file = folder / "model.safetensors"
    state = load_file(file)
    for layer in range(2):
        for name, rows, columns in (("gate_up_proj", 128, 32), ("down_proj", 32, 64)):
            stem = f"model.layers.{layer}.mlp.experts.{name}"
            state[f"{stem}_blocks"] = _codes(4, rows, columns // 32, 16, dtype=torch.uint8)
            state[f"{stem}_scales"] = _codes(4, rows, columns // 32, dtype=torch.uint8)
            state[f"{stem}_bias"] = _ones(4, rows)
    save_file(state, file, metadata={"format": "pt"})
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    configure(folder, lambda config: config.update(quantization_config=settings))
    return folder


def configure(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a model's ``config.json`` in place."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return folder
