"""A folder that ``save_pretrained`` of transformers or diffusers wrote, or one like it."""

from __future__ import annotations

import re

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.layout import Layout, LayoutPart, Sign
from ckpt_doctor.layouts.adapters import holds_adapter
from ckpt_doctor.layouts.disk import Folder
from ckpt_doctor.layouts.names import has_weight_ending, is_training_state, state_folders
from ckpt_doctor.layouts.places import below

from . import Hooks
from .memgen import as_whole_model, is_whole_model


def _lost_its_model(folder: Folder) -> bool:
    """True if a training run saved everything but the weights here."""
    resumable = {"trainer_state.json", "optimizer.pt"} <= folder.files
    numbered = re.fullmatch(r"checkpoint-\d+", folder.name) and "config.json" in folder.files
    if not (resumable or numbered):
        return False
    if any(has_weight_ending(name) and not is_training_state(name) for name in folder.files):
        return False
    # Adapters of other names than "default" lie in folders of their own, each of which can be loaded.
    return not (state_folders(folder.folders) or any(holds_adapter(below(folder, name)) for name in folder.folders))


def _finished(checkpoint: Checkpoint) -> Checkpoint:
    # Only the names of its tensors tell a whole MemGen model from any other.
    if is_whole_model(tensor.name for tensor in checkpoint.parts[0].loaded_tensors):
        return as_whole_model(checkpoint)
    sharded = any(part.indexes for part in checkpoint.parts)
    return checkpoint._replace(variant="transformers, sharded") if sharded else checkpoint


KIND = Layout(
    "transformers",
    title="transformers",
    parts=(LayoutPart("model", ("",), "folder", "model"),),
    signs=(Sign(models=("",)),),
    general=True,
    loads="pretrained",
    covers="model",
)
HOOKS = Hooks(recognises=_lost_its_model, finished=_finished)
