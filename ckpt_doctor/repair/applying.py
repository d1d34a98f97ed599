"""Actions carried out on a draft: the one place that knows what each of them means."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ckpt_doctor.conversion.editing import Edit
from ckpt_doctor.core.actions import Action, Copy, EditJson, Move, Rewrite, SetAside, TargetFormat, WriteIndex
from ckpt_doctor.core.errors import RepairError
from ckpt_doctor.formats.text_file import parse_json

from .draft import Document, Draft, Moved, Rewritten
from .rewriting import refuse_overflow, rewritten


def apply(draft: Draft, root: Path, action: Action) -> None:
    """Carry out one action of a checkpoint at ``root`` on the draft.

    Raises ``RepairError`` or ``ConversionError`` if it must not be done, and ``OSError``.
    """
    _DOERS[type(action)](draft, root, action)


def _rewrite(draft: Draft, root: Path, action: Rewrite) -> None:
    path = _source(draft, root, action.path)
    target = path if action.target is None else _free(draft, root, action.target)
    entry = draft.entries.get(path)
    if isinstance(entry, Rewritten):
        source, original, before = entry.source, entry.original, entry
    else:
        source = draft.source_of(path)
        original, before = draft.weights(path, action.path), None
    old_format: TargetFormat = "safetensors" if draft.weights(path, action.path).is_safetensors else "bin"
    first = before.edit if before else Edit()
    edit = _combined(first, action)
    entry = draft.entries[target] = rewritten(
        source,
        original,
        edit,
        format=action.format or old_format,
        metadata={**(before.metadata if before else {}), **action.metadata},
        shared="clone" if action.shared == "clone" or (before and before.shared == "clone") else "keep",
    )
    if action.dtypes:
        refuse_overflow(entry, _original_names(first, action.dtypes))
    if target != path and not action.keeps:
        draft.remove(path)
        draft.renamed[path] = target


def _combined(first: Edit, action: Rewrite) -> Edit:
    """Both edits in one, in the names of the original."""
    names = {**first.names, **dict(zip(_original_names(first, action.names), action.names.values(), strict=True))}
    without = first.without.union(_original_names(first, action.without))
    # The last cast alone counts: from the original values, that loses nothing on the way.
    casts = zip(_original_names(first, action.dtypes), action.dtypes.values(), strict=True)
    return Edit(
        names={old: new for old, new in names.items() if old not in without},
        without=without,
        dtypes={**first.dtypes, **dict(casts)},
        despite=tuple(dict.fromkeys((*first.despite, *action.despite))),
        plain=first.plain or action.plain,
    )


def _original_names(first: Edit, names: Iterable[str]) -> list[str]:
    """What tensors were called before the first edit."""
    original = {new: old for old, new in first.names.items()}
    return [original.get(name, name) for name in names]


def _move(draft: Draft, root: Path, action: Move) -> None:
    path, target = _source(draft, root, action.path), _free(draft, root, action.target)
    entry = draft.entries.get(path)
    draft.entries[target] = entry if entry is not None else Moved(path)
    draft.remove(path)
    draft.renamed[path] = target


def _copy(draft: Draft, root: Path, action: Copy) -> None:
    path, target = _source(draft, root, action.path), _free(draft, root, action.target)
    entry = draft.entries.get(path)
    draft.entries[target] = entry if isinstance(entry, (Rewritten, Document)) else Moved(draft.source_of(path), True)


def _set_aside(draft: Draft, root: Path, action: SetAside) -> None:
    draft.remove(_source(draft, root, action.path))


def _write_index(draft: Draft, root: Path, action: WriteIndex) -> None:
    path = root / action.path
    if draft.exists(path):
        _source(draft, root, action.path)
    document: dict[str, Any] = {}
    if action.like is not None:
        found = _parsed(draft, root, action.like)
        document = found if isinstance(found, dict) else {}
    metadata = document.get("metadata")
    metadata = {**(metadata if isinstance(metadata, dict) else {}), "total_size": action.total_size}
    document = {**document, "metadata": metadata, "weight_map": dict(sorted(action.weight_map.items()))}
    draft.entries[_absolute(path)] = Document(_text(document, sort_keys=True))


def _edit_json(draft: Draft, root: Path, action: EditJson) -> None:
    path = _source(draft, root, action.path)
    document = _parsed(draft, root, action.path)
    if not isinstance(document, dict):
        raise RepairError(f"{action.path} is not a JSON object")
    document = {key: value for key, value in document.items() if key not in action.without}
    draft.entries[path] = Document(_text({**document, **action.values}))


def _parsed(draft: Draft, root: Path, name: str) -> Any:
    data = draft.document(root / name)
    if data is None:
        data = draft.source_of(root / name).read_bytes()
    return parse_json(data).data


def _text(document: dict[str, Any], *, sort_keys: bool = False) -> bytes:
    # As transformers and PEFT write theirs.
    return (json.dumps(document, indent=2, sort_keys=sort_keys, ensure_ascii=False) + "\n").encode()


def _source(draft: Draft, root: Path, name: str) -> Path:
    """The absolute path of a file that is there and may be replaced."""
    path = _inside(root, name)
    if not draft.has_file(path):
        raise RepairError(f"{name} no longer exists")
    if draft.link_target(path) is not None:
        raise RepairError(
            f"{name} is a link to {draft.link_target(path)}: nothing is written through links. Copy the "
            "checkpoint to another folder first (`cp -rL`)"
        )
    return path


def _free(draft: Draft, root: Path, name: str) -> Path:
    """The absolute path for a new file, where nothing is."""
    path = _inside(root, name)
    if draft.exists(path):
        raise RepairError(f"{name} exists already")
    return path


def _inside(root: Path, name: str) -> Path:
    """The absolute path; raises where a folder between the checkpoint and the file is a link."""
    path = _absolute(root / name)
    folder = path.parent
    top = _absolute(root)
    while folder != top and top in folder.parents:
        if folder.is_symlink():
            raise RepairError(f"{folder} is a link: nothing is written through links. Name the folder it leads to")
        folder = folder.parent
    return path


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


_DOERS: dict[type, Callable[[Draft, Path, Any], None]] = {
    Rewrite: _rewrite,
    Move: _move,
    Copy: _copy,
    SetAside: _set_aside,
    WriteIndex: _write_index,
    EditJson: _edit_json,
}
