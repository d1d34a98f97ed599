"""A folder that ``save_pretrained`` of transformers or diffusers wrote, or one like it."""

from __future__ import annotations

import re
from functools import partial

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part

from . import memgen
from .adapters import holds_adapter
from .folder import Folder
from .match import Match
from .model_files import holds_model, model_parts
from .names import has_weight_ending, is_training_state, state_folders
from .reading import CheckpointReader
from .registry import MEMGEN, TRANSFORMERS


def match(folder: Folder, *, forced: bool = False) -> Match | None:
    """Recognise a model by its weight files or its index; and a Trainer's checkpoint whose model is not there.

    ``forced`` takes the user's word for it.
    """
    if not forced and not holds_model(folder) and not _lost_its_model(folder):
        return None
    state = state_folders(folder.folders)
    return Match(TRANSFORMERS, folder.path, state, partial(_build, state))


def _build(state: tuple[str, ...], reader: CheckpointReader) -> Checkpoint:
    parts = model_parts(reader)
    if not parts:
        config = reader.config("config.json")
        parts = [Part("model", "model", config=config, expected_files=("model.safetensors", "pytorch_model.bin"))]
    folders = ["", *state]
    if memgen.is_whole_model(tensor.name for tensor in parts[0].tensors):
        return reader.checkpoint(MEMGEN, "MemGen whole model", memgen.whole_model(parts), folders)
    return reader.checkpoint(TRANSFORMERS, _variant(parts), parts, folders)


def _lost_its_model(folder: Folder) -> bool:
    """Whether a training run saved everything but the weights here."""
    resumable = folder.has_file("trainer_state.json") and folder.has_file("optimizer.pt")
    numbered = re.fullmatch(r"checkpoint-\d+", folder.name) and folder.has_file("config.json")
    if not (resumable or numbered):
        return False
    if any(has_weight_ending(name) and not is_training_state(name) for name in folder.files):
        return False
    # Adapters of other names than "default" lie in folders of their own, each of which can be loaded.
    return not (state_folders(folder.folders) or any(holds_adapter(folder.child(name)) for name in folder.folders))


def _variant(parts: list[Part]) -> str:
    sharded = any(part.indexes for part in parts)
    return "transformers, sharded" if sharded else "transformers"
