"""Carrying out a plan: every file written aside, judged once more as it will be seen, then put in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ckpt_doctor.conversion.copying import Copier, write_all
from ckpt_doctor.conversion.opened import concerning
from ckpt_doctor.core.errors import ConversionError, RepairError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.core.wording import byte_size, listed
from ckpt_doctor.formats import read_weight_file
from ckpt_doctor.inspection import diagnose
from ckpt_doctor.runtime.disk_space import free_bytes
from ckpt_doctor.runtime.file_access import open_new
from ckpt_doctor.runtime.folders import try_link
from ckpt_doctor.sources.local_file import FileSource

from .changes import bytes_to_write
from .draft import Document, Entry, Moved, Rewritten
from .journal import Identity
from .place import Place
from .planning import Plan, every_rule, new_errors
from .rewriting import write
from .transaction import Transaction, keep_permissions, locked

Progress = Callable[[int, int], None]
"""Called with the bytes done so far and the bytes in all."""

Seen = Mapping[str, "Identity | None"]
"""Absolute path to what the file was when the plan was made."""


class CarryingOut:
    """A plan on its way to the disk."""

    def __init__(self, plan: Plan, place: Place, policy: Policy, progress: Progress | None) -> None:
        self.plan = plan
        self.place = place
        self.policy = policy
        self.progress = progress
        self.done = 0
        self.total = 2 * sum(bytes_to_write(entry) for entry in plan.draft.entries.values())

    def run(self, base: Path, seen: Seen, *, backup: bool) -> Path | None:
        """Change the files of the checkpoint in ``base``, all or none; the folder of the backup, if there is one.

        Raises ``RepairError`` and ``OSError``.
        """
        entries = self.plan.draft.entries
        top = Path(os.path.commonpath([base, *(path.parent for path in entries)]))
        before = {path.relative_to(top).as_posix(): seen.get(str(path)) for path in entries}
        try:
            with locked(top) as own, Transaction(top, own) as transaction:
                _refuse_full_disk(own, entries)
                self._look_again(self._stage(transaction, top))
                _refuse_changed(seen)
                return transaction.commit(before, backup=backup)
        except ConversionError as error:
            raise RepairError(f"{error}. Nothing was changed") from error

    def _stage(self, transaction: Transaction, top: Path) -> dict[Path, Path | None]:
        """Write every file aside; where each is, ``None`` for those that go."""
        staged: dict[Path, Path | None] = {}
        for path, entry in self.plan.draft.entries.items():
            name = path.relative_to(top).as_posix()
            if entry is None:
                transaction.remove(name)
                staged[path] = None
                continue
            aside = staged[path] = transaction.stage(name)
            with concerning(path):
                self._write(entry, aside)
        return staged

    def _write(self, entry: Entry, place: Path) -> None:
        """Write one file aside. Raises ``ConversionError`` and ``OSError``."""
        if isinstance(entry, Moved) and not entry.copied and try_link(entry.source, place, follow=False):
            return
        descriptor = open_new(place)
        try:
            if isinstance(entry, Document):
                write_all(descriptor, entry.data)
            elif isinstance(entry, Rewritten):
                write(entry, place, descriptor, self._advance)
            else:
                with FileSource(entry.source) as source:
                    assert source.fileno is not None
                    Copier(source.fileno, descriptor).copy(0, source.size, self._advance)
            os.fsync(descriptor)
            if not isinstance(entry, Document):
                keep_permissions(entry.source, place)  # the copy is as private as the original
        finally:
            os.close(descriptor)

    def _look_again(self, staged: dict[Path, Path | None]) -> None:
        """Judge what was written, as it will be seen; raise ``RepairError`` where it is not what was planned."""
        final = self.plan.draft.copy()
        for path, place in staged.items():
            entry = final.entries[path]
            if place is None:
                continue
            if isinstance(entry, Rewritten):
                written = read_weight_file(place, entry.file.path)
                _refuse_different(path, entry.file.tensors, written.tensors)
                final.known[place] = written._replace(scans=entry.file.scans)
            final.entries[path] = Moved(place)
        found = [diagnose(checkpoint, every_rule(self.policy)) for checkpoint in self.place.read(final)]
        for finding in new_errors(self.plan.diagnoses, found):
            raise RepairError(
                f"the result differs from the plan ({finding.code} {finding.message}). Nothing was changed"
            )

    def _advance(self, nbytes: int) -> None:
        self.done += nbytes
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)


def _refuse_changed(seen: Seen) -> None:
    """Raise where a file is not what it was when the plan was made."""
    for file, identity in seen.items():
        if Identity.of(Path(file)) != identity:
            raise RepairError(f"{file} changed during the repair: another process is still writing it")


def _refuse_different(path: Path, planned: Iterable[TensorInfo], written: Iterable[TensorInfo]) -> None:
    wanted, found = ({(t.name, t.dtype.name, t.shape) for t in tensors} for tensors in (planned, written))
    if wanted != found:
        names = sorted({item[0] for item in wanted ^ found})
        raise RepairError(f"{path}: {listed(names)} differ from the plan. Nothing was changed")


def _refuse_full_disk(folder: Path, entries: Mapping[Path, Entry | None]) -> None:
    """Raise where the new files do not fit, rather than fill the disk first."""
    needed = sum(bytes_to_write(entry) for entry in entries.values())
    free = free_bytes(folder)
    if free is not None and needed > free:
        raise RepairError(
            f"{folder}: no space left for {byte_size(needed)}, {byte_size(free)} are free. Nothing was changed"
        )
