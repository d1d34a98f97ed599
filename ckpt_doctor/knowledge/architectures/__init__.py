"""What each model type of transformers holds on disk, as a table: ``scripts/generate_architectures.py`` made them.

A table is JSON: ``classes`` maps the names that ``architectures`` may hold to their ``rows``, each a name with ``*``
for the index of a layer, an expression for the number of layers for each ``*``, a list of expressions that is the shape
(``null`` where it is not known), and a condition (``null`` if it is unknown whether the tensor is there). ``extends``
names another class whose rows lie below a prefix, without those in ``without``. ``tied`` are names that may hold the
same parameter, ``inside`` those that the model has in memory instead of others. What expressions and conditions
mean, and the other entries, is said in :mod:`ckpt_doctor.analysis.architecture`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


@lru_cache(1)
def _index() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((_FOLDER / "index.json").read_bytes())
    return found


def known_types() -> tuple[str, ...]:
    """Every model type that has a table."""
    return tuple(_index()["types"])


def old_names() -> tuple[str, ...]:
    """Regular expressions of older names that transformers reads in every model."""
    return tuple(_index()["old"])


@lru_cache(8)
def table_of(model_type: str) -> Mapping[str, Any] | None:
    """The table of a model type, or ``None`` if there is none."""
    place = _index()["types"].get(model_type)
    if place is None:
        return None
    import zlib

    start, size = place
    with (_FOLDER / "tables.bin").open("rb") as file:
        file.seek(start)
        found: Mapping[str, Any] = json.loads(zlib.decompress(file.read(size)))
    return found
