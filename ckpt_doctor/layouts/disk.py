"""What lies on the disk: the one place through which the layouts look at it.

A plan for a repair stands in for it (``repair/draft.py``) and shows files as they would be, so that the same layouts
and rules judge a state that is not there yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ckpt_doctor.core.parts import ConfigFile, ShardIndex
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats import read_config, read_shard_index, read_weight_file
from ckpt_doctor.runtime.file_access import open_to_read
from ckpt_doctor.sources.local_file import FileSource

OWN_FOLDER = ".ckpt-doctor"
"""Where this tool keeps backups, journals and temporaries; no scan looks inside."""


class Disk:
    """The file system as it is. ``name`` is always the path of a file in its checkpoint, with ``/``."""

    def listing(self, folder: Path) -> dict[str, bool]:
        """Name to whether it is a directory, for every entry. Raises ``OSError``."""
        with os.scandir(folder) as entries:
            return {entry.name: _is_folder(entry) for entry in entries if entry.name != OWN_FOLDER}

    def has_file(self, path: Path) -> bool:
        """Whether something is there that is not a directory, a dangling link included."""
        return os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112

    def has_folder(self, path: Path) -> bool:
        """Whether a directory is there, or a link to one."""
        # os.path.isdir says no where Path.is_dir raises: on a folder that must not be entered.
        return os.path.isdir(path)  # noqa: PTH112

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

    def weights(self, path: Path, name: str) -> WeightFile:
        """See :func:`~ckpt_doctor.formats.read_weight_file`."""
        return read_weight_file(path, name)

    def config(self, path: Path, name: str) -> ConfigFile:
        """See :func:`~ckpt_doctor.formats.read_config`."""
        return read_config(path, name)

    def index(self, path: Path, name: str) -> ShardIndex:
        """See :func:`~ckpt_doctor.formats.read_shard_index`."""
        return read_shard_index(path, name)


DISK = Disk()
"""The file system as it is."""


@contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """The folder, so that names in it can be asked for alone; ``None`` where this system has no such thing."""
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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that loops: not a directory, and whoever reads it will say why it cannot be opened.
        return False
