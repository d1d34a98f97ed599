"""True if a folder is a checkpoint of some kind, by what the kind's record says: the same for all kinds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from ckpt_doctor.core.layout import Layout, Sign

from .adapters import holds_adapter
from .disk import Disk, Folder
from .found import Found
from .model_files import holds_model
from .places import below, claimed, has_file, has_folder, place_of, places
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
    return Found(
        kind,
        folder.path,
        os.path.normpath(folder.path),
        tuple(dict.fromkeys(claimed(kind, folder, sign))),
        variant=sign.title,
        places=places(kind, folder, sign),
    )


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
    if any(has_file(folder, path) or has_folder(folder, path) for path in kind.markers):
        return True
    return is_named(kind, folder.name) and any(place_of(item, folder) is not None for item in kind.parts)


def is_named(kind: Layout, name: str) -> bool:
    """True if the kind's folders usually have this name.

    >>> from ckpt_doctor.layouts.registry import WEAVER
    >>> is_named(WEAVER, "weaver"), is_named(WEAVER, "model")
    (True, False)
    """
    return kind.folder is not None and fnmatchcase(name, kind.folder)


def _fits(sign: Sign, kind: Layout, folder: Folder, *, forced: bool) -> bool:
    # A search asks this of every folder, and files of these names are seldom there.
    for name in sign.files:
        if name not in folder.files:
            return False
    for name in sign.folders:
        if name not in folder.folders:
            return False
    if (sign.forced and not forced) or (sign.holds and sign.holds not in folder.files):
        return False
    return all(met for met, _ in demands(sign, kind, folder, forced=forced))


def demands(sign: Sign, kind: Layout, folder: Folder, *, forced: bool = False) -> Iterator[tuple[bool, Demand]]:
    """Each thing that the sign asks for, the cheapest first, and whether the folder meets it.

    Each is looked at when it is asked for, so a caller that stops at the first unmet one reads no file.
    """
    for path in sign.files:
        yield path in folder.files, ("file", path)
    for path in sign.folders:
        yield path in folder.folders, ("folder", path)
    if sign.forced:
        yield forced, ("asked for", kind.name)
    if sign.holds:
        yield sign.holds in folder.files, ("file", sign.holds)
    if sign.named:
        yield is_named(kind, folder.name), ("name", kind.folder or "")
    if not forced:
        for path in sign.unless:
            yield not (path in folder.folders or path in folder.files), ("absence", path)
    for path in sign.adapters:
        yield holds_adapter(below(folder, path)), ("adapter", path)
    for path in sign.models:
        yield holds_model(below(folder, path)), ("model", path)
    if sign.alone:
        yield not _other_weights(folder, sign.holds), ("alone", sign.holds)
    if sign.holds:
        yield _holds_its_tensors(folder, kind, sign.holds), ("tensors", sign.holds)


def _other_weights(folder: Folder, path: str) -> bool:
    return any(name != path and name.endswith(_WEIGHTS) for name in folder.files)


def _holds_its_tensors(folder: Folder, kind: Layout, path: str) -> bool:
    known = {entry.name for item in kind.parts if path in item.paths for entry in item.entries}
    return any(tensor.name in known for tensor in folder.disk.weights(folder.path / path, path).tensors)


def telling(kind: Layout, path: Path, disk: Disk) -> Folder | None:
    """The folder at ``path`` if it bears the name of this kind, or holds a name by which the kind is recognised.

    A folder above may hold very much, so it is listed only then. If it cannot be listed, it has these names alone.
    """
    signs = [(*sign.files, *sign.folders, *sign.adapters, *sign.models, sign.holds) for sign in kind.signs]
    names = {*kind.markers, kind.config, *(name for sign in signs for name in sign)} - {""}
    files = dict.fromkeys(name for name in names if disk.has_file(path / name))
    folders = dict.fromkeys(name for name in names if disk.has_folder(path / name))
    if not files and not folders and (kind.signs or not is_named(kind, path.name)):
        return None
    folder = disk.folder(path)
    return folder if folder.error is None else folder._replace(files=files.keys(), folders=folders.keys())
