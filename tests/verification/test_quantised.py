"""Quantised models by names and shapes, float8 codes and their scales, tied matrices, NaN, and signs of life."""

from __future__ import annotations

import json
import os
import pty
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.verification import verify
from support.children import running
from support.zoo.common import quiet

_PATIENCE = 120.0
Tensors = dict[str, torch.Tensor]
SETTINGS: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    torch.manual_seed(0)
    quiet(LlamaForCausalLM(LlamaConfig(**SETTINGS)).bfloat16().save_pretrained)(folder)
    return folder


def write(plain: Path, folder: Path, change: Callable[[str, torch.Tensor], Tensors], **config: Any) -> Path:
    """The model with its projections ``change``d; ``config`` is added to its config."""
    state: Tensors = {}
    for name, value in load_file(plain / "model.safetensors").items():
        state |= change(name.removesuffix(".weight"), value) if "_proj.weight" in name else {name: value}
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((plain / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def without(folder: Path, ending: str) -> Path:
    file = folder / "model.safetensors"
    state = {k: v for k, v in load_file(file).items() if not ("layers.1.mlp" in k and ending in k)}
    save_file(state, file, metadata={"format": "pt"})
    return folder


def lost(coverage: Coverage) -> set[str]:
    return {item.name for item in coverage.not_restored()}


def ints(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def gptq(stem: str, value: torch.Tensor) -> Tensors:
    rows, columns = value.shape
    return {
        f"{stem}.qweight": ints(columns // 8, rows),
        f"{stem}.qzeros": ints(columns // 32, rows // 8),
        f"{stem}.scales": torch.ones(columns // 32, rows),
        f"{stem}.g_idx": ints(columns),
    }


def awq(stem: str, value: torch.Tensor) -> Tensors:
    rows, columns = value.shape
    return {
        f"{stem}.qweight": ints(columns, rows // 8),
        f"{stem}.qzeros": ints(columns // 32, rows // 8),
        f"{stem}.scales": torch.ones(columns // 32, rows),
    }


def packed(stem: str, value: torch.Tensor) -> Tensors:
    rows, columns = value.shape
    return {
        f"{stem}.weight_packed": ints(rows, columns // 8),
        f"{stem}.weight_scale": torch.ones(rows, columns // 32),
        f"{stem}.weight_shape": torch.tensor([rows, columns]),
    }


def nvfp4(stem: str, value: torch.Tensor) -> Tensors:
    rows, columns = value.shape
    return {
        f"{stem}.weight_packed": ints(rows, columns // 2, dtype=torch.uint8),
        f"{stem}.weight_scale": torch.ones(rows, columns // 16).to(torch.float8_e4m3fn),
        f"{stem}.weight_global_scale": torch.ones(1),
        f"{stem}.input_global_scale": torch.ones(1),
    }


def four_bits(stem: str, value: torch.Tensor) -> Tensors:
    name, count = f"{stem}.weight", value.numel()
    return {
        name: ints(count // 2, 1, dtype=torch.uint8),
        f"{name}.absmax": ints(count // 64, dtype=torch.uint8),
        f"{name}.quant_map": torch.ones(16),
        f"{name}.nested_absmax": torch.ones(1),
        f"{name}.nested_quant_map": torch.ones(256),
        f"{name}.quant_state.bitsandbytes__nf4": ints(90, dtype=torch.uint8),
    }


def eight_bits(stem: str, value: torch.Tensor) -> Tensors:
    codes = ints(*value.shape, dtype=torch.int8)
    return {f"{stem}.weight": codes, f"{stem}.SCB": torch.ones(len(value)), f"{stem}.weight_format": ints()}


def torchao(stem: str, value: torch.Tensor) -> Tensors:
    codes = ints(*value.shape, dtype=torch.int8)
    return {f"{stem}._weight_qdata": codes, f"{stem}._weight_scale": torch.ones(len(value), 1)}


def by_row(stem: str, value: torch.Tensor) -> Tensors:
    scale = value.float().abs().amax(1, keepdim=True) / 448
    return {f"{stem}.weight": (value.float() / scale).to(torch.float8_e4m3fn), f"{stem}.weight_scale": scale}


def by_block(stem: str, value: torch.Tensor) -> Tensors:
    rows, columns = value.shape
    blocks = value.float().reshape(rows // 32, 32, columns // 32, 32)
    scale = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scale[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
    return {f"{stem}.weight": codes, f"{stem}.weight_scale_inv": scale}


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}
KINDS: dict[str, tuple[Callable[[str, torch.Tensor], Tensors], dict[str, Any], str, str]] = {
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32}, "scales", "qweight"),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": 32}, "qzeros", "qweight"),
    "packed": (packed, {"quant_method": "compressed-tensors"}, "weight_scale", "weight_packed"),
    "nvfp4": (nvfp4, {"quant_method": "compressed-tensors"}, "weight_scale", "weight_packed"),
    "four": (four_bits, {"quant_method": "bitsandbytes", "load_in_4bit": True}, "quant_state", "weight"),
    "eight": (eight_bits, {"quant_method": "bitsandbytes", "load_in_8bit": True}, "SCB", "weight"),
    "torchao": (torchao, {"quant_method": "torchao"}, "scale", "_weight_qdata"),
    "row": (by_row, {"quant_method": "compressed-tensors"}, "weight_scale", "weight"),
    "block": (by_block, FP8, "weight_scale_inv", "weight"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_names_and_shapes_of_quantised_models(plain: Path, tmp_path: Path, kind: str) -> None:
    change, settings, partner, codes = KINDS[kind]
    folder = write(plain, tmp_path, change, quantization_config=settings)
    coverage = verify(str(folder), mode="keys")
    assert coverage.complete, [*coverage.not_restored(), *coverage.findings]
    assert coverage.expected == len(load_file(folder / "model.safetensors"))
    assert any("quantised" in line and "no values" in line for line in coverage.log)
    coverage = verify(str(without(folder, partner)), mode="keys")
    stems = [f"model.layers.1.mlp.{name}_proj" for name in ("gate", "up", "down")]
    assert lost(coverage) == {f"{stem}.{codes}" for stem in stems}


def test_a_piece_of_another_shape(plain: Path, tmp_path: Path) -> None:
    def short(stem: str, value: torch.Tensor) -> Tensors:
        found = gptq(stem, value)
        if "layers.0.mlp.up_proj" in stem:
            found[f"{stem}.qweight"] = found[f"{stem}.qweight"][:, :8]
        return found

    coverage = verify(str(write(plain, tmp_path, short, quantization_config=KINDS["gptq"][1])), mode="keys")
    assert lost(coverage) == {"model.layers.0.mlp.up_proj.qweight"}
    assert [item.code for item in coverage.findings] == ["CKD004"]


def test_values_of_what_cannot_be_loaded_here(plain: Path, tmp_path: Path) -> None:
    folder = write(plain, tmp_path, gptq, quantization_config=KINDS["gptq"][1])
    with pytest.raises(VerificationError, match="--mode keys"):
        verify(str(folder))


@pytest.mark.slow
def test_float8_and_its_scales(plain: Path, tmp_path: Path) -> None:
    folder = write(plain, tmp_path, by_block, quantization_config=FP8)
    coverage = verify(str(folder))
    assert coverage.complete and coverage.expected == len(load_file(folder / "model.safetensors"))
    coverage = verify(str(without(folder, "weight_scale_inv")))
    assert lost(coverage) == {f"model.layers.1.mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
    assert "float8 codes" in coverage.findings[0].message


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["load", "keys"])
def test_float8_that_nobody_says_is_quantised(plain: Path, tmp_path: Path, mode: str) -> None:
    raw = write(plain, tmp_path, by_block)
    assert {name for name in lost(verify(str(raw), mode=mode)) if name.endswith(".weight")} == {
        name for name in load_file(raw / "model.safetensors") if name.endswith("_proj.weight")
    }
    codes = write(plain, tmp_path, lambda stem, value: {f"{stem}.weight": by_row(stem, value)[f"{stem}.weight"]})
    assert verify(str(codes), mode=mode).restored == verify(str(codes), mode=mode).expected - 14
    cast = write(plain, tmp_path, lambda stem, value: {f"{stem}.weight": value.to(torch.float8_e4m3fn)})
    assert verify(str(cast), mode=mode).complete


@pytest.mark.slow
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("equal", [False, True])
def test_two_matrices_that_the_config_ties(plain: Path, tmp_path: Path, both: bool, equal: bool) -> None:
    folder = write(plain, tmp_path, lambda stem, value: {f"{stem}.weight": value}, tie_word_embeddings=True)
    file = folder / "model.safetensors"
    state = load_file(file)
    if equal:
        state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    if not both:
        del state["lm_head.weight"]
    save_file(state, file, metadata={"format": "pt"})
    coverage = verify(str(folder), mode="keys")
    assert lost(coverage) == ({"lm_head.weight"} if both and not equal else set())
    if equal or not both:
        assert coverage.complete and verify(str(folder)).complete
    else:
        assert "ties" in coverage.findings[0].message


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("attn_mask", torch.full((4, 4), float("-inf")))


@pytest.mark.slow
def test_what_is_not_finite(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Masked()
    path = tmp_path / "masked.safetensors"
    save_file(model.state_dict(), path, metadata={"format": "pt"})

    def load(given: Any, path: str) -> Any:
        given.load_state_dict(load_file(path))
        return given

    coverage = verify(str(path), Masked, loader=load)
    assert coverage.complete and [item.severity.value for item in coverage.findings] == ["note"]
    with torch.no_grad():
        model.linear.weight[1, 2] = float("nan")
    save_file(model.state_dict(), path, metadata={"format": "pt"})
    coverage = verify(str(path), Masked, loader=load)
    assert not coverage.complete and coverage.restored == coverage.expected
    assert [item.code for item in coverage.findings if item.severity.value == "error"] == ["CKD601"]


@pytest.mark.slow
def test_signs_of_life(plain: Path) -> None:
    arguments = ["ckpt_doctor", "verify", str(plain), "--mode", "keys"]
    terminal, inner = pty.openpty()
    with running([sys.executable, "-m", *arguments], stdout=inner, stderr=inner, stdin=inner) as child:
        os.close(inner)
        said = b""
        while select.select([terminal], [], [], _PATIENCE)[0]:
            try:
                some = os.read(terminal, 4096)
            except OSError:  # Linux says so where the other end is closed
                break
            if not some:
                break
            said += some
        assert child.wait(_PATIENCE) == 0
    os.close(terminal)
    start, _, report = said.partition(b"key coverage of")
    assert start.startswith(b"\r\x1b[Kimporting torch ...") and b"comparing" in start
    # Nothing of it is left on the line that the report begins on.
    assert start.rpartition(b"\r\x1b[K")[2].removeprefix(b"\x1b[1m") == b"" and b"importing" not in report
