"""What lies on the disk: the one place through which the layouts look at it.

A plan for a repair stands in for it (``repair/draft.py``) and shows files as they would be, so that the same layouts
and rules judge a state that is not there yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.parts import ConfigFile, ShardIndex
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats import read_config, read_shard_index, read_weight_file
from ckpt_doctor.runtime.file_access import open_to_read
from ckpt_doctor.sources.local_file import FileSource

OWN_FOLDER = ".ckpt-doctor"
"""Where this tool keeps backups, journals and temporaries; no scan looks inside."""

Kind = Literal["file", "folder", "link to a file", "link to a folder"]
"""What an entry of a folder is. Dangling links and special files count as files."""


class Folder(NamedTuple):
    """A directory as it was listed.

    ``name`` is its own name, also where ``path`` is ``.`` or ends in ``..``. ``files`` and ``folders`` are the names of
    its entries, sorted, and ``links`` those of them that are links. ``by_ending`` has the files by what stands behind
    the last dot of their names, in small letters and with the dot. ``error`` is what the operating system said where
    the directory could not be listed; it then seems empty, like one that is not there. ``disk`` is where it lies.
    """

    path: Path
    name: str
    files: KeysView[str]
    folders: KeysView[str]
    links: frozenset[str]
    by_ending: Mapping[str, list[str]]
    error: str | None
    disk: Disk

    def as_unreadable_file(self, shown: str) -> WeightFile:
        """What means the directory in a checkpoint where it could not be listed."""
        defect = Defect(DefectKind.UNREADABLE, f"The folder could not be listed: {self.error}.")
        return WeightFile(shown, "unknown", 0, content="an unreadable folder", defects=(defect,))


class Disk:
    """The file system as it is. ``name`` is always the path of a file in its checkpoint, with ``/``."""

    has_folder: Callable[[Path], bool] = staticmethod(os.path.isdir)
    """True if a directory is there, or a link to one."""
    weights: Callable[[Path, str], WeightFile] = staticmethod(read_weight_file)
    config: Callable[[Path, str], ConfigFile] = staticmethod(read_config)
    index: Callable[[Path, str], ShardIndex] = staticmethod(read_shard_index)

    def has_file(self, path: Path) -> bool:
        """True if something is there that is not a directory, a dangling link included."""
        return os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112

    def folder(self, path: Path) -> Folder:
        """The directory at ``path``, listed."""
        error = None
        try:
            entries = dict(sorted(self.listing(path).items()))
        except OSError as refusal:
            entries = {}
            error = (refusal.strerror or str(refusal)) if os.path.lexists(path) else None
        files = {name: None for name, kind in entries.items() if kind in ("file", "link to a file")}
        by_ending: dict[str, list[str]] = {}
        for name in files:
            dot = name.rfind(".")
            by_ending.setdefault(name[dot:].lower() if dot >= 0 else "", []).append(name)
        return Folder(
            path,
            os.path.basename(os.path.abspath(path)),  # noqa: PTH119 - a tree has very many
            files.keys(),
            {name: None for name in entries if name not in files}.keys(),
            frozenset(name for name, kind in entries.items() if kind in ("link to a file", "link to a folder")),
            by_ending,
            error,
            self,
        )

    def listing(self, folder: Path) -> dict[str, Kind]:
        """Name to kind, for every entry. Raises ``OSError``."""
        with os.scandir(folder) as entries:
            return {entry.name: _kind(entry) for entry in entries if entry.name != OWN_FOLDER}

    def size(self, path: Path) -> int:
        """Bytes, or 0 where nobody can tell."""
        try:
            return path.stat().st_size
        except OSError:
            return 0

    def modified(self, path: Path) -> int:
        """When it was written, in nanoseconds since 1970, or 0 where nobody can tell."""
        try:
            return path.stat().st_mtime_ns
        except OSError:
            return 0

    def link_target(self, path: Path) -> str | None:
        """What a symlink says, or ``None`` for what is none."""
        return str(path.readlink()) if path.is_symlink() else None

    def head(self, path: Path, nbytes: int) -> bytes:
        """The first bytes of a regular file; none of what is something else or cannot be read."""
        try:
            with FileSource(path) as source:
                return source.read_at(0, nbytes)
        except OSError:
            return b""

    def heads(self, folder: Path, names: Iterable[str], nbytes: int) -> Iterator[tuple[str, bytes]]:
        """Each name with the first bytes of that file in ``folder``; none of what cannot be read.

        The folder is opened once: this is asked of every file in a tree.
        """
        with _opened(folder) as place:
            for name in names:
                yield name, _head(folder / name if place is None else name, place, nbytes)


DISK = Disk()
"""The file system as it is."""


@contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """The folder, so that names in it can be asked for alone; ``None`` if this system has no such thing."""
    try:
        place = os.open(folder, os.O_RDONLY) if os.open in os.supports_dir_fd else None
    except OSError:
        place = None
    try:
        yield place
    finally:
        if place is not None:
            os.close(place)


def _head(path: str | Path, place: int | None, nbytes: int) -> bytes:
    try:
        descriptor = open_to_read(path, dir_fd=place)
    except (OSError, ValueError):
        return b""
    try:
        return os.read(descriptor, nbytes)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        is_folder = entry.is_dir()
    except OSError:
        # A link that loops: not a directory, and whoever reads it will say why it cannot be opened.
        is_folder = False
    if entry.is_symlink():
        return "link to a folder" if is_folder else "link to a file"
    return "folder" if is_folder else "file"
