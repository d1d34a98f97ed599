"""Where the parts of a checkpoint lie, and which folders belong to it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ckpt_doctor.core.layout import Layout, LayoutPart, Sign

from .adapters import holds_adapter, may_hold_adapter
from .disk import Folder
from .model_files import holds_model
from .names import join, state_folders


def places(kind: Layout, top: Folder, sign: Sign) -> tuple[str | None, ...]:
    """For each part of the kind the one of its paths where it lies, or ``None`` if it is nowhere.

    Where an adapter lies, ``sign`` may have decided.
    """
    return tuple(
        place_of(item, top) if item.role != "adapter" or sign.place is None else sign.place for item in kind.parts
    )


def place_of(item: LayoutPart, top: Folder) -> str | None:
    """The first of the part's paths where something of it lies, or ``None`` if it is nowhere."""
    return next((path for path in item.paths if _is_at(item, path, top)), None)


def _is_at(item: LayoutPart, path: str, top: Folder) -> bool:
    if item.role == "adapter":
        folder = below(top, path)
        names = [name for name in folder.folders if path or name == item.name]
        return holds_adapter(folder) or any(may_hold_adapter(below(folder, name)) for name in names)
    if item.form == "folder":
        return holds_model(below(top, path))
    return has_file(top, path)


def claimed(kind: Layout, top: Folder, sign: Sign) -> Iterator[str]:
    """The folders that the files of the layout lie in, and those in which PEFT nests an adapter."""
    for item in kind.parts:
        is_placed = sign.place is not None and item.role == "adapter"
        for path in (str(sign.place),) if is_placed else item.paths:
            yield from _with_parents(item.folder_of(path))
            if item.role == "adapter":
                yield from _beside_adapter(item, path, top)
    for size in kind.sizes:
        yield from _with_parents(posixpath.dirname(size.path))
    if kind.resumes:
        yield from state_folders(top.folders)


def _beside_adapter(item: LayoutPart, path: str, top: Folder) -> Iterator[str]:
    """The folders below that of an adapter that belong to the checkpoint."""
    folder = below(top, path)
    if path in item.gathers:
        # A folder that nobody can look into may hold an adapter, so it must not be skipped.
        yield from (join(path, name) for name in folder.folders if may_hold_adapter(below(folder, name)))
    elif path:
        yield from (join(path, name) for name in folder.folders)
    elif item.name in top.folders and may_hold_adapter(below(top, item.name)):
        yield item.name


def _with_parents(folder: str) -> Iterator[str]:
    words = folder.split("/") if folder else []
    return ("/".join(words[:depth]) for depth in range(1, len(words) + 1))


def has_file(top: Folder, path: str) -> bool:
    """True if a file is at this path below ``top``."""
    folder, _, name = path.rpartition("/")
    return name in below(top, folder).files


def has_folder(top: Folder, path: str) -> bool:
    """True if a folder is at this path below ``top``."""
    folder, _, name = path.rpartition("/")
    return name in below(top, folder).folders


def below(top: Folder, path: str) -> Folder:
    """The folder at this path below ``top``, or ``top`` itself for an empty path."""
    return top.disk.folder(top.path / path) if path else top
