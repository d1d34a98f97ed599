"""Adapter folders as PEFT writes them: ``adapter_config.json`` and ``adapter_model.*``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ckpt_doctor.core.entries import KnownSize
from ckpt_doctor.core.parts import Adapter, ConfigFile, Part
from ckpt_doctor.formats import read_config
from ckpt_doctor.knowledge.embeddings import rows_needed, vocabulary_size

from .contents import Contents
from .disk import Folder
from .hub_cache import cached_file
from .names import join
from .tokenizer import CONFIG_NAME as TOKENIZER_CONFIG
from .tokenizer import read_tokenizer

CONFIG_NAME = "adapter_config.json"
WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")


def holds_adapter(folder: Folder) -> bool:
    """True if an adapter, or a part of one, lies directly in this folder."""
    return any(name in folder.files for name in (CONFIG_NAME, *WEIGHT_NAMES))


def may_hold_adapter(folder: Folder) -> bool:
    """True if this folder holds an adapter, or may hold one because it cannot be listed."""
    return holds_adapter(folder) or folder.error is not None


def is_of_mlx(folder: Folder) -> bool:
    """True if the adapter here is one of mlx-lm, which gives its config the name that PEFT's has."""
    if CONFIG_NAME not in folder.files or any(name in folder.files for name in WEIGHT_NAMES):
        return False
    data = folder.disk.config(folder.path / CONFIG_NAME, CONFIG_NAME).data or {}
    return "fine_tune_type" in data and "peft_type" not in data


def adapter_part(
    contents: Contents, directory: str, name: str, *, secondary: bool = False, nested_from: str | None = None
) -> Part:
    """The adapter in ``directory`` (relative to the checkpoint), whatever of it is there."""
    folder = contents.folders[directory]
    if folder.error is not None:
        # Nothing may be called absent where nobody could look.
        return Part(
            name, "adapter", directory, files=(folder.as_unreadable_file(directory),), adapter=Adapter(secondary)
        )
    config_name = join(directory, CONFIG_NAME)
    config = contents.disk.config(folder.path / CONFIG_NAME, config_name) if CONFIG_NAME in folder.files else None
    # Where PEFT nested the adapter, a loader that knows nothing of it looks one folder higher.
    looked_for = directory if nested_from is None else nested_from
    part = Part(
        name=name,
        role="adapter",
        directory=directory,
        # PEFT reads the safetensors file where both are there, and so the names stand in that order.
        files=tuple(contents.weights[join(directory, file)] for file in WEIGHT_NAMES if file in folder.files),
        expected_files=tuple(join(looked_for, file) for file in WEIGHT_NAMES),
        config=config,
        config_expected=config_name,
        required=not secondary,
    )
    adapter = Adapter(secondary, nested_from, _local_base_config(config, folder.path))
    size = vocabulary_size(adapter.base_config)
    if size is not None and TOKENIZER_CONFIG in folder.files and rows_needed(part, size) is not None:
        part = part._replace(tokenizer=read_tokenizer(folder.path))
    return part._replace(adapter=adapter)


def adapters_below(contents: Contents, directory: str, wanted: str, *, nesting_is_usual: bool) -> list[Part]:
    """The adapter named ``wanted`` in ``directory``, and after it those that lie beside it.

    PEFT writes an adapter called ``default`` into the folder itself and every other into a folder of its own name.
    ``nesting_is_usual`` says that the loaders of this layout look there.
    """
    folder = contents.folders[directory]
    # A folder that nobody can look into may hold an adapter, so it must not be skipped.
    nested = [name for name in folder.folders if may_hold_adapter(contents.folders[join(directory, name)])]
    direct = holds_adapter(folder) or not nested
    if nesting_is_usual and (wanted in nested or not holds_adapter(folder)):
        primary = wanted
    elif direct:
        primary = ""
    else:
        primary = wanted if wanted in nested else nested[0]
    first = adapter_part(
        contents,
        join(directory, primary) if primary else directory,
        f"{wanted} adapter",
        nested_from=directory if primary and not nesting_is_usual else None,
    )
    others = (name for name in nested if name != primary)
    return [
        first,
        *(adapter_part(contents, join(directory, name), f"{name} adapter", secondary=True) for name in others),
    ]


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
    cached = cached_file(base, (config.data or {}).get("revision") if config else None, "config.json")
    return None if cached is None else read_config(cached, str(cached)).data


# Modules whose input is the hidden state, by the name they bear in today's causal language models.
_READS_HIDDEN_STATE = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "c_attn", "query_key_value")


def hidden_sizes(part: Part, dim: str) -> Iterator[KnownSize]:
    """What an adapter and its base model say about the hidden size of the adapted model, as the size of ``dim``."""
    hidden = _adapter_input_size(part)
    if hidden is not None:
        yield KnownSize(dim, hidden, f"the {part.name}'s lora_A")
    base = _hidden_size((part.adapter and part.adapter.base_config) or {})
    if base is not None:
        yield KnownSize(dim, base, f"hidden_size of the {part.name}'s base model")


def _adapter_input_size(part: Part) -> int | None:
    """The hidden size that a LoRA was trained on, where all its attention and MLP inputs agree on one."""
    widths = {
        tensor.shape[1]
        for tensor in part.loaded_tensors
        if len(tensor.shape) == 2
        and ".lora_A." in tensor.name
        and tensor.name.partition(".lora_A.")[0].rpartition(".")[2] in _READS_HIDDEN_STATE
    }
    return widths.pop() if len(widths) == 1 else None


def _hidden_size(config: Any) -> int | None:
    """``hidden_size`` of a ``config.json``, or that of its text model; GPT-2 calls it ``n_embd``."""
    text = config.get("text_config")
    for section in (config, text if isinstance(text, dict) else {}):
        for key in ("hidden_size", "n_embd", "d_model"):
            if isinstance(section.get(key), int):
                return int(section[key])
    return None
