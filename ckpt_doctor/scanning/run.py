"""Running the scans of a checkpoint's files on every core, in bounded memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ckpt_doctor.analysis.tied_embeddings import tied_pair
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.runtime.crew import Crew
from ckpt_doctor.runtime.file_access import open_to_read

from .file_scan import FileScan
from .sweep import Reader

Progress = Callable[[int, int], None]
WantsDigest = Callable[[str, str], bool]


def bytes_to_scan(checkpoint: Checkpoint) -> int:
    """Bytes of the files that :func:`scan` would read: an upper bound of what it does read."""
    return sum(file.nbytes for file in _by_path(checkpoint).values())


def scan(
    checkpoint: Checkpoint,
    *,
    progress: Progress | None = None,
    wants_digest: WantsDigest | None = None,
    threads: int | None = None,
) -> Checkpoint:
    """Read the tensor bytes of every weight file once and attach what they said.

    The result equals ``checkpoint`` except for ``scans`` and further ``defects`` (checksums, I/O errors) of its files.
    ``progress`` is called from this thread with bytes done and bytes in all. ``wants_digest(file path, tensor name)``
    adds tensors whose SHA-256 is needed; by default those whose name stands in several files of one part, and two
    matrices that the config ties. ``threads`` is how many may read at once: by default, one for each core.
    """
    repeated = _repeated_names(checkpoint) | _tied(checkpoint)
    files = _by_path(checkpoint)
    total = bytes_to_scan(checkpoint)
    scanned: dict[str, WeightFile] = {}
    done = 0
    for path, file in files.items():

        def wanted(name: str, path: str = path) -> bool:
            return (path, name) in repeated or (wants_digest is not None and wants_digest(path, name))

        def advance(nbytes: int, before: int = done, limit: int = file.nbytes) -> None:
            if progress is not None:
                progress(before + min(nbytes, limit), total)

        scanned[path] = _scan_file(checkpoint.root / path, FileScan(file, wanted), advance, threads)
        done += file.nbytes
        advance(0, done)
    return checkpoint._replace(parts=tuple(_with_scans(part, scanned) for part in checkpoint.parts))


def _by_path(checkpoint: Checkpoint) -> dict[str, WeightFile]:
    return {file.path: file for file in checkpoint.files if file.tensors or file.records}


def _repeated_names(checkpoint: Checkpoint) -> set[tuple[str, str]]:
    """File and name of every tensor whose name stands in more than one file of a part."""
    found: set[tuple[str, str]] = set()
    for part in checkpoint.parts:
        names = Counter(name for file in part.files for name in {tensor.name for tensor in file.tensors})
        found.update(
            (file.path, tensor.name) for file in part.files for tensor in file.tensors if names[tensor.name] > 1
        )
    return found


def _tied(checkpoint: Checkpoint) -> set[tuple[str, str]]:
    """File and name of both matrices where a model holds two that its config ties."""
    pairs = (tied_pair(part) for part in checkpoint.parts)
    return {(place.file.path, place.tensor.name) for pair in pairs if pair is not None for place in pair}


def _with_scans(part: Part, scanned: Mapping[str, WeightFile]) -> Part:
    # A file without tensors has been looked at, too: an empty mapping says so.
    files = tuple(scanned.get(file.path) or file._replace(scans={}) for file in part.files)
    return part._replace(files=files)


def _scan_file(path: Path, work: FileScan, advance: Callable[[int], None], threads: int | None) -> WeightFile:
    try:
        descriptor = open_to_read(path)
    except OSError as error:
        return work.result(error.strerror or str(error))
    try:
        before = os.fstat(descriptor)
        if before.st_size != work.file.nbytes:
            return _changed(work.file)
        problem = Crew(work.jobs, partial(Reader, descriptor), threads).work_off(advance)
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            return _changed(work.file)
    finally:
        os.close(descriptor)
    return work.result(problem)


def _changed(file: WeightFile) -> WeightFile:
    """What was read of a file that something else writes to at the same time says nothing."""
    defect = Defect(DefectKind.UNREADABLE, "The file changed while it was read: something is still writing it.")
    return file._replace(scans={}, defects=(*file.defects, defect))
