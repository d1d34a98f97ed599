"""True if the files of a checkpoint are still those that were looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint

FileState = tuple[int, int, int, int, int] | None
"""Device, inode, size and times of what lies at the end of all links; ``None`` if nothing does."""


def file_state(path: Path) -> FileState:
    """The state of one file now."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of the last change cannot be set by a program, as that of the last write can.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def judged_files(checkpoint: Checkpoint) -> Iterator[Path]:
    """The weight files, configs and indexes of a checkpoint."""
    for part in checkpoint.parts:
        yield from (checkpoint.root / file.path for file in part.files)
        yield from (checkpoint.root / index.path for index in part.indexes)
    for config in (checkpoint.config, *(part.config for part in checkpoint.parts)):
        if config is not None:
            yield checkpoint.root / config.path
