"""The one way in: a path and a policy to the repairs that were made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.conversion.copying import Copier, write_all
from ckpt_doctor.conversion.opened import concerning
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import ConversionError, MissingDependencyError, PathNotFoundError, RepairError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.core.wording import byte_size, complaint, listed
from ckpt_doctor.formats import read_weight_file
from ckpt_doctor.inspection import diagnose, inspect, scanned
from ckpt_doctor.layouts import discover
from ckpt_doctor.rules._kit.rule import documents
from ckpt_doctor.runtime.disk_space import free_bytes
from ckpt_doctor.runtime.file_access import open_new
from ckpt_doctor.runtime.folders import try_link
from ckpt_doctor.sources.local_file import FileSource

from .draft import Document, Draft, Entry, Moved, Rewritten
from .journal import Identity
from .outcome import Change, Repair, Repairs
from .planning import NOTHING_RENAMED, Place, Plan, every_rule, new_errors, plan, successor_of
from .rewriting import write
from .transaction import Transaction, keep_permissions, leftovers, locked, recover

Progress = Callable[[int, int], None]
"""Called with the bytes done so far and the bytes in all."""

_DEFAULT = Policy()
_LEVELS_UP = 3  # as far as a path can lie below its checkpoint


def fix(
    path: str | os.PathLike[str],
    policy: Policy = _DEFAULT,
    *,
    unsafe: bool = False,
    dry_run: bool = False,
    backup: bool = True,
    progress: Progress | None = None,
) -> Repairs:
    """Apply the fixes of what inspection finds at ``path``; for each checkpoint all that can be applied, or none.

    ``policy`` says what is looked for and, by ``select`` and ``ignore``, which findings are repaired. ``unsafe`` also
    applies the fixes that may lose something. A dry run plans and writes nothing. Originals are kept in a backup unless
    ``backup`` is unset.

    Raises ``PathNotFoundError``, ``NoCheckpointError``, ``UnknownNameError``, ``MissingDependencyError`` where torch is
    needed and not there, and ``RepairError`` where nothing could be written; then that checkpoint is as it was.
    """
    if not os.fspath(path):
        raise PathNotFoundError("the path is empty: is a variable unset?")  # Path("") would be the current directory
    try:
        outcomes, rolled_back = _fix(
            Path(path), policy, unsafe=unsafe, dry_run=dry_run, backup=backup, progress=progress
        )
    except OSError as error:
        raise RepairError(f"{complaint(error)}. Nothing was changed") from error
    repairs = tuple(outcome.repair for outcome in outcomes)
    return Repairs(repairs, _remaining(Path(path), policy, outcomes, progress, dry_run=dry_run), rolled_back, dry_run)


def _remaining(
    path: Path, policy: Policy, outcomes: list[_Outcome], progress: Progress | None, *, dry_run: bool
) -> Report:
    """What an inspection of ``path`` says now, or for a dry run what it would say.

    What was changed is read and judged once more, all of it together: one repair may concern what another checkpoint
    refers to, and a plan only describes the files that it leads to.
    """
    untouched = len(outcomes) == 1 and not outcomes[0].repair.steps
    if dry_run or untouched:
        return Report(tuple(diagnosis for outcome in outcomes for diagnosis in outcome.diagnoses()))
    renamed = {old: new for outcome in outcomes for old, new in outcome.renamed.items()}
    now = successor_of(path, renamed)
    # An index that was asked for meant its folder, and was set aside.
    return inspect(now if os.path.lexists(now) else now.parent, policy, progress=progress)


def _fix(
    path: Path, policy: Policy, *, unsafe: bool, dry_run: bool, backup: bool, progress: Progress | None
) -> tuple[list[_Outcome], tuple[str, ...]]:
    """What was done for each checkpoint, and the interrupted repairs that were taken back before."""
    # Before anything is looked at: an interrupted repair of the enclosing checkpoint, or of one below.
    above = [path, *list(Path(os.path.abspath(path)).parents)[:_LEVELS_UP]]
    rolled_back = [name for folder in above for name in _recover(folder, dry_run=dry_run)]
    if rolled_back and not os.path.lexists(path):
        raise PathNotFoundError(f"{path} is not there any more: an interrupted repair was taken back")
    below = {_folder_of(checkpoint) for checkpoint in discover(path, policy.layout, layouts=policy.layouts)}
    rolled_back += [name for folder in sorted(below) for name in _recover(folder, dry_run=dry_run)]
    outcomes: list[_Outcome] = []
    places = _places(path, policy)
    for place in places:
        work = _Work(place, policy, unsafe=unsafe, progress=progress)
        try:
            outcomes.append(work.do(dry_run=dry_run, backup=backup))
        except (RepairError, MissingDependencyError) as error:
            if len(places) == 1:
                raise
            # What was done for the others stays done, and has to be told.
            outcomes.append(_Outcome(Repair(place.path.as_posix(), error=str(error)), partial(work.diagnoses, Draft())))
    return outcomes, tuple(rolled_back)


def _places(path: Path, policy: Policy) -> list[Place]:
    """The checkpoints at ``path``, each as a place of its own; those of one folder are repaired together."""
    checkpoints = discover(path, policy.layout, layouts=policy.layouts)
    roots = {_own_path(checkpoint) for checkpoint in checkpoints}
    if len(roots) == 1:
        # Asked for from above, a lone adapter is judged with the folder that was asked for. An index or a config that
        # was asked for may go, and means its folder anyway.
        inside = path.parent if _own_path(checkpoints[0]).is_dir() and not path.is_dir() else path
        return [Place(inside, policy.layout, policy.layouts)]
    return [
        Place(root, policy.layout, policy.layouts, found_from_above=True)
        for root in dict.fromkeys(map(_own_path, checkpoints))
    ]


def _own_path(checkpoint: Checkpoint) -> Path:
    return checkpoint.root / checkpoint.files[0].path if checkpoint.kind.grain == "file" else checkpoint.root


class _Outcome(NamedTuple):
    """What was done at one place, how to judge the state that was planned for it, and which files it renamed."""

    repair: Repair
    diagnoses: Callable[[], list[Diagnosis]]
    renamed: Mapping[Path, Path] = NOTHING_RENAMED


class _Work:
    """The repair of one place."""

    def __init__(self, place: Place, policy: Policy, *, unsafe: bool, progress: Progress | None) -> None:
        self.place = place
        self.policy = policy
        self.unsafe = unsafe
        self.progress = progress
        self.done = self.total = 0

    def do(self, *, dry_run: bool, backup: bool) -> _Outcome:
        """Plan, and unless it is a dry run carry out; what was done.

        Raises ``RepairError`` and ``MissingDependencyError``.
        """
        try:
            return self._do(dry_run=dry_run, backup=backup)
        except OSError as error:
            raise RepairError(f"{complaint(error)}. Nothing was changed") from error

    def diagnoses(self, draft: Draft) -> list[Diagnosis]:
        """What is found in the state of the draft."""
        return [diagnose(checkpoint, self.policy) for checkpoint in self.place.read(draft)]

    def _do(self, *, dry_run: bool, backup: bool) -> _Outcome:
        # The state of the files is taken before they are read, so that no change in between goes unnoticed.
        first = self._read()
        seen = {name: Identity.of(Path(name)) for checkpoint in first for name in _paths(checkpoint)}
        known = self._read()
        base = _folder_of(known[0])
        planned = plan(self.place, self.policy, self._scanned(known), unsafe=self.unsafe)
        changes = _changes(planned.draft, base)
        kept = None
        if planned.steps and not dry_run:
            kept = self._carry_out(planned, base, seen, backup=backup)
            changes = tuple(_as_written(change, base) for change in changes)
        repair = Repair(
            path=known[0].path,
            steps=tuple(planned.steps),
            rejected=tuple(planned.rejected),
            changes=changes,
            backup=None if kept is None else str(kept),
        )
        return _Outcome(repair, partial(self.diagnoses, planned.draft), planned.draft.renamed)

    def _read(self) -> list[Checkpoint]:
        return self.place.read(Draft())

    def _scanned(self, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
        return scanned(checkpoints, self.progress) if self.policy.deep else checkpoints

    def _carry_out(self, planned: Plan, base: Path, seen: dict[str, Identity | None], *, backup: bool) -> Path | None:
        """Write everything aside, look at it once more, and put it in place."""
        entries = planned.draft.entries
        top = Path(os.path.commonpath([base, *(path.parent for path in entries)]))
        try:
            with locked(top) as own, Transaction(top, own) as transaction:
                _refuse_full_disk(own, entries)
                self.total = 2 * sum(_to_write(entry) for entry in entries.values())
                before: dict[str, Identity | None] = {}
                staged: dict[Path, Path | None] = {}
                for path, entry in entries.items():
                    name = path.relative_to(top).as_posix()
                    before[name] = seen.get(str(path))
                    if entry is None:
                        transaction.remove(name)
                        staged[path] = None
                    else:
                        place = staged[path] = transaction.stage(name)
                        with concerning(path):
                            self._write(entry, place)
                self._look_again(planned, staged)
                for file, identity in seen.items():
                    if Identity.of(Path(file)) != identity:
                        raise RepairError(f"{file} changed meanwhile: something is still writing it")
                return transaction.commit(before, backup=backup)
        except ConversionError as error:
            raise RepairError(f"{error}. Nothing was changed") from error

    def _write(self, entry: Entry, place: Path) -> None:
        """Write one file aside. Raises ``ConversionError``, ``MissingDependencyError`` and ``OSError``."""
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
                keep_permissions(entry.source, place)  # under another name, too, nobody else may read it
        finally:
            os.close(descriptor)

    def _look_again(self, planned: Plan, staged: dict[Path, Path | None]) -> None:
        """Judge what was written, as it will be seen; raise ``RepairError`` where it is not what was planned."""
        final = planned.draft.copy()
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
        for finding in new_errors(planned.diagnoses, found):
            raise RepairError(
                f"what was written is not as it was planned ({finding.code} {finding.message}). Nothing was changed"
            )

    def _advance(self, nbytes: int) -> None:
        self.done += nbytes
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)


def _as_written(change: Change, base: Path) -> Change:
    """The change with the size that the file really has."""
    return change if change.after is None else replace(change, after=(base / change.path).stat().st_size, exact=True)


def _folder_of(checkpoint: Checkpoint) -> Path:
    return Path(os.path.abspath(checkpoint.root))


def _recover(base: Path, *, dry_run: bool) -> tuple[str, ...]:
    """Take back what an interrupted repair left in ``base``; the names of the repairs."""
    anything, interrupted = leftovers(base)
    if not anything or (dry_run and not interrupted):
        return ()
    if dry_run:
        raise RepairError(f"a repair was interrupted in {base}: `ckpt-doctor fix` takes it back before anything else")
    with locked(base) as own:
        return recover(own)


def _paths(checkpoint: Checkpoint) -> Iterator[str]:
    """Absolute paths of everything that the checkpoint consists of."""
    names = [file.path for file in checkpoint.files]
    names += [other.path for other in checkpoint.others]
    names += [document.path for document in documents(checkpoint)]
    for name in names:
        yield os.path.abspath(checkpoint.root / name)


def _refuse_different(path: Path, planned: Iterable[TensorInfo], written: Iterable[TensorInfo]) -> None:
    wanted, found = ({(t.name, t.dtype.name, t.shape) for t in tensors} for tensors in (planned, written))
    if wanted != found:
        names = sorted({item[0] for item in wanted ^ found})
        raise RepairError(f"{path}: {listed(names)} came out otherwise than planned. Nothing was changed")


def _to_write(entry: Entry | None) -> int:
    if isinstance(entry, Rewritten):
        return entry.file.nbytes
    if isinstance(entry, Document):
        return len(entry.data)
    return entry.source.stat().st_size if entry is not None and entry.copied else 0


def _refuse_full_disk(folder: Path, entries: Mapping[Path, Entry | None]) -> None:
    """Raise where the new files do not fit, rather than fill the disk first."""
    needed = sum(_to_write(entry) for entry in entries.values())
    free = free_bytes(folder)
    if free is not None and needed > free:
        raise RepairError(
            f"{folder}: no space left for {byte_size(needed)}, {byte_size(free)} are free. Nothing was changed"
        )


def _changes(draft: Draft, base: Path) -> tuple[Change, ...]:
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
            changes.append(Change(name, action, before, _to_write(entry), exact))
    return tuple(changes)
