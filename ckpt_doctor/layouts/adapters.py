"""Adapter folders as PEFT writes them: ``adapter_config.json`` and ``adapter_model.*``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ckpt_doctor.core.entries import KnownSize
from ckpt_doctor.core.parts import ConfigFile, Part
from ckpt_doctor.formats import read_config
from ckpt_doctor.knowledge.embeddings import rows_needed, vocabulary_size

from .folder import Folder
from .hub_cache import cached_file
from .reading import CheckpointReader, join
from .tokenizer import CONFIG_NAME as TOKENIZER_CONFIG
from .tokenizer import read_tokenizer

CONFIG_NAME = "adapter_config.json"
WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")


def holds_adapter(folder: Folder) -> bool:
    """Whether an adapter, or a part of one, lies directly in this folder."""
    return any(folder.has_file(name) for name in (CONFIG_NAME, *WEIGHT_NAMES))


def is_of_mlx(folder: Folder) -> bool:
    """Whether the adapter here is one of mlx-lm, which gives its config the name that PEFT's has."""
    if not folder.has_file(CONFIG_NAME) or any(folder.has_file(name) for name in WEIGHT_NAMES):
        return False
    data = folder.disk.config(folder.path / CONFIG_NAME, CONFIG_NAME).data or {}
    return "fine_tune_type" in data and "peft_type" not in data


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
    part = Part(
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
    size = vocabulary_size(part.base_config)
    if size is not None and folder.has_file(TOKENIZER_CONFIG) and rows_needed(part, size) is not None:
        return part._replace(tokenizer=read_tokenizer(folder.path))
    return part


def adapters_below(reader: CheckpointReader, directory: str, wanted: str, *, nesting_is_usual: bool) -> list[Part]:
    """The adapter named ``wanted`` in ``directory``, and after it those that lie beside it.

    PEFT writes an adapter called ``default`` into the folder itself and every other into a folder of its own name.
    ``nesting_is_usual`` says that the loaders of this layout look there.
    """
    folder = reader.folder(directory)
    children = {name: folder.child(name) for name in folder.folders}
    # A folder that nobody can look into may hold an adapter, so it must not be passed over.
    nested = [name for name, child in children.items() if holds_adapter(child) or child.listing_error() is not None]
    direct = holds_adapter(folder) or not nested
    if nesting_is_usual and (wanted in nested or not holds_adapter(folder)):
        primary = wanted
    elif direct:
        primary = ""
    else:
        primary = wanted if wanted in nested else nested[0]
    first = adapter_part(
        reader,
        join(directory, primary) if primary else directory,
        f"{wanted} adapter",
        nested_from=directory if primary and not nesting_is_usual else None,
    )
    others = (name for name in nested if name != primary)
    return [
        first,
        *(adapter_part(reader, join(directory, name), f"{name} adapter", secondary=True) for name in others),
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
    base = _hidden_size(part.base_config or {})
    if base is not None:
        yield KnownSize(dim, base, f"hidden_size of the {part.name}'s base model")


def _adapter_input_size(part: Part) -> int | None:
    """The hidden size that a LoRA was trained on, where all its attention and MLP inputs agree on one."""
    widths = {
        tensor.shape[1]
        for tensor in part.tensors
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
