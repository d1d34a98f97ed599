"""A source that is open, and what it will become: decided for every file before the first byte is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.core.actions import TargetFormat
from ckpt_doctor.core.defects import RUNS_CODE
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.sources.local_file import FileSource

from .editing import NO_EDIT, Edit
from .jobs import Job
from .plan import SafetensorsPlan, plan_safetensors, refuse_defects
from .slots import Content, whole_file
from .structure import ObjectError

if TYPE_CHECKING:
    from .to_bin import BinPlan


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A job whose source is open.

    ``content`` is what the new file consists of; it is ``None`` for what becomes a torch file, which ``torch_plan``
    describes. ``plan`` is there for what becomes a safetensors file. ``status`` is the state of the source before its
    header was read.
    """

    job: Job
    source: FileSource
    status: os.stat_result
    file: WeightFile
    content: Content | None
    plan: SafetensorsPlan | None = None
    torch_plan: BinPlan | None = None

    @property
    def descriptor(self) -> int:
        """The open source."""
        assert self.source.fileno is not None, "the source is closed"
        return self.source.fileno

    @property
    def expected_nbytes(self) -> int:
        """Size of the new file."""
        planned = self.content or self.torch_plan
        assert planned is not None, "one of the two is there"
        return planned.nbytes

    def held(self) -> tuple[set[str], int]:
        """The names of the tensors that the new file holds, and their bytes."""
        if self.plan is not None:
            return set(self.plan.names), self.plan.tensor_nbytes
        size = sum(tensor.nbytes for tensor in self.file.tensors)
        if self.torch_plan is not None:
            return set(self.torch_plan.tensors), size  # names that had been dropped are back, and share the bytes
        return {tensor.name for tensor in self.file.tensors}, size

    def refuse_changed(self) -> None:
        """Raise ``ConversionError`` where the source is not what it was when its header was read."""
        now, named = os.fstat(self.descriptor), self.job.source.stat()
        same = (now.st_size, now.st_mtime_ns) == (self.status.st_size, self.status.st_mtime_ns)
        if not same or not os.path.samestat(now, named):
            raise ConversionError(f"{self.job.source} changed while it was read: something is still writing it")


@contextlib.contextmanager
def concerning(path: Path) -> Iterator[None]:
    """Put the name of the file in front of what is raised about it."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"cannot convert {path}: {error}") from error
    except OSError as error:
        if error.filename is not None:
            raise
        # What is read and written by descriptor bears no name.
        raise ConversionError(f"cannot convert {path}: {error.strerror or error}. Nothing was written") from error


TENSORS_ONLY = Edit(despite=RUNS_CODE, plain=True)
"""Everything that has a plain form is kept, also of an unsafe file."""


def open_job(job: Job, to: TargetFormat, *, drop_non_tensors: bool, tensors_only: bool = False) -> Opened:
    """Open the source of a job and decide what is written; the caller closes it.

    Raises ``ConversionError`` and ``OSError``.
    """
    with concerning(job.source):
        source = FileSource(job.source)
    try:
        with concerning(job.source):
            return _opened(job, source, to, drop_non_tensors=drop_non_tensors, tensors_only=tensors_only)
    except BaseException:
        source.close()
        raise


def _opened(job: Job, source: FileSource, to: TargetFormat, *, drop_non_tensors: bool, tensors_only: bool) -> Opened:
    assert source.fileno is not None
    status = os.fstat(source.fileno)
    as_it_is = whole_file(job.source.name, source.size)
    if not job.converts:
        return Opened(job, source, status, WeightFile(job.source.name, "unknown", source.size), as_it_is)
    file = recognise(source, job.source.name)
    edit = TENSORS_ONLY if tensors_only and to == "safetensors" else NO_EDIT
    with _naming_the_way(file, to, edit):
        refuse_defects(file, edit.despite)
    if (file.is_safetensors) == (to == "safetensors"):
        return Opened(job, source, status, file, as_it_is)
    if to == "bin":
        from .to_bin import plan_bin

        return Opened(job, source, status, file, None, torch_plan=plan_bin(file))
    with _naming_the_way(file, to, edit):
        plan = plan_safetensors(source, file, shared=job.shared, drop_non_tensors=drop_non_tensors, edit=edit)
    return Opened(job, source, status, file, plan.content, plan)


@contextlib.contextmanager
def _naming_the_way(file: WeightFile, to: TargetFormat, edit: Edit) -> Iterator[None]:
    """Say in a refusal that the tensors can be taken out of the file nevertheless, where they can."""
    try:
        yield
    except ConversionError as error:
        stuck = bool(file.tensors) and not edit.plain and all(defect.kind.runs_code for defect in file.defects)
        if not stuck or not (file.defects or isinstance(error, ObjectError)):
            raise
        how = "--tensors-only" if to == "safetensors" else "--to safetensors --tensors-only"
        message = f"{error}. {how} extracts the tensors and plain values without running the file"
        raise ConversionError(message) from error
