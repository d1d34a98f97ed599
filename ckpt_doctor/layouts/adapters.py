"""Adapter folders as PEFT writes them: ``adapter_config.json`` and ``adapter_model.*``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ckpt_doctor.checkpoint import ConfigFile, Part
from ckpt_doctor.formats import read_config

from .folder import Folder
from .reading import CheckpointReader, join

CONFIG_NAME = "adapter_config.json"
WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")


def holds_adapter(folder: Folder) -> bool:
    """Whether an adapter, or a part of one, lies directly in this folder."""
    return any(folder.has_file(name) for name in (CONFIG_NAME, *WEIGHT_NAMES))


def adapter_part(
    reader: CheckpointReader, directory: str, name: str, *, secondary: bool = False, nested_from: str | None = None
) -> Part:
    """The adapter in ``directory`` (relative to the checkpoint), whatever of it is there."""
    folder = reader.folder(directory)
    if os.path.lexists(folder.path) and folder.listing_error() is not None:
        # Nothing may be called absent where nobody could look.
        return Part(name, "adapter", directory, files=(folder.as_unreadable_file(directory),), secondary=secondary)
    config = reader.config(join(directory, CONFIG_NAME))
    # Where PEFT nested the adapter, a loader that knows nothing of it looks one folder higher.
    looked_for = directory if nested_from is None else nested_from
    # PEFT reads the safetensors file where both are there, and so the names stand in that order.
    files = reader.weights(join(directory, file) for file in WEIGHT_NAMES if folder.has_file(file))
    return Part(
        name=name,
        role="adapter",
        directory=directory,
        files=files,
        expected_files=tuple(join(looked_for, file) for file in WEIGHT_NAMES),
        config=config,
        config_expected=join(directory, CONFIG_NAME),
        required=not secondary,
        secondary=secondary,
        nested_from=nested_from,
        base_config=_local_base_config(config, reader.root / directory),
    )


def _local_base_config(config: ConfigFile | None, directory: Path) -> Mapping[str, Any] | None:
    base = config.data.get("base_model_name_or_path") if config and config.data else None
    # A name that starts with two slashes is a network share on Windows: opening it would send credentials there.
    if not isinstance(base, str) or not base or "\0" in base or base[:2] in ("\\\\", "//"):
        return None
    for candidate in (Path(base), directory / base):
        file = candidate / "config.json"
        # os.path.isfile says no to what is no path at all (too long, odd characters), where Path.is_file raises.
        if os.path.isfile(file):  # noqa: PTH113
            return read_config(file, str(file)).data
    return None
