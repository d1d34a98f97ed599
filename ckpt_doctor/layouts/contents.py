"""The folders of a checkpoint, listed, and its weight files, read: what its parts are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats.other_kinds import NAMED_ENDINGS, begins_like_weights

from .disk import Disk, Folder
from .found import Found
from .names import is_named_like_weights, is_pickle_name, is_training_state, join, may_hide_a_pickle

_Read = TypeVar("_Read")


class Once(dict[str, _Read]):
    """What was read, by its path in the checkpoint; anything else is read when it is first asked for."""

    def __init__(self, read: Callable[[str], _Read]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, path: str) -> _Read:
        return self.setdefault(path, self._read(path))


class Contents(NamedTuple):
    """What lies in the folders of a checkpoint. Paths are relative to ``root``, with ``/``.

    ``own`` are the folders that belong to it; its root is the empty path. ``folders`` has these, and one that is not
    there seems empty. ``weights`` has every file that is, or may be, weights: one that carries code is dangerous
    whether or not today's loader opens it.
    """

    root: Path
    disk: Disk
    own: tuple[str, ...]
    folders: Once[Folder]
    weights: Once[WeightFile]


def contents_of(found: Found, disk: Disk) -> Contents:
    """What lies in the folders of the checkpoint that was found, with its weight files read."""
    folders = Once(lambda path: disk.folder(found.root / path))
    weights = Once(lambda path: disk.weights(found.root / path, path))
    asked = {path for item in found.kind.parts if item.form == "file" for path in item.paths}
    paths = [join(folder, name) for folder in ("", *found.claimed) for name in folders[folder].files]
    for path in [path for path in paths if path in asked or _may_be_weights(path, found.root / path, disk)]:
        _ = weights[path]
    return Contents(found.root, disk, tuple(folders), folders, weights)


def _may_be_weights(name: str, path: Path, disk: Disk) -> bool:
    """True if a file is named or begins like weights, like a pickle, or like a zip archive that may hold one."""
    if is_named_like_weights(name) or is_training_state(name.rpartition("/")[2]) or name.endswith(".distcp"):
        return True
    if not may_hide_a_pickle(name):
        return False
    if is_pickle_name(name) or name.endswith(NAMED_ENDINGS):
        return True
    head = disk.head(path, 16)
    return head[:1] == b"\x80" or begins_like_weights(head)
