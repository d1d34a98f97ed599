"""What lies in the folders of a checkpoint and belongs to none of its parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint, OtherFile, Unread
from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.knowledge.weight_names import is_opened_by_name

from .contents import Contents
from .left_out import grouped
from .names import has_weight_ending, is_named_like_weights, is_training_state, join


def with_leftovers(checkpoint: Checkpoint, contents: Contents) -> Checkpoint:
    """The checkpoint with the training state in its folders, weight files that no loader asks for, and other files."""
    taken = set(_of_parts(checkpoint))
    state: list[WeightFile] = []
    extra: list[WeightFile] = []
    unread: list[Unread] = []
    for path, file in contents.weights.items():
        if path in taken:
            continue
        other = unread_of(file)
        if is_training_state(path.rpartition("/")[2]):
            state.append(file)
        elif other is not None:
            unread.append(other)
        elif _is_extra(file):
            extra.append(file)
        else:
            continue
        taken.add(path)
    more = (_part("training state", "training-state", state), _part("other files", "extra", extra))
    return checkpoint._replace(
        parts=(*checkpoint.parts, *(part for part in more if part.files)),
        others=tuple(_others(contents, taken)),
        unread=grouped(unread),
    )


def _of_parts(checkpoint: Checkpoint) -> Iterator[str]:
    """The paths of everything that was read for a part."""
    for part in checkpoint.parts:
        documents = (part.config, *part.indexes)
        yield from (item.path for item in (*part.files, *documents) if item is not None)
    if checkpoint.config is not None:
        yield checkpoint.config.path


def _part(name: str, role: str, files: Iterable[WeightFile]) -> Part:
    files = tuple(files)
    return Part(name, role, files=files, active=tuple(file.path for file in files), required=False)


def _is_extra(file: WeightFile) -> bool:
    """True if a file holds weights, was to hold some and is damaged, or carries code."""
    if has_weight_ending(file.path):
        return not (file.path.endswith(".bin") and is_foreign(file))
    if file.has_defect(DefectKind.UNSAFE_GLOBAL, DefectKind.RESOURCE_BOMB):
        return True
    if not file.is_known:
        return is_named_like_weights(file.path) and not is_foreign(file)
    return bool(file.tensors)


def is_foreign(file: WeightFile) -> bool:
    """True if a file is something else altogether: its ending is shared with others, and nothing in it is dangerous."""
    return bool(file.defects) and all(defect.kind.foreign for defect in file.defects)


def unread_of(file: WeightFile) -> Unread | None:
    """A file of weights of another kind, under a name that no loader of torch or safetensors opens."""
    for defect in file.defects:
        kind = defect.other_kind
        if kind is not None and defect.evidence["weights"] and not is_opened_by_name(file.path, weights=True):
            return Unread(file.path, kind, file.nbytes, str(defect.evidence["reason"]))
    return None


def _others(contents: Contents, taken: set[str]) -> Iterator[OtherFile]:
    """Every link, and every other file that was not read."""
    root, disk = contents.root, contents.disk
    inside = os.path.realpath(hub_repository(root) or root)
    for directory in contents.own:
        folder = contents.folders[directory]
        for name in folder.files:
            path = join(directory, name)
            if name in folder.links:
                target = disk.link_target(root / path)
                outside = not f"{os.path.realpath(root / path)}/".startswith(f"{inside}/")
                yield OtherFile(path, disk.size(root / path), target, outside)
            elif path not in taken:
                yield OtherFile(path, disk.size(root / path))


def hub_repository(folder: Path) -> Path | None:
    """The repository of a hub cache that ``folder`` is a snapshot of, or lies in one: its links lead to ``blobs``."""
    for snapshots in folder.parents:
        if snapshots.name == "snapshots" and os.path.isdir(snapshots.parent / "blobs"):  # noqa: PTH112
            return snapshots.parent
    return None
