"""A MemGen ``weaver/`` directory: a LoRA adapter, and ``projections.pt`` beside it."""

from __future__ import annotations

from functools import partial

from ckpt_doctor.core.checkpoint import Checkpoint

from .adapters import adapters_below, holds_adapter
from .folder import Folder
from .match import Match
from .memgen_parts import LATENTS, PROJECTIONS, known_sizes, side_part
from .reading import CheckpointReader, join
from .registry import WEAVER

ADAPTER_FOLDER = "weaver_lora"
SIDE_FILE = "projections.pt"


def match(folder: Folder, *, forced: bool = False) -> Match | None:
    """Recognise a weaver by its ``weaver_lora/``, or by ``projections.pt`` beside an adapter.

    A folder that is called ``weaver`` is one as soon as any part of a weaver lies in it, so that a save that stopped
    half-way is not overlooked. ``forced`` takes the user's word for it.
    """
    has_side_file = folder.has_file(SIDE_FILE)
    named = folder.name == "weaver"
    if not forced and folder.has_folder("trigger_lora") and not folder.has_folder(ADAPTER_FOLDER):
        return None
    if folder.has_folder(ADAPTER_FOLDER):
        adapter_folder, variant = ADAPTER_FOLDER, "MemGen weaver"
    elif (has_side_file or named) and folder.has_folder("weaver") and holds_adapter(folder.child("weaver")):
        adapter_folder, variant = "", "MemGen weaver, short nesting"
    elif (has_side_file or forced) and holds_adapter(folder):
        adapter_folder, variant = "", "MemGen weaver"
    elif (
        (has_side_file and named)
        or forced
        or (has_side_file and not _other_weights(folder) and _holds_projections(folder))
    ):
        adapter_folder, variant = ADAPTER_FOLDER, "MemGen weaver"
    else:
        return None

    return Match(WEAVER, folder.path, _claimed(folder, adapter_folder), partial(_build, adapter_folder, variant))


def _build(adapter_folder: str, variant: str, reader: CheckpointReader) -> Checkpoint:
    adapters = adapters_below(reader, adapter_folder, "weaver", nesting_is_usual=False)
    side = side_part(reader, SIDE_FILE, "projections", "projections", (*PROJECTIONS, *LATENTS))
    folders = ["", adapter_folder, *(part.directory for part in adapters)]
    return reader.checkpoint(WEAVER, variant, [*adapters, side], folders, known_sizes=known_sizes(adapters, None))


def _claimed(folder: Folder, adapter_folder: str) -> tuple[str, ...]:
    if not adapter_folder:
        return tuple(name for name in folder.folders if holds_adapter(folder.child(name)))
    below = folder.child(adapter_folder)
    return (adapter_folder, *(join(adapter_folder, name) for name in below.folders))


def _other_weights(folder: Folder) -> bool:
    return any(name != SIDE_FILE and name.endswith((".safetensors", ".bin", ".pt", ".pth")) for name in folder.files)


def _holds_projections(folder: Folder) -> bool:
    # The name alone is not MemGen's: a lone file of that name counts only if it holds one of the entries.
    known = {entry.name for entry in (*PROJECTIONS, *LATENTS)}
    return any(tensor.name in known for tensor in folder.disk.weights(folder.path / SIDE_FILE, SIDE_FILE).tensors)
