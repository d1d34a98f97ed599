"""The one way in: a path and a policy to the repairs that were made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import PathNotFoundError, RepairError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Diagnosis, Report
from ckpt_doctor.core.wording import complaint
from ckpt_doctor.inspection import diagnose, inspect, scanned
from ckpt_doctor.layouts import discover
from ckpt_doctor.rules._kit.rule import documents

from .carrying_out import CarryingOut, Progress
from .changes import as_written, changes_of
from .draft import Draft
from .journal import Identity
from .outcome import Repair, Repairs
from .place import NOTHING_RENAMED, Place, folder_of, places_at, successor_of
from .planning import plan
from .transaction import leftovers, locked, recover

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

    Raises ``PathNotFoundError``, ``NoCheckpointError``, ``UnknownNameError``, and ``RepairError`` where nothing could
    be written; then that checkpoint is as it was.
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
        raise PathNotFoundError(f"{path} no longer exists: an interrupted repair was undone")
    below = {folder_of(checkpoint) for checkpoint in discover(path, policy.layout, layouts=policy.layouts)}
    rolled_back += [name for folder in sorted(below) for name in _recover(folder, dry_run=dry_run)]
    outcomes: list[_Outcome] = []
    places = places_at(path, policy)
    for place in places:
        work = _Work(place, policy, unsafe=unsafe, progress=progress)
        try:
            outcomes.append(work.do(dry_run=dry_run, backup=backup))
        except RepairError as error:
            if len(places) == 1:
                raise
            # What was done for the others stays done, and has to be told.
            outcomes.append(_Outcome(Repair(place.path.as_posix(), error=str(error)), partial(work.diagnoses, Draft())))
    return outcomes, tuple(rolled_back)


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

    def do(self, *, dry_run: bool, backup: bool) -> _Outcome:
        """Plan, and unless it is a dry run carry out; what was done. Raises ``RepairError``."""
        try:
            return self._do(dry_run=dry_run, backup=backup)
        except OSError as error:
            raise RepairError(f"{complaint(error)}. Nothing was changed") from error

    def diagnoses(self, draft: Draft) -> list[Diagnosis]:
        """What is found in the state of the draft."""
        return [diagnose(checkpoint, self.policy) for checkpoint in self.place.read(draft)]

    def _do(self, *, dry_run: bool, backup: bool) -> _Outcome:
        # The state of the files is taken before they are read, so no change in between goes unnoticed.
        first = self._read()
        seen = {name: Identity.of(Path(name)) for checkpoint in first for name in _paths(checkpoint)}
        known = self._read()
        base = folder_of(known[0])
        planned = plan(self.place, self.policy, self._scanned(known), unsafe=self.unsafe)
        changes = changes_of(planned.draft, base)
        kept = None
        if planned.steps and not dry_run:
            kept = CarryingOut(planned, self.place, self.policy, self.progress).run(base, seen, backup=backup)
            changes = tuple(as_written(change, base) for change in changes)
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


def _recover(base: Path, *, dry_run: bool) -> tuple[str, ...]:
    """Take back what an interrupted repair left in ``base``; the names of the repairs."""
    anything, interrupted = leftovers(base)
    if not anything or (dry_run and not interrupted):
        return ()
    if dry_run:
        raise RepairError(f"a repair was interrupted in {base}: `ckpt-doctor fix` undoes it first")
    with locked(base) as own:
        return recover(own)


def _paths(checkpoint: Checkpoint) -> Iterator[str]:
    """Absolute paths of everything that the checkpoint consists of."""
    names = [file.path for file in checkpoint.files]
    names += [other.path for other in checkpoint.others]
    names += [document.path for document in documents(checkpoint)]
    for name in names:
        yield os.path.abspath(checkpoint.root / name)
