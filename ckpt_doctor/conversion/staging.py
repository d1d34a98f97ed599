"""Files that appear whole or not at all: written under ``.ckpt-doctor/``, then moved to their names together.

A temporary lies in ``.ckpt-doctor/`` beside its target, hence on the same file system. While its writer lives it holds
a lock (``flock``) on it, which the kernel takes back however the writer ends; so whoever comes next can tell what is
left over from what is in use.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.layouts.disk import OWN_FOLDER
from ckpt_doctor.runtime.file_access import open_new, open_to_read
from ckpt_doctor.runtime.file_lock import has_locks, lock
from ckpt_doctor.runtime.folders import give_owner, is_real_folder, sync_folder, try_link

_PREFIX, _SUFFIX = "convert-", ".tmp"
_ATTEMPTS = 10  # another process may remove an empty folder, or sweep a file that is not locked yet, in between


@dataclass(slots=True, eq=False)
class Staged:
    """A temporary that is to become ``target``.

    ``descriptor`` is open for reading and writing until :meth:`close`. ``status`` tells the file from others.
    """

    target: Path
    temporary: Path
    descriptor: int
    status: os.stat_result
    closed: bool = False

    def close(self) -> None:
        """Close the file, which also ends its lock; a second call does nothing."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                os.close(self.descriptor)


@dataclass(frozen=True, slots=True, eq=False)
class _Replaced:
    """What stood at a target before: its ``status`` if it was there, and its second name if it could have one."""

    staged: Staged
    status: os.stat_result | None
    saved: Path | None


class Staging:
    """The files of one conversion. A context manager: without :meth:`commit` nothing of it stays."""

    def __init__(self, *, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._staged: list[Staged] = []
        self._made: list[Path] = []  # folders, outer ones first
        self._swept: set[Path] = set()

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        for staged in self._staged:
            if not has_locks():
                staged.close()  # Windows removes no file that is open
            with contextlib.suppress(OSError):
                staged.temporary.unlink()
            staged.close()
        self._staged.clear()
        for folder in self._swept:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where nothing else of ours lies in it
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where it stayed empty

    def make_folder(self, folder: Path) -> None:
        """Make ``folder`` and those above it where they are not there; gone again unless something is committed.

        Raises ``OSError``.
        """
        missing = []
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir()
            self._made.append(folder)

    def create(self, target: Path, *, mode: int) -> Staged:
        """An empty temporary for ``target``, with the permissions ``mode`` as far as the umask allows them.

        Raises ``ConversionError`` if the target must not be written, and ``OSError``.
        """
        check_target(target, overwrite=self._overwrite)
        folder = target.parent / OWN_FOLDER
        if folder not in self._swept:
            sweep(folder)
            self._swept.add(folder)
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
            if not is_real_folder(folder):
                raise ConversionError(f"{folder} is not a folder: move it away")
            staged = _open_new(folder, target, mode)
            if staged is not None:
                self._staged.append(staged)
                return staged
        raise ConversionError(f"{folder}: another process removes files there")

    def commit(self) -> None:
        """Give every file its name, in the order in which they were created, and make that last.

        If one of them cannot be given its name, none is: what was replaced comes back. Raises ``ConversionError`` where
        a target appeared meanwhile, and ``OSError``.
        """
        done: list[_Replaced] = []
        if not has_locks():
            for staged in self._staged:
                staged.close()  # Windows renames no file that is open; without locks nothing is swept
        try:
            for staged in self._staged:
                check_target(staged.target, overwrite=self._overwrite)
                replaced = self._save(staged)
                done.append(replaced)
                self._name(staged, replaced.status)
            for folder in dict.fromkeys(staged.target.parent for staged in self._staged):
                sync_folder(folder)
        except BaseException:
            for replaced in reversed(done):
                _take_back(replaced)
            raise
        for replaced in done:
            if replaced.saved is not None:
                with contextlib.suppress(OSError):
                    replaced.saved.unlink()
        self._made.clear()

    def _save(self, staged: Staged) -> _Replaced:
        """Give the file that is about to be replaced, if there is one, a second name."""
        try:
            status = staged.target.lstat()
        except FileNotFoundError:
            return _Replaced(staged, None, None)
        saved = staged.temporary.with_name(f"{staged.temporary.name.removesuffix(_SUFFIX)}.old{_SUFFIX}")
        return _Replaced(staged, status, saved if try_link(staged.target, saved) else None)

    def _name(self, staged: Staged, replaced: os.stat_result | None) -> None:
        if self._overwrite:
            if replaced is not None:
                os.chmod(staged.temporary, stat.S_IMODE(replaced.st_mode))  # noqa: PTH101
                give_owner(staged.temporary, replaced)
            os.replace(staged.temporary, staged.target)  # noqa: PTH105
            return
        try:
            # Unlike a rename, a link never takes the place of a file that has appeared meanwhile.
            linked = try_link(staged.temporary, staged.target)
        except FileExistsError:
            raise _exists(staged.target) from None
        if not linked:
            os.replace(staged.temporary, staged.target)  # noqa: PTH105


def _take_back(replaced: _Replaced) -> None:
    """Undo what was done for one file, as far as it got."""
    staged = replaced.staged
    with contextlib.suppress(OSError):
        if replaced.saved is not None:
            os.replace(replaced.saved, staged.target)  # noqa: PTH105
            # A rename between two names of one file does nothing: then the second name is still there.
            replaced.saved.unlink(missing_ok=True)
        elif replaced.status is None and os.path.samestat(staged.target.lstat(), staged.status):
            staged.target.unlink()


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise ``ConversionError`` where a file must not be written under this name."""
    if target.is_symlink():
        raise ConversionError(
            f"{target} is a link to {target.readlink()}: remove it first, nothing is written through it"
        )
    if target.is_dir():
        raise ConversionError(f"{target} is a folder")
    # A rename would take away a device, a pipe or a socket; as root even /dev/null, from the whole machine.
    if target.exists() and not target.is_file():
        raise ConversionError(f"{target} is not a regular file: nothing is written in its place")
    if os.path.lexists(target) and not overwrite:
        raise _exists(target)


def _exists(target: Path) -> ConversionError:
    return ConversionError(f"{target} is there already; --overwrite replaces it")


def sweep(folder: Path) -> None:
    """Remove the temporaries in ``folder`` whose writers are gone. What cannot be removed stays."""
    for path in _temporaries(folder):
        with contextlib.suppress(OSError):
            descriptor = open_to_read(path, follow=False)
            try:
                lock(descriptor)
                path.unlink()
            finally:
                os.close(descriptor)


def _temporaries(folder: Path) -> Iterator[Path]:
    if not is_real_folder(folder):
        return
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return
    for name in names:
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            yield folder / name


def _open_new(folder: Path, target: Path, mode: int) -> Staged | None:
    """A new locked file in ``folder``, or ``None`` if somebody removed it or the folder before it was locked."""
    temporary = folder / f"{_PREFIX}{os.urandom(6).hex()}{_SUFFIX}"
    try:
        descriptor = open_new(temporary, mode)
    except (FileNotFoundError, FileExistsError):
        return None
    # Some network file systems have no locks; there nothing is ever swept.
    with contextlib.suppress(OSError):
        lock(descriptor)
    try:
        status = os.fstat(descriptor)
        same = os.path.samestat(temporary.lstat(), status)
    except FileNotFoundError:
        same = False
    except OSError:
        os.close(descriptor)
        raise
    if same:
        return Staged(target, temporary, descriptor, status)
    os.close(descriptor)
    return None
