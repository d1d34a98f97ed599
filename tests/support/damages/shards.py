"""CKD7xx: shards and their index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.damages.edits import (
    INDEX,
    edit_json,
    header_of,
    safetensors_bytes,
)
from support.damages.record import Damage, recorder

DAMAGES: list[Damage] = []
damage = recorder(DAMAGES)


@damage("CKD701", "transformers/sharded_safetensors")
def shard_removed(path: Path) -> None:
    (path / "model-00002-of-00003.safetensors").unlink()


@damage("CKD701", "transformers/sharded_bin")
def bin_shard_removed(path: Path) -> None:
    (path / "pytorch_model-00003-of-00003.bin").unlink()


@damage("CKD701", "transformers/sharded_safetensors")
def shard_and_index_removed(path: Path) -> None:
    (path / "model-00001-of-00003.safetensors").unlink()
    (path / INDEX).unlink()


@damage("CKD702", "transformers/sharded_safetensors")
def listed_in_the_wrong_shard(path: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        mapping = index["weight_map"]
        name = next(iter(mapping))
        mapping[name] = next(shard for shard in sorted(set(mapping.values())) if shard != mapping[name])

    edit_json(path / INDEX, change)


@damage("CKD702", "transformers/sharded_safetensors")
def listed_and_nowhere(path: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = "model-00001-of-00003.safetensors"
        index["metadata"]["total_size"] += 4096

    edit_json(path / INDEX, change)


@damage("CKD703", "transformers/sharded_safetensors", severity="warning")
def key_not_listed(path: Path) -> None:
    edit_json(path / INDEX, lambda index: index["weight_map"].popitem())


@damage("CKD704", "transformers/sharded_safetensors")
def one_name_in_two_shards(path: Path) -> None:
    _repeat_a_tensor(path, lambda data: data[::-1])


@damage("CKD704", "transformers/sharded_safetensors", deep=True)
def equal_copies_in_two_shards(path: Path) -> None:
    _repeat_a_tensor(path, lambda data: data)


def _repeat_a_tensor(path: Path, value: Callable[[bytes], bytes]) -> None:
    source, body = header_of((path / "model-00001-of-00003.safetensors").read_bytes())
    name, entry = next((name, entry) for name, entry in source.items() if name != "__metadata__")
    start, end = entry["data_offsets"]
    target = path / "model-00002-of-00003.safetensors"
    header, other = header_of(target.read_bytes())
    header[name] = {**entry, "data_offsets": [len(other), len(other) + end - start]}
    target.write_bytes(safetensors_bytes(header, other + value(body[start:end])))


@damage("CKD705", "transformers/sharded_safetensors", severity="warning")
def total_size_wrong(path: Path) -> None:
    edit_json(path / INDEX, lambda index: index["metadata"].update(total_size=12345))


@damage("CKD705", "transformers/sharded_safetensors", severity="warning")
def total_size_absent(path: Path) -> None:
    edit_json(path / INDEX, lambda index: index.pop("metadata"))


@damage("CKD706", "transformers/sharded_safetensors")
def index_of_five_shards(path: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        mapping = index["weight_map"]
        for number, name in enumerate(mapping):
            mapping[name] = f"model-{number % 5 + 1:05d}-of-00005.safetensors"

    edit_json(path / INDEX, change)


@damage("CKD706", "transformers/single_safetensors", severity="warning")
def index_beside_a_single_file(path: Path) -> None:
    header, _ = header_of((path / "model.safetensors").read_bytes())
    names = [name for name in header if name != "__metadata__"]
    mapping = {name: f"model-{number % 2 + 1:05d}-of-00002.safetensors" for number, name in enumerate(names)}
    (path / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": mapping}))


@damage("CKD707", "transformers/sharded_safetensors")
def index_cut(path: Path) -> None:
    (path / INDEX).write_text((path / INDEX).read_text()[:200])


@damage("CKD707", "transformers/sharded_safetensors")
def index_without_map(path: Path) -> None:
    (path / INDEX).write_text('{"metadata": {"total_size": 1}}')
