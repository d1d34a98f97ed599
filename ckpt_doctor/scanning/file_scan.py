"""Everything there is to do for one weight file: which tensors and checksums, in which jobs, with what result."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import TensorInfo, TensorScan, WeightFile
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.runtime.crew import Stopped

from .elements import kind_of
from .strided import Budget, BudgetExceededError, digest_view, scan_view
from .sweep import ChecksumRun, Consumer, Reader, TensorRun, stretches, sweep
from .tally import EMPTY, Tally

_BUDGET_FACTOR = 8  # how often all bytes of a file may be looked at, where views or members overlap
_BUDGET_BASE = 256 << 20

Job = Callable[[Reader, Stopped], None]
"""Independent work on one file; may raise ``OSError``. The second argument tells whether to give up."""


class _View:
    """A tensor that does not lie contiguously; ``repeat`` is how often each distinct element stands in it."""

    def __init__(self, tensor: TensorInfo, tally: Tally) -> None:
        self.tensor = tensor
        self.tally = tally
        self.repeat = 1
        self.done = False


class FileScan:
    """The work on one file, cut into jobs that any thread may run, and what they found out.

    Tensors that are the same view of the same bytes are looked at once. Tensors whose bytes are not in the file as
    they are (absent, compressed) get no scan, nor do those that are left when the budget is spent.
    """

    def __init__(self, file: WeightFile, wants_digest: Callable[[str], bool]) -> None:
        self.file = file
        self.jobs: list[Job] = []
        self._big_endian = file.metadata is not None and file.metadata.get("byteorder") == "big"
        self._budget = Budget(_BUDGET_FACTOR * file.nbytes + _BUDGET_BASE)
        # Its own budget: without a digest one comparison is not made, without a scan the tensor is not judged.
        self._digest_budget = Budget(_BUDGET_FACTOR * file.nbytes + _BUDGET_BASE)
        self._one_digest = threading.Lock()  # of a view: it needs some 20 MB
        self._exceeded = False
        self._scans: dict[str, TensorScan] = {}
        self._work: list[tuple[list[TensorInfo], TensorRun | _View]] = []
        self._checksums: list[ChecksumRun] = []
        self._plan(wants_digest)

    def _plan(self, wants_digest: Callable[[str], bool]) -> None:
        by_view: dict[object, list[TensorInfo]] = {}
        for tensor in self.file.tensors:
            if self._is_there(tensor):
                by_view.setdefault(_identity(tensor), []).append(tensor)
        consumers: list[Consumer] = []
        views: list[_View] = []
        for tensors in by_view.values():
            tensor = tensors[0]
            digest = any(wants_digest(item.name) for item in tensors)
            tally = Tally(kind_of(tensor.dtype), digest=digest)
            if tensor.numel == 0:
                self._scans.update((item.name, EMPTY._replace(digest=tally.digest)) for item in tensors)
            elif tensor.is_contiguous:
                start, end = tensor.byte_range or (0, 0)
                if self._afford(end - start):
                    run = TensorRun(start, end, tally, big_endian=self._big_endian)
                    consumers.append(run)
                    self._work.append((tensors, run))
            elif tensor.dtype.bits % 8 == 0:
                view = _View(tensor, tally)
                views.append(view)
                self._work.append((tensors, view))
        for record in self.file.records:
            if record.crc32 is not None and record.nbytes and self._afford(record.nbytes):
                self._checksums.append(ChecksumRun(record))
        # In file order, so a cold disk is read from front to back, and views last: they read some of it again.
        self.jobs += [_sweep_job(group) for group in stretches([*consumers, *self._checksums])]
        self.jobs += [self._view_job(view) for view in views]

    def _is_there(self, tensor: TensorInfo) -> bool:
        byte_range = tensor.byte_range
        return byte_range is not None and byte_range[0] >= 0 and byte_range[1] <= self.file.nbytes

    def _afford(self, nbytes: int) -> bool:
        try:
            self._budget.spend(nbytes)
        except BudgetExceededError:
            self._exceeded = True
            return False
        return True

    def _view_job(self, view: _View) -> Job:
        def job(reader: Reader, stopped: Stopped) -> None:
            if stopped():
                return
            tensor, tally, big = view.tensor, view.tally, self._big_endian
            try:
                view.repeat = scan_view(tensor, tally.kind, reader.fill, self._budget, big_endian=big, tally=tally)
            except BudgetExceededError:
                self._exceeded = True
                return
            try:
                if tally.hasher is not None:
                    with self._one_digest:
                        digest_view(tensor, tally.kind, reader.read, self._digest_budget, big_endian=big, tally=tally)
            except BudgetExceededError:
                tally.hasher = None  # views that overlap many times over: judged, but not compared with a copy
            view.done = True

        return job

    def result(self, problem: str | None) -> WeightFile:
        """The file with its scans and with what the bytes gave away; ``problem`` is why reading failed, if it did."""
        defects = []
        if problem is not None:
            defects.append(Defect(DefectKind.UNREADABLE, f"The tensors could not all be read: {problem}."))
        if self._exceeded:
            message = "Tensors or members overlap so much that reading them all would read the file many times over."
            defects.append(Defect(DefectKind.RESOURCE_BOMB, message))
        defects += self._checksum_defects()
        for tensors, work in self._work:
            if work.done:
                scan = work.tally.result(repeat=work.repeat if isinstance(work, _View) else 1)
                self._scans.update((tensor.name, scan) for tensor in tensors)
        return self.file._replace(scans=self._scans, defects=(*self.file.defects, *defects))

    def _checksum_defects(self) -> list[Defect]:
        wrong = [run for run in self._checksums if run.done and run.computed != run.record.crc32]
        # The pickle's own checksum was compared when the headers were read.
        known = [defect.message for defect in self.file.defects if defect.kind is DefectKind.CHECKSUM]
        wrong = [run for run in wrong if not any(run.record.name in message for message in known)]
        if not wrong:
            return []
        members = {run.record.name for run in wrong}
        tensors = tuple(tensor.name for tensor in self.file.tensors if tensor.storage.record in members)
        shown = listed(
            f"{run.record.name}: CRC32 {run.record.crc32:08x} was recorded, {run.computed:08x} is there"
            for run in wrong
        )
        concerned = f" {counted(len(tensors), 'tensor')} concerned: {listed(tensors)}." if tensors else ""
        message = f"{counted(len(wrong), 'member')} of the archive changed since it was written ({shown}).{concerned}"
        evidence = {
            "members": [
                {"name": run.record.name, "recorded": run.record.crc32, "computed": run.computed} for run in wrong[:20]
            ]
        }
        return [Defect(DefectKind.CHECKSUM, message, tensors, evidence)]


def _sweep_job(consumers: list[Consumer]) -> Job:
    def job(reader: Reader, stopped: Stopped) -> None:
        sweep(consumers, reader, stopped)

    return job


def _identity(tensor: TensorInfo) -> object:
    """What two tensors have in common when looking at one of them says everything about the other."""
    if tensor.is_contiguous:
        return tensor.byte_range, tensor.dtype.name
    return tensor.byte_range, tensor.dtype.name, tensor.shape, tensor.stride
