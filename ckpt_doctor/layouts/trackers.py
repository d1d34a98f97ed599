"""Files in the folder of a run that name its newest save, and saves that are named there and are gone.

Trainers write such a file last and resume from what it names. So a save that is named was whole once, whatever else
lies there now is older, and a script that takes the newest folder takes another one than the run ended with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint

from .disk import Disk, Folder
from .found import Found
from .lone_file import KIND

# verl and Megatron write a number, DeepSpeed the name of a folder.
_NUMBER = "latest_checkpointed_iteration.txt"
_NAME = "latest"
_MOST_BYTES = 256

_STEP = re.compile(
    r"(?P<word>(?:global_?step|iteration|iter|step|checkpoint|ckpt|epoch)[-_=]?)(?P<number>[0-9]{1,12})", re.IGNORECASE
)


def absent_saves(folder: Folder) -> Iterator[Found]:
    """What the tracker files in ``folder`` name and is not there; nothing where a newer save is, or nobody can tell."""
    named = [(tracker, _named(tracker, folder)) for tracker in (_NUMBER, _NAME) if tracker in folder.files]
    # Two trackers may name the same save.
    for name, tracker in {name: tracker for tracker, name in reversed(named) if name is not None}.items():
        what = f"{name} is empty" if name in folder.folders else f"there is no {name}"
        shown_name = name
        if name == tracker:
            shown_name, what = f"step {_content(tracker, folder)}", "no save is there"
        statement = f"{tracker} names {shown_name} as the newest save of this run, but {what}"
        path = folder.path / name
        shown = os.path.normpath(path)
        checkpoint = Checkpoint(path, shown, KIND, "save that is gone", (), unfinished=(statement,))
        yield Found(KIND, folder.path, shown, absent=True, known=checkpoint)


def written(folder: Path, disk: Disk) -> int:
    """When the last of the tracker files in ``folder`` was written, in nanoseconds since 1970."""
    return max(disk.modified(folder / tracker) for tracker in (_NUMBER, _NAME))


def _named(tracker: str, folder: Folder) -> str | None:
    """The name of the folder that is gone; that of the tracker file where nothing there shows what saves are called."""
    content = _content(tracker, folder)
    steps = {name: found for name in folder.folders if (found := _STEP.fullmatch(name))}
    if tracker == _NUMBER:
        if not re.fullmatch(r"[0-9]{1,12}", content) or _spelled_otherwise(content, folder, steps):
            return None
        like = max(steps.values(), key=lambda step: int(step["number"]), default=None)
        if like is None:
            return tracker
        # Megatron pads its numbers with zeros: iter_0000500.
        width = len(like["number"]) if like["number"].startswith("0") else 0
        name = f"{like['word']}{content.lstrip('0').zfill(max(width, 1))}"
    else:
        wanted = _STEP.fullmatch(content)
        # Many things are called "latest". One that counts as the folders beside it do is a tracker.
        if wanted is None or all(step["word"] != wanted["word"] for step in steps.values()):
            return None
        name, content = content, wanted["number"]
    if any(int(step["number"]) > int(content) for step in steps.values()):
        return None  # a newer save has begun, and what is wrong with it is told there
    return name if _is_absent(name, folder) else None


def _spelled_otherwise(number: str, folder: Folder, steps: dict[str, re.Match[str]]) -> bool:
    """True if anything but a folder of a step has this number in its name: a file, ``run-500-hf``."""
    pattern = re.compile(rf"(?<![0-9])0*{int(number)}(?![0-9])")
    return any(pattern.search(name) for name in (*folder.files, *folder.folders) if name not in steps)


def _is_absent(name: str, folder: Folder) -> bool:
    if name not in folder.folders:
        return name not in folder.files
    inside = folder.disk.folder(folder.path / name)
    return not inside.files and not inside.folders and inside.error is None


def _content(tracker: str, folder: Folder) -> str:
    return folder.disk.head(folder.path / tracker, _MOST_BYTES).decode("utf-8", "replace").strip()
