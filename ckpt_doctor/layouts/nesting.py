"""A lone adapter right below the folder that was asked for, where a loader would look in that folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .adapters import holds_adapter
from .disk import Disk, Folder
from .found import Found
from .model_files import holds_model

_USUAL = ("adapter_model", "adapter", "default", "lora", "peft", "weaver", "trigger")


def with_nesting(path: Path, found: Iterable[Found], disk: Disk) -> list[Found]:
    """What was found below ``path``, with the mark on the adapter that is its only one.

    Asked once for a tree: it looks at every folder there.
    """
    found = list(found)
    here = os.path.abspath(path)
    adapters = [item for item in found if item.kind.nests and os.path.abspath(item.root.parent) == here]
    if len(adapters) != 1 or folder_of_adapter(disk.folder(path)) != adapters[0].root.name:
        return found
    return [item._replace(nested=item.root == adapters[0].root) for item in found]


def folder_of_adapter(folder: Folder) -> str | None:
    """The name of the folder that holds the only adapter below ``folder``, if ``folder`` looks like its save folder.

    That is so where PEFT's model card or other files lie above it, or where the folder has one of the names that
    training scripts give. A plain folder of checkpoints is none, and neither is that of a whole model.
    """
    adapters = [name for name in folder.folders if holds_adapter(folder.disk.folder(folder.path / name))]
    if len(adapters) != 1 or holds_adapter(folder) or holds_model(folder):
        return None
    return adapters[0] if adapters[0] in _USUAL or folder.files else None
