"""What a search finds: data from which a checkpoint can be read, here or in another process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.layout import Layout


class Found(NamedTuple):
    """A checkpoint that a search found, as data; :func:`~ckpt_doctor.layouts.read` reads it.

    ``root`` is where it lies, and ``path`` how it is shown: of a lone file that is the file, and the root its folder.
    ``claimed`` are the folders below the root that belong to it. ``absent`` marks a save that is named as the newest of
    its run and is gone: only what judges a tree sees it.

    ``variant`` is the title that the sign says by which it was recognised. ``places`` tells for each part of its kind
    at which of the part's paths it lies, or ``None`` if it is absent; it is empty if all are. ``nested`` marks a
    lone adapter below the folder that was asked for, where a loader would look for it. ``known`` is the checkpoint
    where it had to be read to tell what it is, and ``unread`` what else lies in the folder of a lone file and is not
    read.
    """

    kind: Layout
    root: Path
    path: str
    claimed: tuple[str, ...] = ()
    absent: bool = False
    variant: str = ""
    places: tuple[str | None, ...] = ()
    nested: bool = False
    known: Checkpoint | None = None
    unread: tuple[Unread, ...] = ()

    @property
    def layout(self) -> str:
        """The name of its kind, as ``--layout`` takes it."""
        return self.kind.name

    @property
    def name(self) -> str:
        """The name of a lone file, which tells it apart from others in its folder; empty for anything else."""
        return Path(self.path).name if self.kind.grain == "file" else ""


class Survey(NamedTuple):
    """The checkpoints at a path, and what is or may hold weights there and was not read, with paths as shown."""

    found: list[Found]
    unread: tuple[Unread, ...] = ()
