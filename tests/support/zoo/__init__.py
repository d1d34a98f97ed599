"""Healthy checkpoints of many kinds, each written by the library that usually writes it.

``ZOO`` maps a name to a function that writes a checkpoint below a folder and returns the path to inspect. None of them
may ever be reported as an error; a rule that reads names too literally fails on one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import adapters, files, layouts, models, quantised, training

ZOO: dict[str, Callable[[Path], Path]] = {
    f"{group}/{name}": build
    for group, animals in (
        ("adapter", adapters.ANIMALS),
        ("model", models.ANIMALS),
        ("quantised", quantised.ANIMALS),
        ("training", training.ANIMALS),
        ("layout", layouts.ANIMALS),
        ("file", files.ANIMALS),
    )
    for name, build in animals.items()
}
