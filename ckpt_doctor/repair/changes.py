"""The changes of a repair, file by file, with the sizes before and after."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from .draft import Document, Draft, Entry, Moved, Rewritten
from .outcome import Change


def changes_of(draft: Draft, base: Path) -> tuple[Change, ...]:
    """What carrying out the draft changes; paths are relative to ``base``."""
    sources = {entry.source: entry for entry in draft.entries.values() if isinstance(entry, Moved)}
    changes = []
    for path, entry in sorted(draft.entries.items()):
        name = Path(os.path.relpath(path, base)).as_posix()
        before = path.stat().st_size if path.is_file() else None
        if entry is None:
            moved = sources.get(path)
            if moved is None or moved.copied:
                changes.append(Change(name, "removed", before, None))
        elif isinstance(entry, Moved):
            source = Path(os.path.relpath(entry.source, base)).as_posix()
            action = "copied" if entry.copied else "renamed"
            changes.append(Change(name, action, before, entry.source.stat().st_size, source=source))
        else:
            action = "written" if before is None else "rewritten"
            exact = isinstance(entry, Document) or entry.format == "safetensors"
            changes.append(Change(name, action, before, bytes_to_write(entry), exact))
    return tuple(changes)


def bytes_to_write(entry: Entry | None) -> int:
    """How many bytes are written for one file; an estimate for torch files."""
    if isinstance(entry, Rewritten):
        return entry.file.nbytes
    if isinstance(entry, Document):
        return len(entry.data)
    return entry.source.stat().st_size if entry is not None and entry.copied else 0


def as_written(change: Change, base: Path) -> Change:
    """The change with the size that the file really has."""
    return change if change.after is None else replace(change, after=(base / change.path).stat().st_size, exact=True)
