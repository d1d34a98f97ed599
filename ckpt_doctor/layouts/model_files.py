"""The weight files of whole models: one file or numbered shards with an index, in either format."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ckpt_doctor.core.parts import Part, ShardIndex

from .contents import Contents
from .disk import Folder
from .names import join
from .tokenizer import CONFIG_NAME as TOKENIZER_CONFIG
from .tokenizer import read_added

# transformers calls its files model.safetensors and pytorch_model.bin, diffusers diffusion_pytorch_model.*; either may
# have a variant (".fp16"). Any other stem belongs to a model only if an index names it.
_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model")
_INDEX = re.compile(r"(?P<stem>.+?)(?P<variant>)\.(?P<ending>safetensors|bin)\.index(?:\.(?P<late>[\w.-]+))?\.json")
_WEIGHTS = re.compile(
    r"(?P<stem>[\w-]+?)(?:\.(?P<variant>[\w.-]+?))?(?P<shard>-\d+-of-\d+)?\.(?P<ending>safetensors|bin)"
)

_CONFIG = "config.json"
_ENDINGS = (".json", ".safetensors", ".bin")

_Unit = tuple[str, str]
"""Stem and variant: what makes files one model."""


def holds_model(folder: Folder) -> bool:
    """True if weights of a whole model, or an index of them, lie in this folder."""
    return any(
        _INDEX.fullmatch(name) or (_unit_of(name, _STEMS) and not _is_other_kind(folder, name))
        for ending in _ENDINGS
        for name in folder.by_ending.get(ending, ())
    )


def _is_other_kind(folder: Folder, name: str) -> bool:
    """True if a file is called ``model.bin`` by another library: CTranslate2 does, transformers never does."""
    if not name.startswith("model.") or not name.endswith(".bin"):
        return False
    return any(defect.other_kind for defect in folder.disk.weights(folder.path / name, name).defects)


def model_parts(contents: Contents, directory: str = "") -> list[Part]:
    """A part for each model in ``directory``: usually one, more where variants such as fp16 lie there."""
    folder = contents.folders[directory]
    indexes: dict[_Unit, list[ShardIndex]] = {}
    for name in folder.files:
        found = _INDEX.fullmatch(name)
        if found and not found["stem"].startswith("adapter_model"):
            key = (_common(found["stem"]), found["late"] or "")
            indexes.setdefault(key, []).append(contents.disk.index(folder.path / name, join(directory, name)))
    stems = {*_STEMS, *(stem for stem, _ in indexes)}
    names: dict[_Unit, list[str]] = {unit: [] for unit in indexes}
    for name in folder.files:
        unit = _unit_of(name, stems)
        if unit and not _is_other_kind(folder, name):
            names.setdefault(unit, []).append(name)
    config_name = join(directory, _CONFIG)
    config = contents.disk.config(folder.path / _CONFIG, config_name) if _CONFIG in folder.files else None
    expected = config_name if _was_written_with_config(folder) else None
    tokenizer = read_added(folder.path) if TOKENIZER_CONFIG in folder.files else None
    parts = []
    for unit, found_names in sorted(names.items()):
        listed = {shard for index in indexes.get(unit, ()) for shard in index.shards}
        present = {*found_names, *(shard for shard in listed if shard in folder.files)}
        # safetensors first: that is what the loaders take where both are there.
        ordered = sorted(present, key=lambda name: (not name.endswith(".safetensors"), name))
        parts.append(
            Part(
                name="model" + (f" ({unit[1]})" if unit[1] else ""),
                role="model",
                directory=directory,
                files=tuple(contents.weights[join(directory, name)] for name in ordered),
                active=tuple(join(directory, name) for name in _active(ordered, unit, indexes.get(unit, ()))),
                expected_files=tuple(join(directory, name) for name in _expected(unit)),
                config=config,
                config_expected=expected,
                indexes=tuple(indexes.get(unit, ())),
                tokenizer=tokenizer,
            )
        )
    return parts


def _was_written_with_config(folder: Folder) -> bool:
    """True if ``save_pretrained`` of transformers wrote this folder, and with it a ``config.json``.

    accelerate, the hub's mixin and a Trainer whose model is a plain module write weights alone, but then none of them
    writes ``generation_config.json``. Mistral's own releases have ``params.json`` in its place.
    """
    elsewhere = "params.json" in folder.files or "adapter_config.json" in folder.files
    return "generation_config.json" in folder.files and not elsewhere


def _active(names: list[str], unit: _Unit, indexes: Iterable[ShardIndex]) -> tuple[str, ...]:
    """What transformers would read: a single file before shards, safetensors before the other format.

    diffusers (0.42) looks for an index first.
    """
    listed = {name for index in indexes for name in index.shards}
    shards_first = unit[0].startswith("diffusion_")
    for single in _expected(unit):
        if single in names and not (shards_first and _is_sharded(single, names, listed)):
            return (single,)
        of_format = [name for name in names if name.endswith(single[single.rindex(".") :])]
        chosen = [name for name in of_format if name in listed] or of_format
        if chosen:
            return tuple(chosen)
    return ()


def _is_sharded(single: str, names: list[str], listed: set[str]) -> bool:
    """True if an index lists other files of the same format that are there."""
    ending = single[single.rindex(".") :]
    return any(name in listed and name != single and name.endswith(ending) for name in names)


def _expected(unit: _Unit) -> tuple[str, ...]:
    stem, variant = unit
    suffix = f".{variant}" if variant else ""
    torch_stem = "pytorch_model" if stem == "model" else stem
    return (f"{stem}{suffix}.safetensors", f"{torch_stem}{suffix}.bin")


def _unit_of(name: str, stems: Iterable[str]) -> _Unit | None:
    found = _WEIGHTS.fullmatch(name)
    if not found or found["stem"] not in stems:
        return None
    return _common(found["stem"]), found["variant"] or ""


def _common(stem: str) -> str:
    return "model" if stem == "pytorch_model" else stem
