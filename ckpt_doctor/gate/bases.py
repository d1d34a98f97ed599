"""Whole models that only serve the adapters of a tree: what their configs name as the base model.

A base model may have been copied into the tree after the training, and then it is the newest there by its files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ckpt_doctor.layouts import Found
from ckpt_doctor.layouts.disk import DISK

from .names import family_of
from .save import Save


def is_whole(found: Found) -> bool:
    """True if this is a whole model, on which an adapter can be trained."""
    return found.kind.covers == "model"


def is_adapter(found: Found) -> bool:
    """True if this was trained on another model, which it needs."""
    return found.kind.covers == "adapter"


def with_bases(saves: Sequence[Save], tree: str | os.PathLike[str]) -> list[Save]:
    """The saves, each whole model with the paths of those whose adapters name it as their base."""
    if not any(is_whole(found) for save in saves for found in save.found):
        return list(saves)  # in most trees; nobody pays for their configs
    named = [(save, name, root) for save in saves for name, root in _named(save.found)]
    return [
        save._replace(
            base_of=tuple(dict.fromkeys(other.path for other, name, root in named if _means(name, root, tree, save)))
        )
        for save in saves
    ]


def _named(found: Iterable[Found]) -> Iterator[tuple[str, Path]]:
    """What adapters name as their base model, each with the folder of the adapter."""
    for item in found:
        for folder in ("", *item.claimed) if is_adapter(item) else ():
            path = item.root / folder / "adapter_config.json"
            if DISK.has_file(path):
                base = (DISK.config(path, path.name).data or {}).get("base_model_name_or_path")
                if isinstance(base, str) and base.strip():
                    yield base.strip(), path.parent


def _means(name: str, adapter: Path, tree: str | os.PathLike[str], save: Save) -> bool:
    """True if ``name``, which stands in the config of ``adapter``, means this save."""
    return any(is_whole(found) and _is_at(name, adapter, tree, found.root) for found in save.found)


def _is_at(name: str, adapter: Path, tree: str | os.PathLike[str], root: Path) -> bool:
    here = os.path.realpath(root)
    if here in {os.path.realpath(Path(start) / name) for start in (".", adapter, tree)}:
        return True
    words = PurePosixPath(name.replace("\\", "/")).parts
    parts = Path(os.path.abspath(root)).parts
    # A hub id: as a cache of huggingface_hub calls its folders, or as people do.
    if len(words) == 2 and ("models--" + "--".join(words) in parts or parts[-2:] == words):
        return True
    # From another machine, the last folder is what is left of the name; that of a step or a run means many.
    return bool(words) and parts[-1] == words[-1] and family_of(parts[-1]) is None
