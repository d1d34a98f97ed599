"""A MemGen ``trigger/`` directory: a LoRA adapter alone."""

from __future__ import annotations

from functools import partial

from ckpt_doctor.core.checkpoint import Checkpoint

from .adapters import adapters_below, holds_adapter
from .folder import Folder
from .match import Match
from .reading import CheckpointReader, join
from .registry import TRIGGER

NAME = "trigger"
ADAPTER_FOLDER = "trigger_lora"


def match(folder: Folder, *, forced: bool = False) -> Match | None:
    """Recognise a trigger by its ``trigger_lora/``, or by the short nesting ``trigger/trigger/``.

    ``forced`` takes the user's word for it.
    """
    if folder.has_folder(ADAPTER_FOLDER):
        adapter_folder = ADAPTER_FOLDER
    elif forced or (folder.name == NAME and holds_adapter(folder.child(NAME))):
        adapter_folder = ""
    else:
        return None

    below = folder.child(adapter_folder)
    nested = (join(adapter_folder, name) for name in below.folders if holds_adapter(below.child(name)))
    claimed = (*([adapter_folder] if adapter_folder else []), *nested)
    return Match(TRIGGER, folder.path, claimed, partial(_build, adapter_folder))


def _build(adapter_folder: str, reader: CheckpointReader) -> Checkpoint:
    adapters = adapters_below(reader, adapter_folder, NAME, nesting_is_usual=False)
    folders = ["", adapter_folder, *(part.directory for part in adapters)]
    return reader.checkpoint(TRIGGER, "MemGen trigger", adapters, folders)
