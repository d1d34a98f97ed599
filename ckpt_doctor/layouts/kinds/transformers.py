"""A folder that ``save_pretrained`` of transformers or diffusers wrote, or one like it."""

from __future__ import annotations

import re

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.layout import Layout, LayoutPart, Sign
from ckpt_doctor.layouts.adapters import holds_adapter
from ckpt_doctor.layouts.folder import Folder
from ckpt_doctor.layouts.names import has_weight_ending, is_training_state, state_folders

from . import Hooks
from .memgen import as_whole_model, is_whole_model


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
