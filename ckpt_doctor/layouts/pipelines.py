"""Pipelines of diffusers: folders whose ``model_index.json`` names the components that belong to them."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Unread

from .disk import Folder
from .model_files import holds_model

NAME = "model_index.json"


def incomplete_components(folder: Folder) -> Iterator[Unread]:
    """The components that are named and cannot be judged: their folder, weights or config are not there."""
    if NAME not in folder.files:
        return
    index = folder.disk.config(folder.path / NAME, NAME)
    for name, value in (index.data or {}).items():
        if isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value):
            reason = _problem(folder, name)
            if reason is not None:
                yield Unread(
                    str(folder.path / name), "component of a diffusers pipeline", 0, f"{NAME} names it, {reason}"
                )


def _problem(folder: Folder, name: str) -> str | None:
    if name not in folder.folders:
        return "but its folder is missing"
    component = folder.disk.folder(folder.path / name)
    config = "config.json" in component.files
    weights = holds_model(component)
    if weights and not config:
        return "but it has no config.json"
    return "but it has no weights" if config and not weights else None
