"""Whether a folder is a checkpoint of some kind, by what the kind's record says: the same for all kinds."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from fnmatch import fnmatchcase

from ckpt_doctor.core.layout import Layout, LayoutPart, Sign

from .adapters import holds_adapter
from .folder import Folder
from .found import Found
from .model_files import holds_model
from .names import state_folders
from .reading import join
from .registry import hooks_of

# Endings of the files beside which a lone side file is not taken for a checkpoint.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_PLAIN = Sign()

Demand = tuple[str, str]
"""What a sign asks for and where: ``file``, ``folder``, ``adapter``, ``model``, ``tensors`` or ``absence`` of a path,
a folder of a certain ``name``, a weight file that is ``alone``, or a kind that the user has ``asked for``."""


def recognised(kind: Layout, folder: Folder, *, forced: bool = False) -> Found | None:
    """The checkpoint of this kind that ``folder`` is, even where one of its files is absent; ``None`` if it is none.

    ``forced`` takes the user's word for it.
    """
    sign = _sign(kind, folder, forced=forced)
    if sign is None:
        return None
    claimed = tuple(dict.fromkeys(_claimed(kind, folder, sign.place)))
    return Found(kind, folder.path, str(folder.path), claimed, variant=sign.title, place=sign.place)


def _sign(kind: Layout, folder: Folder, *, forced: bool) -> Sign | None:
    if not kind.signs:
        return _PLAIN if forced or _is_marked(kind, folder) else None
    sign = next((sign for sign in kind.signs if _fits(sign, kind, folder, forced=forced)), None)
    if forced:
        return sign or _PLAIN
    hooks = hooks_of(kind)
    if sign is None:
        return _PLAIN if hooks.recognises is not None and hooks.recognises(folder) else None
    return None if hooks.excludes is not None and hooks.excludes(folder) else sign


def _is_marked(kind: Layout, folder: Folder) -> bool:
    if any(folder.has_file(path) or folder.has_folder(path) for path in kind.markers):
        return True
    return is_named(kind, folder) and any(place_of(item, folder) is not None for item in kind.parts)


def is_named(kind: Layout, folder: Folder) -> bool:
    """Whether the folder has the name that the kind's folders usually have."""
    return kind.folder is not None and fnmatchcase(folder.name, kind.folder)


def _fits(sign: Sign, kind: Layout, folder: Folder, *, forced: bool) -> bool:
    # A search asks this of every folder, and files of these names are seldom there.
    for path in sign.files:
        if not folder.has_file(path):
            return False
    for path in sign.folders:
        if not folder.has_folder(path):
            return False
    if (sign.forced and not forced) or (sign.holds and not folder.has_file(sign.holds)):
        return False
    return all(met for met, _ in demands(sign, kind, folder, forced=forced))


def demands(sign: Sign, kind: Layout, folder: Folder, *, forced: bool = False) -> Iterator[tuple[bool, Demand]]:
    """Each thing that the sign asks for, the cheapest first, and whether the folder meets it.

    Each is looked at when it is asked for, so a caller that stops at the first unmet one reads no file.
    """
    for path in sign.files:
        yield folder.has_file(path), ("file", path)
    for path in sign.folders:
        yield folder.has_folder(path), ("folder", path)
    if sign.forced:
        yield forced, ("asked for", kind.name)
    if sign.holds:
        yield folder.has_file(sign.holds), ("file", sign.holds)
    if sign.named:
        yield is_named(kind, folder), ("name", kind.folder or "")
    if not forced:
        for path in sign.unless:
            yield not (folder.has_folder(path) or folder.has_file(path)), ("absence", path)
    for path in sign.adapters:
        yield holds_adapter(_below(folder, path)), ("adapter", path)
    for path in sign.models:
        yield holds_model(_below(folder, path)), ("model", path)
    if sign.alone:
        yield not _other_weights(folder, sign.holds), ("alone", sign.holds)
    if sign.holds:
        yield _holds_its_tensors(folder, kind, sign.holds), ("tensors", sign.holds)


def _other_weights(folder: Folder, path: str) -> bool:
    return any(name != path and name.endswith(_WEIGHTS) for name in folder.files)


def _holds_its_tensors(folder: Folder, kind: Layout, path: str) -> bool:
    known = {entry.name for item in kind.parts if path in item.paths for entry in item.entries}
    return any(tensor.name in known for tensor in folder.disk.weights(folder.path / path, path).tensors)


def _claimed(kind: Layout, top: Folder, place: str | None) -> Iterator[str]:
    """The folders that the files of the layout lie in, and those in which PEFT nests an adapter."""
    for item in kind.parts:
        is_placed = place is not None and item.role == "adapter"
        for path in (str(place),) if is_placed else item.paths:
            yield from _with_parents(item.folder_of(path))
            if item.role == "adapter":
                yield from _beside_adapter(item, path, top)
    for size in kind.sizes:
        yield from _with_parents(posixpath.dirname(size.path))
    if kind.resumes:
        yield from state_folders(top.folders)


def _beside_adapter(item: LayoutPart, path: str, top: Folder) -> Iterator[str]:
    """The folders below that of an adapter that belong to the checkpoint."""
    folder = _below(top, path)
    if path in item.gathers:
        yield from (join(path, name) for name in folder.folders if holds_adapter(folder.child(name)))
    elif path:
        yield from (join(path, name) for name in folder.folders)
    elif item.name and may_hold_adapter(top.child(item.name)):
        yield item.name


def _with_parents(folder: str) -> Iterator[str]:
    words = folder.split("/") if folder else []
    return ("/".join(words[:depth]) for depth in range(1, len(words) + 1))


def place_of(item: LayoutPart, top: Folder) -> str | None:
    """The first of the part's places where something of it lies, or ``None`` if it is nowhere."""
    return next((path for path in item.paths if _is_at(item, path, top)), None)


def _is_at(item: LayoutPart, path: str, top: Folder) -> bool:
    if item.role == "adapter":
        folder = _below(top, path)
        names = folder.folders if path else [item.name] if item.name else []
        return holds_adapter(folder) or any(may_hold_adapter(folder.child(name)) for name in names)
    if item.form == "folder":
        return holds_model(_below(top, path))
    return top.has_file(path)


def _below(top: Folder, path: str) -> Folder:
    return top.child(path) if path else top


def may_hold_adapter(folder: Folder) -> bool:
    """Whether this folder holds an adapter, or may hold one because it cannot be listed."""
    return holds_adapter(folder) or (folder.disk.has_folder(folder.path) and folder.listing_error() is not None)
