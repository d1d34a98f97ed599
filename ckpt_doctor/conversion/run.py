"""The one way in: paths to a :class:`Conversion`, everything or nothing."""

from __future__ import annotations

import contextlib
import gc
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ckpt_doctor.core.actions import SharedChoice, TargetFormat
from ckpt_doctor.core.errors import ConversionError, PathNotFoundError, UnknownNameError
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.wording import byte_size, complaint
from ckpt_doctor.knowledge.weight_names import FORMATS
from ckpt_doctor.runtime.disk_space import free_bytes

from .aliases import CHOICES
from .copying import write_all
from .index_file import index_text
from .jobs import IndexJob, Jobs, plan_jobs
from .opened import Opened, concerning, open_job
from .outcome import Conversion, ConvertedFile
from .staging import Staging, check_target
from .writing import write

Progress = Callable[[int, int], None]
"""Called with the bytes done so far and the bytes in all: those that are written, and those that are compared."""


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    *,
    to: TargetFormat,
    shared: SharedChoice | None = None,
    overwrite: bool = False,
    check: bool = True,
    drop_non_tensors: bool = False,
    tensors_only: bool = False,
    layouts: Sequence[Layout] = (),
    progress: Progress | None = None,
) -> Conversion:
    """Convert one weight file, or every adapter and model weight file of a checkpoint with its index.

    ``to`` is ``safetensors`` or ``bin``. Without ``target`` the new files are next to the old ones, which stay; with it
    a file gets that name, and a checkpoint becomes a whole one in that folder. ``shared`` says what becomes of
    tensors that share bytes: ``clone``, ``drop`` or ``error``; ``None`` means ``clone``, and ``drop`` for the tied
    embeddings of a whole transformers model. ``check`` compares every tensor with its source, and the source with its
    checksums. ``drop_non_tensors`` leaves out values that neither safetensors nor JSON can hold. ``tensors_only`` also
    converts unsafe files (a pickled module, TorchScript): tensors under the names of the module's
    ``state_dict()``, and plain values. ``layouts`` are those that a team has defined.

    Raises ``ConversionError``, ``PathNotFoundError``, ``NoCheckpointError`` and ``UnknownNameError``. Then nothing was
    written, and no source is ever changed.
    """
    for value, allowed, what in ((to, FORMATS, "format"), (shared or "clone", CHOICES, "value of shared")):
        if value not in allowed:
            raise UnknownNameError(f"there is no {what} {value!r}; choose one of {', '.join(allowed)}")
    if tensors_only and to != "safetensors":
        raise ConversionError("tensors_only writes safetensors: use it with to='safetensors'")
    run = _Run(
        to,
        overwrite=overwrite,
        check=check,
        drop_non_tensors=drop_non_tensors,
        tensors_only=tensors_only,
        progress=progress,
    )
    path = Path(source)
    try:
        # Path("") would be the current directory.
        if not os.fspath(source) or not os.path.lexists(path):
            raise PathNotFoundError(f"{os.fspath(source)!r} does not exist")
        _refuse_named_badly(path, target)
        with _without_collector():
            return run.all(plan_jobs(path, None if target is None else Path(target), to, shared, layouts))
    except OSError as error:
        raise ConversionError(f"{complaint(error)}. Nothing was written") from error


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Switch off the cyclic garbage collector: a large header makes a million objects and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Run:
    """One conversion from the first look to the last rename."""

    def __init__(
        self,
        to: TargetFormat,
        *,
        overwrite: bool,
        check: bool,
        drop_non_tensors: bool,
        tensors_only: bool,
        progress: Progress | None,
    ) -> None:
        self.to = to
        self.overwrite = overwrite
        self.check = check
        self.drop_non_tensors = drop_non_tensors
        self.tensors_only = tensors_only
        self.progress = progress
        self.done = self.total = 0

    def all(self, jobs: Jobs) -> Conversion:
        """Do all jobs or none. Raises ``ConversionError`` and ``OSError``."""
        with Staging(overwrite=self.overwrite) as staging:
            with contextlib.ExitStack() as stack:
                items = self.open(jobs, stack)
                opened = [item for item in items if not _is_done(item)]
                self.prepare(jobs, opened, staging)
                files = [self.write(item, staging) for item in opened]
                for index_job in jobs.indexes:
                    # Last: as long as the new index is not there, nobody takes the shards for complete.
                    _write_index(index_job, opened, staging)
                for item in opened:
                    item.refuse_changed()
            staging.commit()
        return Conversion(
            to=self.to,
            files=tuple(file for file in files if file is not None),
            copied=tuple(str(item.job.target) for item in opened if item.content is not None and item.plan is None),
            indexes=tuple(str(job.target) for job in jobs.indexes),
            already=(*jobs.already, *(str(item.job.source) for item in items if _is_done(item))),
            left_out=tuple(jobs.left_out),
            checked=self.check,
        )

    def open(self, jobs: Jobs, stack: contextlib.ExitStack) -> list[Opened]:
        """The sources of all jobs, planned, and closed again with ``stack``."""
        items = []
        for job in jobs.files:
            item = open_job(job, self.to, drop_non_tensors=self.drop_non_tensors, tensors_only=self.tensors_only)
            stack.enter_context(item.source)
            items.append(item)
        return items

    def write(self, item: Opened, staging: Staging) -> ConvertedFile | None:
        """Write one new file into a temporary."""
        with concerning(item.job.source):
            staged = staging.create(item.job.target, mode=_permissions(item.status))
            return write(item, staged, self.advance, check=self.check)

    def prepare(self, jobs: Jobs, opened: list[Opened], staging: Staging) -> None:
        """Everything that can be refused before the first byte is written."""
        _refuse_targets(jobs, overwrite=self.overwrite)
        self.total = sum(item.expected_nbytes for item in opened) * (2 if self.check else 1)
        if jobs.make_folder is not None:
            for item in opened:
                staging.make_folder(item.job.target.parent)
        _refuse_full_disk(opened)

    def advance(self, nbytes: int) -> None:
        """Report progress; of a torch file all is written, and only the bytes of its tensors are compared."""
        self.done += nbytes
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)


