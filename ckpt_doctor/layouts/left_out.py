"""What a search does not enter, and folders that are weights of another kind as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ckpt_doctor.core.checkpoint import Unread

from .disk import Folder

_VERSION_CONTROL = {".git", ".hg", ".svn", ".bzr", ".jj", ".pijul", "_darcs", "CVS", ".dvc"}
_HUB_REPOSITORY = re.compile(r"(models|datasets|spaces)--.+")
_MOST_COUNTED = 1000
_SEVERAL = 3

OTHER_READER = "this tool does not read this kind"


def entered(folder: Folder, unread: list[Unread]) -> Iterator[str]:
    """The folders in ``folder`` that are searched; what of the others may hold weights is added to ``unread``."""
    for name in folder.folders:
        if name in folder.links:
            unread.append(_link(folder, name))
        elif (reason := _left_out(folder, name)) is None:
            yield name
        elif reason:
            unread.append(Unread(str(folder.path / name), "folder that is left out", 0, reason))


def _link(folder: Folder, name: str) -> Unread:
    # What it leads to is found where it lies; a loop would have no end.
    target = folder.disk.link_target(folder.path / name)
    reason = f"it leads to {target}, and links to folders are not followed"
    return Unread(str(folder.path / name), "link to a folder", 0, reason)


def _left_out(folder: Folder, name: str) -> str | None:
    """Why a folder is not searched: empty if nobody could miss it, ``None`` if it is searched."""
    if name == "node_modules":
        return ""
    if name == "blobs" and _HUB_REPOSITORY.fullmatch(folder.name) and "snapshots" in folder.folders:
        return ""  # each is read where a snapshot refers to it; see unused_blobs
    return _of_version_control(folder.disk.folder(folder.path / name)) if name in _VERSION_CONTROL else None


def _of_version_control(folder: Folder) -> str:
    stores = {".git": "lfs/objects", ".hg": "largefiles", ".dvc": "cache"}
    store = stores.get(folder.name)
    if store is not None and folder.disk.has_folder(folder.path / store):
        return f"version control, with large files in {store}"
    plain = folder.name != ".git" or "HEAD" in folder.files
    return "" if plain else "its name is that of version control, but it is not"


def unused_blobs(folder: Folder) -> Iterator[Unread]:
    """The blobs of a hub cache to which no snapshot refers: downloads that did not end, and leftovers."""
    if not (_HUB_REPOSITORY.fullmatch(folder.name) and {"blobs", "snapshots"} <= folder.folders):
        return
    blobs = folder.disk.folder(folder.path / "blobs")
    used = {Path(target).name for target in _links(folder.disk.folder(folder.path / "snapshots"), 8)}
    for name in blobs.files:
        if name not in used and not name.endswith(".lock"):
            ended = not name.endswith(".incomplete")
            reason = "no snapshot refers to it" if ended else "its download did not complete"
            path = blobs.path / name
            yield Unread(str(path), "blob of a hub cache", folder.disk.size(path), reason)


def _links(folder: Folder, depth: int) -> Iterator[str]:
    targets = (folder.disk.link_target(folder.path / name) for name in folder.files if name in folder.links)
    yield from (target for target in targets if target is not None)
    if depth:
        for name in folder.folders:
            yield from _links(folder.disk.folder(folder.path / name), depth - 1)


def whole_folder(folder: Folder) -> Unread | None:
    """A folder whose files make sense only together, as weights of a kind that this tool does not read."""
    kind = _kind_of_folder(folder)
    if kind is None:
        return None
    nbytes, count = _size(folder)
    return Unread(str(folder.path), kind, nbytes, OTHER_READER, files=max(count, 1))


def _kind_of_folder(folder: Folder) -> str | None:
    if folder.name.endswith((".mlpackage", ".mlmodelc")):
        return "Core ML model"
    if "saved_model.pb" in folder.files or "saved_model.pbtxt" in folder.files:
        return "TensorFlow SavedModel"
    if "_CHECKPOINT_METADATA" in folder.files or {"_METADATA", "manifest.ocdbt"} <= folder.files:
        return "Orbax checkpoint"
    if ".distcp" in folder.by_ending:
        return "distributed checkpoint (torch.distributed.checkpoint)"
    return None


def _size(folder: Folder) -> tuple[int, int]:
    nbytes = count = 0
    for _, folders, files in os.walk(folder.path):
        folders.sort()
        here = Path(_)
        for name in files[: _MOST_COUNTED - count]:
            nbytes += folder.disk.size(here / name)
            count += 1
    return nbytes, count


def grouped(unread: Iterable[Unread]) -> tuple[Unread, ...]:
    """The same, with paths as they are shown, and with many files of one kind in one folder as one.

    A folder of arrays must not drown a report.
    """
    groups: dict[tuple[str, str, str], list[Unread]] = {}
    for item in (item._replace(path=Path(os.path.normpath(item.path)).as_posix()) for item in unread):
        folder = item.path.rpartition("/")[0]
        groups.setdefault((folder, item.kind, item.reason), []).append(item)
    result = []
    for (folder, kind, reason), items in groups.items():
        if len(items) <= _SEVERAL:
            result += items
        else:
            count = sum(item.files for item in items)
            result.append(Unread(folder or ".", kind, sum(item.nbytes for item in items), reason, count))
    return tuple(sorted(result))
