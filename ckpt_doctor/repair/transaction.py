"""All files of a repair change, or none: written aside, recorded in a journal, then moved to their names.

What is replaced goes into the backup under a second name first (a hard link), so at no moment a file is missing.
Whatever goes wrong afterwards, the journal says how to take it back: at once, or when the next repair begins.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ckpt_doctor.core.errors import RepairError
from ckpt_doctor.layouts.disk import OWN_FOLDER
from ckpt_doctor.runtime.file_lock import FolderLock
from ckpt_doctor.runtime.folders import give_owner, is_real_folder, sync_folder, try_link

from .journal import COMMITTING, DONE, UNDOING, Identity, Journal, Replacement, read_journal

PREFIX = "backup-"
"""What the folder of a repair is called by; the time follows."""
_ATTEMPTS = 10


@contextlib.contextmanager
def locked(base: Path) -> Iterator[Path]:
    """``.ckpt-doctor/`` in ``base``, made if it is not there, for nobody else as long as this lasts.

    Raises ``RepairError`` if another repair is at work, and ``OSError``.
    """
    own = base / OWN_FOLDER
    there = os.path.lexists(own)
    try:
        lock = _locked_folder(own)
    except BaseException:
        if not there:
            with contextlib.suppress(OSError):
                own.rmdir()  # only where nothing lies in it
        raise
    try:
        yield own
    finally:
        lock.release()


def _locked_folder(own: Path) -> FolderLock:
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileExistsError):
            own.mkdir()
        if not is_real_folder(own):
            raise RepairError(f"{own} is not a folder: move it away")
        try:
            return FolderLock(own)
        except BlockingIOError as error:
            stale = f". If none is running, remove {error.filename}" if error.filename is not None else ""
            raise RepairError(f"another repair is running in {own.parent}: wait until it ends{stale}") from None
        except FileNotFoundError:
            continue  # a conversion that had ended removed it, empty as it was
    raise RepairError(f"{own}: another process is removing it. Try again")


def recover(own: Path) -> tuple[str, ...]:
    """Take back repairs that were interrupted, and sweep what they left; the folder ``own`` must be locked.

    Returns the names of those that had begun to change files. Raises ``RepairError`` and ``OSError``.
    """
    rolled_back = []
    for folder in sorted(own.glob(f"{PREFIX}*")):
        if not is_real_folder(folder):
            continue
        journal = read_journal(folder)
        if journal is not None and journal.state == DONE:
            continue
        if journal is not None:
            roll_back(own.parent, folder, journal)
            rolled_back.append(folder.name)
        shutil.rmtree(folder)
    return tuple(rolled_back)


def leftovers(base: Path) -> tuple[bool, bool]:
    """True if a repair in ``base`` left anything behind, and whether it was changing files when it was interrupted."""
    own = base / OWN_FOLDER
    folders = [folder for folder in own.glob(f"{PREFIX}*") if is_real_folder(folder)] if is_real_folder(own) else []
    journals = [read_journal(folder) for folder in folders]
    interrupted = any(journal is not None and journal.state != DONE for journal in journals)
    return interrupted or None in journals, interrupted


class Transaction:
    """The files of one repair below ``base``. A context manager: without :meth:`commit` nothing of it stays."""

    def __init__(self, base: Path, own: Path) -> None:
        self.base = base
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self.folder = own / f"{PREFIX}{stamp}-{os.urandom(3).hex()}"
        self._staged: dict[str, Path | None] = {}
        self._done = False

    def __enter__(self) -> Transaction:
        for name in ("", "old", "new"):
            (self.folder / name).mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        if self._done or not self.folder.exists():
            return
        try:
            journal = read_journal(self.folder)
        except RepairError:
            journal = None
        # With a journal that could not be followed to its end, the next repair needs what is here.
        if journal is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def stage(self, path: str) -> Path:
        """Where to write the file that is to be at ``path``; it must not be there yet."""
        place = self.folder / "new" / str(len(self._staged))
        self._staged[path] = place
        return place

    def remove(self, path: str) -> None:
        """Take the file at ``path`` away."""
        self._staged[path] = None

    def commit(self, seen: dict[str, Identity | None], *, backup: bool) -> Path | None:
        """Give every file its place, in the order in which they were named; the folder of the backup, if any.

        ``seen`` is what each file was when the plan was made. Raises ``RepairError`` if it is something else by now,
        and ``OSError``; then everything is as it was.
        """
        replacements = []
        for path, staged in self._staged.items():
            now = Identity.of(self.base / path)
            if now != seen.get(path):
                raise RepairError(f"{self.base / path} changed during the repair: another process writes there")
            if now is not None and staged is not None:
                keep_permissions(self.base / path, staged)
            after = None if staged is None else Identity.of(staged)
            replacements.append(Replacement(path, now, after))
        journal = Journal(COMMITTING, tuple(replacements), self._missing_folders())
        journal.write(self.folder)
        try:
            for folder in journal.folders:
                (self.base / folder).mkdir()
            for number, replacement in enumerate(replacements):
                _replace(self.base, self.folder, number, replacement)
            for parent in dict.fromkeys((self.base / path).parent for path in self._staged):
                sync_folder(parent)
            sync_folder(self.folder / "old")
            journal.in_state(DONE).write(self.folder)
        except BaseException:
            roll_back(self.base, self.folder, journal)
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._done = True
        shutil.rmtree(self.folder if not backup else self.folder / "new", ignore_errors=True)
        return self.folder if backup else None

    def _missing_folders(self) -> tuple[str, ...]:
        missing: dict[str, None] = {}
        for path, staged in self._staged.items():
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                if staged is not None and not (self.base / folder).exists():
                    missing[folder] = None
        return tuple(missing)


def _replace(base: Path, folder: Path, number: int, replacement: Replacement) -> None:
    path, old, new = base / replacement.path, folder / "old" / str(number), folder / "new" / str(number)
    if replacement.before is not None and not try_link(path, old, follow=False):
        path.rename(old)
    if replacement.after is None:
        path.unlink(missing_ok=True)
    elif replacement.before is None:
        try:
            # Unlike a rename, a link never takes the place of a file that has appeared meanwhile.
            linked = try_link(new, path)
        except FileExistsError:
            raise RepairError(f"{path} appeared during the repair: another process writes there") from None
        if not linked:
            new.rename(path)
    else:
        new.replace(path)


def roll_back(base: Path, folder: Path, journal: Journal) -> None:
    """Put back everything that the journal in ``folder`` tells of, as far as it got. May be repeated.

    Raises ``RepairError`` if a file is neither what it was nor what the repair made of it: then it stays, and so
    does the backup. Raises ``OSError``.
    """
    _refuse_links(base, folder, journal)
    foreign = []
    for number, replacement in reversed(list(enumerate(journal.replacements))):
        path, old = base / replacement.path, folder / "old" / str(number)
        now, kept = Identity.of(path), Identity.of(old)
        if kept is not None and kept != replacement.before:
            foreign.append(str(old))
        elif now is not None and now not in (replacement.before, replacement.after):
            foreign.append(str(path))
        elif kept is not None:
            old.replace(path)
            # A rename between two names of one file does nothing: then the second name is still there.
            old.unlink(missing_ok=True)
        elif replacement.before is None and now is not None and now == replacement.after:
            path.unlink()
    for parent in dict.fromkeys((base / item.path).parent for item in journal.replacements):
        if parent.is_dir():
            sync_folder(parent)
    if foreign:
        raise RepairError(
            f"{', '.join(foreign)} changed during the repair and was left alone; the originals are in {folder}"
        )
    for name in reversed(journal.folders):
        with contextlib.suppress(OSError):
            (base / name).rmdir()  # only where it is empty


def take_back(base: Path, folder: Path, journal: Journal) -> None:
    """Undo a repair that was done. Raises ``RepairError`` if a file has changed since, and ``OSError``."""
    for number, replacement in enumerate(journal.replacements):
        if Identity.of(base / replacement.path) != replacement.after:
            raise RepairError(
                f"{base / replacement.path} has changed since the repair: nothing was undone. The originals are in "
                f"{folder / 'old'}"
            )
        if replacement.before is not None and Identity.of(folder / "old" / str(number)) is None:
            raise RepairError(f"{folder / 'old' / str(number)} is gone: nothing was undone")
    undoing = journal.in_state(UNDOING)
    undoing.write(folder)
    roll_back(base, folder, undoing)
    shutil.rmtree(folder)


def _refuse_links(base: Path, folder: Path, journal: Journal) -> None:
    """Raise where a journal would lead out of the folder through a link: it may come from elsewhere."""
    inside = Path(os.path.realpath(base))
    for path in (*(item.path for item in journal.replacements), *(f"{name}/x" for name in journal.folders)):
        if not Path(os.path.realpath((base / path).parent)).is_relative_to(inside):
            raise RepairError(f"{path} lies behind a link: nothing is put back through links")
    for name in (folder, folder / "old"):
        if not is_real_folder(name):
            raise RepairError(f"{name} is not a folder, or a link to one: nothing was put back")


def keep_permissions(path: Path, staged: Path) -> None:
    """Give the new file ``staged`` the mode and, as far as that is allowed, the owner of the one at ``path``."""
    status = path.lstat()
    staged.chmod(stat.S_IMODE(status.st_mode))
    give_owner(staged, status)