def _refuse_named_badly(source: Path, target: str | os.PathLike[str] | None) -> None:
    """Raise for a target whose meaning ``Path`` would change: an empty one, and ``folder/`` for a lone file."""
    name = None if target is None else os.fspath(target)
    if name == "":
        raise ConversionError("the target is an empty path")
    if name is not None and name.endswith(("/", os.sep)) and not source.is_dir() and not Path(name).is_dir():
        raise ConversionError(f"the folder {name} does not exist")


def _permissions(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode) & 0o777


def _is_done(item: Opened) -> bool:
    """True if the file has the wanted format and the wanted name already."""
    return item.plan is None and os.path.abspath(item.job.source) == os.path.abspath(item.job.target)


def _refuse_targets(jobs: Jobs, *, overwrite: bool) -> None:
    """Raise where a target must not be written, before the work is done. The rename looks again."""
    seen: dict[Path, Path] = {}
    pairs = [(job.source, job.target) for job in jobs.files] + [(job.source, job.target) for job in jobs.indexes]
    for source, target in pairs:
        if os.path.abspath(source) == os.path.abspath(target):
            continue
        if target in seen:
            raise ConversionError(f"{seen[target]} and {source} would both be written to {target}")
        seen[target] = source
        check_target(target, overwrite=overwrite)
        if target.exists() and target.samefile(source):
            raise ConversionError(f"{target} and {source} are the same file")
        if jobs.make_folder is None and not target.parent.is_dir():
            raise ConversionError(f"the folder {target.parent} does not exist")


def _refuse_full_disk(opened: list[Opened]) -> None:
    """Raise where the new files do not fit, rather than fill the disk first."""
    needed: dict[int, int] = {}
    for item in opened:
        folder = item.job.target.parent
        device = folder.stat().st_dev
        needed[device] = needed.get(device, 0) + item.expected_nbytes
        free = free_bytes(folder)
        if free is not None and needed[device] > free:
            raise ConversionError(
                f"{folder}: no space left for {byte_size(needed[device])}, {byte_size(free)} are free. "
                "Nothing was written"
            )


def _write_index(job: IndexJob, opened: list[Opened], staging: Staging) -> None:
    """Write one new index into a temporary."""
    staged = staging.create(job.target, mode=_permissions(job.source.stat()))
    write_all(staged.descriptor, _index_text(job, opened).encode())
    os.fsync(staged.descriptor)


def _index_text(job: IndexJob, opened: list[Opened]) -> str:
    by_target = {item.job.target: item for item in opened}
    new_names: dict[str, str] = {}
    held: dict[str, set[str]] = {}
    size = 0
    for path, shard in job.shards.items():
        new = shard.target.relative_to(job.target.parent).as_posix()
        new_names[path] = new
        held[new], nbytes = by_target[shard.target].held()
        size += nbytes
    folder = posixpath.dirname(job.index.path)
    shards = {
        name: new_names[path]
        for name in set(job.index.weight_map.values())
        if (path := posixpath.normpath(posixpath.join(folder, name))) in new_names
    }
    return index_text(job.source, job.index, shards, held, size)
