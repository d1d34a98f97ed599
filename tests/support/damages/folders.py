"""CKD2xx: what is in the folder, and under which names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.damages.edits import (
    ADAPTER,
    ADAPTER_BIN,
    removed,
    save,
)
from support.damages.record import Damage, nothing, recorder
from support.places import HEALTHY

DAMAGES: list[Damage] = []
damage = recorder(DAMAGES)


@damage("CKD204", "weaver_safetensors/weaver", severity="warning")
def both_formats_agree(path: Path) -> None:
    from safetensors.torch import load_file

    save(load_file(path / ADAPTER), path / ADAPTER_BIN)


@damage("CKD204", "weaver_safetensors/weaver", severity="warning", deep=True)
def both_formats_differ_in_value(path: Path) -> None:
    from safetensors.torch import load_file

    save({name: tensor + 1 for name, tensor in load_file(path / ADAPTER).items()}, path / ADAPTER_BIN)


@damage("CKD208", "weaver_safetensors/weaver")
def temporary_file_and_no_other(path: Path) -> None:
    (path / ADAPTER).rename(path / (ADAPTER + ".tmp"))


@damage("CKD208", "transformers/sharded_safetensors")
def empty_shard(path: Path) -> None:
    (path / "model-00002-of-00003.safetensors").write_bytes(b"")


@damage("CKD208", "transformers/sharded_safetensors")
def shard_still_incomplete(path: Path) -> None:
    shard = path / "model-00003-of-00003.safetensors"
    shard.rename(path / (shard.name + ".incomplete"))


@damage("CKD208", "transformers/single_safetensors")
def staging_folder(path: Path) -> Path:
    return path.rename(path.parent / "tmp-checkpoint-500")


def two_sets(path: Path, change: Callable[[Any], Any]) -> None:
    """Put what ``change`` makes of all shards into one file beside them."""
    from safetensors.torch import load_file, save_file

    tensors = {}
    for shard in sorted(path.glob("model-*.safetensors")):
        tensors.update(load_file(shard))
    save_file({name: change(tensor) for name, tensor in tensors.items()}, path / "model.safetensors", {"format": "pt"})


@damage("CKD209", "transformers/sharded_safetensors", deep=True)
def single_file_of_an_earlier_save(path: Path) -> None:
    two_sets(path, lambda tensor: tensor + 1)


@damage("CKD209", "transformers/sharded_safetensors")
def single_file_of_another_shape(path: Path) -> None:
    two_sets(path, lambda tensor: tensor[:8].clone())


@damage("CKD209", "transformers/sharded_safetensors", severity="note", deep=True)
def single_file_and_equal_shards(path: Path) -> None:
    two_sets(path, lambda tensor: tensor)


@damage("CKD209", "transformers/sharded_safetensors", severity="note")
def single_file_and_shards_not_compared(path: Path) -> None:
    two_sets(path, lambda tensor: tensor + 1)


@damage("CKD209", "transformers/sharded_safetensors", severity="warning")
def single_file_of_another_dtype(path: Path) -> None:
    two_sets(path, lambda tensor: tensor.half())


def nested_below_the_folder_asked_for(path: Path) -> Path:
    outer = path.parent / "checkpoint"
    outer.mkdir()
    path.rename(outer / "adapter_model")
    return outer


def model_beside_the_adapter(path: Path) -> None:
    shutil.copy(HEALTHY / "transformers/single_safetensors/model.safetensors", path)


WEAVER = "weaver_safetensors/weaver"
DAMAGES += [
    Damage("CKD201", "bin where safetensors is expected", "weaver_bin/weaver", nothing),
    Damage("CKD201", "safetensors where bin is expected", "peft/lora", nothing, options={"expect": "bin"}),
    Damage("CKD202", "no projections.pt", WEAVER, removed("projections.pt")),
    Damage("CKD202", "no projections.pt, nested", "weaver_nested/weaver", removed("projections.pt")),
    Damage("CKD202", "no trigger.bin", "memgen_upstream", removed("trigger.bin")),
    Damage("CKD202", "no projs.bin", "memgen_upstream", removed("projs.bin")),
    Damage("CKD203", "PEFT's nesting below weaver_lora", "weaver_nested/weaver", nothing, "warning"),
    Damage(
        "CKD203",
        "adapter_model/ below the folder asked for",
        "peft/lora",
        nested_below_the_folder_asked_for,
        "warning",
    ),
    Damage("CKD205", "peft without config", "peft/lora", removed("adapter_config.json")),
    Damage("CKD205", "weaver without config", WEAVER, removed("weaver_lora/adapter_config.json")),
    Damage("CKD206", "peft without weights", "peft/lora", removed("adapter_model.safetensors")),
    Damage("CKD206", "weaver without weights", WEAVER, removed(ADAPTER)),
    Damage(
        "CKD206", "memgen without an adapter", "memgen_upstream", removed("trigger/trigger/adapter_model.safetensors")
    ),
    Damage("CKD207", "adapter and model in one folder", "peft/lora", model_beside_the_adapter, "warning"),
    Damage("CKD213", "model without config", "transformers/single_safetensors", removed("config.json")),
    Damage("CKD213", "shards without config", "transformers/sharded_safetensors", removed("config.json")),
]
