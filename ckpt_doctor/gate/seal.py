"""Whether the files that were judged are still the same when the command is about to read them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ckpt_doctor.checkpoint import Checkpoint
from ckpt_doctor.errors import GateError
from ckpt_doctor.layouts import Found
from ckpt_doctor.layouts.folder import Folder

# In the name of whatever a loader opens, and of what a saver calls it until it is whole. Anything else may come and go:
# the log of the evaluation often lies beside its checkpoint.
_TELLING = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json")

_State = tuple[int, int, int, int, int] | None


class Seal:
    """The state of the files of some checkpoints, taken before anybody reads them.

    Whoever writes into one of them afterwards, replaces it or adds one breaks the seal: also a save that goes on.
    """

    def __init__(self, found: Iterable[Found]) -> None:
        found = tuple(found)
        self._folders = sorted(
            {item.root / name for item in found if item.layout != "file" for name in ("", *item.claimed)}
        )
        lone = [Path(item.path) for item in found if item.layout == "file"]
        self._names = self._telling_names()
        files = [folder / name for folder in self._folders for name in Folder(folder).files]
        self._states = {path: _state(path) for path in (*files, *lone)}

    def check(self, checkpoints: Iterable[Checkpoint], *, own: Iterable[str] = ()) -> None:
        """Raise ``GateError`` if a file of ``checkpoints`` is another than before; ``own`` ones were written by us."""
        changed = self._telling_names() ^ self._names
        changed |= {
            path
            for checkpoint in checkpoints
            for path in judged_files(checkpoint)
            if self._states.setdefault(path, _state(path)) != _state(path)
        }
        changed -= {Path(os.path.abspath(name)) for name in own}
        if changed:
            raise GateError(
                f"{min(changed)} changed while it was judged: something is still writing there. Wait for it to end and "
                "run the gate again"
            )

    def _telling_names(self) -> set[Path]:
        # One folder further down, too: a save that goes on may be about to nest what it writes.
        listed = {Path(os.path.abspath(folder)) for folder in self._folders}
        listed |= {folder / name for folder in listed for name in Folder(folder).folders}
        return {
            folder / name
            for folder in listed
            for name in Folder(folder).files
            if any(ending in name.lower() for ending in _TELLING)
        }


def judged_files(checkpoint: Checkpoint) -> Iterator[Path]:
    """The weight files, configs and indexes of a checkpoint."""
    for part in checkpoint.parts:
        yield from (checkpoint.root / file.path for file in part.files)
        yield from (checkpoint.root / index.path for index in part.indexes)
    for config in (checkpoint.config, *(part.config for part in checkpoint.parts)):
        if config is not None:
            yield checkpoint.root / config.path


def _state(path: Path) -> _State:
    """Device, inode, size and times of what lies at the end of all links; ``None`` where nothing does."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of the last change cannot be set by a program, as that of the last write can.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
