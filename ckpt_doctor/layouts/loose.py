"""The weight files in a folder that is no checkpoint: found by what they hold, whatever they are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Unread
from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats.other_kinds import NAMED_ENDINGS, begins_as_torch_zip, begins_like_weights

from . import lone_file
from .adapters import CONFIG_NAME, is_of_mlx
from .disk import Folder
from .found import Found
from .left_out import OTHER_READER
from .leftovers import is_foreign, unread_of
from .names import (
    NAMED_LIKE_WEIGHTS,
    NEVER_WEIGHTS,
    has_weight_ending,
    is_named_like_weights,
    is_temporary,
    is_training_state,
    state_with_tensors,
)

_HEAD = 16
_LONG_HEAD = 4096
_SURE = re.compile(rb"PK\x03\x04|\x80\x02\x8a\x0a\x6c\xfc\x9c|.{3}[\0-\4]\0{4}\{", re.DOTALL)
_PACKAGES = ("site-packages", "dist-packages")


class Looks:
    """How many files of unknown names are still looked into without asking for more reasons, over a whole tree.

    ``skipped`` counts those that were not.
    """

    def __init__(self, left: int = 4_000) -> None:
        self.left = left
        self.skipped = 0


def lone_files(folder: Folder, unread: list[Unread] | None = None, looks: Looks | None = None) -> Iterator[Found]:
    """The weight files in ``folder``, each as a checkpoint of its own.

    What is weights and not read is added to ``unread``; of the same folder, it is part of the first file's checkpoint.
    """
    aside: list[Unread] = []
    candidates = _candidates(folder, looks or Looks())
    found = [item for item in (_found(folder, name, head, aside) for name, head in candidates) if item]
    whole = _mlx_adapter(folder)
    if whole is not None:
        mine = [item for item in found if item.name.endswith("adapters.safetensors")]
        found = [lone_file.with_unread(item, (whole,)) if item in mine else item for item in found]
        if not mine:
            aside.append(whole._replace(whole=False))
    if found and aside:
        found[0] = lone_file.with_unread(found[0], aside)
    elif unread is not None:
        unread += (item._replace(path=str(folder.path / item.path)) for item in aside)
    yield from found


def _candidates(folder: Folder, looks: Looks) -> Iterator[tuple[str, bytes]]:
    """Name and first bytes of every file that is named or begins like weights, in the order of their names."""
    known: dict[str, bytes] = {}
    unknown: list[str] = []
    for ending, names in folder.by_ending.items():
        if ending in NEVER_WEIGHTS:
            continue
        if ending in _TELLING:
            heads = folder.disk.heads(folder.path, names, _HEAD)
            known.update((name, head) for name, head in heads if _is_telling(name) or begins_like_weights(head))
        else:
            unknown += names if looks.left >= len(names) else _worth_a_look(names, looks)
            looks.left -= len(names)
    known.update(
        (name, head) for name, head in folder.disk.heads(folder.path, unknown, _HEAD) if begins_like_weights(head)
    )
    yield from sorted(known.items())


_TELLING = frozenset(ending[ending.rfind(".") :] for ending in (*NAMED_ENDINGS, *NAMED_LIKE_WEIGHTS))
_CUE = re.compile(r"model|weight|ckpt|checkpoint|adapter|lora|epoch|best|last|final|latest", re.IGNORECASE)
_FAMILY = 64
_SAMPLES = 16


def _is_telling(name: str) -> bool:
    return name.endswith(NAMED_ENDINGS) or is_named_like_weights(name)


def _worth_a_look(names: list[str], looks: Looks) -> list[str]:
    """Those of very many files that are looked into: opening each would take longer than all the rest of a search.

    Files of one ending that are many are a data set. Of these, a sample is looked into, and every file whose name
    speaks of a model; the others are counted, so that the report can say so.
    """
    if len(names) <= _FAMILY:
        return names
    sample = set(names[:: len(names) // _SAMPLES])
    wanted = [name for name in names if name in sample or _CUE.search(name)]
    looks.skipped += len(names) - len(wanted)
    return wanted


def _found(folder: Folder, name: str, head: bytes, aside: list[Unread]) -> Found | None:
    path = folder.path / name
    if name.startswith("._"):
        return None  # what macOS keeps beside a file on other file systems
    if is_training_state(name):
        if state_with_tensors(name):
            aside.append(Unread(name, "training state", folder.disk.size(path), "no model lies beside it"))
        return None
    found = lone_file.found(path, os.path.normpath(path))
    if has_weight_ending(name) and not name.endswith(".bin") and _SURE.match(head):
        return found
    file = folder.disk.weights(path, name)
    other = unread_of(file)
    if other is not None:
        aside.append(other)
        return None
    if is_temporary(name):
        if _is_weights(folder, file, name):
            aside.append(Unread(name, "unfinished file", file.nbytes, "its save or download did not complete"))
        return None
    return lone_file.already_read(found, folder.disk, file) if _counts(folder, file, name) else None


def _counts(folder: Folder, file: WeightFile, name: str) -> bool:
    """True if a file is one of weights, or was meant to be."""
    if name.endswith(".bin"):
        # ".bin" is everybody's ending: in a folder of anything, only what holds tensors counts as a weight file.
        return not is_foreign(file)
    if is_named_like_weights(name):
        return not (name.endswith(".pth") and folder.name in _PACKAGES and is_foreign(file))
    return _is_weights(folder, file, name)


def _is_weights(folder: Folder, file: WeightFile, name: str) -> bool:
    """True if a file holds tensors, or is cut off and begins as one that does, whatever it is called."""
    if file.tensors:
        return file.is_known
    if file.is_safetensors:
        cut = file.has_defect(DefectKind.SAFETENSORS_TRUNCATED)
        return cut and b'"dtype"' in folder.disk.head(folder.path / name, _LONG_HEAD)
    if file.format == "torch-legacy":
        return any(defect.kind.cut_short for defect in file.defects)
    cut = file.has_defect(DefectKind.TORCH_TRUNCATED)
    return cut and begins_as_torch_zip(folder.disk.head(folder.path / name, _LONG_HEAD))


def _mlx_adapter(folder: Folder) -> Unread | None:
    """The folder as an adapter of mlx-lm: by its config, or where that is absent by its file's name."""
    alone = "adapters.safetensors" in folder.files and CONFIG_NAME not in folder.files
    if not alone and not is_of_mlx(folder):
        return None
    return Unread(".", "mlx-lm adapter", 0, OTHER_READER, whole=True)
