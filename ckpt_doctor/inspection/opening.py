"""The one checkpoint at a path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import NoCheckpointError
from ckpt_doctor.core.wording import listed
from ckpt_doctor.layouts import discover

if TYPE_CHECKING:
    from ckpt_doctor.core.layout import Layout


def open_checkpoint(
    path: str | os.PathLike[str], layout: str | None = None, *, layouts: Sequence[Layout] = ()
) -> Checkpoint:
    """The one checkpoint at ``path``, with its tensors listed and nothing loaded.

    ``layouts`` are those that a team has defined (``load_settings().policy.layouts``). Raises ``NoCheckpointError``
    where several lie there, with what to name for each.
    """
    return the_one(discover(path, layout, layouts=layouts), path)


def the_one(checkpoints: list[Checkpoint], path: str | os.PathLike[str]) -> Checkpoint:
    """The only one of ``checkpoints``, which were found at ``path``, or the only one that is that folder itself."""
    if len(checkpoints) > 1:
        own = [item for item in checkpoints if os.path.abspath(item.root) == os.path.abspath(path)]
        if len(own) != 1:
            names = listed((_way_to(item, checkpoints) for item in checkpoints), 5)
            raise NoCheckpointError(f"{path} holds {len(checkpoints)} checkpoints: name one of them ({names})")
        checkpoints = own
    return checkpoints[0]


def _way_to(checkpoint: Checkpoint, others: list[Checkpoint]) -> str:
    """What to name so that this checkpoint alone is meant: of two in one folder, the folder of its adapter."""
    if sum(item.path == checkpoint.path for item in others) == 1:
        return checkpoint.path
    folders = [part.directory.partition("/")[0] for part in checkpoint.parts if part.role == "adapter"]
    taken = {part.directory.partition("/")[0] for item in others if item is not checkpoint for part in item.parts}
    own = next((folder for folder in folders if folder and folder not in taken), None)
    return f"{checkpoint.path} --layout {checkpoint.layout}" if own is None else f"{checkpoint.path}/{own}"
