"""An adapter folder of PEFT, alone or beside a whole model and the state of a training run."""

from __future__ import annotations

from functools import partial

from ckpt_doctor.core.checkpoint import Checkpoint

from .adapters import CONFIG_NAME, WEIGHT_NAMES, adapter_part, holds_adapter
from .folder import Folder
from .match import Match
from .model_files import holds_model, model_parts
from .names import state_folders
from .reading import CheckpointReader
from .registry import PEFT


def match(folder: Folder, *, forced: bool = False) -> Match | None:
    """Recognise an adapter by ``adapter_config.json`` or ``adapter_model.*``.

    The folders of further adapters below it are checkpoints of their own: each can be loaded without the other.
    ``forced`` takes the user's word for it.
    """
    if not forced and (not holds_adapter(folder) or is_of_mlx(folder)):
        return None

    state = state_folders(folder.folders)
    return Match(PEFT, folder.path, state, partial(_build, state))


def is_of_mlx(folder: Folder) -> bool:
    """Whether the adapter here is one of mlx-lm, which gives its config the name that PEFT's has."""
    if not folder.has_file(CONFIG_NAME) or any(folder.has_file(name) for name in WEIGHT_NAMES):
        return False
    data = folder.disk.config(folder.path / CONFIG_NAME, CONFIG_NAME).data or {}
    return "fine_tune_type" in data and "peft_type" not in data


def _build(state: tuple[str, ...], reader: CheckpointReader) -> Checkpoint:
    adapter = adapter_part(reader, "", "adapter")
    kind = adapter.config.data.get("peft_type") if adapter.config and adapter.config.data else None
    variant = f"PEFT {kind}" if isinstance(kind, str) else "PEFT"
    return reader.checkpoint(PEFT, variant, [adapter, *model_parts(reader)], ["", *state])


def nested_below(folder: Folder) -> str | None:
    """The name of the folder that holds the only adapter below ``folder``, if ``folder`` looks like its save folder.

    That is so where PEFT's model card or other files lie above it, or where the folder has one of the names that
    training scripts give. A plain folder of checkpoints is none, and neither is that of a whole model.
    """
    adapters = [name for name in folder.folders if holds_adapter(folder.child(name))]
    if len(adapters) != 1 or holds_adapter(folder) or holds_model(folder):
        return None
    usual = adapters[0] in ("adapter_model", "adapter", "default", "lora", "peft", "weaver", "trigger")
    return adapters[0] if usual or folder.files else None
