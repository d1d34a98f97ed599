"""A model of two tensors, and loaders for it: what ``--model`` and ``--loader`` name in these tests."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file


class Light(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4, 4))
        self.bias = torch.nn.Parameter(torch.zeros(4))


def build() -> Light:
    return Light()


def cannot_build() -> Light:
    raise RuntimeError("no such model")


def right(model: Light, path: str) -> None:
    model.load_state_dict(load_file(Path(path) / "model.safetensors"))


def forgets_the_bias(model: Light, path: str) -> None:
    model.load_state_dict({"weight": load_file(Path(path) / "model.safetensors")["weight"]}, strict=False)


def raises(model: Light, path: str) -> None:
    raise FileNotFoundError(2, "No such file or directory", f"{path}/adapter_model.safetensors")


def right_while_it_is_saved_anew(model: Light, path: str) -> None:
    right(model, path)
    file = Path(path) / "model.safetensors"
    file.write_bytes(file.read_bytes())


def leaves(model: Light, path: str) -> None:
    os._exit(0)


def anything(model: Light, path: str) -> Light:
    """Opens nothing; for checkpoints that no loader should get to see."""
    Path("opened").touch()
    return model
