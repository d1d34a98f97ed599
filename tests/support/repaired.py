"""What the tests of repairs need: what is in a folder, what its tensors are, and whether the libraries load it."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load
from tiny_models import REASONER_HIDDEN, WEAVER_HIDDEN, qwen2
from transformers import AutoModelForCausalLM

OWN = ".ckpt-doctor"


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of every file below ``folder``, but not of our own."""
    return {
        str(path.relative_to(folder)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and OWN not in path.parts
    }


def own_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if OWN in path.parts]


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a weight file, whatever its name says, by dotted name."""
    data = path.read_bytes()
    if data[8:9] == b"{":
        return dict(load(data))
    found: dict[str, torch.Tensor] = {}
    # Not by its name: torch hands over what is called .safetensors.
    _collect(torch.load(io.BytesIO(data), weights_only=True, map_location="cpu"), "", found)
    return found


def _collect(value: Any, name: str, found: dict[str, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        found[name] = value
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(item, f"{name}.{key}" if name else str(key), found)


def bits(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
    flat = tensor.detach().contiguous().reshape(-1)
    return str(tensor.dtype), tuple(tensor.shape), bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


def values(path: Path) -> set[tuple[str, tuple[int, ...], bytes]]:
    """Every value in the weight files at ``path``, whatever it is called and wherever it lies."""
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file() and OWN not in item.parts]
    weights = [file for file in files if file.suffix in (".safetensors", ".bin", ".pt")]
    return {bits(tensor) for file in weights for tensor in tensors_of(file).values()}


def assert_loads(folder: Path) -> int:
    """Load every adapter and model below ``folder`` with PEFT and transformers; how many there were."""
    loaded = 0
    for config in folder.rglob("adapter_config.json"):
        if OWN not in config.parts and list(config.parent.glob("adapter_model.*")):
            _assert_adapter_loads(config.parent)
            loaded += 1
    for config in folder.rglob("config.json"):
        here = config.parent
        models = [*here.glob("model*.safetensors"), *here.glob("pytorch_model*.bin")]
        if OWN not in config.parts and models and "architectures" in json.loads(config.read_text()):
            _assert_model_loads(here)
            loaded += 1
    return loaded


def _assert_adapter_loads(folder: Path) -> None:
    file = next(iter(folder.glob("adapter_model.safetensors")), folder / "adapter_model.bin")
    stored = tensors_of(file)
    wide = any(REASONER_HIDDEN in tensor.shape for tensor in stored.values())
    model = PeftModel.from_pretrained(qwen2(REASONER_HIDDEN if wide else WEAVER_HIDDEN), folder)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    adapter = {name: tensor for name, tensor in stored.items() if name in state}
    assert any("lora" in name or "ia3" in name or "prompt" in name for name in adapter) or adapter
    for name, tensor in adapter.items():
        assert torch.equal(state[name].float(), tensor.float()), name
    assert set(state) <= set(stored)


def _assert_model_loads(folder: Path) -> None:
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    state = model.state_dict()
    for file in [*folder.glob("model*.safetensors")] or [*folder.glob("pytorch_model*.bin")]:
        for name, tensor in tensors_of(file).items():
            assert torch.equal(state[name], tensor.float()), name
