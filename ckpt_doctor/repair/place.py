"""The place where a repair looks for a checkpoint, before and after it changes files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.layouts import discover

from .draft import Draft

NOTHING_RENAMED: Mapping[Path, Path] = {}
"""Of a repair that renames no file."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint is looked for: the path that leads to it and, where several lie there, its own root.

    ``layout`` is what the user asked for, if anything, and ``layouts`` are those that a team has defined.
    ``found_from_above`` says that a folder above was asked for, and what lies there is judged as a search finds it.
    """

    path: Path
    layout: str | None
    layouts: tuple[Layout, ...] = ()
    found_from_above: bool = False

    def read(self, draft: Draft) -> list[Checkpoint]:
        """What lies there according to the draft. Raises ``NoCheckpointError`` and ``PathNotFoundError``."""
        path = successor_of(self.path, draft.renamed)
        if path != self.path and self.found_from_above:
            # Under its new name, a lone file can make its folder a checkpoint, of which other things are expected.
            whole = [
                item for item in discover(path.parent, self.layout, draft, self.layouts) if item.kind.grain != "file"
            ]
            here = [item for item in whole if os.path.abspath(item.root) == os.path.abspath(path.parent)]
            if here:
                return here
        return discover(path, self.layout, draft, self.layouts)


def successor_of(path: Path, renamed: Mapping[Path, Path]) -> Path:
    """What a file is called now; ``renamed`` maps absolute paths."""
    while (successor := renamed.get(Path(os.path.abspath(path)))) is not None:
        path = path.with_name(successor.name)
    return path


def places_at(path: Path, policy: Policy) -> list[Place]:
    """The checkpoints at ``path``, each as a place of its own; those of one folder are repaired together."""
    checkpoints = discover(path, policy.layout, layouts=policy.layouts)
    roots = {_own_path(checkpoint) for checkpoint in checkpoints}
    if len(roots) == 1:
        # Asked for from above, a lone adapter is judged with the folder that was asked for. An index or a config that
        # was asked for may go, and means its folder anyway.
        inside = path.parent if _own_path(checkpoints[0]).is_dir() and not path.is_dir() else path
        return [Place(inside, policy.layout, policy.layouts)]
    return [
        Place(root, policy.layout, policy.layouts, found_from_above=True)
        for root in dict.fromkeys(map(_own_path, checkpoints))
    ]


def _own_path(checkpoint: Checkpoint) -> Path:
    return checkpoint.root / checkpoint.files[0].path if checkpoint.kind.grain == "file" else checkpoint.root


def folder_of(checkpoint: Checkpoint) -> Path:
    """The absolute path of the folder that the checkpoint is in."""
    return Path(os.path.abspath(checkpoint.root))
