"""An adapter part as the rules on its keys see it: type, settings, and every name taken apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.knowledge.adapter_keys import AdapterKey, base_module, parse_all
from ckpt_doctor.knowledge.peft_types import PEFT_TYPES, PeftType


class AdapterView(NamedTuple):
    """One weight file of an adapter together with its configuration.

    ``kind`` is ``None`` if the configuration is absent or names a type that is not known here; ``settings`` is empty
    then. ``modules`` maps each module to its parameters, and each of these to the name of its tensor.
    """

    part: Part
    file: WeightFile
    settings: Mapping[str, Any]
    kind: PeftType | None
    keys: tuple[AdapterKey, ...]
    modules: Mapping[str, Mapping[str, str]]


def adapters(checkpoint: Checkpoint) -> Iterator[AdapterView]:
    """Every readable weight file of every adapter."""
    for part in checkpoint.parts_with("adapter"):
        settings = (part.config.data if part.config else None) or {}
        peft_type = settings.get("peft_type")
        kind = PEFT_TYPES.get(peft_type) if isinstance(peft_type, str) else None
        for file in part.files:
            if file.readable:
                names = tuple(tensor.name for tensor in file.tensors)
                yield AdapterView(part, file, settings, kind, *_keys(names, peft_type if kind is not None else None))


@lru_cache(maxsize=4)
def _keys(
    names: tuple[str, ...], peft_type: str | None
) -> tuple[tuple[AdapterKey, ...], Mapping[str, Mapping[str, str]]]:
    """The names taken apart, and by module; ten rules ask for them, and adapters beside each other have the same."""
    keys = tuple(parse_all(names, None if peft_type is None else PEFT_TYPES[peft_type]))
    modules: dict[str, dict[str, str]] = {}
    for key in keys:
        if key.parameter is not None and not key.shared:
            modules.setdefault(key.module, {})[key.parameter] = key.name
    return keys, modules


def names_in(setting: Any) -> tuple[str, ...]:
    """The names that a setting lists; none if it is absent or something else."""
    return tuple(item for item in setting if isinstance(item, str)) if isinstance(setting, list) else ()


def names_module(module: str, pattern: str) -> bool:
    """True if an entry of ``target_modules`` means this module: it is its path or the end of it."""
    bare = base_module(module)
    return bare == pattern or bare.endswith(f".{pattern}") or module == pattern or module.endswith(f".{pattern}")


def lies_in(name: str, module: str) -> bool:
    """True if a tensor belongs to a module of this name, at any depth."""
    return f".{module}." in f".{name}"


def wraps_parameters(path: str, paths: Collection[str]) -> bool:
    """True if an adapter was trained on parameters of the module at ``path``, rather than on the module.

    PEFT nests the second and each further one of a module below ``base_layer``; ``paths`` are all adapted modules.
    Experts whose weights are fused hold parameters, and no modules that ``target_modules`` could name.
    """
    return path.rpartition(".")[2] in ("base_layer", "experts") or f"{path}.base_layer" in paths
