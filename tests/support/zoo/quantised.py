"""Quantised models, by the names and shapes that their libraries write."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

from support.places import HEALTHY
from support.quantised import KINDS, experts_in_mxfp4, quantise

from .common import Animal, quiet

_PLAIN = HEALTHY / "transformers/single_safetensors"


def _quantised(name: str, directory: Path) -> Path:
    return quantise(Path(shutil.copytree(_PLAIN, directory, dirs_exist_ok=True)), name)


def _mixed(directory: Path) -> Path:
    """Only the second layer is quantised: what mixed precision leaves."""
    folder = Path(shutil.copytree(_PLAIN, directory, dirs_exist_ok=True))
    return quantise(folder, "float8-blocks", left_alone="layers.0.")


def _mxfp4(directory: Path) -> Path:
    return experts_in_mxfp4(Path(shutil.copytree(_PLAIN, directory, dirs_exist_ok=True)))


def _animals() -> Iterator[tuple[str, Animal]]:
    for name in KINDS:
        yield name, functools.partial(_quantised, name)
    yield "mixed-precision", _mixed
    yield "mxfp4", _mxfp4


ANIMALS: dict[str, Animal] = {name: quiet(animal) for name, animal in _animals()}
