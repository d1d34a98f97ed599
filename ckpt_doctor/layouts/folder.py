"""A directory as the layouts see it: names and kinds of its entries, read once and only when asked for."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import WeightFile

from .disk import DISK, Disk


class Folder:
    """The entries of one directory.

    ``error`` holds what the operating system said where the directory could not be listed; it then seems empty.
    """

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self.path = path
        self.disk = disk
        self.error: str | None = None

    @cached_property
    def name(self) -> str:
        """The directory's own name, also where the path is ``.`` or ends in ``..``."""
        return Path(os.path.abspath(self.path)).name

    @cached_property
    def _entries(self) -> dict[str, bool]:
        self.error = None
        try:
            found = self.disk.listing(self.path)
        except OSError as error:
            self.error = error.strerror or str(error)
            found = {}
        return dict(sorted(found.items()))

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of everything that is not a directory, dangling links and special files included, sorted."""
        return tuple(name for name, is_folder in self._entries.items() if not is_folder)

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Names of the directories, also of links to directories, sorted."""
        return tuple(name for name, is_folder in self._entries.items() if is_folder)

    @cached_property
    def by_ending(self) -> dict[str, list[str]]:
        """The files by what stands behind the last dot of their names, in small letters and with the dot."""
        found: dict[str, list[str]] = {}
        for name in self.files:
            dot = name.rfind(".")
            found.setdefault(name[dot:].lower() if dot >= 0 else "", []).append(name)
        return found

    def listing_error(self) -> str | None:
        """Why the directory could not be listed, or ``None``."""
        _ = self._entries
        return self.error

    def as_unreadable_file(self, shown: str) -> WeightFile:
        """What stands for the directory in a checkpoint where it could not be listed."""
        message = f"The folder could not be listed: {self.listing_error()}."
        defect = Defect(DefectKind.UNREADABLE, message)
        return WeightFile(shown, "unknown", 0, content="an unreadable folder", defects=(defect,))

    def has_file(self, name: str) -> bool:
        """Whether an entry of this name is there that is no directory; asks for it alone where none is listed yet."""
        if self._knows(name):
            return self._entries.get(name) is False
        return self.disk.has_file(self.path / name)

    def has_folder(self, name: str) -> bool:
        """Whether a directory of this name is there; asks for this one name where nothing is listed yet."""
        if self._knows(name):
            return self._entries.get(name) is True
        return self.disk.has_folder(self.path / name)

    def child(self, name: str) -> Folder:
        """The directory of this name below this one."""
        child = Folder(self.path / name, self.disk)
        if self._knows(name) and not self._entries.get(name):
            child.error, child.__dict__["_entries"] = None, {}  # there is nothing to ask the disk for
        return child

    def _knows(self, name: str) -> bool:
        """Whether the listing was read, and says whether this entry is there."""
        return "_entries" in self.__dict__ and self.error is None and "/" not in name
