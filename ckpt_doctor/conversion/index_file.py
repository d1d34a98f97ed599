"""The ``*.index.json`` of converted shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.parts import ShardIndex


def index_text(
    old: Path, index: ShardIndex, shards: Mapping[str, str], names: Mapping[str, set[str]], size: int
) -> str:
    """The text of the new index, in the form that transformers writes.

    ``shards`` maps the file names of the old shards to those of the new ones, ``names`` each new one to the tensors in
    it, and ``size`` is the bytes of all of them. What else the old index says about the model is kept. Raises
    ``ConversionError`` where it cannot be read any more.
    """
    weight_map: dict[str, str] = {}
    for name, shard in index.weight_map.items():
        new = shards.get(shard, shard)
        # A name that was dropped for its alias is in no file, and a loader would look for it.
        if name in names.get(new, {name}):
            weight_map[name] = new
    for new, held in names.items():
        for name in held:
            weight_map.setdefault(name, new)
    document = {"metadata": {**_metadata(old), "total_size": size}, "weight_map": weight_map}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _metadata(old: Path) -> dict[str, Any]:
    try:
        found = json.loads(old.read_text(encoding="utf-8")).get("metadata")
    except (OSError, ValueError, AttributeError) as error:
        raise ConversionError(f"{old} changed while it was read: {error}") from None
    return found if isinstance(found, dict) else {}
