"""Checkpoints with several damages at once, none of which needs torch to be repaired."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

from support.places import HEALTHY


def shards(folder: Path) -> Path:
    """Shards whose names carry a prefix, without metadata, under an index with a wrong size."""
    model = Path(shutil.copytree(HEALTHY / "transformers/sharded_safetensors", folder / "model"))
    for file in model.glob("*.safetensors"):
        save_file({f"module.{name}": tensor for name, tensor in load_file(file).items()}, file)
    index = model / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"] = {f"module.{name}": shard for name, shard in document["weight_map"].items()}
    document["metadata"]["total_size"] = 1
    index.write_text(json.dumps(document))
    return model


def weaver(folder: Path) -> Path:
    """A weaver whose adapter is a torch file under the other ending, and was saved from a compiled model."""
    import torch

    here = Path(shutil.copytree(HEALTHY / "weaver_safetensors/weaver", folder / "weaver"))
    file = here / "weaver_lora" / "adapter_model.safetensors"
    state = {f"_orig_mod.{name}": tensor for name, tensor in load_file(file).items()}
    torch.save(state, file.with_suffix(".bin"))
    file.unlink()
    return here


def lone(folder: Path) -> Path:
    """A lone file under the wrong ending."""
    shutil.copy(HEALTHY / "peft/lora/adapter_model.safetensors", folder / "weights.pt")
    return folder / "weights.pt"


SCENES: list[Callable[[Path], Path]] = [shards, weaver, lone]
