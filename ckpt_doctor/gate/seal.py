"""True if the files that were judged are still the same when the command is about to read them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import GateError
from ckpt_doctor.layouts import Found
from ckpt_doctor.layouts.disk import DISK
from ckpt_doctor.runtime.file_states import file_state, judged_files

# In the name of whatever a loader opens, and of what a saver calls it until it is whole. Anything else may come and go:
# the log of the evaluation often is next to its checkpoint.
_TELLING = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json")


class Seal:
    """The state of the files of some checkpoints, taken before anybody reads them.

    Whoever writes into one of them afterwards, replaces it or adds one breaks the seal: also a save that goes on.
    """

    def __init__(self, found: Iterable[Found]) -> None:
        found = tuple(found)
        self._folders = sorted(
            {item.root / name for item in found if item.kind.grain != "file" for name in ("", *item.claimed)}
        )
        lone = [Path(item.path) for item in found if item.kind.grain == "file"]
        self._names = self._telling_names()
        files = [folder / name for folder in self._folders for name in DISK.folder(folder).files]
        self._states = {path: file_state(path) for path in (*files, *lone)}

    def check(self, checkpoints: Iterable[Checkpoint], *, own: Iterable[str] = ()) -> None:
        """Raise ``GateError`` if a file of ``checkpoints`` is another than before; ``own`` ones were written by us."""
        changed = self._telling_names() ^ self._names
        changed |= {
            path
            for checkpoint in checkpoints
            for path in judged_files(checkpoint)
            if self._states.setdefault(path, file_state(path)) != file_state(path)
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
        listed |= {folder / name for folder in listed for name in DISK.folder(folder).folders}
        return {
            folder / name
            for folder in listed
            for name in DISK.folder(folder).files
            if any(ending in name.lower() for ending in _TELLING)
        }
