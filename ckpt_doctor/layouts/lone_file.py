"""A weight file by itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile

from .disk import Disk
from .found import Found
from .unfinished import signs

KIND = Layout("file", title="weight file", grain="file", loads="state-dict", resumes=False)


def found(path: Path, shown: str) -> Found:
    """The file at ``path`` as a checkpoint that is not read yet; its root is the folder the file lies in."""
    return Found(KIND, path.parent, shown)


def build(found: Found, disk: Disk) -> Checkpoint:
    """The checkpoint that consists of the file that was found."""
    path = found.root / found.name
    return _of(found, disk, disk.weights(path, path.name))


def already_read(found: Found, disk: Disk, file: WeightFile) -> Found:
    """The checkpoint that consists of ``file``, which was read already."""
    return found._replace(known=_of(found, disk, file))


def with_unread(found: Found, unread: Iterable[Unread]) -> Found:
    """The same, with what lies in its folder and is not read."""
    return found._replace(unread=(*found.unread, *unread))


def given(checkpoint: Checkpoint) -> Found:
    """What means ``checkpoint``, which is known without reading a file."""
    return Found(checkpoint.kind, checkpoint.root, checkpoint.path, known=checkpoint)


def unread_folder(path: Path, shown: str, unread: Iterable[Unread]) -> Found:
    """What means a path where nothing was found that could be judged."""
    return given(Checkpoint(path, shown, KIND, "nothing this tool reads", (), unread=tuple(unread)))


def _of(found: Found, disk: Disk, file: WeightFile) -> Checkpoint:
    role = "adapter" if found.name.startswith("adapter_model.") else "file"
    parts = (Part(found.name, role, files=(file,)),)
    return Checkpoint(
        found.root, found.path, KIND, "weight file", parts, unfinished=signs(found.root / found.name, disk)
    )
