"""A weight file by itself."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile

from .disk import Disk
from .match import Found
from .registry import FILE
from .unfinished import signs


def found(path: Path, shown: str, disk: Disk) -> Found:
    """The file at ``path`` as a checkpoint that is not read yet."""
    return Found(FILE, path.parent, shown, (), partial(build, path, shown, disk))


def build(path: Path, shown: str, disk: Disk) -> Checkpoint:
    """The checkpoint that consists of the file at ``path``; its root is the folder the file lies in."""
    return _of(path, shown, disk, disk.weights(path, path.name))


def already_read(found: Found, disk: Disk, file: WeightFile) -> Found:
    """The checkpoint that consists of ``file``, which was read already."""
    return found._replace(read=partial(_of, found.root / found.name, found.path, disk, file))


def with_unread(found: Found, unread: Iterable[Unread]) -> Found:
    """The same, with what lies in its folder and is not read."""
    return found._replace(read=partial(_with_unread, found, tuple(unread)))


def unread_folder(path: Path, shown: str, unread: Iterable[Unread]) -> Found:
    """What stands for a path where nothing was found that could be judged."""
    return Found(FILE, path, shown, (), partial(_unread_folder, path, shown, tuple(unread)))


def _of(path: Path, shown: str, disk: Disk, file: WeightFile) -> Checkpoint:
    role = "adapter" if path.name.startswith("adapter_model.") else "file"
    parts = (Part(path.name, role, files=(file,)),)
    return Checkpoint(path.parent, shown, FILE, "weight file", parts, unfinished=signs(path, disk))


def _with_unread(found: Found, unread: tuple[Unread, ...]) -> Checkpoint:
    checkpoint = found.read()
    return checkpoint._replace(unread=(*checkpoint.unread, *unread))


def _unread_folder(path: Path, shown: str, unread: tuple[Unread, ...]) -> Checkpoint:
    return Checkpoint(path, shown, FILE, "nothing that this tool reads", (), unread=unread)
