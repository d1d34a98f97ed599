"""A weight file by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ckpt_doctor.checkpoint import Checkpoint, Part

from .disk import Disk
from .match import Found
from .unfinished import signs

NAME = "file"


def found(path: Path, shown: str, disk: Disk) -> Found:
    """The file at ``path`` as a checkpoint that is not read yet."""
    return Found(NAME, path.parent, shown, (), partial(build, path, shown, disk))


def build(path: Path, shown: str, disk: Disk) -> Checkpoint:
    """The checkpoint that consists of the file at ``path``; its root is the folder the file lies in."""
    file = disk.weights(path, path.name)
    role = "adapter" if path.name.startswith("adapter_model.") else "file"
    parts = (Part(path.name, role, files=(file,)),)
    return Checkpoint(path.parent, shown, NAME, "weight file", parts, unfinished=signs(path, disk))
