"""``*.index.json``: which tensor lies in which shard.

The format is that of transformers: ``{"metadata": {"total_size": bytes}, "weight_map": {tensor: file}}``.
"""

from __future__ import annotations

from pathlib import Path

from ckpt_doctor.core.parts import IndexFormat, ShardIndex
from ckpt_doctor.core.wording import listed

from .json_text import repeated
from .limits import LIMITS, Limits
from .text_file import JsonFile, read_json


def read_shard_index(path: Path, name: str, limits: Limits = LIMITS) -> ShardIndex:
    """Read the index at ``path``; ``name`` is its path in the checkpoint. What went wrong stands in ``error``."""
    return index_of(read_json(path, limits.index_file, limits.json_depth), name)


def index_of(found: JsonFile, name: str) -> ShardIndex:
    """What was parsed, as an index."""
    kind: IndexFormat = "safetensors" if ".safetensors.index" in name else "torch"
    if found.error is not None:
        return ShardIndex(name, kind, error=found.error, unreadable=found.unreadable)
    error = _what_is_wrong(found.data)
    if error is not None:
        return ShardIndex(name, kind, error=error)
    weight_map = found.data["weight_map"]
    metadata = found.data.get("metadata")
    return ShardIndex(
        path=name,
        format=kind,
        weight_map=weight_map,
        total_size=_total_size(metadata.get("total_size")) if isinstance(metadata, dict) else None,
        escaping=tuple(sorted({shard for shard in weight_map.values() if escapes(shard)})),
    )


def _what_is_wrong(data: object) -> str | None:
    if not isinstance(data, dict):
        return "it holds JSON, but not an object"
    if "weight_map" not in data:
        return "it has no weight_map"
    if "weight_map" in repeated(data):
        return "it has two weight_maps"
    weight_map = data["weight_map"]
    if not isinstance(weight_map, dict):
        return "its weight_map is not an object"
    twice = repeated(weight_map)
    if twice:
        return f"its weight_map lists {listed(twice)} more than once"
    wrong = [name for name, shard in weight_map.items() if not isinstance(shard, str) or not shard]
    if wrong:
        return f"its weight_map gives no file name for {listed(wrong)}"
    return None


def _total_size(value: object) -> int | None:
    """Bytes. Some writers leave a float behind, which is meant as the same number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == value and abs(value) < 1 << 63 else None


def escapes(shard: str) -> bool:
    r"""True if a shard's name could lead out of the folder of its index, on this or another operating system.

    >>> [escapes(name) for name in ("model-1.safetensors", "parts/a.safetensors", "../a", "/a", "C:a", "a\\b", "a\0")]
    [False, False, True, True, True, True, True]
    """
    if shard.startswith(("/", "~")) or "\\" in shard or "\0" in shard:
        return True
    return shard[1:2] == ":" or ".." in shard.split("/")
