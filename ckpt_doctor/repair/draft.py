"""A disk on paper: what would lie there after a repair, for the layouts to read and the rules to judge.

Nothing is written. A weight file that is to be written anew is described by the header that it will have; documents
are held in memory; everything else is looked up where it lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ckpt_doctor.conversion.editing import Edit
from ckpt_doctor.core.actions import SharedBytes, TargetFormat
from ckpt_doctor.core.parts import ConfigFile, ShardIndex
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats.config_file import config_of
from ckpt_doctor.formats.shard_index import index_of
from ckpt_doctor.formats.text_file import parse_json
from ckpt_doctor.layouts.disk import Disk, Kind


@dataclass(frozen=True, slots=True)
class Moved:
    """An existing file under another name, or a copy of it."""

    source: Path
    copied: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A text file that is written."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A weight file that is written anew from ``original``, which lies at ``source``.

    ``file`` is what will be read from it, and ``nbytes`` its size: exact for safetensors, near it for torch files.
    ``metadata`` and ``format`` are those of the new file.
    """

    source: Path
    original: WeightFile
    edit: Edit
    format: TargetFormat
    metadata: dict[str, str]
    shared: SharedBytes
    file: WeightFile


Entry = Moved | Document | Rewritten


@dataclass
class Draft(Disk):
    """The file system with some entries replaced; ``None`` means that the file is removed.

    Keys are absolute paths. ``known`` holds weight files that were read, and scanned, before; ``renamed`` tells where a
    file that goes has its successor.
    """

    entries: dict[Path, Entry | None] = field(default_factory=dict)
    known: dict[Path, WeightFile] = field(default_factory=dict)
    renamed: dict[Path, Path] = field(default_factory=dict)

    def copy(self) -> Draft:
        """A draft to try something on; what was read is shared."""
        return Draft(dict(self.entries), self.known, dict(self.renamed))

    def source_of(self, path: Path) -> Path:
        """Where the bytes lie now that are to be at ``path``. Not for what is written anew."""
        entry = self.entries.get(_absolute(path))
        return entry.source if isinstance(entry, Moved) else _absolute(path)

    def document(self, path: Path) -> bytes | None:
        """The text that is planned for ``path``, if there is one."""
        entry = self.entries.get(_absolute(path))
        return entry.data if isinstance(entry, Document) else None

    def remove(self, path: Path) -> None:
        """Let the file at ``path`` go."""
        self.entries.pop(path, None)
        if super().has_file(path):
            self.entries[path] = None

    def exists(self, path: Path) -> bool:
        """True if anything is at ``path``."""
        return self.has_file(path) or self.has_folder(path)

    # What the layouts ask.

    def listing(self, folder: Path) -> dict[str, Kind]:
        """See :meth:`Disk.listing`."""
        here = _absolute(folder)
        found = super().listing(folder) if super().has_folder(folder) or not self._is_new_folder(here) else {}
        for path, entry in self.entries.items():
            if path.parent == here:
                if entry is None:
                    found.pop(path.name, None)
                else:
                    found[path.name] = "file"
            elif entry is not None and here in path.parents:
                found.setdefault(path.relative_to(here).parts[0], "folder")
        return found

    def has_file(self, path: Path) -> bool:
        """See :meth:`Disk.has_file`."""
        here = _absolute(path)
        return self.entries[here] is not None if here in self.entries else super().has_file(path)

    def has_folder(self, path: Path) -> bool:
        """See :meth:`Disk.has_folder`."""
        return super().has_folder(path) or self._is_new_folder(_absolute(path))

    def size(self, path: Path) -> int:
        """See :meth:`Disk.size`."""
        entry = self.entries.get(_absolute(path))
        if isinstance(entry, Document):
            return len(entry.data)
        return entry.file.nbytes if isinstance(entry, Rewritten) else super().size(self.source_of(path))

    def link_target(self, path: Path) -> str | None:
        """See :meth:`Disk.link_target`."""
        return None if self.entries.get(_absolute(path)) is not None else super().link_target(path)

    def head(self, path: Path, nbytes: int) -> bytes:
        """See :meth:`Disk.head`."""
        entry = self.entries.get(_absolute(path))
        if isinstance(entry, Document):
            return entry.data[:nbytes]
        return b"" if isinstance(entry, Rewritten) else super().head(self.source_of(path), nbytes)

    def heads(self, folder: Path, names: Iterable[str], nbytes: int) -> Iterator[tuple[str, bytes]]:
        """See :meth:`Disk.heads`."""
        return ((name, self.head(folder / name, nbytes)) for name in names)

    def weights(self, path: Path, name: str) -> WeightFile:
        """See :meth:`Disk.weights`."""
        entry = self.entries.get(_absolute(path))
        if isinstance(entry, Rewritten):
            return entry.file._replace(path=name)
        source = self.source_of(path)
        if source not in self.known:
            self.known[source] = super().weights(source, name)
        return self.known[source]._replace(path=name)

    def config(self, path: Path, name: str) -> ConfigFile:
        """See :meth:`Disk.config`."""
        data = self.document(path)
        return super().config(self.source_of(path), name) if data is None else config_of(parse_json(data), name)

    def index(self, path: Path, name: str) -> ShardIndex:
        """See :meth:`Disk.index`."""
        data = self.document(path)
        return super().index(self.source_of(path), name) if data is None else index_of(parse_json(data), name)

    def _is_new_folder(self, here: Path) -> bool:
        return any(entry is not None and here in path.parents for path, entry in self.entries.items())


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))
