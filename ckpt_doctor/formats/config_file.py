"""``config.json``, ``adapter_config.json`` and the like: a JSON object, read as it stands."""

from __future__ import annotations

from pathlib import Path

from ckpt_doctor.core.parts import ConfigFile

from .limits import LIMITS, Limits
from .text_file import JsonFile, read_json


def read_config(path: Path, name: str, limits: Limits = LIMITS) -> ConfigFile:
    """Read the config at ``path``; ``name`` is its path in the checkpoint. What went wrong stands in ``error``.

    NaN, Infinity and repeated names pass, as they do in the loaders, which use Python's parser.
    """
    return config_of(read_json(path, limits.config_file, limits.json_depth), name)


def config_of(found: JsonFile, name: str) -> ConfigFile:
    """What was parsed, as a config."""
    if found.error is not None:
        return ConfigFile(name, None, found.error, found.unreadable)
    if not isinstance(found.data, dict):
        return ConfigFile(name, None, "it holds JSON, but not an object")
    return ConfigFile(name, found.data)
