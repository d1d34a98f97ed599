"""Makes the files that ``run.py`` measures; a process of its own, because torch would blow up the other's memory.

``python make_files.py FOLDER --gigabytes 2.6 --tensors 1000 10000 100000``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

LAYERS, MODULES = 32, ("q", "k", "v", "o", "gate", "up", "down")  # 224 tensors, as a LoRA of a 7B model has


def state_dict(elements: int) -> dict[str, torch.Tensor]:
    """bfloat16 tensors with about ``elements`` numbers in all, distributed like trained weights."""
    generator = torch.Generator().manual_seed(0)
    rows = max(1, elements // (LAYERS * len(MODULES)) // 1024)
    tensors = {}
    for layer in range(LAYERS):
        for module in MODULES:
            name = f"model.layers.{layer}.{module}_proj.weight"
            tensors[name] = torch.randn(rows, 1024, generator=generator).mul(0.02).to(torch.bfloat16)
    return tensors


def many(count: int) -> dict[str, torch.Tensor]:
    """``count`` tensors of 16 numbers, each with its own storage."""
    return {f"model.layers.{number // 10}.block.{number % 10}.weight": torch.ones(4, 4) for number in range(count)}


def main() -> None:
    """Write what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, required=True)
    parser.add_argument("--tensors", type=int, nargs="*", default=())
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)

    small = state_dict(0)
    torch.save(small, folder / "small.bin")
    save_file(small, folder / "small.safetensors", metadata={"format": "pt"})
    large = state_dict(int(arguments.gigabytes * 1e9 / 2))
    torch.save(large, folder / "large.bin")
    save_file(large, folder / "large.safetensors", metadata={"format": "pt"})
    for count in arguments.tensors:
        tensors = many(count)
        torch.save(tensors, folder / f"tensors-{count}.bin")
        save_file(tensors, folder / f"tensors-{count}.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
