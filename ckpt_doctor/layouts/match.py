"""What a layout answers when it recognises a folder, and what a search makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.layout import Layout

from .reading import CheckpointReader


class Match(NamedTuple):
    """A checkpoint that was recognised and not yet read.

    ``claimed`` are the folders, relative to ``root``, that belong to it and hold no checkpoint of their own. ``build``
    is no closure, so that it can be pickled.
    """

    kind: Layout
    root: Path
    claimed: tuple[str, ...]
    build: Callable[[CheckpointReader], Checkpoint]


class Found(NamedTuple):
    """A checkpoint that a search found, and what it takes to read it.

    ``root`` is where it lies, and ``path`` how it is shown: of a lone file that is the file, and the root its folder.
    ``claimed`` are the folders below the root that belong to it. Until ``read`` is called, nobody has looked into its
    files, unless something in them decides what they are. It can be pickled: another process may do the reading.
    ``absent`` marks a save that is named as the newest of its run and is gone: only what judges a tree sees it.
    """

    kind: Layout
    root: Path
    path: str
    claimed: tuple[str, ...]
    read: Callable[[], Checkpoint]
    absent: bool = False

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
